//! What a request for review says: the plan, problems, files. Names of files and findings come from the branch and so
//! from whoever wrote it: they are shown as code.

use crate::reconcile::preview::Preview;
use crate::repo::Proposal;

/// Lines of one list; the rest is counted.
const LINES_MAX: usize = 100;

pub(super) fn of(proposal: &Proposal, preview: &Preview) -> String {
    let mut text = String::new();
    let body: Vec<&str> = proposal.message.lines().skip(1).filter(|line| !line.starts_with("Skillhook-")).collect();
    let body = body.join("\n");
    if !body.trim().is_empty() {
        text.push_str(&format!("{}\n\n", body.trim()));
    }
    text.push_str("### What merging does\n\n");
    list(
        &mut text,
        preview.actions.iter().map(|action| code(&action.to_string())).collect(),
        "Nothing is served differently.",
    );
    if !preview.findings.is_empty() {
        text.push_str("\n### Findings\n\n");
        list(&mut text, preview.findings.iter().map(|finding| code(&finding.to_string())).collect(), "");
    }
    text.push_str("\n### Files\n\n");
    list(
        &mut text,
        proposal.changes.iter().map(|change| format!("{} {}", change.verb, code(&change.path))).collect(),
        "None.",
    );
    text
}

fn list(text: &mut String, lines: Vec<String>, nothing: &str) {
    if lines.is_empty() {
        text.push_str(&format!("{nothing}\n"));
    }
    for line in lines.iter().take(LINES_MAX) {
        text.push_str(&format!("- {line}\n"));
    }
    if lines.len() > LINES_MAX {
        text.push_str(&format!("- and {} more\n", lines.len() - LINES_MAX));
    }
}

/// As code, on one line, which nothing in it can leave.
fn code(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("`{}`", plain.replace('`', "'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::revision::CommitId;
    use crate::repo::{PathChange, Verb};

    #[test]
    fn the_text_is_the_plan_and_nothing_in_it_leaves_its_line() {
        let change = PathChange { path: ".claude/skills/a`/x\n# y".to_owned(), verb: Verb::Create };
        let proposal = Proposal {
            branch: "skillhook/proposal/a".to_owned(),
            commit: CommitId::parse(&"a".repeat(40)).unwrap(),
            base: None,
            message: "add a\n\nBecause.\n\nSkillhook-Origin: agent\n".to_owned(),
            changes: vec![change],
        };
        let text = of(&proposal, &Preview::default());
        assert_eq!(
            text,
            "Because.\n\n### What merging does\n\nNothing is served differently.\n\n### Files\n\n\
             - create `.claude/skills/a'/x # y`\n"
        );
    }
}
