//! The first figures, each a ratio or a curve within one run: durable acks beside the same pipeline without a store and
//! beside the least that a durable ack needs, and the time from a saved file to a live route at several sizes.
//! Then our commits beside git's own. `cargo bench`, or one of them: `cargo bench -- acks`, `live`, `commits`. Absolute
//! numbers are this machine's.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a program for people: it prints its figures, and ends where it cannot go on"
)]

mod beside;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use skillhook::app::{self, Service};
use skillhook::config::{Config, Settings, environment};
use skillhook::model::digest::Digest;
use skillhook::model::revision::{FileRef, Revision};
use skillhook::reconcile::pass::Published;
use skillhook::repo::{CommitOutcome, CommitRequest, PushOutcome, Repository};

use beside::{Beside, Log, Pipeline};

const SECRET: &str = "bench-secret";
/// How long one measurement of acks takes.
const MEASURE: Duration = Duration::from_secs(4);
const ROUNDS: usize = 3;
/// Saves of each kind.
const SAVES: usize = 9;
const COMMITS: usize = 5;
const PUSH_DEADLINE: Duration = Duration::from_secs(60);

fn main() {
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |figure: &str| named.is_empty() || named.iter().any(|name| name == figure);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if wanted("acks") {
            acks().await;
        }
        for skills in [10, 1_000, 10_000] {
            if wanted("live") {
                save_to_live(skills).await;
            }
        }
    });
    for files in [1_000, 10_000] {
        if wanted("commits") {
            commit_of_one_change(files);
        }
    }
}

/// One changed file: our commit (synced to disk) beside `git add -A && git commit`, and the push after it, in one
/// repository with a bare remote on the same disk, turn by turn.
fn commit_of_one_change(files: usize) {
    let directory = tempfile::tempdir().unwrap();
    let root = &directory.path().join("clone");
    let path = |n: usize| format!(".claude/skills/hook-{n}/SKILL.md");
    Repository::init(root).unwrap();
    let mut contents: BTreeMap<String, Arc<[u8]>> = BTreeMap::new();
    for n in 0..files {
        write_skill(root, &format!("hook-{n}"), 0);
        contents.insert(path(n), std::fs::read(root.join(path(n))).unwrap().into());
    }
    let git = |arguments: &[&str]| {
        let who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0"];
        assert!(Command::new("git").args(who).args(arguments).current_dir(root).status().unwrap().success());
    };
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "all"]);
    git(&["init", "-q", "--bare", "../remote.git"]);
    git(&["remote", "add", "origin", "../remote.git"]);
    git(&["push", "-q", "-u", "origin", "HEAD"]);
    let repository = Repository::open(root, skillhook::repo::Options::default()).unwrap();
    let revision = |contents: &BTreeMap<String, Arc<[u8]>>| {
        let file = |bytes: &Arc<[u8]>| FileRef { digest: Digest::of(bytes), executable: false };
        Revision::of(contents.iter().map(|(path, bytes)| (path.clone(), file(bytes))).collect())
    };
    repository.write_served(&revision(&contents), &|path| contents.get(path).cloned()).unwrap();
    let mut times: [Vec<Duration>; 4] = Default::default();
    for round in 1..=COMMITS {
        write_skill(root, "hook-0", 2 * round);
        contents.insert(path(0), std::fs::read(root.join(path(0))).unwrap().into());
        let changed = revision(&contents);
        let begun = Instant::now();
        repository.write_served(&changed, &|path| contents.get(path).cloned()).unwrap();
        let request = CommitRequest {
            revision: &changed,
            upon: None,
            held: &BTreeSet::new(),
            only: None,
            message: &|_| "one change".to_owned(),
            trailers: Vec::new(),
            author: None,
        };
        assert!(matches!(repository.commit(&request).unwrap(), CommitOutcome::Committed { .. }));
        times[0].push(begun.elapsed());
        let outcome = repository.push(PUSH_DEADLINE).unwrap();
        assert!(matches!(outcome, PushOutcome::Pushed { .. }), "{outcome:?}");
        times[1].push(begun.elapsed());
        write_skill(root, "hook-0", 2 * round + 1);
        let begun = Instant::now();
        git(&["add", "-A"]);
        git(&["commit", "-q", "-m", "one change"]);
        times[2].push(begun.elapsed());
        git(&["push", "-q", "origin", "HEAD:beside"]);
        times[3].push(begun.elapsed());
    }
    let [ours, pushed, gits, gits_pushed] = times.map(|mut times| {
        times.sort();
        times[COMMITS / 2].as_secs_f64() * 1e3
    });
    println!(
        "commit of one change at {files} files: {ours:.1} ms, `git add -A && git commit` {gits:.1} ms: {:.2} of it; \
         with the push {pushed:.1} ms and {gits_pushed:.1} ms: {:.2} of it",
        ours / gits,
        pushed / gits_pushed
    );
}

struct Bench {
    _directory: tempfile::TempDir,
    root: std::path::PathBuf,
    service: Service,
}

impl Bench {
    async fn start(skills: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        std::fs::create_dir_all(root.join(".claude/skills")).unwrap();
        for n in 0..skills {
            write_skill(&root, &format!("hook-{n}"), 0);
        }
        Repository::init(&root).unwrap();
        let mut settings = Settings::default();
        settings.server.listen = "127.0.0.1:0".into();
        settings.server.admin_listen = "127.0.0.1:0".into();
        settings.queue.running_max = 0;
        settings.git.push = false;
        let mut surroundings = environment();
        surroundings.insert("GITHUB_WEBHOOK_SECRET".into(), SECRET.into());
        let config = Config::checked(root.clone(), root.join(".skillhook"), settings, surroundings).unwrap();
        let service = Box::pin(app::start(config)).await.unwrap();
        service.published.clone().wait_for(Option::is_some).await.unwrap();
        let mut progress = service.progress.clone();
        progress.wait_for(|progress| progress.committed.commit.is_some()).await.unwrap();
        Self { _directory: directory, root, service }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.service.receiver)
    }

    async fn stop(self) {
        self.service.stop();
        self.service.ended().await.unwrap();
    }
}

fn write_skill(root: &Path, name: &str, version: usize) {
    let directory = root.join(".claude/skills").join(name);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("SKILL.md"), skill(name, version)).unwrap();
}

fn skill(name: &str, version: usize) -> String {
    format!(
        "---\nname: {name}\ndescription: A webhook for measuring.\nwebhook_config:\n  provider: github\n  id: {name}\n  \
         secret_env_var: GITHUB_WEBHOOK_SECRET\n  command_prefix: \"@agent\"\n  default_command: look\n  commands:\n    \
         - name: look\n      description: Looks.\n      prompt_template: \"{version} Look at {{{{ issue.title }}}}: {{{{ text }}}}\"\n---\n# {name}\n"
    )
}

fn payload(n: usize) -> Value {
    let user = json!({"login": "mona", "id": 2, "type": "User"});
    json!({
        "action": "created",
        "issue": {"number": n, "title": "It is slow", "body": "x".repeat(9_000), "user": user},
        "comment": {"id": n, "body": "@agent look at this", "user": user, "author_association": "MEMBER"},
        "repository": {"id": 1, "full_name": "octo/repo"},
        "sender": user,
    })
}

fn signature(secret: &[u8], body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// What is measured in turn.
struct Lane {
    name: &'static str,
    url: String,
}

async fn acks() {
    let bench = Bench::start(10).await;
    let pipeline = Beside::serve(Arc::new(Pipeline::of(&bench.service, "hook-1", SECRET))).await;
    let file = std::fs::File::create(bench.root.join(".skillhook/log")).unwrap();
    let log = Beside::serve(Arc::new(Log::beside(file, SECRET))).await;
    let beside = |beside: &Beside| format!("http://{}/webhooks/github/hook-1", beside.address);
    let lanes = [
        Lane { name: "pipeline without a store", url: beside(&pipeline) },
        Lane { name: "HMAC and log, group sync", url: beside(&log) },
        Lane { name: "durable acks", url: bench.url("/webhooks/github/hook-1") },
    ];
    println!("acks a second of a 10 KB payload, medians of {ROUNDS} interleaved rounds");
    for connections in [1, 32, 128] {
        let mut rates = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (lane, rates) in lanes.iter().zip(&mut rates) {
                rates.push(rate(&lane.url, connections).await);
            }
        }
        let [without, limit, durable] = rates.map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[ROUNDS / 2]
        });
        let named: Vec<String> = lanes
            .iter()
            .zip([without, limit, durable])
            .map(|(lane, rate)| format!("{} {rate:.0}", lane.name))
            .collect();
        println!(
            "{connections:4} connections: {}; {:.0} % of the pipeline, {:.0} % of the limit",
            named.join(", "),
            durable / without * 100.0,
            durable / limit * 100.0
        );
    }
    bench.stop().await;
}

/// Signed deliveries that were answered with 202, a second.
async fn rate(url: &str, connections: usize) -> f64 {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let done = Arc::new(AtomicUsize::new(0));
    let until = Instant::now() + MEASURE;
    let clients: Vec<_> = (0..connections)
        .map(|_| {
            let (url, done) = (url.to_owned(), Arc::clone(&done));
            tokio::spawn(async move {
                let client = reqwest::Client::builder().pool_max_idle_per_host(1).build().unwrap();
                while Instant::now() < until {
                    let n = NEXT.fetch_add(1, Ordering::Relaxed);
                    let body = payload(n).to_string();
                    let signature = signature(SECRET.as_bytes(), body.as_bytes());
                    let request = client.post(&url).header("content-type", "application/json");
                    let request = request.header("x-github-event", "issue_comment").header("x-github-delivery", n);
                    let answer = request.header("x-hub-signature-256", signature).body(body).send().await.unwrap();
                    assert_eq!(answer.status(), 202);
                    answer.bytes().await.unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    done.load(Ordering::Relaxed) as f64 / MEASURE.as_secs_f64()
}

/// Saves files and waits until what is published is what was saved: new ones, edits in place, edits by rename.
async fn save_to_live(skills: usize) {
    let began = Instant::now();
    let bench = Bench::start(skills).await;
    let started = began.elapsed();
    let mut told = Vec::new();
    for (way, save) in
        [("new", save_new as fn(&Path, usize)), ("in place", save_in_place), ("by rename", save_by_rename)]
    {
        let mut times = Vec::new();
        for version in 1..=SAVES {
            // The commit of the save before is over, so that what is measured is the way to the route.
            tokio::time::sleep(Duration::from_millis(700)).await;
            let before = bench.service.published.borrow().as_ref().map_or(0, |published| published.state.version);
            let saved = Instant::now();
            save(&bench.root, version);
            let mut published = bench.service.published.clone();
            let live = published.wait_for(|newest| {
                newest.as_ref().is_some_and(|newest| newest.state.version > before && has_saved(newest, way, version))
            });
            live.await.unwrap();
            times.push(saved.elapsed().as_secs_f64() * 1000.0);
        }
        times.sort_by(f64::total_cmp);
        told.push(format!("{way} p50 {:.1} ms (worst {:.1})", times[SAVES / 2], times[SAVES - 1]));
    }
    println!(
        "{skills:6} skills: saved to live {}; first start to committed {:.1} s",
        told.join(", "),
        started.as_secs_f64()
    );
    bench.stop().await;
}

fn save_new(root: &Path, version: usize) {
    write_skill(root, &format!("new-{version}"), version);
}

fn save_in_place(root: &Path, version: usize) {
    write_skill(root, "hook-1", version);
}

fn save_by_rename(root: &Path, version: usize) {
    let beside = root.join(".claude/skills/hook-2/.SKILL.md.new");
    std::fs::write(&beside, skill("hook-2", version)).unwrap();
    std::fs::rename(beside, root.join(".claude/skills/hook-2/SKILL.md")).unwrap();
}

/// Whether the version that was saved is in force.
fn has_saved(published: &Published, way: &str, version: usize) -> bool {
    let id = match way {
        "new" => format!("new-{version}"),
        "in place" => "hook-1".to_owned(),
        _ => "hook-2".to_owned(),
    };
    let webhook = published.state.observed.webhooks.get(id.as_str());
    webhook.is_some_and(|webhook| webhook.spec.commands[0].template.starts_with(&format!("{version} ")))
}
