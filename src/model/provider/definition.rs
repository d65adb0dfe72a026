//! A provider definition that has been parsed and checked, and the catalogue of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::lint;
use super::schema::{Document, SlotUse};
use crate::error::Code;
use crate::model::diagnostic::{Diagnostic, did_you_mean};
use crate::model::digest::Digest;
use crate::model::ids::ProviderName;

/// Largest definition file in bytes.
pub const FILE_BYTES_MAX: usize = 256 * 1024;

/// The sections of a definition that a skill may give inline for its own webhook. Where calls go with credentials
/// (`api`) and what is received (`receive`, `challenge`) stay with the catalogue.
pub const INLINE_SECTIONS: [&str; 12] = [
    "verify",
    "secrets",
    "event",
    "command_events",
    "noop",
    "split",
    "text",
    "actor",
    "resource",
    "reply",
    "respond",
    "delivery",
];

/// The name under which a skill names the header of a plain HMAC signature.
const SIGNATURE_HEADER: &str = "signature_header";

/// A checked definition. Cheap to share behind an `Arc`, never changed.
#[derive(Clone, Debug)]
pub struct Definition {
    path: String,
    document: Document,
    /// The document as it was written, for overlays and the digest.
    written: Value,
    digest: Digest,
}

impl Definition {
    /// `path` is for the diagnostics. Every error is `SH0113`.
    pub fn parse(path: &str, yaml: &str) -> Result<Self, Vec<Diagnostic>> {
        if yaml.len() > FILE_BYTES_MAX {
            let message = format!("the definition is larger than {FILE_BYTES_MAX} bytes");
            return Err(vec![Diagnostic::error(path, Code::DefinitionInvalid, message)]);
        }
        let of_yaml = |error: serde_yaml::Error| vec![yaml_diagnostic(path, &error)];
        // The untyped pass refuses duplicate keys, which the typed one would not see everywhere.
        serde_yaml::from_str::<serde_yaml::Value>(yaml).map_err(of_yaml)?;
        let document: Document = serde_yaml::from_str(yaml).map_err(of_yaml)?;
        let written: Value = serde_yaml::from_str(yaml).map_err(of_yaml)?;
        Self::checked(path, document, written, lint::Origin::Catalogue)
    }

    /// The definition with a skill's inline sections in place of its own. Besides the sections, `signature_header`
    /// stands for one HMAC-SHA256 over the body, in hexadecimal, with or without `sha256=` before it.
    pub fn overlaid(&self, fragment: &Value) -> Result<Self, Vec<Diagnostic>> {
        let path = &self.path;
        let refuse = |message: String| vec![Diagnostic::error(path, Code::DefinitionInvalid, message)];
        let Some(fields) = fragment.as_object() else {
            return Err(refuse("the inline definition must be a map of sections".to_owned()));
        };
        let mut written = self.written.clone();
        for (section, value) in fields {
            match section.as_str() {
                SIGNATURE_HEADER => {
                    if fields.contains_key("verify") {
                        return Err(refuse("`signature_header` and `verify` exclude each other".to_owned()));
                    }
                    let header = value.as_str().filter(|name| is_header_name(name));
                    let header = header.ok_or_else(|| refuse("`signature_header` must name a header".to_owned()))?;
                    written["verify"] = self.one_hmac(header);
                }
                "secrets" => merge_fields(&mut written["secrets"], value),
                name if INLINE_SECTIONS.contains(&name) => written[name] = value.clone(),
                name => {
                    let near = did_you_mean(name, INLINE_SECTIONS.into_iter().chain([SIGNATURE_HEADER]));
                    let hint = near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
                    return Err(refuse(format!("`{name}` cannot be given inline{hint}")));
                }
            }
        }
        let document = Document::deserialize_value(&written).map_err(|error| {
            let hint = unknown_field_hint(&error);
            vec![Diagnostic { hint, ..Diagnostic::error(path, Code::DefinitionInvalid, error) }]
        })?;
        Self::checked(path, document, written, lint::Origin::Skill)
    }

    fn checked(path: &str, document: Document, written: Value, origin: lint::Origin) -> Result<Self, Vec<Diagnostic>> {
        let findings = lint::check(path, &document, origin);
        if findings.iter().any(Diagnostic::is_error) {
            return Err(findings);
        }
        let digest = Digest::of_value(&written);
        Ok(Self { path: path.to_owned(), document, written, digest })
    }

    fn one_hmac(&self, header: &str) -> Value {
        let slot = self.primary_slot().unwrap_or("webhook_secret");
        json!({
            "policy": "first_applicable",
            "schemes": [{
                "id": "header",
                "type": "hmac",
                "hash": "sha256",
                "key": {"secret": slot},
                "signature": {
                    "from": format!("header:{header}"),
                    "prefix": "sha256=",
                    "prefix_optional": true,
                    "encoding": "hex",
                },
                "signed": "{raw}",
            }],
        })
    }

    /// Everything that is wrong or doubtful with it. A definition with errors does not exist, so these are warnings.
    pub fn lint(&self) -> Vec<Diagnostic> {
        lint::check(&self.path, &self.document, lint::Origin::Catalogue)
    }

    pub fn name(&self) -> &ProviderName {
        &self.document.name
    }

    /// The file that it was read from.
    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn title(&self) -> &str {
        &self.document.title
    }

    pub fn document(&self) -> &Document {
        &self.document
    }

    /// The definition as it was written, with inline sections in place.
    pub fn written(&self) -> &Value {
        &self.written
    }

    /// Over the canonical form of what was written.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The slots of secrets in the order of the file, with what they are for.
    pub fn slots(&self) -> impl Iterator<Item = (&str, SlotUse)> {
        let names = self.written["secrets"].as_object().into_iter().flat_map(|slots| slots.keys());
        names.filter_map(|name| Some((name.as_str(), self.document.secrets.get(name)?.r#for)))
    }

    /// The slot that a single secret belongs to: the first one in the file that verifies.
    pub fn primary_slot(&self) -> Option<&str> {
        self.slots().find(|(_, usage)| *usage == SlotUse::Verify).map(|(name, _)| name)
    }

    /// The status for a delivery that could not be verified: some senders insist on theirs.
    pub fn reject_status(&self) -> u16 {
        let reject = self.document.verify.reject.as_ref();
        reject.and_then(|reject| reject.status).unwrap_or_else(|| Code::NotVerified.status())
    }

    /// Whether the sender may use this method at all.
    pub fn allows_method(&self, method: &str) -> bool {
        self.document.receive.methods.iter().any(|allowed| allowed.as_str() == method)
    }
}

impl Document {
    fn deserialize_value(written: &Value) -> Result<Self, String> {
        serde::Deserialize::deserialize(written).map_err(|error: serde_json::Error| error.to_string())
    }
}

/// Every definition in force, by name.
#[derive(Clone, Debug, Default)]
pub struct Catalogue(BTreeMap<ProviderName, Arc<Definition>>);

impl Catalogue {
    /// Of definitions; a later one of the same name replaces an earlier one.
    pub fn of(definitions: impl IntoIterator<Item = Definition>) -> Self {
        Self::default().with(definitions)
    }

    /// This catalogue with others laid over it, for example those of the repository.
    #[must_use]
    pub fn with(mut self, overlay: impl IntoIterator<Item = Definition>) -> Self {
        self.0.extend(overlay.into_iter().map(|definition| (definition.name().clone(), Arc::new(definition))));
        self
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Definition>> {
        self.0.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &ProviderName> {
        self.0.keys()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Definition>> {
        self.0.values()
    }
}

fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn merge_fields(into: &mut Value, fields: &Value) {
    match (into, fields) {
        (Value::Object(into), Value::Object(fields)) => {
            into.extend(fields.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        (into, other) => *into = other.clone(),
    }
}

fn yaml_diagnostic(path: &str, error: &serde_yaml::Error) -> Diagnostic {
    let text = error.to_string();
    // The place is told apart from the message.
    let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    let diagnostic = Diagnostic::error(path, Code::DefinitionInvalid, message);
    let diagnostic = Diagnostic { hint: unknown_field_hint(message), ..diagnostic };
    match error.location() {
        Some(place) => diagnostic.at(place.line(), place.column()),
        None => diagnostic,
    }
}

/// From "unknown field `x`, expected one of `a`, `b`": which of them was probably meant.
fn unknown_field_hint(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("unknown field `").or_else(|| message.split_once("unknown variant `"))?;
    let (written, expected) = rest.split_once('`')?;
    let near = did_you_mean(written, expected.split('`').skip(1).step_by(2))?;
    Some(format!("did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::provider::catalog;

    #[test]
    fn unknown_field_is_refused_with_its_place_and_the_likely_one() {
        let yaml = include_str!("catalog/custom.yaml").replace("deadline_ms", "dedline_ms");
        let findings = Definition::parse("custom.yaml", &yaml).unwrap_err();
        assert_eq!(findings[0].code, Code::DefinitionInvalid);
        assert_eq!(findings[0].hint.as_deref(), Some("did you mean `deadline_ms`?"));
        assert!(findings[0].position.is_some());
        assert!(!findings[0].message.contains("at line"), "{}", findings[0].message);
    }

    #[test]
    fn duplicate_key_is_refused() {
        let yaml = format!("{}\ntitle: again\n", include_str!("catalog/custom.yaml"));
        assert!(Definition::parse("custom.yaml", &yaml).is_err());
    }

    #[test]
    fn inline_sections_replace_and_change_the_digest() {
        let custom = catalog::builtin().unwrap().get("custom").unwrap().clone();
        let overlaid = custom.overlaid(&json!({"event": [{"name": "{body:/kind}"}]})).unwrap();
        assert_ne!(overlaid.digest(), custom.digest());
        assert_eq!(overlaid.document().event.len(), 1);
        assert_eq!(overlaid.document().verify.schemes.len(), custom.document().verify.schemes.len());
    }

    #[test]
    fn inline_sections_are_checked() {
        let custom = catalog::builtin().unwrap().get("custom").unwrap().clone();
        let refused = |fragment: Value| custom.overlaid(&fragment).unwrap_err()[0].clone();
        assert!(refused(json!({"evnt": []})).message.contains("did you mean `event`"));
        assert!(refused(json!({"api": {"base": "https://evil.example"}})).message.contains("cannot be given inline"));
        assert_eq!(refused(json!({"event": [{"nam": "x"}]})).hint.as_deref(), Some("did you mean `name`?"));
        assert!(custom.overlaid(&json!({"signature_header": "X Y"})).is_err());
        assert!(custom.overlaid(&json!([])).is_err());
    }
}
