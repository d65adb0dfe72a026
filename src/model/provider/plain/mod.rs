//! Text of any dialect as plain text: what matching, commands and prompts read.

mod adf;
mod html;
mod mrkdwn;

use serde_json::Value;

use super::schema::Format;

/// The text; `None` when the value is no text in this dialect.
pub fn of(format: Format, value: &Value) -> Option<String> {
    match (format, value) {
        (Format::Adf | Format::AdfOrWiki, Value::Object(_)) => Some(adf::text(value)),
        (_, Value::Number(number)) => Some(number.to_string()),
        (_, Value::String(text)) => Some(match format {
            Format::Html | Format::TelegramHtml => html::text(text),
            Format::Mrkdwn => mrkdwn::text(text),
            // Markdown and wiki markup read well as they are, and people write commands in them literally.
            Format::Adf
            | Format::AdfOrWiki
            | Format::DiscordMd
            | Format::Gfm
            | Format::JiraWiki
            | Format::Markdown
            | Format::Plain => text.clone(),
        }),
        _ => None,
    }
}
