//! What the first pass of a process has to put right in what it knows. A rebuilt index cannot see in the files the last
//! good version of one that is broken now: it is in git, in earlier served trees or in the history. And an index may
//! know versions that nobody holds any more: saved, in force, and lost in a power cut before anything brought them to
//! disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::judge::Judge;
use super::look::Contents;
use crate::model::digest::Digest;
use crate::model::entry::{AgentEntry, Observed, SkillEntry, Standing};
use crate::model::ids::{AgentName, SkillName};
use crate::model::revision::FileRef;
use crate::model::snapshot::{AgentSnapshot, Judged, SkillSnapshot, Snapshot, skill_path};
use crate::repo::{Repository, Version};

/// How many earlier versions of a file are tried.
const VERSIONS_MAX: usize = 50;

/// Adds the last good versions of files that are broken in the snapshot and unknown to the index.
pub fn remember_good(observed: &mut Observed, snapshot: &Snapshot, repository: &Repository, judge: &Judge) -> Contents {
    let mut contents = Contents::new();
    for (name, found) in &snapshot.skills {
        let broken = matches!(*found.judged, Judged::Invalid(_));
        if broken && !observed.skills.contains_key(name) {
            let good = good_skill(name, found, repository, judge, &mut contents);
            observed.skills.extend(good.map(|entry| (name.clone(), entry)));
        }
    }
    for (name, found) in &snapshot.agents {
        let broken = matches!(*found.judged, Judged::Invalid(_));
        if broken && !observed.agents.contains_key(name) {
            let good = good_agent(name, found, repository, judge, &mut contents);
            observed.agents.extend(good.map(|entry| (name.clone(), entry)));
        }
    }
    contents
}

/// Forgets the versions whose files are neither in the tree nor in git: they could not be served.
pub fn forget_lost(observed: &mut Observed, snapshot: &Snapshot, repository: &Repository) {
    let mut wanted: BTreeMap<String, FileRef> = BTreeMap::new();
    for (name, entry) in observed.skills.iter().filter(|(_, entry)| !entry.embedded) {
        let here = snapshot.skills.get(name).map(|found| &*found.files);
        let elsewhere = entry.files.iter().filter(|(path, file)| here.and_then(|here| here.get(*path)) != Some(file));
        wanted.extend(elsewhere.map(|(path, file)| (path.clone(), *file)));
    }
    for (name, entry) in observed.agents.iter().filter(|(_, entry)| !entry.embedded) {
        let here = snapshot.agents.get(name).and_then(|found| found.file);
        wanted.extend(entry.file.filter(|file| here != Some(*file)).map(|file| (entry.path.clone(), file)));
    }
    if wanted.is_empty() {
        return;
    }
    let lost = repository.lost(&wanted).unwrap_or_else(|error| {
        tracing::warn!(error = error.internal(), "it is not known whether last good versions are still there");
        BTreeSet::new()
    });
    for path in &lost {
        tracing::warn!(path, "what was in force of this file was lost before it reached the disk");
    }
    observed.skills.retain(|_, entry| !entry.files.keys().any(|path| lost.contains(path)));
    observed.agents.retain(|_, entry| entry.file.is_none() || !lost.contains(&entry.path));
}

fn good_skill(
    name: &SkillName,
    found: &SkillSnapshot,
    repository: &Repository,
    judge: &Judge,
    contents: &mut Contents,
) -> Option<SkillEntry> {
    let path = skill_path(name.as_str());
    let base = path.trim_end_matches("SKILL.md").to_owned();
    let newest = |path: &str| Some(versions(repository, path).into_iter().next()?.bytes);
    let template = |relative: &str| String::from_utf8(newest(&format!("{base}{relative}"))?).ok();
    for version in versions(repository, &path) {
        let Judged::Valid(facts, _) = judge.skill(&path, name, &version.bytes, &template) else { continue };
        let mut files: BTreeMap<String, FileRef> = (*found.files).clone();
        let executable = files.get(&path).is_some_and(|file| file.executable);
        files.insert(path.clone(), FileRef { digest: Digest::of(&version.bytes), executable });
        contents.insert(path, Arc::from(version.bytes));
        let (standing, diagnostics) = (Standing::Held, Vec::new());
        return Some(SkillEntry { standing, embedded: false, facts: Some(facts), files, diagnostics });
    }
    None
}

fn good_agent(
    name: &AgentName,
    found: &AgentSnapshot,
    repository: &Repository,
    judge: &Judge,
    contents: &mut Contents,
) -> Option<AgentEntry> {
    for version in versions(repository, &found.path) {
        let Judged::Valid(facts, _) = judge.agent(&found.path, name, &version.bytes) else { continue };
        let file = FileRef { digest: Digest::of(&version.bytes), executable: false };
        contents.insert(found.path.clone(), Arc::from(version.bytes));
        let (standing, path, diagnostics) = (Standing::Held, found.path.clone(), Vec::new());
        return Some(AgentEntry { standing, embedded: false, facts: Some(facts), path, file: Some(file), diagnostics });
    }
    None
}

/// Newest first; none when git cannot say.
fn versions(repository: &Repository, path: &str) -> Vec<Version> {
    repository.newest_versions(path, VERSIONS_MAX).unwrap_or_else(|error| {
        tracing::warn!(path, error = error.internal(), "earlier versions of a broken file cannot be read");
        Vec::new()
    })
}
