//! Where a file may speak of secrets. Whatever is no name is dropped while it is read, so that nothing can show it:
//! not a message about a wrong kind of value, not a log, not a debugger.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::scalar::Several;

/// A secret that stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    /// Sealed ones (`age:…`); `None` where one of them is in plain text, which is dropped.
    pub sealed: Option<Vec<String>>,
}

impl Plain {
    fn of(text: &str) -> Self {
        let text = text.trim();
        Self { sealed: text.starts_with(SEALED).then(|| vec![text.to_owned()]) }
    }
}

/// What a sealed secret begins with.
const SEALED: &str = "age:";

/// The name of an environment variable or file; `None` where something else stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretName(pub Option<String>);

/// `{env: NAME}`, `{file: NAME}` or `{sealed: "age:…"}`; with `not_after`, for so long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretPlace {
    Env(SecretName),
    File(SecretName),
    Sealed(String),
    Until {
        not_after: String,
        place: Box<SecretPlace>,
    },
    /// The secret itself.
    Plain,
}

/// The places of several secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secrets {
    BySlot(BTreeMap<String, Several<SecretPlace>>),
    /// The secret itself.
    Plain,
}

/// Takes every kind of value: texts through `$text`, the rest as `$other`.
macro_rules! takes_anything {
    ($value:ty, $text:expr, $other:expr) => {
        fn visit_str<E: Error>(self, text: &str) -> Result<$value, E> {
            Ok($text(text))
        }
        fn visit_bool<E: Error>(self, _: bool) -> Result<$value, E> {
            Ok($other)
        }
        fn visit_i64<E: Error>(self, _: i64) -> Result<$value, E> {
            Ok($other)
        }
        fn visit_u64<E: Error>(self, _: u64) -> Result<$value, E> {
            Ok($other)
        }
        fn visit_f64<E: Error>(self, _: f64) -> Result<$value, E> {
            Ok($other)
        }
        fn visit_unit<E: Error>(self) -> Result<$value, E> {
            Ok($other)
        }
    };
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Plain;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sealed secret")
            }
            takes_anything!(Plain, Plain::of, Plain { sealed: None });
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Plain, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Plain { sealed: None })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Plain, A::Error> {
                let mut all = Some(Vec::new());
                while let Some(item) = seq.next_element::<Plain>()? {
                    all = all.zip(item.sealed).map(|(all, sealed)| [all, sealed].concat());
                }
                Ok(Plain { sealed: all })
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl<'de> Deserialize<'de> for SecretName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = SecretName;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            takes_anything!(SecretName, |text: &str| SecretName(Some(text.to_owned())), SecretName(None));
        }
        deserializer.deserialize_any(Read)
    }
}

impl<'de> Deserialize<'de> for SecretPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = SecretPlace;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`{env: NAME}`, `{file: NAME}` or `{sealed: \"age:…\"}`")
            }
            takes_anything!(SecretPlace, |text: &str| sealed(Plain::of(text)), SecretPlace::Plain);
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretPlace, A::Error> {
                let (mut place, mut not_after) = (None, None);
                let mut count = 0;
                while let Some(key) = map.next_key::<String>()? {
                    count += 1;
                    match key.as_str() {
                        "env" => place = Some(SecretPlace::Env(map.next_value()?)),
                        "file" => place = Some(SecretPlace::File(map.next_value()?)),
                        "sealed" => place = Some(sealed(map.next_value()?)),
                        "not_after" => not_after = Some(map.next_value::<SecretName>()?.0.unwrap_or_default()),
                        key => return Err(A::Error::unknown_field(key, &["env", "file", "sealed", "not_after"])),
                    }
                }
                match (place, not_after) {
                    (Some(place), None) if count == 1 => Ok(place),
                    (Some(place), Some(not_after)) if count == 2 => {
                        Ok(SecretPlace::Until { not_after, place: Box::new(place) })
                    }
                    _ => Err(A::Error::invalid_length(count, &self)),
                }
            }
        }
        deserializer.deserialize_any(Read)
    }
}

fn sealed(plain: Plain) -> SecretPlace {
    match plain.sealed.as_deref() {
        Some([text]) => SecretPlace::Sealed(text.clone()),
        Some(_) | None => SecretPlace::Plain,
    }
}

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Secrets;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }
            takes_anything!(Secrets, |_: &str| Secrets::Plain, Secrets::Plain);
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Secrets, A::Error> {
                let mut slots = BTreeMap::new();
                while let Some((slot, places)) = map.next_entry()? {
                    slots.insert(slot, places);
                }
                Ok(Secrets::BySlot(slots))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl JsonSchema for Plain {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "sealed_secret".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^age:" })
    }
}

impl JsonSchema for SecretName {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "secret_name".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

impl JsonSchema for SecretPlace {
    fn schema_name() -> Cow<'static, str> {
        "secret_place".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": {
                "env": { "type": "string" },
                "file": { "type": "string" },
                "sealed": { "type": "string", "pattern": "^age:" },
                "not_after": { "type": "string", "format": "date-time" }
            },
            "additionalProperties": false,
            "oneOf": [{ "required": ["env"] }, { "required": ["file"] }, { "required": ["sealed"] }]
        })
    }
}

impl JsonSchema for Secrets {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "secrets".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let places = generator.subschema_for::<Several<SecretPlace>>();
        json_schema!({ "type": "object", "additionalProperties": places })
    }
}
