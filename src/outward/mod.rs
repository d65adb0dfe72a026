//! What is done at providers for a run: its checkout fetched, its change put up for review, its calls made.
//!
//! A run has no token. It says what it wants; whether its task may have that is decided here, with what the task has
//! carried since its delivery, and the service does it with its own rights. Addresses are the catalogue's and the
//! operator's, never a text's. What providers answer is bounded, and freed of secrets and of what readers do not see.
//!
//! This writes nothing into the ledger but notes, and knows no agent program.

mod call;
mod checkout;

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::error::{Code, Error, Result};
use crate::ledger::Ledger;
use crate::model::provider::Definition;
use crate::model::secret::SecretValue;
use crate::model::untrusted::Outgoing;
use crate::reconcile::pass::Published;
use crate::respond::caller::Caller;
use crate::seam::Clock;
use crate::workspace::Workspaces;

pub use call::Asked;
pub use checkout::{Opened, PullRequest};

/// A cheap handle.
#[derive(Clone)]
pub struct Outward {
    pub workspaces: Workspaces,
    pub caller: Caller,
    /// All secrets of this service, for taking them out of texts.
    pub known_secrets: Arc<dyn Fn() -> Vec<SecretValue> + Send + Sync>,
    pub published: watch::Receiver<Option<Published>>,
    pub ledger: Ledger,
    pub clock: Clock,
}

impl fmt::Debug for Outward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outward").finish_non_exhaustive()
    }
}

impl Outward {
    fn definition(&self, provider: &str) -> Result<Arc<Definition>> {
        let published = self.published.borrow();
        let found = published.as_ref().and_then(|published| published.catalogue.get(provider).cloned());
        found.ok_or_else(|| {
            Error::new(Code::ProviderUnknown, format!("there is no provider `{}`", provider.escape_default()))
        })
    }

    /// A text as it may be said at a source, where these words start runs.
    fn clean(&self, prefixes: &[String], text: &str) -> Result<String> {
        let outgoing = Outgoing::new(prefixes.iter().map(String::as_str))?;
        Ok(outgoing.knowing((self.known_secrets)()).clean(text).text)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::new(Code::Bug, "a step at a checkout panicked").detail(error)),
    }
}
