//! Selectors: where in a delivery a value stands.

use serde::Deserialize;

use super::pointer::Pointer;
use crate::model::diagnostic::did_you_mean;

/// One place a value can come from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Selector {
    /// The body as it came.
    Raw,
    Method,
    /// The address as the sender called it.
    Url,
    /// The media type without parameters.
    ContentType,
    /// Form fields sorted by name, names and values run together (Twilio signs this).
    FormSorted,
    /// The key of the signature scheme itself, for plain digests.
    Key,
    Header(String),
    Query(String),
    /// A field of a form body.
    Form(String),
    /// In the decoded body.
    Body(Pointer),
    /// In one item of a batch; in the whole body where the sender does not batch.
    Item(Pointer),
    /// In the first member of the body that is an object (a Telegram update has one beside its id).
    Value(Pointer),
    /// In the answer to a call.
    Answer(Pointer),
    /// The first member name of the body that is none of these.
    FirstKey(Vec<String>),
    /// The first member name of the item that is none of these.
    FirstItemKey(Vec<String>),
    /// A field of the signature header.
    Signature(String),
    Secret(String),
    /// A setting of the operator.
    Config(String),
    /// Known when the call is made: the text of a reply, for example.
    Context(String),
    Const(String),
    JwtHeader(Pointer),
}

const WORDS: [&str; 6] = ["raw", "method", "url", "content_type", "form_sorted", "key"];
const KINDS: [&str; 14] = [
    "header",
    "query",
    "form",
    "body",
    "item",
    "value",
    "first_key",
    "first_item_key",
    "sig",
    "secret",
    "cfg",
    "ctx",
    "const",
    "jwt_header",
];

impl Selector {
    pub fn parse(text: &str) -> Result<Self, String> {
        match Self::recognise(text) {
            Some(parsed) => parsed,
            None => {
                let kind = text.split(':').next().unwrap_or_default();
                let near = did_you_mean(kind, KINDS.into_iter().chain(WORDS));
                let hint = near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
                Err(format!("`{text}` is no selector{hint}"))
            }
        }
    }

    /// `None` when the text does not even look like a selector, so that braces in other text stay what they are.
    pub fn recognise(text: &str) -> Option<Result<Self, String>> {
        match text {
            "raw" => return Some(Ok(Selector::Raw)),
            "method" => return Some(Ok(Selector::Method)),
            "url" => return Some(Ok(Selector::Url)),
            "content_type" => return Some(Ok(Selector::ContentType)),
            "form_sorted" => return Some(Ok(Selector::FormSorted)),
            "key" => return Some(Ok(Selector::Key)),
            _ if text.starts_with('/') => return Some(Pointer::parse(text).map(Selector::Answer)),
            _ => {}
        }
        let (kind, rest) = text.split_once(':')?;
        let named = |make: fn(String) -> Selector| match rest {
            "" => Err(format!("`{text}` names nothing")),
            name => Ok(make(name.to_owned())),
        };
        let names = || rest.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>();
        Some(match kind {
            "header" => named(Selector::Header),
            "query" => named(Selector::Query),
            "form" => named(Selector::Form),
            "sig" => named(Selector::Signature),
            "secret" => named(Selector::Secret),
            "cfg" => named(Selector::Config),
            "ctx" => named(Selector::Context),
            "const" => Ok(Selector::Const(rest.to_owned())),
            "body" => Pointer::parse(rest).map(Selector::Body),
            "item" => Pointer::parse(rest).map(Selector::Item),
            "value" => Pointer::parse(rest).map(Selector::Value),
            "jwt_header" => Pointer::parse(rest).map(Selector::JwtHeader),
            "first_key" => Ok(Selector::FirstKey(names())),
            "first_item_key" => Ok(Selector::FirstItemKey(names())),
            _ if rest.starts_with('/') && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => {
                let near = did_you_mean(kind, KINDS);
                let hint = near.map(|near| format!(", did you mean `{near}:`?")).unwrap_or_default();
                Err(format!("`{kind}:` is no kind of selector{hint}"))
            }
            _ => return None,
        })
    }

    /// Whether it reads the decoded body.
    pub fn reads_body(&self) -> bool {
        matches!(
            self,
            Selector::Body(_)
                | Selector::Item(_)
                | Selector::Value(_)
                | Selector::FirstKey(_)
                | Selector::FirstItemKey(_)
        )
    }

    /// Whether the sender of a request chooses what it answers.
    pub fn is_foreign(&self) -> bool {
        match self {
            Selector::Raw
            | Selector::Method
            | Selector::Url
            | Selector::ContentType
            | Selector::FormSorted
            | Selector::Header(_)
            | Selector::Query(_)
            | Selector::Form(_)
            | Selector::Body(_)
            | Selector::Item(_)
            | Selector::Value(_)
            | Selector::Answer(_)
            | Selector::FirstKey(_)
            | Selector::FirstItemKey(_)
            | Selector::Signature(_)
            | Selector::Context(_)
            | Selector::JwtHeader(_) => true,
            Selector::Key | Selector::Secret(_) | Selector::Config(_) | Selector::Const(_) => false,
        }
    }
}

impl TryFrom<String> for Selector {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_named() {
        assert_eq!(Selector::parse("bdy:/x").unwrap_err(), "`bdy:` is no kind of selector, did you mean `body:`?");
        assert_eq!(Selector::parse("mehtod").unwrap_err(), "`mehtod` is no selector, did you mean `method`?");
        assert_eq!(Selector::parse("header:").unwrap_err(), "`header:` names nothing");
    }

    #[test]
    fn braces_of_other_languages_are_not_selectors() {
        for text in ["success", "discussionId:$d,body:$b", "comment{id}", "reply"] {
            assert!(Selector::recognise(text).is_none(), "{text}");
        }
    }
}
