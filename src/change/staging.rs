//! The tree as it would be: the files that a change touches, laid out aside and looked at by the reconciler's own
//! looker, put over what the last pass saw of everything else.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use rustix::fs::FileType;

use crate::error::{Code, Context as _, Result};
use crate::model::change::{Edit, FILE_BYTES_MAX, Resource, resource};
use crate::model::ids::{AgentName, SkillName};
use crate::model::snapshot::Snapshot;
use crate::reconcile::activator::Scope;
use crate::reconcile::judge::Judge;
use crate::reconcile::look::Looker;
use crate::repo::Directory;

/// What a change touches.
#[derive(Clone, Debug, Default)]
pub(super) struct Touched {
    pub(super) skills: BTreeSet<SkillName>,
    pub(super) agents: BTreeSet<AgentName>,
    pub(super) providers: bool,
}

impl Touched {
    pub(super) fn of(edits: &[Edit]) -> Self {
        let mut touched = Self::default();
        for edit in edits {
            match resource(&edit.path) {
                Ok(Resource::Skill(name)) => drop(touched.skills.insert(name)),
                Ok(Resource::Agent(name)) => drop(touched.agents.insert(name)),
                Ok(Resource::Provider(_)) => touched.providers = true,
                Err(_) => {}
            }
        }
        touched
    }

    /// Where the pass after the change has to look.
    pub(super) fn scope(&self) -> Scope {
        if self.providers {
            Scope::Everything
        } else {
            Scope::Skills(self.skills.iter().map(ToString::to_string).collect())
        }
    }
}

/// The snapshot with the edits; `judge` knows the provider definitions of the would-be tree afterwards.
///
/// # Errors
/// SH0508 when files cannot be read or laid out.
pub(super) fn snapshot(
    root: &Path,
    edits: &[Edit],
    before: &Snapshot,
    judge: &mut Judge,
    now: i128,
) -> Result<Snapshot> {
    let failed = "the changed files cannot be laid out";
    let touched = Touched::of(edits);
    let aside = tempfile::tempdir().context(Code::TreeUnreadable, failed)?;
    let place = Directory::open(aside.path()).context(Code::TreeUnreadable, failed)?;
    let files = Directory::open(root).context(Code::TreeUnreadable, "the root cannot be opened")?;
    lay_out(&files, &place, &touched).context(Code::TreeUnreadable, failed)?;
    for edit in edits {
        put(&place, edit).context(Code::TreeUnreadable, failed)?;
    }
    let mut looked = Looker::new(aside.path().to_owned()).look(&Scope::Everything, judge, now);
    if touched.providers {
        // Every file may mean something else by other definitions: all of them were looked at.
        return Ok(looked);
    }
    let mut whole = before.clone();
    for name in touched.skills {
        whole.skills.remove(&name);
        whole.skills.extend(looked.skills.remove(&name).map(|found| (name, found)));
    }
    for name in touched.agents {
        whole.agents.remove(&name);
        whole.agents.extend(looked.agents.remove(&name).map(|found| (name, found)));
    }
    whole.problems = looked.problems;
    whole.partial |= looked.partial;
    Ok(whole)
}

fn lay_out(files: &Directory, place: &Directory, touched: &Touched) -> io::Result<()> {
    copy_tree(files, place, ".claude/providers")?;
    if touched.providers {
        copy_tree(files, place, ".claude/skills")?;
        return copy_tree(files, place, ".claude/agents");
    }
    for name in &touched.skills {
        copy_tree(files, place, &format!(".claude/skills/{name}"))?;
    }
    Ok(())
}

/// Copies plain files; what else lies there is passed over, as the looker does.
fn copy_tree(from: &Directory, to: &Directory, path: &str) -> io::Result<()> {
    let is_directory = |stat: &rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if !from.look(path)?.as_ref().is_some_and(is_directory) {
        return Ok(());
    }
    let (parent, name) = from.parent(path, None)?;
    let (new_parent, new_name) = to.parent(path, Some(0o700))?;
    copy_level(&parent.enter(name)?, &new_parent.enter_or_create(new_name, 0o700)?, 0)
}

fn copy_level(from: &Directory, to: &Directory, depth: usize) -> io::Result<()> {
    if depth > crate::model::revision::PATH_DEPTH_MAX {
        return Ok(());
    }
    for (name, kind) in from.list()? {
        let Some(name) = name.to_str() else { continue };
        if kind == FileType::Directory {
            copy_level(&from.enter(name)?, &to.enter_or_create(name, 0o700)?, depth + 1)?;
        } else if kind == FileType::RegularFile {
            let executable = from.look(name)?.is_some_and(|stat| stat.st_mode & 0o100 != 0);
            // A file that is too big or just went away is not part of what can be in force.
            let Ok(bytes) = from.read(name, FILE_BYTES_MAX as u64) else { continue };
            to.create_file(name, &bytes, if executable { 0o700 } else { 0o600 })?;
        }
    }
    Ok(())
}

fn put(place: &Directory, edit: &Edit) -> io::Result<()> {
    let (parent, name) = place.parent(&edit.path, Some(0o700))?;
    parent.remove_all(name)?;
    if let Some(content) = &edit.content {
        parent.create_file(name, content, if edit.executable { 0o700 } else { 0o600 })?;
    }
    Ok(())
}
