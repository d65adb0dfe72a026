//! The `.claude/` files that come with the program: the built-in layer, and what `skillhook init` lays down.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::judge::Judge;
use super::look::Contents;
use crate::error::{Code, Error, Result};
use crate::model::desired::Embedded;
use crate::model::digest::Digest;
use crate::model::entry::{AgentEntry, SkillEntry, Standing};
use crate::model::ids::{AgentName, SkillName};
use crate::model::revision::FileRef;
use crate::model::snapshot::{Judged, agent_path, skill_path};

#[derive(rust_embed::Embed)]
#[folder = ".claude/"]
struct Files;

/// Every embedded file by its path relative to the root, sorted.
pub fn files() -> BTreeMap<String, Arc<[u8]>> {
    Files::iter()
        .filter_map(|name| Some((format!(".claude/{name}"), Files::get(&name)?.data.as_ref().into())))
        .collect()
}

/// The embedded skills and agents, judged like any other file.
///
/// # Errors
/// SH0999 when a shipped file is not valid, which a test rules out.
pub fn load(judge: &Judge) -> Result<(Embedded, Contents)> {
    let files = files();
    let mut embedded = Embedded::default();
    for path in files.keys() {
        if let Some(name) = path.strip_prefix(".claude/skills/").and_then(|rest| rest.strip_suffix("/SKILL.md")) {
            let name = SkillName::parse(name).map_err(fault)?;
            let entry = skill(&name, &files, judge)?;
            embedded.skills.insert(name, entry);
        } else if let Some(name) = path.strip_prefix(".claude/agents/").and_then(|rest| rest.strip_suffix(".md")) {
            let name = AgentName::parse(name).map_err(fault)?;
            let entry = agent(&name, &files, judge)?;
            embedded.agents.insert(name, entry);
        }
    }
    Ok((embedded, files.into_iter().collect()))
}

fn skill(name: &SkillName, files: &BTreeMap<String, Arc<[u8]>>, judge: &Judge) -> Result<SkillEntry> {
    let (path, base) = (skill_path(name.as_str()), format!(".claude/skills/{name}/"));
    let text = |relative: &str| String::from_utf8(files.get(&format!("{base}{relative}"))?.to_vec()).ok();
    match judge.skill(&path, name, files.get(&path).map_or(&[][..], |bytes| bytes), &text) {
        Judged::Valid(facts, diagnostics) => Ok(SkillEntry {
            standing: Standing::Current,
            embedded: true,
            facts: Some(facts),
            files: files
                .iter()
                .filter(|(path, _)| path.starts_with(&base))
                .map(|(path, bytes)| (path.clone(), reference(bytes)))
                .collect(),
            diagnostics,
        }),
        Judged::Invalid(diagnostics) => Err(fault(shown(&diagnostics))),
    }
}

fn agent(name: &AgentName, files: &BTreeMap<String, Arc<[u8]>>, judge: &Judge) -> Result<AgentEntry> {
    let path = agent_path(name.as_str());
    let bytes = files.get(&path).map_or(&[][..], |bytes| bytes);
    match judge.agent(&path, name, bytes) {
        Judged::Valid(facts, diagnostics) => Ok(AgentEntry {
            standing: Standing::Current,
            embedded: true,
            facts: Some(facts),
            file: Some(reference(bytes)),
            path,
            diagnostics,
        }),
        Judged::Invalid(diagnostics) => Err(fault(shown(&diagnostics))),
    }
}

fn reference(bytes: &[u8]) -> FileRef {
    FileRef { digest: Digest::of(bytes), executable: false }
}

fn shown(diagnostics: &[crate::model::diagnostic::Diagnostic]) -> String {
    diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn fault(message: String) -> Error {
    Error::new(Code::Bug, "a shipped file is not valid").detail(message)
}
