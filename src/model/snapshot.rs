//! The observed files: what stands in `.claude/` at one look, each file already judged on its own.
//!
//! A look is complete or it says that it is not: absence, brokenness and a partial view are three different things.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::diagnostic::Diagnostic;
use super::ids::{AgentName, SkillName};
use super::revision::FileRef;
use super::spec::SkillConfig;

/// What a file came to when it was read and checked on its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Judged<T> {
    /// Usable; warnings do not make it less so.
    Valid(T, Vec<Diagnostic>),
    /// Not usable: the last good version stays in force.
    Invalid(Vec<Diagnostic>),
}

/// What one SKILL.md says that matters here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SkillFacts {
    pub description: String,
    /// `None`: an ordinary skill without a webhook.
    pub config: Option<SkillConfig>,
}

/// What one agent file says that matters here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentFacts {
    pub description: String,
    pub model: Option<String>,
    pub tools: Option<Vec<String>>,
    pub skills: Vec<String>,
}

/// A skill's directory: its SKILL.md judged, and every file in it.
#[derive(Clone, Debug)]
pub struct SkillSnapshot {
    pub judged: Arc<Judged<SkillFacts>>,
    /// By path relative to the root.
    pub files: Arc<BTreeMap<String, FileRef>>,
}

#[derive(Clone, Debug)]
pub struct AgentSnapshot {
    pub judged: Arc<Judged<AgentFacts>>,
    pub path: String,
    /// `None` when it could not be read.
    pub file: Option<FileRef>,
}

/// One look at everything.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub skills: BTreeMap<SkillName, SkillSnapshot>,
    pub agents: BTreeMap<AgentName, AgentSnapshot>,
    /// Provider definitions of the repository, and everything that was passed over: symlinks, odd names.
    pub providers: BTreeMap<String, FileRef>,
    pub problems: Vec<Diagnostic>,
    /// A directory could not be listed: nothing may be concluded from absence.
    pub partial: bool,
}

/// The path of a skill's main file.
pub fn skill_path(skill: &str) -> String {
    format!(".claude/skills/{skill}/SKILL.md")
}

/// The path of an agent's file.
pub fn agent_path(agent: &str) -> String {
    format!(".claude/agents/{agent}.md")
}
