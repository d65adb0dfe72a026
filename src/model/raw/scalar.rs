//! The values of which `webhook_config` is made, where the usual types would take more than they should.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Deserialize, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::Value;

use crate::model::spec::ReplyMode;

/// A text. Numbers, truth values and `null` are no texts, though YAML's own rules would take them for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub String);

/// One, or a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Several<T> {
    pub items: Vec<T>,
    /// Whether it was written as a list: places in the file differ.
    pub listed: bool,
}

/// Seconds, written as a number or as `15m`, `1h 30m`, `30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duration {
    pub seconds: u64,
}

/// A mode, or the `reply` section of a provider definition.
#[derive(Clone, Debug, PartialEq)]
pub enum ReplyField {
    Mode(ReplyMode),
    Section(Value),
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
            fn visit_string<E: Error>(self, text: String) -> Result<Text, E> {
                Ok(Text(text))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Several<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = Several<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value or a list")
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
                T::deserialize(value.into_deserializer()).map(one)
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
                T::deserialize(value.into_deserializer()).map(one)
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
                T::deserialize(value.into_deserializer()).map(one)
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
                T::deserialize(value.into_deserializer()).map(one)
            }
            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                T::deserialize(().into_deserializer()).map(one)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(StrDeserializer::new(text)).map(one)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(one)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Several { items, listed: true })
            }
        }
        deserializer.deserialize_any(Read(PhantomData))
    }
}

fn one<T>(item: T) -> Several<T> {
    Several { items: vec![item], listed: false }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Duration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as `15m`, or a whole number of seconds")
            }
            fn visit_u64<E: Error>(self, seconds: u64) -> Result<Duration, E> {
                Ok(Duration { seconds })
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
                let duration: Option<SignedDuration> = text.parse().ok();
                duration
                    .filter(|duration| duration.subsec_nanos() == 0)
                    .and_then(|duration| u64::try_from(duration.as_secs()).ok())
                    .map(|seconds| Duration { seconds })
                    .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl<'de> Deserialize<'de> for ReplyField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = ReplyField;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`comment`, `none`, or a mapping")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<ReplyField, E> {
                ReplyMode::deserialize(StrDeserializer::new(text)).map(ReplyField::Mode)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ReplyField, A::Error> {
                Value::deserialize(MapAccessDeserializer::new(map)).map(ReplyField::Section)
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl JsonSchema for Text {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "text".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

impl<T: JsonSchema> JsonSchema for Several<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("several_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Such as `15m`, `1h 30m`, `30s`, or a whole number of seconds.",
            "anyOf": [{ "type": "string" }, { "type": "integer", "minimum": 1 }]
        })
    }
}

impl JsonSchema for ReplyField {
    fn schema_name() -> Cow<'static, str> {
        "reply".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mode = generator.subschema_for::<ReplyMode>();
        json_schema!({ "anyOf": [mode, { "type": "object" }] })
    }
}
