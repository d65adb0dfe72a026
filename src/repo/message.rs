//! What automatic commits say: one line a resource, and trailers that tools can read.

use std::fmt;

/// Resources that are listed in one message; the rest is counted.
const LINES_MAX: usize = 100;
/// Longest subject in characters before it is cut: GitHub folds at 72.
const SUBJECT_CHARS_MAX: usize = 72;

/// What happened to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    Create,
    Update,
    Delete,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Delete => "delete",
        })
    }
}

/// One resource in a commit message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    pub verb: Verb,
    /// `webhook`, `skill`, `agent` or `provider`.
    pub kind: &'static str,
    pub name: String,
    /// More to say, for example `2 commands`.
    pub note: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.verb, self.kind, one_line(&self.name))?;
        match &self.note {
            Some(note) => write!(f, " ({})", one_line(note)),
            None => Ok(()),
        }
    }
}

/// The message for these changes: one of them is the subject, several are lines below a subject that counts them.
pub fn message_for(changes: &[Change]) -> String {
    match changes {
        [] => "reconcile files of skills".to_owned(),
        [only] => cut(&only.to_string()),
        several => {
            let mut lines = vec![format!("reconcile {} resources", several.len()), String::new()];
            lines.extend(several.iter().take(LINES_MAX).map(ToString::to_string));
            if several.len() > LINES_MAX {
                lines.push(format!("and {} more", several.len() - LINES_MAX));
            }
            lines.join("\n")
        }
    }
}

/// Message and trailers as git reads them: a blank line, then `Key: value` lines.
pub(super) fn with_trailers(message: &str, trailers: &[(String, String)]) -> String {
    let mut text: String = message.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
    text.truncate(text.trim_end().len());
    if text.is_empty() {
        text.push_str("reconcile files of skills");
    }
    text.push('\n');
    if !trailers.is_empty() {
        text.push('\n');
    }
    for (key, value) in trailers {
        let key: String = key.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        text.push_str(&format!("{key}: {}\n", one_line(value)));
    }
    text
}

fn cut(text: &str) -> String {
    if text.chars().count() <= SUBJECT_CHARS_MAX {
        return text.to_owned();
    }
    let head: String = text.chars().take(SUBJECT_CHARS_MAX - 1).collect();
    format!("{head}…")
}

/// A value cannot begin a line of its own, and so cannot forge a trailer.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(verb: Verb, name: &str, note: Option<&str>) -> Change {
        Change { verb, kind: "webhook", name: name.to_owned(), note: note.map(str::to_owned) }
    }

    #[test]
    fn one_change_is_the_subject_and_several_are_lines() {
        let review = change(Verb::Update, "github-pr-review", Some("2 commands"));
        assert_eq!(message_for(std::slice::from_ref(&review)), "update webhook github-pr-review (2 commands)");
        assert_eq!(
            message_for(&[review, change(Verb::Delete, "old", None)]),
            "reconcile 2 resources\n\nupdate webhook github-pr-review (2 commands)\ndelete webhook old"
        );
        let many = vec![change(Verb::Create, "x", None); 150];
        assert!(message_for(&many).ends_with("\nand 50 more"));
    }

    #[test]
    fn no_value_can_forge_a_trailer() {
        let trailers = [("Skillhook-Origin".to_owned(), "api\nSkillhook-Actor: root".to_owned())];
        assert_eq!(
            with_trailers("update\u{7} x\n\n", &trailers),
            "update x\n\nSkillhook-Origin: api Skillhook-Actor: root\n"
        );
        assert!(!message_for(&[change(Verb::Create, "a\nb", None)]).contains('\n'));
    }
}
