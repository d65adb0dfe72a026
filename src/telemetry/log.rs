//! Sets up log lines: a sentence and its fields, on standard error.
//!
//! Other crates are held to warnings whatever the filter says, since some of them write headers at lower levels.

use tracing::Level;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::error::{Code, Context as _, Error, Result};

/// The filter when nothing else is set.
pub const FILTER_DEFAULT: &str = "info";

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

impl Format {
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            _ => {
                Err(Error::new(Code::SettingInvalid, format!("`{text}` is no log format")).hint("use `text` or `json`"))
            }
        }
    }
}

/// Installs the process's subscriber. `filter` is in the form of `tracing`'s directives, for example
/// `info,skillhook::http=debug`. `colours` is whether standard error shows them. A second call is refused.
pub fn init(format: Format, filter: &str, colours: bool) -> Result<()> {
    let directives = EnvFilter::try_new(filter)
        .map_err(|error| Error::new(Code::SettingInvalid, format!("`{filter}` is no log filter")).detail(error))?;
    let ours = tracing_subscriber::filter::filter_fn(|line| may_speak(line.target(), *line.level()));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    let lines = match format {
        Format::Text => lines.with_filter(ours).boxed(),
        Format::Json => lines.json().flatten_event(true).with_current_span(false).with_filter(ours).boxed(),
    };
    tracing_subscriber::registry()
        .with(directives)
        .with(lines)
        .try_init()
        .context(Code::Bug, "logging was set up twice")
}

/// Whether a line of this target may be written at this level.
fn may_speak(target: &str, level: Level) -> bool {
    let ours = target == "skillhook" || target.starts_with("skillhook::");
    ours || level <= Level::WARN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_crates_are_held_to_warnings() {
        assert!(may_speak("skillhook::http::serve", Level::TRACE));
        assert!(may_speak("hyper::proto", Level::WARN));
        assert!(!may_speak("hyper::proto", Level::INFO));
        assert!(!may_speak("skillhooks", Level::DEBUG));
    }

    #[test]
    fn a_filter_that_is_none_is_refused_before_anything_is_installed() {
        let error = init(Format::Text, "skillhook=loud", false).unwrap_err();
        assert_eq!(error.code(), Code::SettingInvalid);
        assert_eq!(Format::parse("xml").unwrap_err().code(), Code::SettingInvalid);
    }
}
