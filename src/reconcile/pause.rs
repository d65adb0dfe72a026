//! Whether the reconciler is suspended: files, commits and the remote are not looked at then, and what is in force goes
//! on as it is. The ledger remembers it over a restart.

use tokio::sync::watch;

use super::activator::{Activator, Scope};
use super::source::Bell;
use crate::error::Result;
use crate::ledger::Ledger;

/// Suspends and resumes. A cheap handle.
#[derive(Clone, Debug)]
pub struct Pause {
    ledger: Ledger,
    activator: Activator,
    bell: Bell,
    suspended: watch::Sender<bool>,
}

impl Pause {
    /// As the ledger remembers it.
    ///
    /// # Errors
    /// SH0601 when the ledger cannot be read.
    pub async fn remembered(ledger: Ledger, activator: Activator, bell: Bell) -> Result<Self> {
        let suspended = watch::channel(ledger.suspensions().await?.contains_key("")).0;
        Ok(Self { ledger, activator, bell, suspended })
    }

    /// # Errors
    /// SH0601 when the ledger cannot be written; nothing has changed then.
    pub async fn set(&self, on: bool, by: &str) -> Result<()> {
        self.ledger.suspend(None, on, by).await?;
        self.suspended.send_replace(on);
        if !on {
            self.activator.activate(Scope::Everything, "resume");
            self.bell.ring();
        }
        Ok(())
    }

    pub fn is_on(&self) -> bool {
        *self.suspended.borrow()
    }
}
