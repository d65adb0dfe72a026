//! What the JSON Schema says of values that are read from text or from a form of their own.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::calls::Pace;
use super::verify::{Algorithm, OneAlgorithm};
use super::{SCHEMA, SchemaName, SplitPath};
use crate::model::provider::condition::{Condition, Written};
use crate::model::provider::json_template::JsonTemplate;
use crate::model::provider::pointer::Pointer;
use crate::model::provider::selector::Selector;
use crate::model::provider::template::Template;

macro_rules! texts {
    ($($kind:ty: $name:literal, $description:literal;)*) => {$(
        impl JsonSchema for $kind {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $description })
            }
        }
    )*};
}

texts! {
    Selector: "selector", "Where a value stands, such as `header:X-Event`, `body:/issue/key`, `raw`, `cfg:site_url`.";
    Template: "template", "Text with selectors in braces, each with filters: `{body:/project/id|or:body:/project_id}`.";
    Pointer: "pointer", "A JSON pointer (RFC 6901) in which `-1` is the last element.";
    Pace: "pace", "So many in a time: `1/s`, `20/min`, `100/10s`.";
    SplitPath: "split_path", "A JSON pointer in which a step `*` means every element.";
}

impl JsonSchema for JsonTemplate {
    fn schema_name() -> Cow<'static, str> {
        "json_template".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "Any JSON; its texts are templates." })
    }
}

impl JsonSchema for Condition {
    fn schema_name() -> Cow<'static, str> {
        "condition".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Written::json_schema(generator)
    }
}

impl JsonSchema for OneAlgorithm {
    fn schema_name() -> Cow<'static, str> {
        "one_algorithm".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let algorithm = generator.subschema_for::<Algorithm>();
        json_schema!({ "type": "array", "items": algorithm, "minItems": 1, "maxItems": 1 })
    }
}

impl JsonSchema for SchemaName {
    fn schema_name() -> Cow<'static, str> {
        "schema_name".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": SCHEMA })
    }
}

#[cfg(test)]
mod tests {
    use super::super::json_schema as of_definitions;
    use crate::model::provider::catalog;

    #[test]
    fn every_definition_of_the_catalogue_fits_the_schema_and_a_mistyped_field_does_not() {
        let schema = of_definitions().to_value();
        let validator = jsonschema::validator_for(&schema).unwrap();
        for definition in catalog::builtin().unwrap().iter() {
            let faults: Vec<String> =
                validator.iter_errors(definition.written()).map(|fault| fault.to_string()).collect();
            assert!(faults.is_empty(), "{}: {faults:?}", definition.name());
            let mut mistyped = definition.written().clone();
            mistyped["verfy"] = mistyped["verify"].take();
            assert!(!validator.is_valid(&mistyped));
        }
    }
}
