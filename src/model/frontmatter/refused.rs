//! What YAML offers and these files do not use: anchors and aliases (bombs), tags, merge keys, duplicate keys.
//!
//! The parser itself is asked, never a second scanner of ours: it reads a copy in which every `&` is a `!` and every
//! tag is one that nobody knows, character for character. In text that changes nothing that matters; a real anchor or
//! tag is then met as an unknown tag, and a real alias has no anchor, and the parser says so with the position.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, Visitor};

use super::split::BRACKETS_OPEN_MAX;
use crate::model::diagnostic::Position;

/// How a refusal reads; [`super::trouble`] adds the hint.
pub(super) const ANCHOR: &str = "anchors and aliases are not used here";
pub(super) const TAG: &str = "tags are not used here";
pub(super) const MERGE_KEY: &str = "merge keys are not used here";

/// Why the text is refused.
#[derive(Debug)]
pub(super) enum Refusal {
    Yaml(serde_yaml::Error),
    Anchor(Option<Position>),
}

/// Reads the whole text once, without keeping it.
pub(super) fn check(text: &str) -> Result<(), Refusal> {
    let probe = probe(text);
    let read = |text: &str| Shape.deserialize(serde_yaml::Deserializer::from_str(text));
    let Err(error) = read(&probe) else { return Ok(()) };
    let message = error.to_string();
    let at = position(&error);
    if message.contains("unknown anchor")
        || (message.contains(TAG) && at.is_some_and(|at| char_at(text, at) == Some('&')))
    {
        return Err(Refusal::Anchor(at));
    }
    if probe == text || message.contains(TAG) {
        return Err(Refusal::Yaml(error));
    }
    // The copy may be broken where the text is not, and the text's own error is the one to show.
    Err(read(text).err().map_or(Refusal::Anchor(at), Refusal::Yaml))
}

/// Where more brackets stand open than may; the parser's time is quadratic in them.
pub(super) fn check_brackets(text: &str) -> Result<(), Position> {
    let mut open = 0usize;
    for (number, line) in text.split('\n').enumerate() {
        for (column, c) in line.chars().enumerate() {
            match c {
                '[' | '{' => open += 1,
                ']' | '}' => open = open.saturating_sub(1),
                _ => {}
            }
            if open > BRACKETS_OPEN_MAX {
                return Err(Position { line: number + 1, column: column + 1 });
            }
        }
    }
    Ok(())
}

/// The position inside the text that the error is about.
pub(super) fn position(error: &serde_yaml::Error) -> Option<Position> {
    error.location().map(|at| Position { line: at.line(), column: at.column() })
}

fn probe(text: &str) -> String {
    let mut before = [' '; 2];
    let exchange = |c: char| {
        let exchanged = match (before, c) {
            (_, '&') => '!',
            ([_, '!'], '!') => '_',
            (['!', '<'], _) => '!',
            _ => c,
        };
        before = [before[1], c];
        exchanged
    };
    text.chars().map(exchange).collect()
}

fn char_at(text: &str, at: Position) -> Option<char> {
    text.lines().nth(at.line.checked_sub(1)?)?.chars().nth(at.column.checked_sub(1)?)
}

/// Walks everything and keeps nothing. The parser's own depth limit (128) bounds the recursion.
#[derive(Clone, Copy)]
struct Shape;

impl<'de> DeserializeSeed<'de> for Shape {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Shape)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while fields.next_key_seed(FreshKey(&mut seen))?.is_some() {
            fields.next_value_seed(Shape)?;
        }
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(A::Error::custom(TAG))
    }
}

/// A key that is text and was not there before.
struct FreshKey<'a>(&'a mut HashSet<String>);

impl<'de> DeserializeSeed<'de> for FreshKey<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FreshKey<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is plain text")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<(), E> {
        if key == "<<" {
            return Err(E::custom(MERGE_KEY));
        }
        if !self.0.insert(key.to_owned()) {
            return Err(E::custom(format_args!("the key `{key}` stands here twice")));
        }
        Ok(())
    }
}
