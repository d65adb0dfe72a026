//! Change sets: everything that edits skills, agents and providers through us ends here, whoever asks for it.
//!
//! A change is checked exactly as the reconciler would check the tree with it, and refused as a whole when anything
//! would be wrong; then it is written and in force, or a branch that a person merges, as the authority of whoever
//! asks allows. One change is made at a time; an edit that was made against another version of a file is refused.
//! Nothing here decides what files mean, and no file is written that the reconciler would not find by itself.

mod files;
mod judging;
pub mod operations;
mod staging;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Mutex, Notify, watch};

use self::judging::WouldBe;
use self::staging::Touched;
use crate::error::{Code, Error, Result};
use crate::ledger::Ledger;
use crate::ledger::rows::Deed;
use crate::model::capability::Widening;
use crate::model::change::{self, ChangeSet, Edit, WriteMode, WriteModes};
use crate::model::check::Rules;
use crate::model::desired::Embedded;
use crate::model::diagnostic::Diagnostic;
use crate::model::digest::Digest;
use crate::model::ids::WebhookId;
use crate::model::plan::Action;
use crate::reconcile::activator::Activator;
use crate::reconcile::embedded;
use crate::reconcile::judge::Judge;
use crate::reconcile::origins::{Entry, Origins, Recorded, Ticket};
use crate::reconcile::pass::Published;
use crate::reconcile::pause::Pause;
use crate::repo::{BranchFile, BranchRequest, Directory, Repository};
use crate::seam::Clock;

/// How long a pass over a change may take.
const PASS_MAX: Duration = Duration::from_secs(30);
/// How long a commit is waited for; the change is in force before.
const COMMIT_MAX: Duration = Duration::from_secs(15);

/// What is said about a change that is written while nothing is put in force.
const SUSPENDED: &str = "it is written; the reconciler is suspended, and `skillhook resume` puts it in force";

/// How long the commit of somebody else's edit of the same file is waited for.
const OTHERS_MAX: Duration = Duration::from_secs(5);

/// What change sets are made with.
pub struct Parts {
    pub root: PathBuf,
    pub repository: Repository,
    pub ledger: Ledger,
    pub activator: Activator,
    pub published: watch::Receiver<Option<Published>>,
    pub origins: Origins,
    /// While it is on, what is written is not put in force.
    pub pause: Pause,
    pub rules: Rules,
    pub modes: WriteModes,
    pub clock: Clock,
    /// For calls to the remote.
    pub network: Duration,
    /// Told of every proposal.
    pub proposed: Arc<Notify>,
}

/// Carries out change sets. A cheap handle.
#[derive(Clone)]
pub struct Changes {
    shared: Arc<Shared>,
}

struct Shared {
    parts: Parts,
    judge: Judge,
    embedded: Embedded,
    turn: Mutex<()>,
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").field("root", &self.shared.parts.root).finish_non_exhaustive()
    }
}

/// How far a change has come when it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Its files are written.
    No,
    /// It is in force.
    Live,
    /// Its commit exists.
    Committed,
}

/// Where a change stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The files had these contents already.
    Unchanged,
    /// Written, not yet in force.
    Written,
    Live,
    /// In force and committed.
    Committed,
    /// On a branch; nothing changes until a person merges it.
    Proposed,
}

/// What a change would do.
#[derive(Clone, Debug, Serialize)]
pub struct Preview {
    pub mode: WriteMode,
    /// As `skillhook plan` shows them.
    pub actions: Vec<Action>,
    /// What runs or strangers could do that they cannot do now.
    pub widens: Vec<Widening>,
    pub warnings: Vec<Diagnostic>,
}

/// What became of a change.
#[derive(Clone, Debug, Serialize)]
pub struct Applied {
    pub status: Status,
    /// The commit that has it; absent while there is none.
    pub commit: Option<String>,
    /// The branch that it is on.
    pub branch: Option<String>,
    pub pr_url: Option<String>,
    /// The webhook that it is about, and the generation that is in force with it.
    pub webhook: Option<WebhookId>,
    pub generation: Option<u64>,
    pub index_digest: Option<Digest>,
    pub actions: Vec<Action>,
    pub widens: Vec<Widening>,
    pub warnings: Vec<Diagnostic>,
    /// The digests of its files, to be sent with the next edit; absent where the file is gone.
    pub files: BTreeMap<String, Option<Digest>>,
    /// What is left to be said, for example why a branch is not pushed.
    pub note: Option<String>,
}

/// Why a change was not made; nothing of it was written.
#[derive(Clone, Debug)]
pub struct Refused {
    pub error: Error,
    pub diagnostics: Vec<Diagnostic>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, diagnostics: Vec::new() }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

impl Refused {
    fn invalid(diagnostics: Vec<Diagnostic>) -> Self {
        let first = diagnostics.iter().find(|found| found.is_error()).or(diagnostics.first());
        let message = first.map_or_else(|| "the change is not valid".to_owned(), ToString::to_string);
        let error = Error::new(Code::ChangeInvalid, message);
        let hint = first.and_then(|found| found.hint.clone());
        Self { error: hint.into_iter().fold(error, Error::hint), diagnostics }
    }
}

/// A change that was looked at and may be made.
struct Prepared {
    edits: Vec<Edit>,
    would_be: WouldBe,
    mode: WriteMode,
    unchanged: bool,
}

impl Changes {
    /// # Errors
    /// SH0999 when a shipped file is not valid.
    pub fn new(parts: Parts) -> Result<Self> {
        let judge = Judge::new(parts.rules.clone())?;
        let (embedded, _) = embedded::load(&judge)?;
        Ok(Self { shared: Arc::new(Shared { parts, judge, embedded, turn: Mutex::new(()) }) })
    }

    /// What passes have put in force.
    ///
    /// # Errors
    /// SH0410 before the first pass.
    pub fn published(&self) -> Result<Published> {
        let published = self.shared.parts.published.borrow().clone();
        published.ok_or_else(|| Error::new(Code::NotReady, "the first pass has not been applied yet"))
    }

    /// The content of a file below the managed directories, as it stands in the tree.
    ///
    /// # Errors
    /// SH0114 for a path that no change may touch, SH0508 when it cannot be read.
    pub async fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        change::resource(path).map_err(|message| Error::new(Code::UnsafePath, message))?;
        let (this, path) = (self.clone(), path.to_owned());
        blocking(move || files::read(&this.root()?, &path)).await
    }

    /// What a change would do, without doing it.
    ///
    /// # Errors
    /// As [`Changes::apply`].
    pub async fn preview(&self, set: ChangeSet) -> Result<Preview, Refused> {
        let this = self.clone();
        let prepared = blocking(move || this.prepare(&set)).await?;
        let WouldBe { actions, widens, warnings, .. } = prepared.would_be;
        Ok(Preview { mode: prepared.mode, actions, widens, warnings })
    }

    /// Makes a change, whole or not at all. It is carried out even if nobody waits for the answer any more.
    ///
    /// # Errors
    /// SH0720 with the diagnostics when the tree would not be valid, SH0903 when a file is another one by now,
    /// SH0905 when it is written but not in force in time.
    pub async fn apply(&self, set: ChangeSet, wait: Wait) -> Result<Applied, Refused> {
        let this = self.clone();
        let working = tokio::spawn(async move { this.carry_out(set, wait).await });
        working.await.unwrap_or_else(|error| Err(Error::new(Code::Bug, "a change panicked").detail(error).into()))
    }

    async fn carry_out(&self, set: ChangeSet, wait: Wait) -> Result<Applied, Refused> {
        let turn = self.shared.turn.lock().await;
        let (this, looked_at) = (self.clone(), set.clone());
        let prepared = blocking(move || this.prepare(&looked_at)).await?;
        if prepared.unchanged {
            return Ok(self.answer(&prepared, Status::Unchanged));
        }
        if prepared.mode == WriteMode::Propose {
            let applied = self.propose(&set, &prepared).await?;
            self.shared.parts.proposed.notify_one();
            self.record("change.proposed", &set, &applied).await;
            return Ok(applied);
        }
        let entry = Entry {
            origin: set.authority.origin,
            actor: set.authority.actor.clone(),
            at: self.shared.parts.clock.now(),
            files: prepared.edits.iter().map(|edit| (edit.path.clone(), edit.digest())).collect(),
        };
        // Nobody's edits are committed while the reconciler is suspended.
        if !self.shared.parts.pause.is_on() {
            self.shared.parts.origins.others_recorded(&entry, OTHERS_MAX).await;
        }
        let (this, edits) = (self.clone(), prepared.edits.clone());
        let ticket = blocking(move || Ok::<_, Refused>(this.write(entry, &edits)?)).await?;
        let pass = self.activate(&prepared.edits);
        self.shared.parts.origins.written(&ticket, pass);
        let applied = self.answer(&prepared, Status::Written);
        self.record("change.written", &set, &applied).await;
        if wait == Wait::No {
            return Ok(applied);
        }
        let applied = self.in_force(&prepared, pass, applied).await?;
        drop(turn);
        Ok(match (wait, applied.status) {
            (Wait::Committed, Status::Live) => self.committed(ticket, applied).await,
            _ => applied,
        })
    }

    /// Keeps who changed what; git says the same with each commit. A change is not undone for the want of it.
    async fn record(&self, kind: &str, set: &ChangeSet, applied: &Applied) {
        let paths: Vec<&str> = applied.files.keys().map(String::as_str).collect();
        let deed = Deed {
            kind: kind.to_owned(),
            actor: set.authority.actor.clone(),
            webhook: applied.webhook.clone(),
            message: format!("{}: {}", change::title(&set.title), paths.join(", ")),
            ..Deed::default()
        };
        if let Err(error) = self.shared.parts.ledger.record(deed).await {
            tracing::error!(error = error.internal(), kind, "a change is missing in the list of what was done");
        }
    }

    /// Looks at everything and decides how; writes nothing.
    fn prepare(&self, set: &ChangeSet) -> Result<Prepared, Refused> {
        let found = change::check(&set.edits);
        if !found.is_empty() {
            return Err(Refused::invalid(found));
        }
        let mut edits = set.edits.clone();
        edits.sort_by_key(order);
        let standing = files::expected(&self.root()?, &edits)?;
        let same = |(edit, now): (&Edit, &Option<Vec<u8>>)| edit.content.as_deref() == now.as_deref();
        let unchanged = edits.iter().zip(&standing).all(same);
        let would_be = self.judge(&edits)?;
        let mode = self.shared.parts.modes.mode(&set.authority, !would_be.widens.is_empty());
        Ok(Prepared { edits, would_be, mode, unchanged })
    }

    /// Notes the origin, then writes the files, unless they are others by now.
    fn write(&self, entry: Entry, edits: &[Edit]) -> Result<Ticket> {
        let Parts { repository, origins, .. } = &self.shared.parts;
        let ticket = origins.note(entry)?;
        let written = repository.while_still(|| {
            let root = self.root()?;
            let standing = files::expected(&root, edits)?;
            files::write(&root, edits, &standing)
        });
        written.inspect_err(|_| origins.withdraw(&ticket))?;
        Ok(ticket)
    }

    fn activate(&self, edits: &[Edit]) -> u64 {
        let deleted = edits.iter().filter(|edit| edit.content.is_none()).map(|edit| edit.path.clone());
        let scope = Touched::of(edits).scope();
        self.shared.parts.activator.activate_after_deletion(scope, "change", deleted.collect())
    }

    /// Waits for the pass, and sees whether it put in force what was written. It does not while the reconciler is
    /// suspended: then that is said, and the change stays written.
    async fn in_force(&self, prepared: &Prepared, pass: u64, applied: Applied) -> Result<Applied, Refused> {
        if !self.shared.parts.activator.finished(pass, PASS_MAX).await {
            let message = "the change is written, but the pass over it takes too long";
            return Err(Error::new(Code::TimedOut, message).hint("`skillhook status` shows what it does").into());
        }
        let published = self.published()?;
        if published.report.number < pass && self.shared.parts.pause.is_on() {
            return Ok(Applied { note: Some(SUSPENDED.to_owned()), ..applied });
        }
        if published.report.number < pass {
            let message = "the change is written, but the pass over it failed: it is tried again";
            return Err(Error::new(Code::NotReady, message).hint("`skillhook status` shows why").into());
        }
        let now = |path: &str| published.tree.files.get(path).map(|file| file.digest);
        if let Some(edit) = prepared.edits.iter().find(|edit| now(&edit.path) != edit.digest()) {
            let message = format!("`{}` was written, and then somebody else changed it", edit.path);
            return Err(Error::new(Code::Conflict, message).hint("read the present state").into());
        }
        let webhook = applied.webhook.as_ref().and_then(|id| published.state.observed.webhooks.get(id));
        Ok(Applied {
            status: Status::Live,
            generation: webhook.map(|entry| entry.generation),
            index_digest: Some(published.state.digest),
            ..applied
        })
    }

    async fn committed(&self, ticket: Ticket, applied: Applied) -> Applied {
        let mut recorded = ticket.recorded;
        let waiting = recorded.wait_for(|recorded| *recorded != Recorded::Pending);
        match tokio::time::timeout(COMMIT_MAX, waiting).await {
            Ok(Ok(recorded)) => match &*recorded {
                Recorded::Commit(Some(commit)) => {
                    Applied { status: Status::Committed, commit: Some(commit.to_string()), ..applied }
                }
                Recorded::Commit(None) | Recorded::Pending => applied,
            },
            Ok(Err(_)) => applied,
            Err(_) => {
                let note = "it is in force; its commit waits, `skillhook status` shows for what";
                Applied { note: Some(note.to_owned()), ..applied }
            }
        }
    }

    async fn propose(&self, set: &ChangeSet, prepared: &Prepared) -> Result<Applied, Refused> {
        let title = change::title(&set.title);
        let file = |edit: &Edit| {
            let bytes = edit.content.clone()?;
            Some(BranchFile { bytes, executable: edit.executable })
        };
        let widens: String = prepared.would_be.widens.iter().map(|each| format!("- {each}\n")).collect();
        let request = BranchRequest {
            branch: format!("skillhook/proposal/{}", set.proposal.as_deref().map_or_else(|| slug(&title), slug)),
            grows: set.proposal.is_some(),
            edits: prepared.edits.iter().map(|edit| (edit.path.clone(), file(edit))).collect(),
            message: if widens.is_empty() {
                title
            } else {
                format!("{title}\n\nThis widens what runs may do:\n{widens}")
            },
            trailers: vec![
                ("Skillhook-Origin".to_owned(), set.authority.origin.to_string()),
                ("Skillhook-Actor".to_owned(), set.authority.actor.clone()),
            ],
        };
        let this = self.clone();
        let network = self.shared.parts.network;
        let proposed = blocking(move || this.shared.parts.repository.propose_branch(&request, network)).await?;
        let applied = self.answer(prepared, Status::Proposed);
        let note = proposed.not_pushed.map(|reason| format!("the branch could not be pushed: {reason}"));
        Ok(Applied { commit: Some(proposed.commit.to_string()), branch: Some(proposed.branch), note, ..applied })
    }

    fn answer(&self, prepared: &Prepared, status: Status) -> Applied {
        let would_be = &prepared.would_be;
        let published = self.published().ok();
        let branch = || self.shared.parts.repository.branch().ok().flatten();
        Applied {
            status,
            commit: None,
            branch: if status == Status::Proposed { None } else { branch() },
            pr_url: None,
            webhook: would_be.webhook.clone(),
            generation: would_be
                .webhook
                .as_ref()
                .and_then(|id| Some(published.as_ref()?.state.observed.webhooks.get(id)?.generation)),
            index_digest: published.as_ref().map(|published| published.state.digest),
            actions: would_be.actions.clone(),
            widens: would_be.widens.clone(),
            warnings: would_be.warnings.clone(),
            files: prepared.edits.iter().map(|edit| (edit.path.clone(), edit.digest())).collect(),
            note: None,
        }
    }

    fn root(&self) -> Result<Directory> {
        use crate::error::Context as _;
        Directory::open(&self.shared.parts.root).context(Code::TreeUnreadable, "the root cannot be opened")
    }
}

/// What others refer to comes first: providers, agents, the files of a skill, its SKILL.md; deletions come last.
fn order(edit: &Edit) -> (bool, u8, String) {
    let kind = match edit.path.as_str() {
        path if path.starts_with(".claude/providers/") => 0,
        path if path.starts_with(".claude/agents/") => 1,
        path if !path.ends_with("/SKILL.md") => 2,
        _ => 3,
    };
    (edit.content.is_none(), kind, edit.path.clone())
}

/// A title as the last part of a branch's name.
fn slug(title: &str) -> String {
    let words = title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let slug = words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-");
    let cut: String = slug.chars().take(48).collect();
    let cut = cut.trim_end_matches('-');
    if cut.is_empty() { "change".to_owned() } else { cut.to_owned() }
}

async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::new(Code::Bug, "a step of a change panicked").detail(error).into()),
    }
}
