//! Filters: what is done to a value before it stands in a template.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::digests::{HashName, mac};
use super::selector::Selector;
use super::view::{Found, View};
use crate::model::diagnostic::did_you_mean;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Stands in for a missing value.
    Default(String),
    /// Another place to look when there is nothing.
    Or(Selector),
    Lower,
    /// `MergeRequest` becomes `merge_request`.
    Snake,
    Replace {
        from: String,
        to: String,
    },
    StripPrefix(String),
    /// A JSON number; nothing when the value is no whole number.
    Int,
    /// Text that is itself JSON, as a value.
    Json,
    /// One step of a path: in an address its slashes are escaped too.
    Segment,
    /// Escaped for XML.
    Xml,
    /// Credentials of basic authentication: the value, a colon, the secret of this slot.
    Basic(String),
    /// HMAC-SHA256 of the value under the secret of this slot, in hexadecimal.
    HmacSha256Hex(String),
    /// HubSpot's half-decoded address (<https://developers.hubspot.com/docs/apps/legacy-apps/authentication/validating-requests>).
    HubspotUri,
}

const NAMES: [&str; 13] = [
    "default",
    "or",
    "lower",
    "snake",
    "replace",
    "strip_prefix",
    "int",
    "json",
    "segment",
    "xml",
    "basic",
    "hmac_sha256_hex",
    "hubspot_uri",
];

impl Filter {
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, argument) = text.split_once(':').map_or((text, None), |(name, rest)| (name, Some(rest)));
        let needed = || argument.filter(|text| !text.is_empty()).map(str::to_owned);
        let filter = match (name, argument) {
            ("default", Some(text)) => Some(Filter::Default(text.to_owned())),
            ("or", Some(text)) => Some(Filter::Or(Selector::parse(text)?)),
            ("lower", None) => Some(Filter::Lower),
            ("snake", None) => Some(Filter::Snake),
            ("replace", Some(text)) => parse_replace(text),
            ("strip_prefix", _) => needed().map(Filter::StripPrefix),
            ("int", None) => Some(Filter::Int),
            ("json", None) => Some(Filter::Json),
            ("segment", None) => Some(Filter::Segment),
            ("xml", None) => Some(Filter::Xml),
            ("basic", _) => needed().map(Filter::Basic),
            ("hmac_sha256_hex", _) => needed().map(Filter::HmacSha256Hex),
            ("hubspot_uri", None) => Some(Filter::HubspotUri),
            _ => None,
        };
        filter.ok_or_else(|| {
            let hint = did_you_mean(name, NAMES).filter(|near| *near != name);
            let hint = hint.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
            let trouble = if NAMES.contains(&name) { "has the wrong kind of argument" } else { "is no filter" };
            format!("`{text}` {trouble}{hint}")
        })
    }

    /// Whether the value keeps its JSON kind instead of becoming text.
    pub fn makes_json(&self) -> bool {
        matches!(self, Filter::Int | Filter::Json)
    }

    pub fn secret_slot(&self) -> Option<&str> {
        match self {
            Filter::Basic(slot) | Filter::HmacSha256Hex(slot) => Some(slot),
            _ => None,
        }
    }

    pub fn apply<'a>(&self, found: Option<Found<'a>>, view: &View<'a>) -> Option<Found<'a>> {
        match self {
            Filter::Or(selector) => found
                .filter(|found| !found.is_blank())
                .or_else(|| view.find(selector).filter(|found| !found.is_blank())),
            Filter::Default(text) => {
                let found = found.filter(|found| !found.is_blank());
                Some(found.unwrap_or_else(|| Found::Text(Cow::Owned(text.clone()))))
            }
            Filter::Json => serde_json::from_str(&found?.into_text()?).ok().map(json),
            Filter::Int => {
                let text = found?.into_text()?;
                let number = text.parse::<i64>().map(Value::from).or_else(|_| text.parse::<u64>().map(Value::from));
                number.ok().map(json)
            }
            Filter::Basic(slot) => {
                let mut credentials = found?.into_bytes()?.into_owned();
                credentials.push(b':');
                credentials.extend_from_slice(view.secrets?.first(slot)?.expose());
                Some(text(STANDARD.encode(credentials)))
            }
            Filter::HmacSha256Hex(slot) => {
                let key = view.secrets?.first(slot)?;
                let digest = mac(HashName::Sha256, key.expose(), &found?.into_bytes()?)?;
                Some(text(hex::encode(digest)))
            }
            Filter::Lower => on_text(found, |value| value.to_lowercase()),
            Filter::Snake => on_text(found, snake),
            Filter::Replace { from, to } => on_text(found, |value| value.replace(from, to)),
            Filter::StripPrefix(prefix) => {
                on_text(found, |value| value.strip_prefix(prefix.as_str()).unwrap_or(value).to_owned())
            }
            Filter::Segment => found,
            Filter::Xml => on_text(found, escape_xml),
            Filter::HubspotUri => on_text(found, hubspot_uri),
        }
    }
}

fn text<'a>(value: String) -> Found<'a> {
    Found::Text(Cow::Owned(value))
}

fn json<'a>(value: Value) -> Found<'a> {
    Found::Json(Cow::Owned(value))
}

fn on_text<'a>(found: Option<Found<'a>>, change: impl Fn(&str) -> String) -> Option<Found<'a>> {
    found?.into_text().map(|value| text(change(&value)))
}

/// `A:B`, where `A` may itself be a colon.
fn parse_replace(argument: &str) -> Option<Filter> {
    let first = argument.chars().next()?.len_utf8();
    let cut = first + argument[first..].find(':')?;
    Some(Filter::Replace { from: argument[..cut].to_owned(), to: argument[cut + 1..].to_owned() })
}

fn snake(value: &str) -> String {
    let mut snake = String::with_capacity(value.len() + 4);
    for c in value.chars() {
        if c.is_uppercase() && !snake.is_empty() && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.extend(c.to_lowercase().map(|c| if c == ' ' || c == '-' { '_' } else { c }));
    }
    snake
}

/// Escaped for text and attributes of XML 1.0; characters that no XML document may hold are left out.
fn escape_xml(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' | '\r' => escaped.push(c),
            c if c.is_control() || c == '\u{FFFE}' || c == '\u{FFFF}' => {}
            c => escaped.push(c),
        }
    }
    escaped
}

/// Undoes the twelve escapes that HubSpot undoes before it signs, and no others.
fn hubspot_uri(value: &str) -> String {
    const UNDONE: [(&str, char); 12] = [
        ("3A", ':'),
        ("2F", '/'),
        ("3F", '?'),
        ("40", '@'),
        ("21", '!'),
        ("24", '$'),
        ("27", '\''),
        ("28", '('),
        ("29", ')'),
        ("2A", '*'),
        ("2C", ','),
        ("3B", ';'),
    ];
    let mut plain = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        let escape = rest.get(at + 1..at + 3);
        let undone = escape.and_then(|digits| UNDONE.iter().find(|(code, _)| code.eq_ignore_ascii_case(digits)));
        match undone {
            Some((_, c)) => {
                plain.push(*c);
                rest = &rest[at + 3..];
            }
            None => {
                plain.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(filter: &str, value: &str) -> Option<String> {
        let found = Found::Text(Cow::Borrowed(value));
        Some(Filter::parse(filter).unwrap().apply(Some(found), &View::default())?.into_text()?.into_owned())
    }

    #[test]
    fn filters_do_what_they_say() {
        assert_eq!(on("snake", "MergeRequest").as_deref(), Some("merge_request"));
        assert_eq!(on("snake", "Design Management").as_deref(), Some("design_management"));
        assert_eq!(on("replace:::.", "pr:comment:added").as_deref(), Some("pr.comment.added"));
        assert_eq!(on("replace: :_", "Re Triggered").as_deref(), Some("Re_Triggered"));
        assert_eq!(on("replace:/:.", "orders/create").as_deref(), Some("orders.create"));
        assert_eq!(on("strip_prefix:/", "/deploy").as_deref(), Some("deploy"));
        assert_eq!(on("xml", "<a & 'b'>\u{1}").as_deref(), Some("&lt;a &amp; &#39;b&#39;&gt;"));
        assert_eq!(on("hubspot_uri", "/a%2Fb%20c%").as_deref(), Some("/a/b%20c%"));
        assert_eq!(on("int", "6539000000000000001").as_deref(), Some("6539000000000000001"));
        assert_eq!(on("int", "7x"), None);
    }
}
