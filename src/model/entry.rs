//! What the index holds: one entry a skill, an agent, a webhook, and the digest over all of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::diagnostic::Diagnostic;
use super::digest::Digest;
use super::ids::{AgentName, SkillName, WebhookId};
use super::revision::{FileRef, Revision};
use super::snapshot::{AgentFacts, SkillFacts};
use super::spec::WebhookSpec;

/// Whether what is in force is what the files say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The files as they stand are in force.
    Current,
    /// The file is broken or gone; its last good version stays in force.
    Held,
    /// The file is broken and there is no good version: nothing of it is in force.
    Rejected,
}

/// A skill in force, or one that wants to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SkillEntry {
    pub standing: Standing,
    /// Comes with the program; no file in the tree says otherwise.
    pub embedded: bool,
    pub facts: Option<SkillFacts>,
    /// The files of the version in force.
    pub files: BTreeMap<String, FileRef>,
    pub diagnostics: Vec<Diagnostic>,
}

impl SkillEntry {
    /// The id of the webhook of its own that it makes.
    pub fn own_id(&self) -> Option<&WebhookId> {
        self.facts.as_ref()?.config.as_ref()?.own_id.as_ref()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentEntry {
    pub standing: Standing,
    pub embedded: bool,
    pub facts: Option<AgentFacts>,
    pub path: String,
    pub file: Option<FileRef>,
    pub diagnostics: Vec<Diagnostic>,
}

/// A webhook in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WebhookEntry {
    pub spec: WebhookSpec,
    pub digest: Digest,
    pub generation: u64,
    /// The skills whose files make it, the built-in layer first.
    pub sources: Vec<SkillName>,
}

/// Everything that is in force: what the index file holds and what readers see.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    pub skills: BTreeMap<SkillName, SkillEntry>,
    pub agents: BTreeMap<AgentName, AgentEntry>,
    pub webhooks: BTreeMap<WebhookId, WebhookEntry>,
}

impl Observed {
    /// Covers what is in force, (kind, name, effective spec), and nothing else: equal trees give equal digests.
    pub fn digest(&self) -> Digest {
        let mut lines = Vec::new();
        for (id, entry) in &self.webhooks {
            lines.push(format!("webhook/{id} {}\n", entry.digest));
        }
        for (name, entry) in self.skills.iter().filter(|(_, entry)| entry.facts.is_some()) {
            lines.push(format!("skill/{name} {}\n", Revision::of(entry.files.clone()).digest));
        }
        for (name, entry) in &self.agents {
            if let Some(file) = &entry.file {
                lines.push(format!("agent/{name} {}\n", file.digest));
            }
        }
        Digest::of_parts(lines.iter().map(|line| line.as_bytes()))
    }

    /// The files in force, embedded ones included: what runs see.
    pub fn revision(&self) -> Revision {
        let skills = self.skills.values().flat_map(|entry| entry.files.clone());
        let agents = self.agents.values().filter_map(|entry| Some((entry.path.clone(), entry.file?)));
        Revision::of(skills.chain(agents).collect())
    }

    /// All findings, errors first, then by place.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let skills = self.skills.values().flat_map(|entry| entry.diagnostics.iter());
        let agents = self.agents.values().flat_map(|entry| entry.diagnostics.iter());
        let mut all: Vec<Diagnostic> = skills.chain(agents).cloned().collect();
        all.sort_by(|a, b| (a.severity, &a.path, a.position).cmp(&(b.severity, &b.path, b.position)));
        all
    }
}
