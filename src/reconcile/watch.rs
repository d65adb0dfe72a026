//! File events as hints. Any event means "look again there"; loss of events, an overflow or an error means
//! "look at everything"; without a watch the timer alone does the work, more often.
//!
//! The watcher subscribes to opens too, so Access events are dropped except the end of a write: else our own reads
//! would wake us for ever.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, CreateKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio_util::sync::CancellationToken;

use super::activator::{Activator, Scope};

/// After new directories appear, everything is looked at once more when it has been quiet for so long: files that
/// arrive before the directory's own watch is set make no event.
const SETTLE: Duration = Duration::from_millis(250);
/// How often the files are looked at when they cannot be watched.
const POLL_WITHOUT_WATCH: Duration = Duration::from_secs(1);
/// How often a watch that was lost or refused is asked for again.
const RETRY: Duration = Duration::from_secs(5);

/// Watches `.claude` below the root until the token is cancelled.
pub async fn watch(root: PathBuf, activator: Activator, stop: CancellationToken) {
    let directory = root.join(".claude");
    while !stop.is_cancelled() {
        let (settle, mut settled) = tokio::sync::watch::channel(());
        let watched = {
            let (root, directory, activator) = (root.clone(), directory.clone(), activator.clone());
            tokio::task::spawn_blocking(move || begin(&root, &directory, &activator, settle)).await
        };
        match watched {
            Ok(Ok(watcher)) => {
                activator.activate(Scope::Everything, "watch begun");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = settle_loop(&mut settled, &activator) => {}
                    () = lost(&directory) => tracing::info!("`.claude` was replaced: watching it anew"),
                }
                drop(watcher);
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "files cannot be watched, looking at them every second instead");
                poll_for(RETRY, &activator, &stop).await;
            }
            Err(_) => return,
        }
    }
}

async fn poll_for(total: Duration, activator: &Activator, stop: &CancellationToken) {
    for _ in 0..total.as_secs() / POLL_WITHOUT_WATCH.as_secs().max(1) {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(POLL_WITHOUT_WATCH) => { activator.activate(Scope::Everything, "timer"); }
        }
    }
}

/// Ends when the watched directory is another one than at the beginning (deleted, moved, made anew).
async fn lost(directory: &Path) {
    let before = identity(directory);
    loop {
        tokio::time::sleep(POLL_WITHOUT_WATCH).await;
        if identity(directory) != before {
            return;
        }
    }
}

fn identity(directory: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::symlink_metadata(directory).ok().map(|found| (found.dev(), found.ino()))
}

async fn settle_loop(events: &mut tokio::sync::watch::Receiver<()>, activator: &Activator) {
    while events.changed().await.is_ok() {
        while let Ok(Ok(())) = tokio::time::timeout(SETTLE, events.changed()).await {}
        activator.activate(Scope::Everything, "settled");
    }
}

fn begin(
    root: &Path,
    directory: &Path,
    activator: &Activator,
    settle: tokio::sync::watch::Sender<()>,
) -> notify::Result<RecommendedWatcher> {
    let (base, activator) = (root.to_owned(), activator.clone());
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Some((scope, new_directories)) = scope_of(&base, event) else { return };
        activator.activate(scope, "file event");
        if new_directories {
            settle.send_replace(());
        }
    })?;
    if directory.is_dir() {
        watcher.watch(directory, RecursiveMode::Recursive)?;
    } else {
        watcher.watch(root, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

/// Where to look after an event, and whether something may have arrived unseen; `None` when nothing changed.
fn scope_of(root: &Path, event: notify::Result<notify::Event>) -> Option<(Scope, bool)> {
    let Ok(event) = event else { return Some((Scope::Everything, true)) };
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Access(_) => return None,
        _ => {}
    }
    if event.need_rescan() || event.paths.is_empty() {
        return Some((Scope::Everything, true));
    }
    let unseen = match event.kind {
        EventKind::Create(CreateKind::File) | EventKind::Access(_) => false,
        EventKind::Create(_) | EventKind::Modify(notify::event::ModifyKind::Name(_)) => true,
        _ => false,
    };
    let mut skills = BTreeSet::new();
    for path in &event.paths {
        match skill_of(root, path) {
            Some(skill) => skills.insert(skill),
            None => return Some((Scope::Everything, unseen)),
        };
    }
    Some((Scope::Skills(skills), unseen))
}

/// The skill directory that a path lies in; agents need none, they are always looked at.
fn skill_of(root: &Path, path: &Path) -> Option<String> {
    let below = path.strip_prefix(root).ok()?;
    let mut parts = below.components().map(Component::as_os_str);
    match (parts.next()?.to_str()?, parts.next()?.to_str()?, parts.next()) {
        (".claude", "skills", Some(skill)) => skill.to_str().map(str::to_owned),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{Flag, ModifyKind, RenameMode};

    fn scope(kind: EventKind, paths: &[&str]) -> Option<(Scope, bool)> {
        let mut event = notify::Event::new(kind);
        event.paths = paths.iter().map(PathBuf::from).collect();
        scope_of(Path::new("/r"), Ok(event))
    }

    #[test]
    fn our_own_reads_wake_nobody() {
        let read = EventKind::Access(AccessKind::Open(AccessMode::Any));
        assert_eq!(scope(read, &["/r/.claude/skills/a/SKILL.md"]), None);
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Read));
        assert_eq!(scope(closed, &["/r/.claude/skills/a/SKILL.md"]), None);
    }

    #[test]
    fn a_rename_marks_both_sides() {
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::Both));
        let (scope, unseen) = scope(renamed, &["/r/.claude/skills/a", "/r/.claude/skills/b"]).unwrap();
        assert_eq!(scope, Scope::Skills(["a".to_owned(), "b".to_owned()].into()));
        assert!(unseen);
    }

    #[test]
    fn overflow_error_and_foreign_paths_mean_everything() {
        let overflow = notify::Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert_eq!(scope_of(Path::new("/r"), Ok(overflow)), Some((Scope::Everything, true)));
        let error = notify::Error::generic("lost");
        assert_eq!(scope_of(Path::new("/r"), Err(error)), Some((Scope::Everything, true)));
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        assert_eq!(scope(written, &["/r/.claude/skills"]), Some((Scope::Everything, false)));
    }
}
