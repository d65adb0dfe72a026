//! Goes to one place inside YAML and either reads it as a type or says where it stands.
//!
//! Positions come from the parser: a visitor that fails on purpose at the wanted place leaves its line and column in
//! the error. That costs one parse of at most 32 KiB, and only when there is a diagnostic to place.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::key_path::Step;
use super::refused::position;
use crate::model::diagnostic::Position;

/// Reads the value at the end of `steps`; `None` where there is none.
pub(super) fn read<T: for<'de> Deserialize<'de>>(text: &str, steps: &[Step]) -> Result<Option<T>, serde_yaml::Error> {
    At { steps, stop_at_key: false, read: PhantomData }.deserialize(serde_yaml::Deserializer::from_str(text))
}

/// Where the key (or the item) stands that `steps` lead to, else its nearest ancestor that exists.
pub(super) fn key_position(text: &str, steps: &[Step]) -> Option<Position> {
    nearest(text, steps, true)
}

/// Where the value begins that `steps` lead to.
pub(super) fn value_position(text: &str, steps: &[Step]) -> Option<Position> {
    seek(text, steps, false)
}

/// The text with a field and its value left out; line and column of its key count from 0. Nothing else moves. `None`
/// where something else stands on the line of the key, as in `{…}`.
pub(super) fn without_field(text: &str, line: usize, column: usize) -> Option<String> {
    let (before, _) = text.lines().nth(line)?.split_at_checked(column)?;
    if !before.chars().all(|c| matches!(c, ' ' | '-')) {
        return None;
    }
    let mut inside = true;
    let kept = text.lines().enumerate().map(|(number, content)| {
        let depth = content.len() - content.trim_start_matches(' ').len();
        let is_item = content[depth..].starts_with("- ") || &content[depth..] == "-";
        inside &= number <= line || content.trim().is_empty() || depth > column || (depth == column && is_item);
        match number {
            _ if number == line => before,
            _ if number > line && inside => "",
            _ => content,
        }
    });
    Some(kept.flat_map(|content| [content, "\n"]).collect())
}

fn nearest(text: &str, steps: &[Step], stop_at_key: bool) -> Option<Position> {
    (1..=steps.len()).rev().find_map(|length| seek(text, &steps[..length], stop_at_key))
}

fn seek(text: &str, steps: &[Step], stop_at_key: bool) -> Option<Position> {
    let at = At { steps, stop_at_key, read: PhantomData::<Stop> };
    at.deserialize(serde_yaml::Deserializer::from_str(text)).err().as_ref().and_then(position)
}

/// Fails on whatever it is given.
struct Stop;

impl<'de> Deserialize<'de> for Stop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Refuse;
        impl Visitor<'_> for Refuse {
            type Value = Stop;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("to stop here")
            }
        }
        deserializer.deserialize_any(Refuse)
    }
}

struct At<'a, T> {
    steps: &'a [Step],
    stop_at_key: bool,
    read: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for At<'_, T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        match self.steps.first() {
            None => T::deserialize(deserializer).map(Some),
            Some(_) => deserializer.deserialize_any(self),
        }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for At<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or a list")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let wanted = match self.steps.first() {
            Some(Step::Key(key)) => Some(key.as_str()),
            Some(Step::Index(_)) | None => None,
        };
        let rest = self.steps.get(1..).unwrap_or_default();
        let mut found = None;
        let stop = self.stop_at_key && rest.is_empty();
        while let Some(matches) = fields.next_key_seed(Key { wanted, stop })? {
            if matches {
                let next = At { steps: rest, stop_at_key: self.stop_at_key, read: PhantomData };
                found = fields.next_value_seed(next)?;
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let Some((Step::Index(wanted), rest)) = self.steps.split_first() else {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(None);
        };
        for _ in 0..*wanted {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let next = At { steps: rest, stop_at_key: self.stop_at_key, read: PhantomData };
        let found = items.next_element_seed(next)?.flatten();
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

struct Key<'a> {
    wanted: Option<&'a str>,
    stop: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        let matches = self.wanted == Some(key);
        if matches && self.stop { Err(E::custom("found")) } else { Ok(matches) }
    }
}
