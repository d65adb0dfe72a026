//! JSON with holes: templates stand at the leaves of a parsed document and are never joined into JSON text.

use serde::Deserialize;
use serde_json::Value;

use super::template::{Expression, Template};

/// A JSON value whose texts are templates.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
pub enum JsonTemplate {
    /// A leaf without holes.
    Fixed(Value),
    Text(Template),
    Array(Vec<JsonTemplate>),
    Object(Vec<(String, JsonTemplate)>),
}

impl TryFrom<Value> for JsonTemplate {
    type Error = String;
    fn try_from(value: Value) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => {
                let template = Template::parse(&text)?;
                if template.holes().next().is_some() { Self::Text(template) } else { Self::Fixed(text.into()) }
            }
            Value::Array(items) => Self::Array(items.into_iter().map(Self::try_from).collect::<Result<_, _>>()?),
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, value)| Ok((name, Self::try_from(value)?)));
                Self::Object(fields.collect::<Result<_, String>>()?)
            }
            fixed => Self::Fixed(fixed),
        })
    }
}

impl JsonTemplate {
    /// Every hole in it.
    pub fn holes(&self) -> Vec<&Expression> {
        match self {
            Self::Fixed(_) => Vec::new(),
            Self::Text(template) => template.holes().collect(),
            Self::Array(items) => items.iter().flat_map(Self::holes).collect(),
            Self::Object(fields) => fields.iter().flat_map(|(_, value)| value.holes()).collect(),
        }
    }
}
