//! Where a file may speak of secrets. Whatever is no name is dropped while it is read, so that nothing can show it:
//! not a message about a wrong kind of value, not a log, not a debugger.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::scalar::Several;

/// A secret that stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// It is sealed (`age:…`), not in plain text.
    pub sealed: bool,
}

/// The name of an environment variable or file; `None` where something else stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretName(pub Option<String>);

/// `{env: NAME}` or `{file: NAME}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretPlace {
    Env(SecretName),
    File(SecretName),
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
            takes_anything!(
                Plain,
                |text: &str| Plain { sealed: text.trim_start().starts_with("age:") },
                Plain { sealed: false }
            );
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Plain, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Plain { sealed: false })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Plain, A::Error> {
                let mut sealed = true;
                while let Some(item) = seq.next_element::<Plain>()? {
                    sealed &= item.sealed;
                }
                Ok(Plain { sealed })
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
                f.write_str("`{env: NAME}` or `{file: NAME}`")
            }
            takes_anything!(SecretPlace, |_: &str| SecretPlace::Plain, SecretPlace::Plain);
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretPlace, A::Error> {
                let place = match map.next_key::<String>()?.as_deref() {
                    Some("env") => SecretPlace::Env(map.next_value()?),
                    Some("file") => SecretPlace::File(map.next_value()?),
                    Some(key) => return Err(A::Error::unknown_field(key, &["env", "file"])),
                    None => return Err(A::Error::invalid_length(0, &self)),
                };
                match map.next_key::<String>()? {
                    None => Ok(place),
                    Some(_) => Err(A::Error::invalid_length(2, &self)),
                }
            }
        }
        deserializer.deserialize_any(Read)
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
            "properties": { "env": { "type": "string" }, "file": { "type": "string" } },
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1
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
