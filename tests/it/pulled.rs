//! What a remote may bring that nobody asked for: names that reach out, submodules that run programs, ten thousand files
//! at once. And what may go wrong meanwhile: kills, a full disk, a remote that is away for long.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::gitops::{Elsewhere, assert_whole, head, reconcile, remote, skill, wait_level, wait_remote_state};
use crate::image::Image;
use crate::service::{SOON, Service, git, own_webhook, wait_for};

/// Edits while the remote is away.
const EDITS: usize = 60;

fn trouble(git: &Value) -> &str {
    git["remote"]["trouble"].as_str().unwrap_or_default()
}

fn piped(directory: &Path, arguments: &[&str], input: &[u8]) -> String {
    let mut command = Command::new("git");
    command.current_dir(directory).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A commit on the remote's branch with a tree that no honest git would write: it has `name` beside nothing else.
fn push_name(remote: &Path, name: &str) {
    let entry = |mode: &str, name: &str, oid: &str| {
        let mut raw = format!("{mode} {name}\0").into_bytes();
        raw.extend_from_slice(&hex::decode(oid).unwrap());
        raw
    };
    let tree = |raw: &[u8]| piped(remote, &["hash-object", "-t", "tree", "-w", "--stdin", "--literally"], raw);
    let blob = piped(remote, &["hash-object", "-w", "--stdin"], b"[core]\n\tfsmonitor = touch ran\n");
    let evil = tree(&entry("40000", name, &tree(&entry("100644", "config", &blob))));
    commit_tree(remote, &evil);
}

fn commit_tree(remote: &Path, tree: &str) {
    let parent = head(remote);
    let text = format!("tree {tree}\nparent {parent}\nauthor E <e@e> 1 +0000\ncommitter E <e@e> 1 +0000\n\nnext\n");
    let commit = piped(remote, &["hash-object", "-t", "commit", "-w", "--stdin"], text.as_bytes());
    git(remote, &["update-ref", "refs/heads/main", &commit]);
}

/// Hooks of every kind that leave a mark when they run.
fn lay_hooks(service: &Service, mark: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let hooks = service.root().join(".git/hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    for name in [
        "pre-commit",
        "post-commit",
        "post-checkout",
        "post-merge",
        "pre-push",
        "reference-transaction",
        "post-rewrite",
    ] {
        let hook = hooks.join(name);
        std::fs::write(&hook, format!("#!/bin/sh\ntouch '{}'\n", mark.display())).unwrap();
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[tokio::test]
async fn hostile_trees_run_and_write_nothing_and_the_next_good_one_is_served() {
    let service = Service::started(json!({})).await;
    wait_level(&service).await;
    let (root, there) = (service.root(), remote(&service));
    let mark = service.dir.path().join("ran");
    lay_hooks(&service, &mark);
    git(&root, &["config", "filter.evil.smudge", &format!("touch '{}'; cat", mark.display())]);
    let elsewhere = Elsewhere::of(&service);
    elsewhere.webhook("good");
    elsewhere.write(".gitattributes", "*.md filter=evil\n");
    std::fs::create_dir_all(elsewhere.clone.join(".claude/skills/link")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", elsewhere.clone.join(skill("link"))).unwrap();
    elsewhere.write(".claude/skills/good/new\nline", "x");
    elsewhere.write(".gitmodules", "[submodule \"s\"]\n\tpath = .claude/skills/sub\n\turl = ext::sh -c 'touch ran'\n");
    git(&elsewhere.clone, &["add", "-A"]);
    let submodule = format!("160000,{},.claude/skills/sub", head(&elsewhere.clone));
    git(&elsewhere.clone, &["update-index", "--add", "--cacheinfo", &submodule]);
    git(&elsewhere.clone, &["commit", "-q", "-m", "odd things"]);
    git(&elsewhere.clone, &["push", "-q", "origin", "main"]);
    assert_eq!(reconcile(&service, &[]).await.0, 0);
    service.wait_route("/webhooks/github/good", true).await;
    service.wait_route("/webhooks/github/link", false).await;
    let skipped = service.api("/api/status").await["git"]["remote"]["skipped"].to_string();
    for odd in ["skills/link/SKILL.md", "skills/sub", "new\\\\nline"] {
        assert!(skipped.contains(odd), "{odd}: {skipped}");
    }
    assert!(!root.join(skill("link")).exists() && !root.join(".claude/skills/sub").exists());

    // A later good tree, kept beside for now.
    elsewhere.webhook("better");
    git(&elsewhere.clone, &["add", skill("better").as_str()]);
    git(&elsewhere.clone, &["commit", "-q", "-m", "better"]);
    git(&elsewhere.clone, &["push", "-q", "origin", "HEAD:beside"]);
    let config = std::fs::read(root.join(".git/config")).unwrap();
    for name in [".git", ".GIT", "..", "git~1"] {
        push_name(&there, name);
        reconcile(&service, &[]).await;
        wait_remote_state(&service, name, |git| trouble(git).contains("git's own")).await;
        assert_eq!(std::fs::read(root.join(".git/config")).unwrap(), config, "{name}");
        service.wait_route("/webhooks/github/good", true).await;
    }
    commit_tree(&there, &git(&there, &["rev-parse", "beside^{tree}"]));
    assert_eq!(reconcile(&service, &[]).await.0, 0);
    service.wait_route("/webhooks/github/better", true).await;
    wait_level(&service).await;
    assert!(!mark.exists(), "a hook, a filter or a submodule ran");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_files_converge_through_five_kills_while_deliveries_are_taken() {
    let mut service = Service::started(json!({})).await;
    wait_level(&service).await;
    let elsewhere = Elsewhere::of(&service);
    for number in 0..500 {
        for file in 0..20 {
            elsewhere.write(&format!(".claude/skills/s{number}/notes/{file}.md"), &format!("{number} {file}\n"));
        }
        let text = format!("---\nname: s{number}\ndescription: Number {number}.\n---\nRead the notes.\n");
        elsewhere.write(&skill(&format!("s{number}")), &text);
    }
    elsewhere.webhook("last");
    elsewhere.write(&skill("huge"), &format!("{}{}", own_webhook("huge"), "x".repeat(8 << 20)));
    let merged = elsewhere.merge("ten thousand files");
    for round in 0..5_u64 {
        let mut command = tokio::process::Command::from(service.command(&["reconcile", "--with-source"]));
        let asked = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let (status, answer) = service.comment(round + 1, &format!("d{round}"), "@agent analyze").await.unwrap();
        assert_eq!(status, 202, "{answer}");
        tokio::time::sleep(Duration::from_millis(60 + 130 * round)).await;
        service.kill();
        drop(asked);
        service.start();
        service.wait_ready().await;
    }
    wait_for("the merged commit", || async { head(&service.root()) == merged }).await;
    service.wait_route("/webhooks/github/last", true).await;
    service.wait_route("/webhooks/github/huge", false).await;
    wait_level(&service).await;
    assert_eq!(head(&service.root()), merged, "something was committed that nobody wrote");
    service.wait_tasks_done(5, SOON).await;
    assert_whole(&service);
}

#[tokio::test]
async fn a_full_disk_is_told_and_heals_by_itself() {
    let place = tempfile::tempdir().unwrap();
    let mut image = None;
    let mut service = Service::prepared_on(json!({}), |root| image = Image::mounted(place.path(), root)).await;
    if image.is_none() {
        eprintln!("no image can be mounted here: the full disk is passed over");
        return;
    }
    service.write_skill("mine", &own_webhook("mine"));
    service.start();
    service.wait_ready().await;
    service.wait_route("/webhooks/github/mine", true).await;
    wait_level(&service).await;
    let filler = service.root().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    for block in [1 << 20, 1 << 12, 1] {
        while file.write_all(&vec![b'x'; block]).is_ok() {}
    }
    let _ = file.sync_all();
    // In place and as long as before: the editor needs no room.
    let edited = own_webhook("mine").replace("Looks.", "Seeks.");
    let path = service.root().join(skill("mine"));
    std::fs::File::options().write(true).open(&path).unwrap().write_all(edited.as_bytes()).unwrap();
    wait_remote_state(&service, "the trouble of the commit", |git| {
        git["committed"]["trouble"].as_str().is_some_and(|trouble| !trouble.is_empty())
    })
    .await;
    assert!(service.is_running());
    let (status, answer) = service.comment(1, "d1", "@agent analyze").await.unwrap();
    assert!(matches!(status, 202 | 503), "{status} {answer}");
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    wait_for("deliveries to be taken again", || async {
        service.comment(1, "d1", "@agent analyze").await.is_some_and(|(status, _)| matches!(status, 200 | 202))
    })
    .await;
    service.wait_tasks_done(1, SOON).await;
    wait_level(&service).await;
    let served = git(&remote(&service), &["show", &format!("main:{}", skill("mine"))]);
    assert!(served.contains("Seeks."), "{served}");
    assert_whole(&service);
    service.kill();
}

#[tokio::test]
async fn a_remote_that_is_long_away_is_seldom_tried_and_gets_every_edit_in_order() {
    let mut service = Service::prepared(json!({})).await;
    // Every call of git is written down.
    let (programs, calls) = (service.dir.path().join("bin"), service.dir.path().join("calls"));
    std::fs::create_dir(&programs).unwrap();
    let own_path = std::env::var("PATH").unwrap();
    let script = format!("#!/bin/sh\necho \"$@\" >> '{}'\nPATH='{own_path}' exec git \"$@\"\n", calls.display());
    std::fs::write(programs.join("git"), script).unwrap();
    std::fs::set_permissions(programs.join("git"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    service.set_env("PATH", &format!("{}:{own_path}", programs.display()));
    service.start();
    service.wait_ready().await;
    wait_level(&service).await;
    let (there, away) = (remote(&service), service.dir.path().join("away.git"));
    std::fs::rename(&there, &away).unwrap();
    std::fs::write(&calls, "").unwrap();
    let root = service.root();
    for number in 0..EDITS {
        service.write_skill(&format!("s{number}"), &own_webhook(&format!("s{number}")));
        wait_for("the commit", || async { git(&root, &["status", "--porcelain", "--", ".claude"]).is_empty() }).await;
    }
    let tries = std::fs::read_to_string(&calls).unwrap();
    let tries = tries.lines().filter(|call| call.contains("push") || call.contains("fetch")).count();
    assert!((1..=EDITS / 3).contains(&tries), "{tries} tries for {EDITS} edits");
    std::fs::rename(&away, &there).unwrap();
    assert_eq!(reconcile(&service, &[]).await.0, 0);
    wait_level(&service).await;
    let added =
        git(&there, &["log", "--reverse", "--diff-filter=A", "--name-only", "--format=", "main", "--", ".claude"]);
    let added: Vec<&str> = added.lines().collect();
    let expected: Vec<String> = (0..EDITS).map(|number| skill(&format!("s{number}"))).collect();
    assert_eq!(added, expected);
}
