//! Pull and merge requests at the provider: found, opened, updated, looked at, and marks at commits.
//!
//! The same branch has one of them at a time: it is looked for before one is opened, so that a call whose fate is
//! unknown is never made twice. Which calls these are is data of the provider's definition.

use std::collections::BTreeMap;

use serde_json::Value;

use super::caller::{Asked, Caller};
use super::transport::retry_after;
use crate::error::{Code, Error, Result};
use crate::model::provider::{Definition, MarkState, PreparedCall, PreparedProposals, Review, ReviewState};
use crate::seam::Clock;

/// Longest title in characters.
const TITLE_CHARS_MAX: usize = 120;
/// Longest description of a mark in characters: GitHub takes no more.
const MARK_CHARS_MAX: usize = 140;

/// Speaks with the provider that keeps one repository.
#[derive(Clone, Debug)]
pub struct Reviewer {
    pub caller: Caller,
    pub clock: Clock,
    /// Where the repository is, for pages that people open.
    pub host: String,
    /// As the provider knows it, for example `acme/hooks`.
    pub repository: String,
}

/// A branch that is to be reviewed.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub branch: String,
    pub base: String,
    pub title: String,
    pub text: String,
}

impl Reviewer {
    /// Opens a request for the branch, or brings the open one up to date. One that was closed or merged is not
    /// touched: a new one is opened.
    ///
    /// # Errors
    /// SH0408 without a token, SH0805 when it is not given, SH0512 when the provider refuses, SH0802 when it does not answer.
    pub async fn bring(&self, definition: &Definition, wanted: &Wanted) -> Result<Review> {
        let calls = self.calls(definition)?;
        let mut context = self.context(&wanted.branch, &wanted.base);
        context.insert("title".to_owned(), wanted.title.chars().take(TITLE_CHARS_MAX).collect());
        context.insert("text".to_owned(), wanted.text.chars().take(calls.text_chars_max).collect());
        match self.newest(definition, &calls, &context).await? {
            Some(open) if open.state == ReviewState::Open => {
                context.insert("number".to_owned(), open.number.clone());
                self.ask(definition, &calls.update, &context).await?;
                Ok(open)
            }
            Some(_) | None => {
                let answer = self.ask(definition, &calls.open, &context).await?;
                calls.read(&answer).ok_or_else(|| unreadable("the answer does not say what was opened"))
            }
        }
    }

    /// The newest request for a branch, whatever became of it.
    ///
    /// # Errors
    /// As [`Reviewer::bring`].
    pub async fn look(&self, definition: &Definition, branch: &str, base: &str) -> Result<Option<Review>> {
        let calls = self.calls(definition)?;
        self.newest(definition, &calls, &self.context(branch, base)).await
    }

    /// Says at a commit what became of it; nothing where the provider knows no such marks.
    ///
    /// # Errors
    /// As [`Reviewer::bring`].
    pub async fn mark(&self, definition: &Definition, commit: &str, state: MarkState, text: &str) -> Result<()> {
        let Some((call, states)) = self.calls(definition)?.mark else { return Ok(()) };
        let Some(word) = states.get(&state) else { return Ok(()) };
        let mut context = self.context("", "");
        context.insert("commit".to_owned(), commit.to_owned());
        context.insert("state".to_owned(), word.clone());
        context.insert("text".to_owned(), text.chars().take(MARK_CHARS_MAX).collect());
        self.ask(definition, &call, &context).await.map(|_| ())
    }

    /// Where a person opens a request by hand.
    pub fn page(&self, definition: &Definition, branch: &str, base: &str) -> Option<String> {
        let calls = definition.proposals(&self.caller.settings(definition.name()))?;
        calls.page(&self.context(branch, base))
    }

    fn calls(&self, definition: &Definition) -> Result<PreparedProposals> {
        let calls = definition.proposals(&self.caller.settings(definition.name()));
        calls.ok_or_else(|| Error::new(Code::ProposalFailed, format!("`{}` has no proposals", definition.name())))
    }

    fn context(&self, branch: &str, base: &str) -> BTreeMap<String, String> {
        let owner = self.repository.split('/').next().unwrap_or_default();
        [
            ("host", self.host.as_str()),
            ("repository", &self.repository),
            ("owner", owner),
            ("branch", branch),
            ("base", base),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    async fn newest(
        &self,
        definition: &Definition,
        calls: &PreparedProposals,
        context: &BTreeMap<String, String>,
    ) -> Result<Option<Review>> {
        let answer = self.ask(definition, &calls.find, context).await?;
        Ok(calls.newest(&answer))
    }

    async fn ask(
        &self,
        definition: &Definition,
        call: &PreparedCall,
        context: &BTreeMap<String, String>,
    ) -> Result<Value> {
        let asked = Asked { provider: definition.name(), call, context, page: None };
        let answer = self.caller.exchange(asked).await.map_err(|none| none.error)?;
        let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
        if call.succeeded(answer.status, body.as_ref()) {
            return body.ok_or_else(|| unreadable("the answer is not JSON"));
        }
        let told = body.as_ref().and_then(|body| body["message"].as_str()).unwrap_or_default();
        let told: String = told.chars().filter(|c| !c.is_control()).take(200).collect();
        let message = format!("{} answered {} {told}", definition.title(), answer.status);
        let code = match answer.status {
            429 | 500.. => Code::ReplyUnavailable,
            _ if retry_after(&answer, self.clock.now()).is_some() => Code::ReplyUnavailable,
            _ => Code::ProposalFailed,
        };
        Err(Error::new(code, message.trim_end().to_owned()))
    }
}

fn unreadable(message: &str) -> Error {
    Error::new(Code::ProposalFailed, message)
}
