//! Files that were changed behind our back: never a panic that gets out, never a wrong row, never overwritten.

use std::fs;
use std::path::PathBuf;

use super::disk::Random;
use super::*;
use crate::ledger::rows::{Conversation, LogLine};
use crate::ledger::{DeliveryFilter, OnDamage, Salvage, TaskFilter};
use crate::model::task::TaskState;

/// Flipped bits and cut files that are tried.
const FLIPS: u64 = 200;
const CUTS: u64 = 200;

/// Everything that can be read, by its id. What became of a task or a call stands apart from its birth: it lies in
/// other rows, and damage may cost the one without the other.
#[derive(Debug, Default, PartialEq)]
struct Contents(std::collections::BTreeMap<String, String>);

/// What became of something whose birth alone came through: a dead letter that says so, a call to be looked for.
const FATE_OPEN: &str = "open";

/// A ledger with some of everything, closed, and a copy of it from before it was closed.
struct Specimen {
    closed: Vec<u8>,
    /// As a kill would leave it.
    killed: Vec<u8>,
    contents: Contents,
}

/// In memory where the system has such a place: nothing here is about syncing.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// redb panics on some damage, which is caught; a thousand backtraces of it help nobody.
fn hush_redb() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.location().is_none_or(|place| !place.file().contains("redb-")) {
                hook(panic);
            }
        }));
    });
}

async fn specimen() -> Specimen {
    hush_redb();
    let directory = directory();
    let path = directory.path().join("ledger.redb");
    let ledger = open(directory.path());
    for n in 0..16 {
        let mut all = with_key(accept(vec![new_task(task_spec()), new_task(task_spec())]), &n.to_string(), 1_000);
        all.request.body = bytes::Bytes::from((0..2_000_u32).flat_map(|x| (x * n).to_be_bytes()).collect::<Vec<_>>());
        all.outbox.push(outbox_item(Some(all.delivery.id), 0, 1));
        ledger.accept(all).await.unwrap();
    }
    for n in 0..12 {
        let task = leased(&ledger, 0).await.unwrap();
        let (id, attempt) = (task.spec.id, task.attempt);
        let line = LogLine { at: at(0), attempt, kind: "agent".to_owned(), text: format!("line of {id}") };
        ledger.append_log(id, vec![line; 5]).await.unwrap();
        let finish = match n % 3 {
            0 => succeeded(),
            1 => failed(Code::AgentRefused),
            _ => continue,
        };
        ledger.finish(id, attempt, finish, vec!["one".to_owned(), "two".to_owned()], at(0)).await.unwrap();
        let conversation = Conversation { session_id: Some(id.to_string()), ..Conversation::default() };
        ledger.put_conversation(&id.to_string(), conversation).await.unwrap();
    }
    ledger.claim_outbox(at(0), 5).await.unwrap();
    let killed = fs::read(&path).unwrap();
    let contents = contents(&ledger).await;
    ledger.close().await;
    Specimen { closed: fs::read(&path).unwrap(), killed, contents }
}

/// Reads whatever can be read. A row that is reported as damaged is left out.
async fn contents(ledger: &Ledger) -> Contents {
    let mut found = Contents::default();
    let mut put = |key: String, value: String| drop(found.0.insert(key, value));
    for delivery in ledger.deliveries(DeliveryFilter::default()).await.unwrap_or_default() {
        let id = delivery.id;
        if let Ok(Some(body)) = ledger.delivery_body(id).await {
            put(format!("{id} body"), format!("{} {:?} {}", body.url, body.headers, Digest::of(&body.body)));
        }
        for item in ledger.outbox_of(None, Some(id)).await.unwrap_or_default() {
            let OutboxItem { state, attempts, not_before, updated_at, error, url, .. } = &item;
            // A call of which only the birth is left is looked for at its source before it is made again.
            let untried = *state == OutboxState::Waiting && *attempts == 0;
            let fate = format!("{state:?} {attempts} {not_before} {updated_at} {error:?} {url:?}");
            put(format!("{} fate", item.id), if untried { FATE_OPEN.to_owned() } else { fate });
            let OutboxItem { webhook, purpose, call, text, part, parts, .. } = &item;
            put(item.id.to_string(), format!("{webhook} {purpose:?} {call:?} {text} {part} {parts}"));
        }
        put(id.to_string(), format!("{delivery:?}"));
    }
    for task in ledger.tasks(TaskFilter::default()).await.unwrap_or_default() {
        let id = task.spec.id;
        for (n, line) in ledger.log(id, 0, 1_000).await.unwrap_or_default().into_iter().enumerate() {
            put(format!("{id} line {n}"), format!("{line:?}"));
        }
        if let Ok(conversation) = ledger.conversation(&id.to_string()).await
            && conversation != Conversation::default()
        {
            put(format!("{id} conversation"), format!("{conversation:?}"));
        }
        let Task {
            spec,
            state,
            reason,
            attempt,
            attempts_spent,
            not_before,
            updated_at,
            cancel_requested,
            approved,
            result,
        } = task;
        let given_up = reason.as_ref().is_some_and(|reason| reason.code == Code::LedgerDamaged);
        assert!(!given_up || state == TaskState::Dead, "{id} is {state:?}");
        let fate = format!(
            "{state:?} {reason:?} {attempt} {attempts_spent} {not_before} {updated_at} {cancel_requested} {approved:?} {result:?}"
        );
        put(format!("{id} fate"), if given_up { FATE_OPEN.to_owned() } else { fate });
        put(id.to_string(), format!("{spec:?}"));
    }
    found
}

struct Opened {
    contents: Contents,
    salvage: Option<Salvage>,
    directory: tempfile::TempDir,
}

async fn opened(bytes: &[u8]) -> Opened {
    let directory = directory();
    let path = directory.path().join("ledger.redb");
    fs::write(&path, bytes).unwrap();
    let ledger = Ledger::open(&path, options()).unwrap();
    let contents = contents(&ledger).await;
    // It works, whatever it was.
    let fresh = with_key(accept(vec![new_task(task_spec())]), "fresh", 10);
    assert_eq!(ledger.accept(fresh).await.unwrap(), Accepted::Fresh);
    leased(&ledger, 1_000).await;
    ledger.claim_outbox(at(1_000), 1_000).await.unwrap();
    let salvage = ledger.salvaged().cloned();
    ledger.close().await;
    Opened { contents, salvage, directory }
}

/// Nothing wrong is read, nothing is lost in silence, and the evidence is kept.
async fn check(specimen: &Specimen, bytes: &[u8], what: &str) -> Opened {
    let opened = opened(bytes).await;
    for (key, value) in &opened.contents.0 {
        if opened.salvage.is_some() && value == FATE_OPEN {
            continue;
        }
        assert_eq!(specimen.contents.0.get(key), Some(value), "{what}: {key} is wrong");
    }
    match &opened.salvage {
        None => assert_eq!(opened.contents, specimen.contents, "{what}: rows are gone and nobody said so"),
        Some(salvage) => {
            assert_eq!(salvage.error.code(), Code::LedgerDamaged);
            assert!(fs::read(&salvage.aside).unwrap() == bytes, "{what}: the evidence was changed");
        }
    }
    opened
}

async fn flips(specimen: &Specimen, file: &[u8], name: &str) {
    let mut random = Random(11);
    let (mut salvaged, mut kept) = (0, 0);
    for _ in 0..FLIPS {
        let mut bytes = file.to_vec();
        let bit = random.below(bytes.len() as u64 * 8) as usize;
        bytes[bit / 8] ^= 1 << (bit % 8);
        let opened = check(specimen, &bytes, &format!("{name}, bit {bit}")).await;
        if opened.salvage.is_some() {
            salvaged += 1;
            kept += opened.contents.0.len() * 100 / specimen.contents.0.len();
        }
    }
    assert!(salvaged > FLIPS / 20, "{name}: flips are found: {salvaged}");
    println!("{name}: {salvaged} of {} flips found, {} % of the rows kept on average", FLIPS, kept as u64 / salvaged);
}

#[tokio::test]
async fn flipped_bit_is_found_and_costs_little() {
    let specimen = specimen().await;
    flips(&specimen, &specimen.closed, "closed").await;
}

#[tokio::test]
async fn cut_file_is_put_aside() {
    let specimen = specimen().await;
    let mut random = Random(12);
    for _ in 0..CUTS {
        let length = random.below(specimen.closed.len() as u64) as usize;
        let opened = check(&specimen, &specimen.closed[..length], &format!("cut to {length}")).await;
        assert!(opened.salvage.is_some(), "cut to {length}");
    }
}

#[tokio::test]
async fn empty_and_garbage_are_damage_and_missing_is_a_beginning() {
    let specimen = specimen().await;
    let mut random = Random(13);
    let garbage: Vec<u8> = (0..100_000).map(|_| random.next() as u8).collect();
    let mut head_gone = specimen.closed.clone();
    head_gone[..512].fill(0);
    let mut tail_gone = specimen.closed.clone();
    let half = tail_gone.len() / 2;
    tail_gone[half..].fill(0);
    let twice = [specimen.closed.clone(), specimen.closed.clone()].concat();
    for (bytes, name) in [(vec![], "empty"), (garbage, "garbage"), (head_gone, "head"), (tail_gone, "tail")] {
        assert!(check(&specimen, &bytes, name).await.salvage.is_some(), "{name}");
    }
    check(&specimen, &twice, "something behind it").await;
    let directory = directory();
    let ledger = open(directory.path());
    assert!(ledger.salvaged().is_none());
    assert_eq!(contents(&ledger).await, Contents::default());
}

#[tokio::test]
async fn refusing_leaves_the_file_where_and_as_it_is() {
    let specimen = specimen().await;
    let directory = directory();
    let path = directory.path().join("ledger.redb");
    let cut = &specimen.closed[..specimen.closed.len() / 3];
    fs::write(&path, cut).unwrap();
    let refuse = || Options { on_damage: OnDamage::Refuse, ..options() };
    for _ in 0..2 {
        assert_eq!(Ledger::open(&path, refuse()).unwrap_err().code(), Code::LedgerDamaged);
        assert!(fs::read(&path).unwrap() == cut);
    }
    let ledger = Ledger::open(&path, options()).unwrap();
    assert!(ledger.salvaged().is_some());
    ledger.close().await;
    let again = Ledger::open(&path, refuse()).unwrap();
    assert!(again.salvaged().is_none(), "it is over");
}

#[tokio::test]
async fn kill_is_no_damage() {
    let specimen = specimen().await;
    let opened = opened(&specimen.killed).await;
    assert!(opened.salvage.is_none());
    assert_eq!(opened.contents, specimen.contents);
}

#[tokio::test]
async fn second_damage_keeps_the_first_evidence() {
    let specimen = specimen().await;
    let first = check(&specimen, b"no ledger", "first").await;
    let path = first.directory.path().join("ledger.redb");
    fs::write(&path, b"no ledger either").unwrap();
    let ledger = Ledger::open(&path, options()).unwrap();
    let asides: Vec<PathBuf> = fs::read_dir(first.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".damaged-"))
        .collect();
    assert_eq!(asides.len(), 2, "{asides:?}");
    ledger.close().await;
}
