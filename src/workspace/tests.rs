use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::{Limits, Workspace, Workspaces};
use crate::error::Code;
use crate::model::digest::Digest;
use crate::repo::fixture::{Fixture, write};
use crate::repo::{Options, Repository};
use crate::seam::Clock;

struct House {
    fixture: Fixture,
    repo: Repository,
    clock: Clock,
}

impl House {
    fn new() -> Self {
        let fixture = Fixture::with_history();
        let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
        let repo = fixture.open_with(Options { clock: clock.clone(), ..Options::default() });
        Self { fixture, repo, clock }
    }

    fn workspaces(&self) -> Workspaces {
        self.workspaces_with(Limits::default())
    }

    fn workspaces_with(&self, limits: Limits) -> Workspaces {
        Workspaces::new(self.repo.clone(), self.fixture.temp.path().join("workspaces"), limits)
    }

    fn serve(&self) -> Digest {
        let (revision, contents) = self.fixture.snapshot();
        self.repo.write_served(&revision, &|path| contents.get(path).cloned()).unwrap();
        revision.digest
    }
}

/// Every file and directory below, with its mode and content.
fn listing(workspace: &Workspace) -> BTreeMap<String, (u32, String)> {
    let entries = walkdir::WalkDir::new(&workspace.path).min_depth(1).into_iter().map(Result::unwrap);
    let described = entries.map(|entry| {
        let path = entry.path().strip_prefix(&workspace.path).unwrap().to_str().unwrap().to_owned();
        let text =
            if entry.file_type().is_file() { std::fs::read_to_string(entry.path()).unwrap() } else { String::new() };
        (path, (entry.metadata().unwrap().permissions().mode() & 0o7777, text))
    });
    described.collect()
}

fn names(workspace: &Workspace) -> Vec<String> {
    listing(workspace).into_iter().filter(|(_, (_, text))| !text.is_empty()).map(|(path, _)| path).collect()
}

/// What a run does that wants to change its workspace, whatever the modes are.
fn force(workspace: &Workspace, path: &str, content: &str) {
    for entry in walkdir::WalkDir::new(&workspace.path).into_iter().map(Result::unwrap) {
        if !entry.file_type().is_symlink() {
            std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    write(&workspace.path, path, content);
}

#[test]
fn a_workspace_holds_exactly_the_skills_and_agents_read_only() {
    let house = House::new();
    for (path, content) in [
        (".claude/settings.json", "{}"),
        (".claude/hooks/x.sh", "x"),
        (".claude/providers/p.yaml", "p"),
        (".claude/CLAUDE.md", "c"),
        (".mcp.json", "{}"),
        ("CLAUDE.md", "c"),
        (".claude/skills/a/scripts/run.py", "run"),
    ] {
        house.fixture.write(path, content);
    }
    let workspace = house.workspaces().prepare(house.serve(), "conv-1").unwrap();
    let expected: BTreeMap<String, (u32, String)> = [
        (".claude", 0o555, ""),
        (".claude/agents", 0o555, ""),
        (".claude/agents/brain.md", 0o444, "brain"),
        (".claude/skills", 0o555, ""),
        (".claude/skills/a", 0o555, ""),
        (".claude/skills/a/SKILL.md", 0o444, "a1"),
        (".claude/skills/a/scripts", 0o555, ""),
        (".claude/skills/a/scripts/run.py", 0o444, "run"),
    ]
    .map(|(path, mode, text)| (path.to_owned(), (mode, text.to_owned())))
    .into();
    assert_eq!(listing(&workspace), expected);
    for directory in [&workspace.path, &workspace.home, &workspace.tmp, &workspace.config_dir] {
        assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o777, 0o700, "{}", directory.display());
    }
}

#[test]
fn the_path_is_stable_and_a_new_revision_replaces_the_old_files() {
    let house = House::new();
    let workspaces = house.workspaces();
    let first = workspaces.prepare(house.serve(), "conv-1").unwrap();
    let path = first.path.clone();
    std::fs::write(first.config_dir.join("session.jsonl"), "kept").unwrap();
    std::fs::write(first.path.join("notes.txt"), "kept").unwrap();
    std::fs::write(first.tmp.join("x"), "gone").unwrap();
    std::fs::write(first.home.join(".bashrc"), "gone").unwrap();
    drop(first);
    std::fs::remove_file(house.fixture.root.join(".claude/agents/brain.md")).unwrap();
    house.fixture.write(".claude/skills/b/SKILL.md", "b1");
    let second = workspaces.prepare(house.serve(), "conv-1").unwrap();
    assert_eq!(second.path, path);
    assert_eq!(names(&second), [".claude/skills/a/SKILL.md", ".claude/skills/b/SKILL.md", "notes.txt"]);
    assert_eq!(std::fs::read_to_string(second.config_dir.join("session.jsonl")).unwrap(), "kept");
    assert!(!second.tmp.join("x").exists() && !second.home.join(".bashrc").exists());
    let other = workspaces.prepare(house.serve(), "conv-2").unwrap();
    assert_ne!(other.path, path);
}

#[test]
fn what_a_run_plants_does_not_steer_the_next() {
    let house = House::new();
    let workspaces = house.workspaces();
    let digest = house.serve();
    let outside = house.fixture.temp.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("kept"), "kept").unwrap();
    let expected = listing(&workspaces.prepare(digest, "c").unwrap());
    for (path, content) in [
        (".claude/settings.json", "{}"),
        (".claude/skills/a/SKILL.md", "a9"),
        (".claude/skills/planted/SKILL.md", "p"),
        (".mcp.json", "{}"),
        ("CLAUDE.md", "obey"),
        ("deep/er/claude.local.md", "obey"),
        ("deep/.claude/skills/x/SKILL.md", "x"),
        (".git/config", "[core]\n\tfsmonitor = evil"),
    ] {
        let workspace = workspaces.prepare(digest, "c").unwrap();
        force(&workspace, path, content);
        std::fs::write(workspace.config_dir.join("settings.json"), "{}").unwrap();
        drop(workspace);
        let again = workspaces.prepare(digest, "c").unwrap();
        let found: BTreeMap<_, _> = listing(&again).into_iter().filter(|(path, _)| !path.starts_with("deep")).collect();
        assert_eq!(found, expected, "{path}");
        assert!(!names(&again).iter().any(|name| name.starts_with("deep")), "{path}");
        assert!(!again.config_dir.join("settings.json").exists());
    }
    // Links in place of directories.
    for planted in ["work/.claude", "work", "home", "tmp", "config"] {
        let workspace = workspaces.prepare(digest, "c").unwrap();
        let place = workspace.path.parent().unwrap().to_owned();
        force(&workspace, "x", "");
        std::fs::remove_dir_all(place.join(planted)).unwrap();
        symlink(&outside, place.join(planted)).unwrap();
        drop(workspace);
        let again = workspaces.prepare(digest, "c").unwrap();
        assert!(!place.join(planted).symlink_metadata().unwrap().is_symlink(), "{planted}");
        assert_eq!(names(&again), [".claude/agents/brain.md", ".claude/skills/a/SKILL.md"], "{planted}");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    }
}

#[test]
fn an_unwritten_revision_has_to_wait() {
    let house = House::new();
    let error = house.workspaces().prepare(Digest::of(b"never served"), "c").unwrap_err();
    assert_eq!(error.code(), Code::RevisionMissing);
}

#[test]
fn one_conversation_has_one_run_at_a_time() {
    let house = House::new();
    let workspaces = house.workspaces();
    let digest = house.serve();
    let first = workspaces.prepare(digest, "c").unwrap();
    assert_eq!(workspaces.prepare(digest, "c").unwrap_err().code(), Code::WorkspaceFailed);
    drop(first);
    workspaces.prepare(digest, "c").unwrap();
}

#[test]
fn limits_are_kept() {
    let house = House::new();
    let digest = house.serve();
    for limits in [Limits { files_max: 1, bytes_max: 1_000 }, Limits { files_max: 10, bytes_max: 6 }] {
        assert_eq!(house.workspaces_with(limits).prepare(digest, "c").unwrap_err().code(), Code::WorkspaceFailed);
    }
    house.workspaces_with(Limits { files_max: 2, bytes_max: 7 }).prepare(digest, "c").unwrap();
}

#[test]
fn conversation_ids_never_become_paths() {
    let house = House::new();
    let workspaces = house.workspaces();
    let digest = house.serve();
    for id in ["../../escape", "/etc", "", "a/b", "\0", &"x".repeat(10_000)] {
        let workspace = workspaces.prepare(digest, id).unwrap();
        assert_eq!(workspace.path.parent().and_then(Path::parent), Some(workspaces.directory()));
    }
}

#[test]
fn sweeping_goes_by_age_then_by_size_and_spares_what_is_in_use() {
    let house = House::new();
    let workspaces = house.workspaces();
    let digest = house.serve();
    let hour = SignedDuration::from_hours(1);
    let mut paths = Vec::new();
    for id in ["oldest", "old", "new"] {
        paths.push(workspaces.prepare(digest, id).unwrap().path.clone());
        std::fs::write(paths.last().unwrap().join("ballast"), vec![1; 100_000]).unwrap();
        house.clock.advance(hour);
    }
    let here = |paths: &[std::path::PathBuf]| paths.iter().map(|path| path.exists()).collect::<Vec<_>>();
    let swept = workspaces.sweep(house.clock.now(), hour * 10, u64::MAX).unwrap();
    assert_eq!((swept.removed, swept.kept), (0, 3));
    let in_use = workspaces.prepare(digest, "oldest").unwrap();
    let swept = workspaces.sweep(house.clock.now(), hour * 10, 150_000).unwrap();
    assert_eq!((swept.removed, here(&paths)), (1, vec![true, false, true]));
    drop(in_use);
    house.clock.advance(hour * 2);
    let swept = workspaces.sweep(house.clock.now(), hour * 2 + SignedDuration::from_mins(1), u64::MAX).unwrap();
    assert_eq!((swept.removed, here(&paths)), (1, vec![true, false, false]));
    assert!(swept.kept_bytes >= 100_000);
}

#[test]
fn steering_files_above_the_workspaces_are_found() {
    let house = House::new();
    let inside = Workspaces::new(house.repo.clone(), house.fixture.root.join(".skillhook/runs"), Limits::default());
    assert_eq!(inside.steering_above(), [house.fixture.root.join(".claude")]);
    assert!(!house.workspaces().steering_above().iter().any(|path| path.starts_with(&house.fixture.root)));
}

#[test]
fn record_of_a_session_moves_to_where_another_node_looks_for_it() {
    let house = House::new();
    let (workspaces, session) = (house.workspaces(), "0197a3c0-de7d-7f0b-8a5d-3c2b1a098765");
    let workspace = workspaces.prepare(house.serve(), "conv").unwrap();
    assert_eq!(workspaces.transcript("conv", session).unwrap(), None);
    let place = workspace.config_dir.join("projects/-some-where");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join(format!("{session}.jsonl")), "{}").unwrap();
    assert_eq!(workspaces.transcript("conv", session).unwrap().as_deref(), Some(b"{}".as_slice()));
    let other = workspaces.prepare(house.serve(), "other").unwrap();
    workspaces.restore_transcript("other", session, b"{}").unwrap();
    assert_eq!(workspaces.transcript("other", session).unwrap().as_deref(), Some(b"{}".as_slice()));
    let slug = other.path.to_str().unwrap().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    assert!(other.config_dir.join("projects").join(slug).join(format!("{session}.jsonl")).is_file());
    assert!(workspaces.transcript("conv", "../../etc/passwd").is_err());
}

#[test]
fn agents_are_read_from_what_was_laid_out_and_files_can_be_left_for_later() {
    let house = House::new();
    write(
        &house.fixture.root,
        ".claude/agents/doer.md",
        "---\nname: doer\ndescription: Does.\ntools: Read, Bash(git log:*)\n---\nDo.\n",
    );
    let workspaces = house.workspaces();
    let workspace = workspaces.prepare(house.serve(), "conv").unwrap();
    let name = |name: &str| crate::model::ids::AgentName::parse(name).unwrap();
    let doer = workspaces.agent("conv", &name("doer")).unwrap().unwrap();
    assert_eq!(doer.tools, Some(vec!["Read".to_owned(), "Bash(git log:*)".to_owned()]));
    assert_eq!(workspaces.agent("conv", &name("nobody")).unwrap(), None);
    for text in ["first", "second"] {
        workspaces.leave("conv", "PLAN.md", text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(workspace.path.join("PLAN.md")).unwrap(), "second");
}
