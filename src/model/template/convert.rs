//! Between the JSON of a context and the values of Tera, within limits.

use std::borrow::Cow;

use serde_json::Value as Json;
use tera::value::Key;
use tera::{Map, Value};

use super::VALUE_CHARS_MAX;
use super::emit::PathStep;
use crate::model::untrusted::visible;

/// Most values of a context that one rendering may touch.
const VALUES_MAX: usize = 20_000;
/// Most text of a context that one rendering may touch, in bytes.
const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of one text; more could not be printed anyway.
const ONE_TEXT_BYTES_MAX: usize = 64 * 1024;
/// Deepest nesting that is followed.
const DEPTH_MAX: usize = 64;

/// What becomes of the texts of a context.
#[derive(Clone, Copy, Debug)]
pub(super) enum Texts {
    AsSent,
    /// Without what a reader of the source does not see.
    Visible,
}

/// What is left of the limits of one rendering.
pub(super) struct Budget {
    texts: Texts,
    values: usize,
    text_bytes: usize,
    /// Something did not fit since this was last looked at.
    pub exceeded: bool,
}

impl Budget {
    pub fn new(texts: Texts) -> Self {
        Self { texts, values: VALUES_MAX, text_bytes: TEXT_BYTES_MAX, exceeded: false }
    }

    /// As much of the JSON as fits; what does not becomes `none` or ends early.
    pub fn fit(&mut self, json: &Json) -> Value {
        self.at_depth(json, 0)
    }

    fn at_depth(&mut self, json: &Json, depth: usize) -> Value {
        if self.values == 0 || depth > DEPTH_MAX {
            self.exceeded = true;
            return Value::none();
        }
        self.values -= 1;
        match json {
            Json::Null => Value::none(),
            Json::Bool(value) => Value::from(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(number), _, _) => Value::from(number),
                (_, Some(number), _) => Value::from(number),
                (_, _, number) => Value::from(number.unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::from(self.text(text)),
            Json::Array(items) => {
                let fitting = &items[..items.len().min(self.values)];
                self.exceeded |= fitting.len() < items.len();
                Value::from(fitting.iter().map(|item| self.at_depth(item, depth + 1)).collect::<Vec<_>>())
            }
            Json::Object(fields) => {
                let fitting = fields.len().min(self.values);
                self.exceeded |= fitting < fields.len();
                let mut map = Map::with_capacity(fitting);
                for (key, field) in fields.iter().take(fitting) {
                    let key = self.text(key);
                    map.insert(key.into(), self.at_depth(field, depth + 1));
                }
                Value::from(map)
            }
        }
    }

    fn text(&mut self, text: &str) -> String {
        // Before it is cut: the end of something hidden may be behind the cut.
        let text = match self.texts {
            Texts::AsSent => Cow::Borrowed(text),
            Texts::Visible => Cow::Owned(visible(text)),
        };
        let kept = &text[..text.floor_char_boundary(ONE_TEXT_BYTES_MAX.min(self.text_bytes))];
        self.exceeded |= kept.len() < text.len();
        self.text_bytes -= kept.len();
        kept.to_owned()
    }
}

/// The part of the context that a path leads to. JSON's `null` is there; what is below it is not.
pub(super) fn find<'j>(context: &'j Json, root: &str, steps: &[PathStep]) -> Option<&'j Json> {
    steps.iter().try_fold(context.get(root)?, |value, step| match (step, value) {
        (PathStep::Name(name), _) => value.get(name),
        (PathStep::Index(index), Json::Array(items)) => items.get(position(*index, items.len())?),
        (PathStep::Index(index), Json::Object(fields)) => fields.get(&index.to_string()),
        (PathStep::Index(_), _) => None,
    })
}

/// The same inside a value of Tera, whose clones are cheap.
pub(super) fn step(value: &Value, step: &PathStep) -> Option<Value> {
    let field = |name: &str| value.as_map()?.get(&Key::Str(name)).cloned();
    match step {
        PathStep::Name(name) => field(name),
        PathStep::Index(index) => match value.as_array() {
            Some(items) => items.get(position(*index, items.len())?).cloned(),
            None => field(&index.to_string()),
        },
    }
}

/// Negative indices count from the end.
pub(super) fn position(index: i64, length: usize) -> Option<usize> {
    if index < 0 {
        length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?)
    } else {
        usize::try_from(index).ok()
    }
}

/// How a value is printed: text as it is, nothing for nothing, the rest as JSON.
pub(super) fn printed(value: &Value) -> String {
    if value.is_undefined() || value.is_none() {
        return String::new();
    }
    match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_array() || value.is_map() => json(value, false),
        None => value.to_string(),
    }
}

pub(super) fn json(value: &Value, pretty: bool) -> String {
    let written = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    // Only numbers outside of JSON's range cannot be written.
    written.unwrap_or_else(|_| "null".to_owned())
}

/// Cuts a text that is too long to be printed whole at the end of a sentence, else at a blank, and says how much is
/// gone. `None` where it fits.
pub(super) fn cut(text: &str) -> Option<String> {
    let (limit, _) = text.char_indices().nth(VALUE_CHARS_MAX)?;
    let kept = &text[..limit];
    let earliest = kept.floor_char_boundary(limit / 2);
    let sentence = kept
        .char_indices()
        .rev()
        .take_while(|(at, _)| *at >= earliest)
        .find(|(at, c)| ends_sentence(*c) && text[at + c.len_utf8()..].starts_with(char::is_whitespace) || *c == '\n')
        .map(|(at, c)| at + c.len_utf8());
    let end = sentence.or_else(|| kept.rfind(char::is_whitespace).filter(|at| *at >= earliest)).unwrap_or(limit);
    let kept = kept[..end].trim_end();
    let gone = text[kept.len()..].chars().count();
    Some(format!("{kept} [… {gone} more characters]"))
}

fn ends_sentence(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…' | '。' | '！' | '？')
}
