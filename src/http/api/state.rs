//! What the admin API looks at. [`IndexView`] is its read model of the index, published after each pass;
//! [`Reconcile`] is how it asks for one. Both are plain values and channels, so that this folder names no index file
//! and asks no reconciler.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::guard::Hosts;
use crate::change::Changes;
use crate::error::{Code, Error, Result};
use crate::http::intake::Intake;
use crate::ledger::Ledger;
use crate::model::diagnostic::Diagnostic;
use crate::model::digest::Digest;
use crate::model::ids::{AgentName, ProviderName, SkillName, WebhookId};
use crate::model::provider::facts::Facts;
use crate::model::spec::WebhookSpec;
use crate::reconcile::record::Progress;
use crate::reconcile::versions::Versions;
use crate::seam::Clock;
use crate::secrets::Secrets;
use crate::telemetry::metrics::{Metrics, Resources};

/// Longest wait for the view of an index that is in force.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);

/// Everything that the admin API needs.
#[derive(Debug)]
pub struct ApiState {
    pub ledger: Ledger,
    pub index: CurrentIndex,
    pub reconcile: Reconcile,
    /// History and the way back; `None` where there is no repository.
    pub versions: Option<Versions>,
    pub metrics: Metrics,
    pub clock: Clock,
    pub started_at: Timestamp,
    pub access: Access,
    /// Makes changes of files; absent where there is no tree.
    pub changes: Option<Changes>,
    /// Tells which secrets are set, and seals new ones.
    pub secrets: Option<Secrets>,
    /// Takes deliveries in once more.
    pub intake: Option<Arc<Intake>>,
    pub hosts: Hosts,
    /// Cancelled when the service drains: what stays open ends then.
    pub stop: CancellationToken,
    /// What providers call, without a path: `https://hooks.example.org`.
    pub receiver_url: String,
}

impl ApiState {
    /// # Errors
    /// SH0410 where nothing is received.
    pub fn intake(&self) -> Result<&Arc<Intake>> {
        self.intake.as_ref().ok_or_else(|| Error::new(Code::NotReady, "no deliveries are taken in here"))
    }
}

/// The index as people see it.
#[derive(Clone, Debug)]
pub struct IndexView {
    pub digest: Digest,
    /// The served tree.
    pub revision: Digest,
    pub applied_at: Timestamp,
    /// How far commits and pushes have come, and where the remote stands.
    pub recorded: Progress,
    /// Ordered by id.
    pub webhooks: Vec<WebhookView>,
    pub skills: Vec<SkillView>,
    pub agents: Vec<AgentView>,
    pub providers: Vec<ProviderView>,
}

#[derive(Clone, Debug, Serialize)]
pub struct WebhookView {
    pub spec: WebhookSpec,
    pub generation: u64,
    pub conditions: Vec<Condition>,
    pub diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, Debug, Serialize)]
pub struct SkillView {
    pub name: SkillName,
    pub description: String,
    /// Relative to the root.
    pub path: String,
    /// The webhooks that it defines or extends.
    pub webhooks: Vec<WebhookId>,
    pub conditions: Vec<Condition>,
    pub diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, Debug, Serialize)]
pub struct AgentView {
    pub name: AgentName,
    pub description: String,
    pub path: String,
    pub model: Option<String>,
    pub diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ProviderView {
    pub name: ProviderName,
    pub title: String,
    /// `catalogue`, or the path of the file that defines it.
    pub source: String,
    /// Slots for secrets; never a value.
    pub secret_slots: Vec<String>,
    /// What its API is called with, in words; never a value.
    pub credential: String,
    /// Ways to a token that the operator began to set up, with the keys that are missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unfinished_credentials: Vec<String>,
    /// How it verifies, what it tells, where it answers.
    #[serde(flatten)]
    pub facts: Facts,
}

/// One condition of a resource, as `kubectl` users know them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: Standing,
    pub status: bool,
    /// In one word, for example `SecretMissing`.
    pub reason: String,
    pub message: String,
    pub observed_generation: u64,
    pub last_transition: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Standing {
    Ready,
    Reconciling,
    Stalled,
    Committed,
    Pushed,
    /// Once for each cloud copy.
    Copied,
}

impl IndexView {
    /// Names of what stands in a condition, for example `webhook/github`.
    pub fn named(&self, standing: Standing) -> Vec<String> {
        let webhooks = self.webhooks.iter().filter(|webhook| holds(&webhook.conditions, standing));
        let skills = self.skills.iter().filter(|skill| holds(&skill.conditions, standing));
        webhooks
            .map(|webhook| format!("webhook/{}", webhook.spec.id))
            .chain(skills.map(|skill| format!("skill/{}", skill.name)))
            .collect()
    }
}

fn holds(conditions: &[Condition], standing: Standing) -> bool {
    conditions.iter().any(|condition| condition.kind == standing && condition.status)
}

/// The view in force: one writer publishes, any number of readers look. A cheap handle.
#[derive(Clone, Debug, Default)]
pub struct CurrentIndex {
    view: Arc<ArcSwapOption<IndexView>>,
    /// Told of every view.
    renewed: Arc<Notify>,
}

impl CurrentIndex {
    pub fn publish(&self, view: IndexView) {
        self.view.store(Some(Arc::new(view)));
        self.renewed.notify_waiters();
    }

    /// Waits until the view is that of an index, so that whoever changed it reads his own change.
    pub async fn shows(&self, digest: Digest) {
        let shown = async {
            loop {
                let renewed = self.renewed.notified();
                if self.current().is_some_and(|view| view.digest == digest) {
                    return;
                }
                renewed.await;
            }
        };
        // Somebody else may have changed it again meanwhile: then it is newer than what was asked for.
        let _ = tokio::time::timeout(SHOWN_WITHIN, shown).await;
    }

    /// `None` until the first pass has been applied.
    pub fn current(&self) -> Option<Arc<IndexView>> {
        self.view.load_full()
    }

    pub fn resources(&self) -> Resources {
        let Some(view) = self.current() else { return Resources::default() };
        let webhooks = || view.webhooks.iter().map(|webhook| &webhook.conditions);
        let skills = || view.skills.iter().map(|skill| &skill.conditions);
        let count = |standing| webhooks().chain(skills()).filter(|conditions| holds(conditions, standing)).count();
        Resources {
            ready: count(Standing::Ready),
            reconciling: count(Standing::Reconciling),
            stalled: count(Standing::Stalled),
        }
    }
}

/// What a pass came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassReport {
    pub index_digest: Digest,
    pub revision: Digest,
    /// One line an action, for example `update webhook/github`.
    pub actions: Vec<String>,
    /// Why some of it waits for a person.
    pub held: Option<String>,
    /// Diagnostics of files that are not in force.
    pub diagnostics: Vec<Diagnostic>,
}

/// What somebody who asks for a pass says besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// A person says that large deletions are meant.
    pub allow_prune: bool,
    /// The remote is asked first.
    pub with_source: bool,
}

/// Asks for a pass over everything, and wants to know what it came to.
#[derive(Debug)]
pub struct PassRequest {
    pub asked: Asked,
    pub done: oneshot::Sender<Result<PassReport>>,
}

/// The asking side; see [`Reconcile::channel`].
#[derive(Clone, Debug)]
pub struct Reconcile {
    requests: mpsc::Sender<PassRequest>,
}

impl Reconcile {
    /// Requests that may wait at one time; one pass answers all of them.
    pub const WAITING_MAX: usize = 64;

    /// The two ends; the reconciler receives at the second one.
    pub fn channel() -> (Self, mpsc::Receiver<PassRequest>) {
        let (requests, receiver) = mpsc::channel(Self::WAITING_MAX);
        (Self { requests }, receiver)
    }

    pub fn request(&self, asked: Asked) -> Result<oneshot::Receiver<Result<PassReport>>> {
        let (done, report) = oneshot::channel();
        self.requests.try_send(PassRequest { asked, done }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::new(Code::NotReady, "too many requests wait for a pass"),
            mpsc::error::TrySendError::Closed(_) => Error::new(Code::NotReady, "the reconciler has stopped"),
        })?;
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_for_a_pass_are_bounded_and_answered() {
        let (reconcile, mut receiver) = Reconcile::channel();
        let report = reconcile.request(Asked::default()).unwrap();
        let digest = Digest::of(b"");
        let done = PassReport {
            index_digest: digest,
            revision: digest,
            actions: Vec::new(),
            held: None,
            diagnostics: Vec::new(),
        };
        receiver.recv().await.unwrap().done.send(Ok(done.clone())).unwrap();
        assert_eq!(report.await.unwrap().unwrap(), done);
        let waiting: Vec<_> =
            (0..Reconcile::WAITING_MAX).map(|_| reconcile.request(Asked::default()).unwrap()).collect();
        assert_eq!(reconcile.request(Asked::default()).unwrap_err().code(), Code::NotReady);
        drop((waiting, receiver));
        assert_eq!(reconcile.request(Asked::default()).unwrap_err().message(), "the reconciler has stopped");
    }
}
