//! Collects what is wrong with one file, each finding at its place.

use serde::de::DeserializeOwned;

use crate::error::Code;
use crate::model::diagnostic::{Diagnostic, did_you_mean};
use crate::model::frontmatter::{Fields, KeyPath, Step};
use crate::model::raw::{Several, Text};

/// The findings about one set of fields. Places are given from `base`, below which the checked fields stand.
pub(super) struct Report<'a> {
    fields: &'a Fields<'a>,
    base: KeyPath,
    found: Vec<Diagnostic>,
}

/// The finding that was just added, to be completed.
pub(super) struct Added<'r>(&'r mut Diagnostic);

impl Added<'_> {
    pub(super) fn hint(self, hint: impl Into<String>) {
        self.0.hint = Some(hint.into());
    }

    /// Names the candidate that was probably meant, else all of them.
    pub(super) fn suggest<'c>(self, written: &str, candidates: impl IntoIterator<Item = &'c str> + Clone) {
        self.0.hint = Some(match did_you_mean(written, candidates.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are: `{}`", candidates.into_iter().collect::<Vec<_>>().join("`, `")),
        });
    }
}

impl<'a> Report<'a> {
    pub(super) fn new(fields: &'a Fields<'a>, base: KeyPath) -> Self {
        Self { fields, base, found: Vec::new() }
    }

    pub(super) fn fields(&self) -> &'a Fields<'a> {
        self.fields
    }

    /// The place of a key below the base.
    pub(super) fn at(&self, key: &str) -> KeyPath {
        self.base.clone().key(key)
    }

    pub(super) fn error(&mut self, at: &KeyPath, code: Code, message: impl Into<String>) -> Added<'_> {
        let diagnostic = self.fields.error(at, code, message);
        self.push(diagnostic)
    }

    pub(super) fn warning(&mut self, at: &KeyPath, code: Code, message: impl Into<String>) -> Added<'_> {
        let diagnostic = self.fields.warning(at, code, message);
        self.push(diagnostic)
    }

    /// Takes a finding of somebody else; there is no value then.
    pub(super) fn add<T>(&mut self, diagnostic: Diagnostic) -> Option<T> {
        self.found.push(diagnostic);
        None
    }

    pub(super) fn append(&mut self, other: Report<'_>) {
        self.found.extend(other.found);
    }

    pub(super) fn has_errors(&self) -> bool {
        self.found.iter().any(Diagnostic::is_error)
    }

    /// In the order of the file.
    pub(super) fn into_findings(mut self) -> Vec<Diagnostic> {
        self.found.sort_by(|a, b| a.position.cmp(&b.position).then(a.severity.cmp(&b.severity)));
        self.found
    }

    /// The value at a place of the whole file; `Err` once its fault is reported.
    pub(super) fn typed<T: DeserializeOwned>(&mut self, at: &KeyPath) -> Result<Option<T>, ()> {
        self.fields.typed_at(at).map_err(|diagnostic| self.found.push(diagnostic))
    }

    /// Whether the key is written at all, with or without a value.
    pub(super) fn has_key(&self, at: &KeyPath) -> bool {
        let json = self.fields.json();
        let found = at.steps().iter().try_fold(&json, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        });
        found.is_some()
    }

    /// A text that is not empty, not too long, and free of control characters.
    pub(super) fn text(&mut self, at: &KeyPath, text: Option<&Text>, chars_max: usize) -> Option<String> {
        let Text(text) = text?;
        let trimmed = text.trim();
        let count = trimmed.chars().count();
        if count == 0 {
            self.error(at, Code::ConfigValue, "the text is empty");
        } else if count > chars_max {
            self.error(at, Code::ConfigValue, format!("the text has {count} characters, allowed are {chars_max}"));
        } else if trimmed.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            self.error(at, Code::ConfigValue, "the text holds control characters");
        } else {
            return Some(trimmed.to_owned());
        }
        None
    }

    /// A word: a [`text`](Self::text) without blanks.
    pub(super) fn word(&mut self, at: &KeyPath, text: &Text, chars_max: usize) -> Option<String> {
        let word = self.text(at, Some(text), chars_max)?;
        if word.contains(char::is_whitespace) {
            self.error(at, Code::ConfigValue, format!("`{word}` holds blanks"));
            return None;
        }
        Some(word)
    }

    /// A name of one of our kinds.
    pub(super) fn name<T>(
        &mut self,
        at: &KeyPath,
        text: Option<&Text>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(&text?.0) {
            Ok(name) => Some(name),
            Err(message) => {
                self.error(at, Code::ConfigValue, message);
                None
            }
        }
    }

    /// Each item of one-or-several with its place; too many or none is an error.
    pub(super) fn items<'s, T>(&mut self, at: &KeyPath, several: &'s Several<T>, max: usize) -> Vec<(KeyPath, &'s T)> {
        match several.items.len() {
            0 => drop(self.error(at, Code::ConfigValue, "the list is empty")),
            count if count > max => {
                self.error(at, Code::ConfigValue, format!("the list has {count} items, allowed are {max}"));
            }
            _ => {
                let place = |index| if several.listed { at.clone().index(index) } else { at.clone() };
                return several.items.iter().enumerate().map(|(index, item)| (place(index), item)).collect();
            }
        }
        Vec::new()
    }

    /// Several texts, each without a repetition.
    pub(super) fn texts(
        &mut self,
        at: &KeyPath,
        several: Option<&Several<Text>>,
        count_max: usize,
        chars_max: usize,
    ) -> Option<Vec<String>> {
        let mut out: Vec<String> = Vec::new();
        for (at, item) in self.items(at, several?, count_max) {
            let Some(text) = self.text(&at, Some(item), chars_max) else { continue };
            if out.contains(&text) {
                self.error(&at, Code::ConfigValue, format!("`{text}` stands here twice"));
            } else {
                out.push(text);
            }
        }
        Some(out)
    }

    /// A number within its bounds.
    pub(super) fn within<N: PartialOrd + std::fmt::Display>(
        &mut self,
        at: &KeyPath,
        number: Option<N>,
        (least, most): (N, N),
        unit: &str,
    ) -> Option<N> {
        let number = number?;
        if number >= least && number <= most {
            return Some(number);
        }
        self.error(at, Code::ConfigValue, format!("{number} is not between {least} and {most}{unit}"));
        None
    }

    fn push(&mut self, diagnostic: Diagnostic) -> Added<'_> {
        let at = self.found.len();
        self.found.push(diagnostic);
        Added(&mut self.found[at])
    }
}
