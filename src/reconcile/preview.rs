//! What a change of files would do, by the planner that the pass uses, without touching anything that is in force.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;
use tempfile::TempDir;

use super::activator::Scope;
use super::embedded;
use super::judge::Judge;
use super::look::Looker;
use crate::error::{Code, Context as _, Result};
use crate::model::check::Rules;
use crate::model::desired::{Circumstances, Judgement, judge};
use crate::model::diagnostic::Diagnostic;
use crate::model::entry::Observed;
use crate::model::plan::{Action, Generations, plan};
use crate::model::snapshot::{agent_path, skill_path};
use crate::repo::ServedFile;

/// What it comes to.
#[derive(Clone, Debug, Default)]
pub struct Preview {
    /// Without generations: those depend on where it is applied.
    pub actions: Vec<Action>,
    /// In the files as they would be, errors first.
    pub findings: Vec<Diagnostic>,
}

/// What going from one set of files to another does.
///
/// # Errors
/// SH0508 when the files cannot be laid out for comparison.
pub fn between(rules: &Rules, before: &[ServedFile], after: &[ServedFile], now: Timestamp) -> Result<Preview> {
    let (judged, _) = look(rules, before, &Observed::default(), now)?;
    let standing = plan(judged.desired, &Observed::default(), &Generations::new()).next;
    let (judged, mut findings) = look(rules, after, &standing, now)?;
    let entries = &judged.desired;
    findings.extend(entries.skills.values().flat_map(|entry| entry.diagnostics.iter().cloned()));
    findings.extend(entries.agents.values().flat_map(|entry| entry.diagnostics.iter().cloned()));
    findings.sort_by(|a, b| (a.severity, &a.path, a.position).cmp(&(b.severity, &b.path, b.position)));
    findings.dedup();
    let actions = plan(judged.desired, &standing, &Generations::new()).actions;
    let actions = actions.into_iter().map(|action| Action { generation: None, ..action }).collect();
    Ok(Preview { actions, findings })
}

fn look(
    rules: &Rules,
    files: &[ServedFile],
    standing: &Observed,
    now: Timestamp,
) -> Result<(Judgement, Vec<Diagnostic>)> {
    let directory = laid_out(files)?;
    let mut judge_of_files = Judge::new(rules.clone())?;
    let (embedded, _) = embedded::load(&judge_of_files)?;
    let mut looker = Looker::new(directory.path().to_owned());
    let snapshot = looker.look(&Scope::Everything, &mut judge_of_files, now.as_nanosecond());
    let catalogue = judge_of_files.catalogue();
    // What is missing has been missing for long: a preview does not wait for a file to come back.
    let skills = standing.skills.keys().map(|name| skill_path(name.as_str()));
    let agents = standing.agents.keys().map(|name| agent_path(name.as_str()));
    let absent_since: BTreeMap<String, Timestamp> =
        skills.chain(agents).map(|path| (path, Timestamp::UNIX_EPOCH)).collect();
    let deleted = BTreeSet::new();
    let circumstances = Circumstances { now, absent_since: &absent_since, allow_prune: true, deleted: &deleted };
    let judged = judge(&snapshot, standing, &embedded, &catalogue, &circumstances);
    Ok((judged, snapshot.problems))
}

/// A directory with the files, to be looked at as if it were the root.
///
/// # Errors
/// SH0508 when they cannot be written.
pub fn laid_out<'a>(files: impl IntoIterator<Item = &'a ServedFile>) -> Result<TempDir> {
    let failed = "the files cannot be laid out for comparison";
    let directory = tempfile::tempdir().context(Code::TreeUnreadable, failed)?;
    for file in files {
        write(directory.path(), file).context(Code::TreeUnreadable, failed)?;
    }
    Ok(directory)
}

fn write(directory: &Path, file: &ServedFile) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = directory.join(&file.path);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&path, &file.bytes)?;
    let mode = if file.executable { 0o755 } else { 0o644 };
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skill(name: &str, description: &str) -> ServedFile {
        let text = format!("---\nname: {name}\ndescription: {description}\n---\n# {name}\n");
        ServedFile { path: skill_path(name), executable: false, bytes: text.into_bytes() }
    }

    #[test]
    fn a_preview_tells_what_is_made_changed_and_removed_and_what_is_wrong() {
        let broken = ServedFile { path: skill_path("bad"), executable: false, bytes: b"---\nname: [\n---\n".to_vec() };
        let before = [skill("stays", "Stays."), skill("changes", "Before."), skill("goes", "Goes.")];
        let after = [skill("stays", "Stays."), skill("changes", "After."), skill("new", "New."), broken];
        let preview = between(&Rules::default(), &before, &after, Timestamp::UNIX_EPOCH).unwrap();
        let told: Vec<String> = preview.actions.iter().map(ToString::to_string).collect();
        for expected in ["create skill/new", "prune skill/goes"] {
            assert!(told.iter().any(|line| line.starts_with(expected)), "{expected} in {told:?}");
        }
        assert!(told.iter().any(|line| line.contains("skill/changes")), "{told:?}");
        assert!(!told.iter().any(|line| line.contains("skill/stays")), "{told:?}");
        assert!(preview.findings.iter().any(|finding| finding.is_error() && finding.path.contains("bad")));
    }
}
