//! Wakes the reconcile pass without instructions: "something may have changed below here, look".
//!
//! However many activations come, they collapse into one pending scope and one wake-up. A scope only narrows where
//! the next look goes; it never says what changed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// Where a look goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Everything,
    /// Names of skill directories; `agents` below `.claude` is always looked at, it is one flat directory.
    Skills(BTreeSet<String>),
}

impl Scope {
    fn merge(self, other: Scope) -> Scope {
        match (self, other) {
            (Scope::Skills(mut a), Scope::Skills(b)) => {
                a.extend(b);
                Scope::Skills(a)
            }
            _ => Scope::Everything,
        }
    }
}

/// What one pass is asked to do.
#[derive(Clone, Debug)]
pub struct Activation {
    pub scope: Scope,
    /// Why, for the log: `file event`, `timer`, `request`, …
    pub reasons: BTreeSet<&'static str>,
    /// A person confirmed that large deletions are meant.
    pub allow_prune: bool,
    /// Paths whose deletion was asked for, or came with a pulled commit: their absence needs no second look.
    pub deleted: BTreeSet<String>,
}

impl Activation {
    /// A look at `scope`, and nothing that anybody confirmed.
    pub fn of(scope: Scope, reason: &'static str) -> Self {
        Self { scope, reasons: BTreeSet::from([reason]), allow_prune: false, deleted: BTreeSet::new() }
    }
}

#[derive(Debug, Default)]
struct Pending {
    activation: Option<Activation>,
    /// Passes begun so far; an activation is answered by the pass with the next number.
    begun: u64,
}

/// A cheap handle to mark things dirty.
#[derive(Clone, Debug)]
pub struct Activator {
    pending: Arc<Mutex<Pending>>,
    wake: Arc<Notify>,
    finished: Arc<watch::Sender<u64>>,
}

impl Default for Activator {
    fn default() -> Self {
        let finished = Arc::new(watch::channel(0).0);
        Self { pending: Arc::default(), wake: Arc::default(), finished }
    }
}

impl Activator {
    /// Marks the scope dirty; answers the number of the pass that will have looked at it.
    pub fn activate(&self, scope: Scope, reason: &'static str) -> u64 {
        self.mark(Activation::of(scope, reason))
    }

    /// As [`Activator::activate`], after files were deleted on request.
    pub fn activate_after_deletion(&self, scope: Scope, reason: &'static str, deleted: BTreeSet<String>) -> u64 {
        self.mark(Activation { deleted, ..Activation::of(scope, reason) })
    }

    /// As [`Activator::activate`] over everything, with the confirmation that large deletions are meant.
    pub fn activate_allowing_prune(&self, reason: &'static str) -> u64 {
        self.mark(Activation { allow_prune: true, ..Activation::of(Scope::Everything, reason) })
    }

    /// As [`Activator::activate`] over everything, after a pull that deleted these paths.
    pub fn activate_after_pull(&self, deleted: BTreeSet<String>) -> u64 {
        self.mark(Activation { deleted, ..Activation::of(Scope::Everything, "pull") })
    }

    fn mark(&self, new: Activation) -> u64 {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.activation = Some(match pending.activation.take() {
            None => new,
            Some(old) => Activation {
                scope: old.scope.merge(new.scope),
                reasons: old.reasons.into_iter().chain(new.reasons).collect(),
                allow_prune: old.allow_prune || new.allow_prune,
                deleted: old.deleted.into_iter().chain(new.deleted).collect(),
            },
        });
        let number = pending.begun + 1;
        drop(pending);
        self.wake.notify_one();
        number
    }

    /// Waits until the pass of that number has finished; false when `at_most` passed first.
    pub async fn finished(&self, number: u64, at_most: Duration) -> bool {
        let mut finished = self.finished.subscribe();
        let reached = finished.wait_for(|done| *done >= number);
        matches!(tokio::time::timeout(at_most, reached).await, Ok(Ok(_)))
    }

    /// For the one pass: waits for the next activation and takes it.
    pub(super) async fn next(&self) -> (u64, Activation) {
        loop {
            let woken = self.wake.notified();
            if let Some(taken) = self.take() {
                return taken;
            }
            woken.await;
        }
    }

    /// Takes what is pending, if anything is.
    pub(super) fn take(&self) -> Option<(u64, Activation)> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let activation = pending.activation.take()?;
        pending.begun += 1;
        Some((pending.begun, activation))
    }

    pub(super) fn finish(&self, number: u64) {
        self.finished.send_replace(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skills(names: &[&str]) -> Scope {
        Scope::Skills(names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn activations_collapse_into_one() {
        let activator = Activator::default();
        let first = activator.activate(skills(&["a"]), "file event");
        let second = activator.activate(skills(&["b"]), "file event");
        assert_eq!(first, second);
        let (number, activation) = activator.take().unwrap();
        assert_eq!((number, activation.scope), (1, skills(&["a", "b"])));
        assert!(activator.take().is_none());
    }

    #[test]
    fn an_activation_during_a_pass_belongs_to_the_next_one() {
        let activator = Activator::default();
        activator.activate(Scope::Everything, "start");
        let (running, _) = activator.take().unwrap();
        assert_eq!(activator.activate(skills(&["a"]), "file event"), running + 1);
    }

    #[test]
    fn everything_swallows_the_rest() {
        let activator = Activator::default();
        activator.activate(skills(&["a"]), "file event");
        activator.activate(Scope::Everything, "timer");
        assert_eq!(activator.take().unwrap().1.scope, Scope::Everything);
    }

    #[tokio::test]
    async fn waiting_ends_with_the_pass() {
        let activator = Activator::default();
        let number = activator.activate(Scope::Everything, "request");
        let (taken, _) = activator.next().await;
        let waiter = activator.clone();
        let waiting = tokio::spawn(async move { waiter.finished(number, Duration::from_secs(5)).await });
        activator.finish(taken);
        assert!(waiting.await.unwrap());
    }
}
