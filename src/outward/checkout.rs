//! The checkout of a run, and the pull request that its change becomes.

use serde::Serialize;

use super::{Outward, blocking};
use crate::error::{Code, Error, Result};
use crate::model::provider::{ReviewState, is_reference};
use crate::model::task::{Checkout, TaskSpec};
use crate::repo::Target;
use crate::respond::proposal::{Reviewer, Wanted as Review};
use crate::workspace::Wanted;

/// What a run wants to have reviewed.
#[derive(Clone, Debug)]
pub struct PullRequest {
    pub title: String,
    pub text: String,
    /// The branch that it is to be merged into; the repository's own where it is `None`.
    pub base: Option<String>,
}

/// What became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Opened {
    pub url: String,
    pub number: String,
    pub state: ReviewState,
    pub branch: String,
    pub base: String,
    pub files: Vec<String>,
    /// Changes that were not taken.
    pub left_out: Vec<String>,
}

impl Outward {
    /// Has the files of the repository in the workspace of the task, where it asks for them, and of no other.
    ///
    /// # Errors
    /// SH0312 when they cannot be had, SH0706 when they cannot be written.
    pub async fn bring(&self, task: &TaskSpec) -> Result<()> {
        let (workspaces, conversation) = (self.workspaces.clone(), task.source.conversation_id.clone());
        let Some(checkout) = &task.run.checkout else {
            return blocking(move || workspaces.remove_checkout(&conversation)).await;
        };
        let wanted = Wanted { task: task.id, parent: task.parent, target: self.target(checkout).await? };
        let left_out = blocking(move || workspaces.check_out(&conversation, &wanted)).await?;
        if left_out > 0 {
            tracing::info!(task = %task.id, left_out, "files of the checkout are too large or lead elsewhere");
        }
        Ok(())
    }

    /// Makes a branch of what the run changed in its checkout, and has one pull request for it; called again, it brings
    /// both up to date. `agreed` says that a person has agreed to the run.
    ///
    /// # Errors
    /// SH0904 when there is nothing that may be put up, SH0408 without a token, SH0512 when the provider refuses.
    pub async fn open_pull_request(&self, task: &TaskSpec, agreed: bool, wanted: PullRequest) -> Result<Opened> {
        let checkout = task.run.checkout.as_ref().ok_or_else(|| {
            Error::new(Code::Refused, "this run has no checkout: there is nothing to open a pull request from")
                .hint("a command gets one with `checkout: true`")
        })?;
        let definition = self.definition(checkout.provider.as_str())?;
        let target = self.target(checkout).await?;
        if target.token.is_none() {
            return Err(Error::new(
                Code::SecretMissing,
                format!("the service has no token for {}", definition.title()),
            ));
        }
        let base = wanted.base.or_else(|| checkout.base.clone()).filter(|base| is_reference(base));
        let base = base.ok_or_else(|| Error::new(Code::Usage, "say in `base` which branch it is to be merged into"))?;
        let title = self.clean(&task.prefixes, wanted.title.lines().next().unwrap_or_default().trim())?;
        if title.is_empty() {
            return Err(Error::new(Code::Usage, "a pull request needs a title"));
        }
        let about = task.source.url.as_deref().map(|url| format!("\n\nFor {url}")).unwrap_or_default();
        let text = self.clean(&task.prefixes, &format!("{}{about}", wanted.text.trim()))?;
        let branch = format!("skillhook/{}", task.id.to_string().replace('_', "-"));
        let taken = {
            let (workspaces, conversation) = (self.workspaces.clone(), task.source.conversation_id.clone());
            let (id, branch, message, target) = (task.id, branch.clone(), format!("{title}\n\n{text}"), target.clone());
            blocking(move || {
                let taken = workspaces.take_changes(&conversation, id, agreed, &branch, &message)?;
                workspaces.push_changes(&conversation, &target, &branch)?;
                Ok(taken)
            })
            .await?
        };
        let reviewer = self.reviewer(checkout);
        let review = Review { branch: branch.clone(), base: base.clone(), title, text };
        let opened = reviewer.bring(&definition, &review).await?;
        self.ledger.note("run.pull_request", None, format!("{} {}", task.id, opened.url)).await?;
        tracing::info!(task = %task.id, files = taken.files.len(), "a run's change is up for review");
        Ok(Opened {
            url: opened.url,
            number: opened.number,
            state: opened.state,
            branch,
            base,
            files: taken.files,
            left_out: taken.left_out,
        })
    }

    async fn target(&self, checkout: &Checkout) -> Result<Target> {
        let credential = self.definition(checkout.provider.as_str())?.git_credential().ok_or_else(|| {
            Error::new(Code::CheckoutFailed, format!("`{}` knows no repositories any more", checkout.provider))
        })?;
        Ok(Target {
            url: checkout.url.clone(),
            reference: checkout.reference.clone(),
            token: self.caller.secret(&checkout.provider, &credential.slot).await?,
            user: credential.user,
        })
    }

    fn reviewer(&self, checkout: &Checkout) -> Reviewer {
        let host = url::Url::parse(&checkout.url).ok().and_then(|url| url.host_str().map(str::to_owned));
        Reviewer {
            caller: self.caller.clone(),
            clock: self.clock.clone(),
            host: host.unwrap_or_default(),
            repository: checkout.repository.clone(),
        }
    }
}
