//! Which run may use the tools, and with whose authority: tokens that live as long as the run.
//!
//! Only hashes are kept. Nothing is stored: when the service ends, its runs end too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::model::change::{Authority, Edit, Origin, Shown};
use crate::model::digest::Digest;
use crate::model::task::TaskSpec;
use crate::seam::fresh_secret;

/// What tokens begin with, so that they are recognised where they should not be.
const PREFIX: &str = "shr_";
/// What rules about tools of this service begin with.
const OWN_TOOLS: &str = "mcp__skillhook";

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
    /// The tool rules of the run, for example `mcp__skillhook__plan`: a token is of no more use than they are.
    pub rules: Vec<String>,
    /// What this run has proposed so far: one proposal a run, which grows.
    pub proposed: Mutex<Vec<Edit>>,
    /// Tasks that it has started.
    pub started: Mutex<usize>,
    /// Calls to providers that it has asked for.
    pub asked: Mutex<usize>,
    /// Held while a pull request is opened.
    pub opening: tokio::sync::Mutex<()>,
}

impl Granted {
    /// Whether the run may use a tool of this service.
    pub fn allows(&self, tool: &str) -> bool {
        let mut rests = self.rules.iter().filter_map(|rule| rule.strip_prefix(OWN_TOOLS));
        rests.any(|rest| rest.is_empty() || rest == "__*" || rest.strip_prefix("__") == Some(tool))
    }
}

/// A token in use; it is void when this is dropped.
#[derive(Debug)]
pub struct Grant {
    pub token: String,
    hash: Digest,
    grants: Grants,
}

impl Grant {
    /// The change that the run has proposed in a conversation, as it is kept for whoever may agree to it.
    pub fn shown(&self) -> Option<String> {
        let granted = self.grants.find(&self.token)?;
        if granted.authority.origin != Origin::Chat {
            return None;
        }
        Shown::write(&granted.proposed.lock().unwrap_or_else(PoisonError::into_inner))
    }
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
    pub fn issue(&self, task: TaskSpec, rules: Vec<String>) -> Result<Grant> {
        let token = format!("{PREFIX}{}", fresh_secret()?);
        let hash = Digest::of(token.as_bytes());
        let authority = task.run.authority.clone().unwrap_or_else(|| Authority::of_run(task.id.to_string()));
        let granted = Granted {
            task,
            authority,
            rules,
            proposed: Mutex::default(),
            started: Mutex::default(),
            asked: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::task::task_for_tests;

    #[test]
    fn a_token_is_void_when_its_run_has_ended() {
        let grants = Grants::default();
        let grant = grants.issue(task_for_tests().spec, Vec::new()).unwrap();
        let token = grant.token.clone();
        let found = grants.find(&token).unwrap();
        assert!(!found.authority.may_widen);
        drop(grant);
        assert!(grants.find(&token).is_none());
        assert!(grants.find("shr_").is_none());
    }

    #[test]
    fn a_token_is_good_for_the_tools_of_its_run_alone() {
        let allowed = |rules: &[&str], tool: &str| {
            let rules = rules.iter().map(ToString::to_string).collect();
            let grants = Grants::default();
            let grant = grants.issue(task_for_tests().spec, rules).unwrap();
            grants.find(&grant.token).unwrap().allows(tool)
        };
        assert!(allowed(&["Read", "mcp__skillhook__plan"], "plan"));
        assert!(allowed(&["mcp__skillhook__*"], "put_skill") && allowed(&["mcp__skillhook"], "put_skill"));
        assert!(!allowed(&["Read", "mcp__skillhook__plan"], "put_skill"));
        assert!(!allowed(&["mcp__other__*", "mcp__skillhooks__*"], "plan"));
    }
}
