//! A change set: edits of files, what these files are expected to be, and with whose authority they are asked for.
//! Data only; `crate::change` carries it out.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::diagnostic::Diagnostic;
use super::digest::Digest;
use super::ids::{AgentName, ProviderName, SkillName};
use super::revision;
use crate::error::Code;

/// Most files of one change.
pub const EDITS_MAX: usize = 500;
/// Largest file of a change in bytes; a larger one would not be in force.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// Longest title in characters.
pub const TITLE_CHARS_MAX: usize = 120;

/// What one change does, and who wants it.
#[derive(Clone, Debug)]
pub struct ChangeSet {
    pub edits: Vec<Edit>,
    /// One line for people: the subject of a proposal.
    pub title: String,
    pub authority: Authority,
    /// The name of the proposal that this belongs to, if it becomes one; else one is made of the title.
    pub proposal: Option<String>,
}

/// One file, put or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Relative to the root, below `.claude/skills`, `.claude/agents` or `.claude/providers`.
    pub path: String,
    /// `None` deletes.
    pub content: Option<Arc<[u8]>>,
    pub executable: bool,
    pub expect: Expect,
}

/// What must stand at the path for the edit to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Whatever it is.
    Any,
    Absent,
    /// The version that the author has seen.
    Is(Digest),
}

impl Edit {
    pub fn put(path: impl Into<String>, content: impl Into<Arc<[u8]>>, expect: Expect) -> Self {
        Self { path: path.into(), content: Some(content.into()), executable: false, expect }
    }

    pub fn delete(path: impl Into<String>, expect: Expect) -> Self {
        Self { path: path.into(), content: None, executable: false, expect }
    }

    /// The digest of the file afterwards; `None` when it is gone then.
    pub fn digest(&self) -> Option<Digest> {
        self.content.as_deref().map(Digest::of)
    }
}

/// A change set that a person was shown and may agree to: kept as text beside the answer that showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Of everything that it does.
    pub digest: Digest,
    pub edits: Vec<Edit>,
}

/// Longest text of a change set that is kept to be agreed to, in bytes.
pub const SHOWN_BYTES_MAX: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEdit {
    path: String,
    /// `None` deletes.
    content: Option<String>,
    #[serde(default)]
    executable: bool,
    /// What stood there when it was shown; `None` when nothing did.
    #[serde(default)]
    over: Option<Digest>,
    /// Whatever stands there is replaced.
    #[serde(default)]
    any: bool,
}

impl Shown {
    /// As text; `None` when it is too large to be kept, or holds what is no text.
    pub fn write(edits: &[Edit]) -> Option<String> {
        let written = |edit: &Edit| {
            let content = match &edit.content {
                Some(bytes) => Some(std::str::from_utf8(bytes).ok()?.to_owned()),
                None => None,
            };
            let (over, any) = match edit.expect {
                Expect::Any => (None, true),
                Expect::Absent => (None, false),
                Expect::Is(digest) => (Some(digest), false),
            };
            Some(WrittenEdit { path: edit.path.clone(), content, executable: edit.executable, over, any })
        };
        let all: Vec<WrittenEdit> = edits.iter().map(written).collect::<Option<_>>()?;
        let text = serde_json::to_string(&all).ok()?;
        (!all.is_empty() && text.len() <= SHOWN_BYTES_MAX).then_some(text)
    }

    /// What [`Shown::write`] has written.
    pub fn read(text: &str) -> Option<Self> {
        let written: Vec<WrittenEdit> = serde_json::from_str(text).ok()?;
        let edit = |written: WrittenEdit| Edit {
            path: written.path,
            content: written.content.map(|content| content.into_bytes().into()),
            executable: written.executable,
            expect: match (written.any, written.over) {
                (true, _) => Expect::Any,
                (false, Some(digest)) => Expect::Is(digest),
                (false, None) => Expect::Absent,
            },
        };
        Some(Self { digest: Digest::of(text.as_bytes()), edits: written.into_iter().map(edit).collect() })
    }
}

/// Who asks, through what, and what that allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    pub origin: Origin,
    /// Who, as commits name it: a token's name, a login, a task.
    pub actor: String,
    /// Whether changes that widen what runs may do can be direct.
    pub may_widen: bool,
    /// Asks for a proposal where the origin's own mode would be direct; never the other way round.
    pub propose: bool,
}

impl Authority {
    /// A person, or a program that a person has given the right to write.
    pub fn of_person(origin: Origin, actor: impl Into<String>) -> Self {
        Self { origin, actor: actor.into(), may_widen: true, propose: false }
    }

    /// A run that a delivery has started: its words may be a stranger's.
    pub fn of_run(actor: impl Into<String>) -> Self {
        Self { origin: Origin::Agent, actor: actor.into(), may_widen: false, propose: false }
    }
}

/// Through what a change came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Somebody edited a file.
    File,
    Api,
    Cli,
    /// A conversation that a person with write scope has confirmed.
    Chat,
    /// A run that a delivery has started.
    Agent,
    Restore,
}

impl Origin {
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::File => "file",
            Origin::Api => "api",
            Origin::Cli => "cli",
            Origin::Chat => "chat",
            Origin::Agent => "agent",
            Origin::Restore => "restore",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a change comes into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WriteMode {
    /// Written, in force at once, committed and pushed.
    Direct,
    /// A branch that a person merges.
    Propose,
}

/// The write mode of each origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteModes {
    pub api: WriteMode,
    pub cli: WriteMode,
    pub chat: WriteMode,
    pub agent: WriteMode,
}

impl Default for WriteModes {
    fn default() -> Self {
        Self { api: WriteMode::Direct, cli: WriteMode::Direct, chat: WriteMode::Direct, agent: WriteMode::Propose }
    }
}

impl WriteModes {
    /// How a change of this authority comes into force; `widens`: it gives runs more than they had.
    pub fn mode(&self, authority: &Authority, widens: bool) -> WriteMode {
        let of_origin = match authority.origin {
            Origin::Api => self.api,
            Origin::Cli => self.cli,
            Origin::Chat => self.chat,
            Origin::Agent => self.agent,
            Origin::File | Origin::Restore => WriteMode::Direct,
        };
        if authority.propose || (widens && !authority.may_widen) { WriteMode::Propose } else { of_origin }
    }
}

/// What a managed path belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Skill(SkillName),
    Agent(AgentName),
    Provider(ProviderName),
}

/// The resource that a path belongs to; an error says why no change may touch the path.
pub fn resource(path: &str) -> Result<Resource, String> {
    revision::check_path(path)?;
    let outside = || format!("`{path}` is not a file of a skill, an agent or a provider");
    let (directory, below) = path.strip_prefix(".claude/").and_then(|rest| rest.split_once('/')).ok_or_else(outside)?;
    match directory {
        "skills" => {
            let (name, _) = below.split_once('/').ok_or_else(outside)?;
            SkillName::parse(name).map(Resource::Skill)
        }
        "agents" => {
            let name = below.strip_suffix(".md").filter(|stem| !stem.contains('/')).ok_or_else(outside)?;
            AgentName::parse(name).map(Resource::Agent)
        }
        "providers" => {
            let name = below.strip_suffix(".yaml").filter(|stem| !stem.contains('/')).ok_or_else(outside)?;
            ProviderName::parse(name).map(Resource::Provider)
        }
        _ => Err(outside()),
    }
}

/// What is wrong with the edits on their own, whatever stands in the tree.
pub fn check(edits: &[Edit]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for edit in edits.iter().take(EDITS_MAX) {
        if let Err(message) = resource(&edit.path) {
            found.push(Diagnostic::error(&*edit.path, Code::UnsafePath, message));
        }
        if edit.content.as_ref().is_some_and(|content| content.len() > FILE_BYTES_MAX) {
            let message = format!("the file is larger than {} KiB", FILE_BYTES_MAX / 1024);
            found.push(Diagnostic::error(&*edit.path, Code::FrontmatterLimit, message));
        }
        if !seen.insert(&edit.path) {
            found.push(Diagnostic::error(&*edit.path, Code::UnsafePath, "the path is edited twice in one change"));
        }
    }
    if edits.len() > EDITS_MAX {
        let message = format!("a change has at most {EDITS_MAX} files");
        found.push(Diagnostic::error(".claude", Code::FrontmatterLimit, message));
    }
    found
}

/// A title as one line that is not too long; what is no letter of a line is left out.
pub fn title(text: &str) -> String {
    let line: String = text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let title: String = line.trim().chars().take(TITLE_CHARS_MAX).collect();
    if title.is_empty() { "change skills and agents".to_owned() } else { title }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shown_is_read_as_it_was_written() {
        let edits = vec![
            Edit::put(".claude/agents/a.md", "x\n".as_bytes().to_vec(), Expect::Absent),
            Edit::put(".claude/agents/b.md", "y".as_bytes().to_vec(), Expect::Is(Digest::of(b"z"))),
            Edit::delete(".claude/agents/c.md", Expect::Any),
        ];
        let text = Shown::write(&edits).unwrap();
        let shown = Shown::read(&text).unwrap();
        assert_eq!(shown.edits, edits);
        let other = Shown::write(&edits[..2]).and_then(|text| Shown::read(&text)).unwrap();
        assert_ne!(shown.digest, other.digest);
        assert_eq!(Shown::write(&[]), None);
        let large = Edit::put(".claude/agents/a.md", vec![b'x'; SHOWN_BYTES_MAX], Expect::Any);
        assert_eq!(Shown::write(&[large]), None);
    }

    #[test]
    fn only_files_of_skills_agents_and_providers_may_be_edited() {
        let skill = |name| Resource::Skill(SkillName::parse(name).unwrap());
        assert_eq!(resource(".claude/skills/a/SKILL.md"), Ok(skill("a")));
        assert_eq!(resource(".claude/skills/a/scripts/run.sh"), Ok(skill("a")));
        assert_eq!(resource(".claude/agents/b.md"), Ok(Resource::Agent(AgentName::parse("b").unwrap())));
        for path in [
            "README.md",
            ".claude/settings.json",
            ".claude/skills/SKILL.md",
            ".claude/skills/../../etc/passwd",
            ".claude/skills/a/../../settings.json",
            "/etc/passwd",
            ".claude/skills//SKILL.md",
            ".claude/skills/A B/SKILL.md",
            ".claude/agents/x/y.md",
            ".claude/agents/x.txt",
            ".claude/hooks/x.md",
            ".claude/skills/a/.git/config",
            ".claude\\skills\\a",
        ] {
            assert!(resource(path).is_err(), "{path}");
        }
    }

    #[test]
    fn twice_the_same_path_and_too_big_files_are_found() {
        let edit = |bytes: usize| Edit::put(".claude/agents/a.md", vec![b'x'; bytes], Expect::Any);
        assert!(check(&[edit(1)]).is_empty());
        assert_eq!(check(&[edit(1), edit(2)]).len(), 1);
        assert_eq!(check(&[edit(FILE_BYTES_MAX + 1)]).len(), 1);
    }

    #[test]
    fn whoever_may_not_widen_only_proposes_what_does() {
        let modes = WriteModes::default();
        let mut author = Authority::of_person(Origin::Chat, "ann");
        assert_eq!(modes.mode(&author, true), WriteMode::Direct);
        author.may_widen = false;
        assert_eq!(modes.mode(&author, true), WriteMode::Propose);
        assert_eq!(modes.mode(&author, false), WriteMode::Direct);
        let run = Authority::of_run("tsk_1");
        assert_eq!(modes.mode(&run, false), WriteMode::Propose);
        // Not even where the operator lets runs write directly.
        let open = WriteModes { agent: WriteMode::Direct, ..modes };
        assert_eq!(open.mode(&run, false), WriteMode::Direct);
        assert_eq!(open.mode(&run, true), WriteMode::Propose);
    }

    #[test]
    fn titles_are_one_line() {
        assert_eq!(title("Add it\nand more\n"), "Add it");
        assert_eq!(title(" \u{1b}[31m\n"), "[31m");
        assert_eq!(title("\n"), "change skills and agents");
        assert_eq!(title(&"x".repeat(500)).len(), TITLE_CHARS_MAX);
    }
}
