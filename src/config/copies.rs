//! Settings of cloud copies.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::invalid;
use crate::error::Result;

/// A cloud copy: every committed revision is pushed to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Copy {
    /// How conditions, metrics and messages call it; by default the kind of its place.
    pub name: Option<String>,
    /// `dir:PATH`, `s3:BUCKET/PREFIX` (with the AWS_… variables), `postgres://USER@HOST/DATABASE` (with PGPASSWORD), or
    /// `env:NAME` for a line that stands in the environment.
    pub to: String,
    /// Copy the git history too, as bundles.
    pub history: bool,
    /// The variable with the age key that content is sealed to before it leaves.
    pub age_key_env: Option<String>,
    /// The file with that key; relative to the data directory.
    pub age_key_file: Option<PathBuf>,
}

impl Default for Copy {
    fn default() -> Self {
        Self { name: None, to: String::new(), history: true, age_key_env: None, age_key_file: None }
    }
}

impl Copy {
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.to.split(':').next().unwrap_or_default())
    }
}

/// Those of the file, or instead of them those that the environment names.
///
/// # Errors
/// SH0301 when a password stands in the file.
pub(super) fn named(copies: Vec<Copy>, environment: &BTreeMap<String, String>) -> Result<Vec<Copy>> {
    if let Some(copy) = copies.iter().find(|copy| tells_a_password(&copy.to)) {
        return Err(invalid(&format!("copies.{}", copy.name()), "a password does not belong into a file")
            .hint("write `to = \"env:NAME\"` and put the line into that variable, or set PGPASSWORD"));
    }
    let copy = |to: &str| Copy { to: to.to_owned(), ..Copy::default() };
    let instead = environment.get("SKILLHOOK_COPIES");
    Ok(instead.map_or(copies, |list| list.split_whitespace().map(copy).collect()))
}

fn tells_a_password(line: &str) -> bool {
    url::Url::parse(line)
        .is_ok_and(|url| url.password().is_some() || url.query_pairs().any(|(key, _)| key == "password"))
}

/// Names are parts of git refs and labels of metrics.
pub(super) fn check(copies: &[Copy]) -> Result<()> {
    for (n, copy) in copies.iter().enumerate() {
        let name = copy.name();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 40 || !name.chars().all(plain) {
            return Err(invalid("copies.name", "1 to 40 of the characters a-z, 0-9 and `-`"));
        }
        if copies[..n].iter().any(|other| other.name() == name) {
            return Err(invalid("copies.name", &format!("two copies are called `{name}`: give each a name")));
        }
        if copy.to.is_empty() {
            return Err(invalid("copies.to", "says where the copy is"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::read_text;
    use super::*;

    #[test]
    fn copies_come_from_the_file_or_the_environment_and_never_with_a_password_in_the_file() {
        let text = "[[copies]]\nto = \"dir:/backup\"\n[[copies]]\nname = \"far\"\nto = \"s3:b/p\"\nhistory = false\n";
        let settings = read_text(text, &[]).unwrap();
        let names: Vec<_> = settings.copies.iter().map(Copy::name).collect();
        assert_eq!(names, ["dir", "far"]);
        check(&settings.copies).unwrap();
        let settings = read_text(text, &[("SKILLHOOK_COPIES", "env:COPY dir:/other")]).unwrap();
        let places: Vec<_> = settings.copies.iter().map(|copy| copy.to.as_str()).collect();
        assert_eq!(places, ["env:COPY", "dir:/other"]);
        let told = read_text("[[copies]]\nto = \"postgres://u:hunter2@h/d\"\n", &[]).unwrap_err();
        assert!(told.message().contains("password") && !told.internal().contains("hunter2"), "{told:?}");
        let twice = read_text("[[copies]]\nto = \"dir:/a\"\n[[copies]]\nto = \"dir:/b\"\n", &[]).unwrap();
        assert!(check(&twice.copies).unwrap_err().message().contains("two copies"));
    }
}
