//! The golden cases of `reconcile-fixtures/`: what a sequence of states of the files leads to, and the laws that hold
//! for every one of them. `UPDATE_FIXTURES=1` writes what came out, to be read before it is committed.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on says so by panicking, and reads its own surroundings"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use skillhook::index::State;
use skillhook::ledger::Ledger;
use skillhook::model::digest::Digest;
use skillhook::model::plan::Action;
use skillhook::reconcile::activator::{Activation, Scope};
use skillhook::reconcile::pass::{Parts, Reconciler};
use skillhook::seam::Clock;
use tempfile::TempDir;

/// A reconciler over a directory of its own, whose time moves only by hand.
struct Bench {
    dir: TempDir,
    clock: Clock,
    reconciler: Option<Reconciler>,
    ledger: Option<Ledger>,
    passes: u64,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.close();
    }
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/.claude/skills")).unwrap();
        std::fs::create_dir_all(dir.path().join("data")).unwrap();
        let clock = Clock::manual(Timestamp::now());
        let mut bench = Self { dir, clock, reconciler: None, ledger: None, passes: 0 };
        bench.open();
        bench
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// As after a restart: nothing is remembered but what is on disk.
    fn open(&mut self) {
        self.close();
        let data = self.dir.path().join("data");
        let parts = Parts::for_directory(&self.root(), &data, self.clock.clone()).unwrap();
        self.ledger = Some(parts.ledger.clone());
        self.reconciler = Some(Reconciler::new(parts).unwrap().0);
    }

    fn close(&mut self) {
        self.reconciler = None;
        if let Some(ledger) = self.ledger.take() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(ledger.close());
        }
    }

    fn forget_index(&mut self) {
        self.close();
        std::fs::remove_file(self.dir.path().join("data/index.redb")).unwrap();
        self.open();
    }

    fn pass(&mut self, scope: Scope) -> Vec<Action> {
        self.passes += 1;
        let activation = Activation::of(scope, "test");
        let (published, _) = self.reconciler.as_mut().unwrap().pass(self.passes, &activation).unwrap();
        published.report.actions.clone()
    }

    /// Passes until absence has lasted and nothing moves any more; answers everything that was done.
    fn settle(&mut self) -> Vec<Action> {
        let mut all = self.pass(Scope::Everything);
        self.clock.advance(SignedDuration::from_secs(3));
        all.extend(self.pass(Scope::Everything));
        all
    }

    fn state(&self) -> std::sync::Arc<State> {
        self.reconciler.as_ref().unwrap().index.reader().state()
    }

    /// Replaces the files: what a case's step says, on top of what is there.
    fn lay(&self, step: &Path) {
        lay(step, &self.root());
    }
}

/// Copies a tree; a file `PATH.delete` deletes `PATH` (or the directory).
fn lay(from: &Path, to: &Path) {
    let mut entries: Vec<_> = walkdir::WalkDir::new(from).into_iter().map(Result::unwrap).collect();
    entries.sort_by_key(|entry| !entry.path().to_string_lossy().ends_with(".delete"));
    for entry in entries.iter().filter(|entry| entry.file_type().is_file()) {
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        if let Some(gone) = target.to_str().unwrap().strip_suffix(".delete") {
            let gone = Path::new(gone);
            if gone.is_dir() {
                std::fs::remove_dir_all(gone).unwrap()
            } else {
                std::fs::remove_file(gone).unwrap()
            }
            continue;
        }
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(entry.path(), &target).unwrap();
    }
}

fn steps(case: &Path) -> Vec<PathBuf> {
    let mut steps = vec![case.join("before")];
    if let Ok(listing) = std::fs::read_dir(case.join("steps")) {
        let mut more: Vec<_> = listing.map(|entry| entry.unwrap().path()).collect();
        more.sort();
        steps.extend(more);
    }
    steps.retain(|step| step.is_dir());
    steps
}

fn shown(actions: &[Action]) -> String {
    if actions.is_empty() {
        return "nothing\n".to_owned();
    }
    actions.iter().map(|action| format!("{action}\n")).collect()
}

/// The whole story of a case, from an empty directory.
fn play(case: &Path) -> (String, Bench) {
    let mut bench = Bench::new();
    bench.settle();
    let mut plan = String::new();
    for step in steps(case) {
        bench.lay(&step);
        let name = step.file_name().unwrap().to_str().unwrap().to_owned();
        plan.push_str(&format!("# {name}\n{}", shown(&bench.settle())));
    }
    (plan, bench)
}

/// The part of the index that the case is about: what the tree made, not what comes with the program.
fn index_of(state: &State) -> Value {
    let webhooks: BTreeMap<String, Value> = state
        .observed
        .webhooks
        .iter()
        .filter(|(_, entry)| entry.sources.iter().any(|skill| !state.observed.skills[skill].embedded))
        .map(|(id, entry)| {
            let commands: Vec<_> = entry.spec.commands.iter().map(|c| json!(format!("{} ({})", c.name, c.source))).collect();
            let sources: Vec<_> = entry.sources.iter().map(ToString::to_string).collect();
            (id.to_string(), json!({"endpoint": entry.spec.endpoint, "enabled": entry.spec.enabled, "commands": commands, "sources": sources}))
        })
        .collect();
    let skills: BTreeMap<String, Value> = state
        .observed
        .skills
        .iter()
        .filter(|(_, entry)| !entry.embedded)
        .map(|(name, entry)| {
            let diagnostics: Vec<_> = entry.diagnostics.iter().map(ToString::to_string).collect();
            (
                name.to_string(),
                json!({"standing": entry.standing, "in_force": entry.facts.is_some(), "diagnostics": diagnostics}),
            )
        })
        .collect();
    let agents: BTreeMap<String, Value> = state
        .observed
        .agents
        .iter()
        .filter(|(_, entry)| !entry.embedded)
        .map(|(name, entry)| (name.to_string(), json!({"standing": entry.standing, "in_force": entry.facts.is_some()})))
        .collect();
    json!({"webhooks": webhooks, "skills": skills, "agents": agents})
}

fn compare(file: &Path, actual: &str) {
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(file, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(file).unwrap_or_default();
    assert_eq!(actual, expected, "{}", file.display());
}

fn check(case: &str) {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("reconcile-fixtures").join(case);
    let purpose = std::fs::read_to_string(case.join("purpose.md")).unwrap();
    assert!(!purpose.trim().is_empty());
    let (plan, mut bench) = play(&case);
    compare(&case.join("expected.plan"), &plan);
    let index = serde_json::to_string_pretty(&index_of(&bench.state())).unwrap() + "\n";
    compare(&case.join("expected.index.json"), &index);

    let digest = bench.state().digest;
    assert_eq!(shown(&bench.settle()), "nothing\n", "a second pass is empty");
    bench.open();
    assert_eq!(shown(&bench.settle()), "nothing\n", "a restart changes nothing");
    assert_eq!(bench.state().digest, digest);
    let held = bench
        .state()
        .observed
        .skills
        .values()
        .any(|entry| entry.standing != skillhook::model::entry::Standing::Current)
        || bench
            .state()
            .observed
            .agents
            .values()
            .any(|entry| entry.standing != skillhook::model::entry::Standing::Current);
    if !held {
        bench.forget_index();
        bench.settle();
        assert_eq!(bench.state().digest, digest, "a fresh index equals the index by history");
        assert_eq!(fresh_from(&bench.root()), digest, "equal trees have equal digests anywhere");
    }
    lost_events_change_nothing(&case, digest);
}

/// Another machine, which sees only the last state of the files.
fn fresh_from(root: &Path) -> Digest {
    let mut other = Bench::new();
    lay(root, &other.root());
    other.settle();
    other.state().digest
}

/// Passes that are told of the wrong skill, or of nothing, are made good by the periodic one.
fn lost_events_change_nothing(case: &Path, digest: Digest) {
    let mut bench = Bench::new();
    bench.settle();
    for step in steps(case) {
        bench.lay(&step);
        bench.pass(Scope::Skills(["another".to_owned()].into()));
        bench.settle();
    }
    assert_eq!(bench.state().digest, digest, "lost events change nothing after a periodic pass");
}

macro_rules! cases {
    ($($name:ident)*) => {
        $(#[test] fn $name() { check(&stringify!($name).replace('_', "-")); })*

        #[test]
        fn every_folder_is_a_case() {
            let known: Vec<String> = [$(stringify!($name)),*].iter().map(|name| name.replace('_', "-")).collect();
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("reconcile-fixtures");
            for entry in std::fs::read_dir(root).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir()) {
                let name = entry.file_name().into_string().unwrap();
                assert!(known.contains(&name), "`{name}` is no test");
            }
            assert!(known.len() >= 25);
        }
    };
}

include!("../reconcile-fixtures/cases.rs");
