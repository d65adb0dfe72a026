//! Which run may use the tools, and with whose authority: tokens that live as long as the run.
//!
//! Only hashes are kept. Nothing is stored: when the service ends, its runs end too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::model::change::{Authority, Edit};
use crate::model::digest::Digest;
use crate::model::task::TaskSpec;
use crate::seam::fresh_secret;

/// What tokens begin with, so that they are recognised where they should not be.
const PREFIX: &str = "shr_";

/// The tokens in use. A cheap handle.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    by_hash: Arc<Mutex<HashMap<Digest, Arc<Granted>>>>,
}

/// What one token allows.
#[derive(Debug)]
pub struct Granted {
    pub task: TaskSpec,
    pub authority: Authority,
    /// What this run has proposed so far: one proposal a run, which grows.
    pub proposed: Mutex<Vec<Edit>>,
    /// Tasks that it has started.
    pub started: Mutex<usize>,
}

/// A token in use; it is void when this is dropped.
#[derive(Debug)]
pub struct Grant {
    pub token: String,
    hash: Digest,
    grants: Grants,
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.grants.lock().remove(&self.hash);
    }
}

impl Grants {
    /// A token for one run of the task.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn issue(&self, task: TaskSpec) -> Result<Grant> {
        let token = format!("{PREFIX}{}", fresh_secret()?);
        let hash = Digest::of(token.as_bytes());
        let authority = task.run.authority.clone().unwrap_or_else(|| Authority::of_run(task.id.to_string()));
        let granted = Granted { task, authority, proposed: Mutex::default(), started: Mutex::default() };
        self.lock().insert(hash, Arc::new(granted));
        Ok(Grant { token, hash, grants: self.clone() })
    }

    /// What the token allows; `None` for one that is not in use.
    pub fn find(&self, token: &str) -> Option<Arc<Granted>> {
        self.lock().get(&Digest::of(token.as_bytes())).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Granted>>> {
        self.by_hash.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
