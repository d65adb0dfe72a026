//! How a reply is written, marked, split and found again.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::markup;
use super::pointer::Pointer;
use super::prepared::PreparedCall;
use super::schema::Format;
use super::schema::calls::{Created, MarkerKind, Overflow, Reply, ReplyRule};
use super::split;
use crate::model::ids::TaskId;

/// Everything that a sender needs to know about a text at its destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplyTraits {
    pub format: Format,
    pub limits: Limits,
    pub overflow: Overflow,
    pub marker: MarkerKind,
    /// Lists what stands at the source, to look for the marker after a crash.
    pub find: Option<PreparedFind>,
    /// Where the answer names what was made.
    pub created_id: Option<Pointer>,
    pub created_url: Option<Pointer>,
    /// Changes what was made; needs `reply_id` in its context.
    pub edit: Option<Box<PreparedCall>>,
    /// The same call with buttons, for questions whether a task may run; `task` and `digest` are still to be settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Box<PreparedCall>>,
    /// Says that a question is decided, in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided: Option<Box<PreparedCall>>,
}

/// How long one message may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub chars: Option<usize>,
    pub bytes: Option<usize>,
}

/// A call that lists messages, and where they stand in its answer. It may need `since` in its context: the time of
/// the delivery, in RFC 3339.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreparedFind {
    pub call: PreparedCall,
    pub list: Pointer,
    pub text: Pointer,
    pub id: Option<Pointer>,
    pub url: Option<Pointer>,
}

/// A message of ours that stands at the source already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub id: Option<String>,
    pub url: Option<String>,
}

pub(super) fn traits(reply: &Reply, rule: &ReplyRule, find: Option<PreparedFind>) -> ReplyTraits {
    let created = rule.created.clone().unwrap_or_default();
    let Created { id, url } = created;
    ReplyTraits {
        format: rule.format.unwrap_or(reply.format),
        limits: Limits { chars: reply.soft_max_chars.or(reply.max_chars), bytes: reply.max_bytes },
        overflow: reply.overflow,
        marker: reply.marker,
        find,
        created_id: id,
        created_url: url,
        edit: None,
        approval: None,
        decided: None,
    }
}

impl ReplyTraits {
    /// The messages that a text in Markdown becomes: in the dialect of the place, each within the limits and with its
    /// own marker. An Atlassian document is made only when the call is filled, so there they stay Markdown.
    pub fn messages(&self, text: &str, task: TaskId) -> Vec<String> {
        let limits = self.limits.less(self.marker.room());
        let mut parts = Vec::new();
        self.render_into(text, limits, limits, &mut parts);
        let count = parts.len();
        let marked = |(n, part): (usize, String)| self.marker.append(&part, task, n, count);
        parts.into_iter().enumerate().map(marked).collect()
    }

    /// Splits before rendering, so that no mark is torn apart, and again where the rendered text grew too long.
    fn render_into(&self, text: &str, source: Limits, limits: Limits, parts: &mut Vec<String>) {
        let pieces = match self.overflow {
            Overflow::Split => split::split(text, source),
            Overflow::Truncate => vec![split::truncate(text, source)],
        };
        for piece in pieces {
            let rendered = if self.format == Format::Adf { piece.clone() } else { markup::render(self.format, &piece) };
            match source.halved() {
                Some(half) if !split::fits(&rendered, limits) => self.render_into(&piece, half, limits, parts),
                _ if parts.len() < split::MESSAGES_MAX => parts.push(split::truncate(&rendered, limits)),
                _ => {}
            }
        }
    }

    /// What the answer to the call says about what it made.
    pub fn created(&self, answer: &Value) -> Standing {
        Standing { id: text_at(self.created_id.as_ref(), answer), url: text_at(self.created_url.as_ref(), answer) }
    }
}

impl PreparedFind {
    /// Looks for part `n` of a task's reply in the answer of the call.
    pub fn locate(&self, answer: &Value, marker: MarkerKind, task: TaskId, part: usize) -> Option<Standing> {
        let wanted = marker.begin(task, part)?;
        let items = self.list.find(answer)?.as_array()?;
        let ours =
            |item: &&Value| self.text.find(item).and_then(Value::as_str).is_some_and(|text| text.contains(&wanted));
        let item = items.iter().find(ours)?;
        Some(Standing { id: text_at(self.id.as_ref(), item), url: text_at(self.url.as_ref(), item) })
    }
}

fn text_at(pointer: Option<&Pointer>, value: &Value) -> Option<String> {
    match pointer?.find(value)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Longest marker in characters: `\n\n<!-- skillhook:task=tsk_<32> part=9999/9999 -->`.
const MARKER_CHARS_MAX: usize = 80;

impl MarkerKind {
    fn room(self) -> usize {
        match self {
            MarkerKind::None => 0,
            MarkerKind::HtmlComment => MARKER_CHARS_MAX,
        }
    }

    /// What a marked message of this task and part contains, whatever the number of parts.
    fn begin(self, task: TaskId, part: usize) -> Option<String> {
        match self {
            MarkerKind::None => None,
            MarkerKind::HtmlComment => Some(format!("<!-- skillhook:task={task} part={}/", part + 1)),
        }
    }

    fn append(self, text: &str, task: TaskId, part: usize, parts: usize) -> String {
        match self.begin(task, part) {
            Some(begin) => format!("{}\n\n{begin}{parts} -->", text.trim_end()),
            None => text.to_owned(),
        }
    }
}

impl Limits {
    fn less(self, chars: usize) -> Self {
        let less = |limit: usize| limit.saturating_sub(chars).max(1);
        Self { chars: self.chars.map(less), bytes: self.bytes.map(less) }
    }

    /// Half of them, while that still leaves room for words.
    fn halved(self) -> Option<Self> {
        let half = |limit: usize| limit / 2;
        let halved = Self { chars: self.chars.map(half), bytes: self.bytes.map(half) };
        let least = halved.chars.into_iter().chain(halved.bytes).min()?;
        (least >= 100).then_some(halved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use uuid::Uuid;

    fn traits(chars: usize, bytes: usize, overflow: Overflow) -> ReplyTraits {
        ReplyTraits {
            format: Format::Gfm,
            limits: Limits { chars: Some(chars), bytes: Some(bytes) },
            overflow,
            marker: MarkerKind::HtmlComment,
            find: None,
            created_id: None,
            created_url: None,
            edit: None,
            approval: None,
            decided: None,
        }
    }

    #[test]
    fn marked_messages_stay_within_the_limits_and_are_found() {
        let task = TaskId(Uuid::from_u128(7));
        let text = "äöü wörd\n".repeat(100);
        let messages = traits(300, 320, Overflow::Split).messages(&text, task);
        assert!(messages.len() > 2);
        let find = PreparedFind {
            call: PreparedCall::to("https://a.example/"),
            list: Pointer::parse("/list").unwrap(),
            text: Pointer::parse("/body").unwrap(),
            id: Some(Pointer::parse("/id").unwrap()),
            url: Some(Pointer::parse("/u").unwrap()),
        };
        let items: Vec<Value> =
            messages.iter().enumerate().map(|(n, body)| json!({"id": n, "u": "x", "body": body})).collect();
        let answer = json!({"list": items});
        for (n, message) in messages.iter().enumerate() {
            assert!(message.chars().count() <= 300 && message.len() <= 320, "{} {}", message.len(), message);
            let found = find.locate(&answer, MarkerKind::HtmlComment, task, n).unwrap();
            assert_eq!(found.id, Some(n.to_string()));
        }
        assert_eq!(find.locate(&answer, MarkerKind::HtmlComment, TaskId(Uuid::from_u128(8)), 0), None);
        assert_eq!(find.locate(&answer, MarkerKind::HtmlComment, task, messages.len()), None);
    }

    #[test]
    fn text_that_grows_when_rendered_still_fits() {
        let slack =
            ReplyTraits { format: Format::Mrkdwn, marker: MarkerKind::None, ..traits(400, 4_000, Overflow::Split) };
        let messages = slack.messages(&"a < b && c > d. ".repeat(60), TaskId(Uuid::nil()));
        assert!(messages.len() > 3);
        assert!(messages.iter().all(|message| message.chars().count() <= 400));
        assert_eq!(messages.join(" ").matches("&amp;&amp;").count(), 60);
    }

    #[test]
    fn what_cannot_be_split_is_cut() {
        let messages = traits(200, 1_000, Overflow::Truncate).messages(&"x".repeat(500), TaskId(Uuid::nil()));
        assert_eq!(messages.len(), 1);
        assert!(messages[0].chars().count() <= 200);
    }
}
