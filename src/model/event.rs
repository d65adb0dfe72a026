//! A delivery in the gateway's own terms, whatever the provider's dialect was.

use serde::{Deserialize, Serialize};

use super::ids::TaskId;

/// What a provider definition extracts from one delivery (or from one item of a batch).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Canonical name, for example `issue_comment.created`.
    pub name: String,
    /// Other names under which triggers may know it.
    pub aliases: Vec<String>,
    /// Nothing to do by contract (a ping, a system note).
    pub noop: bool,
    /// Whether text commands may come with this event at all.
    pub carries_commands: bool,
    /// The text that a person wrote, as plain text.
    pub text: Option<String>,
    pub title: Option<String>,
    pub actor: Option<Actor>,
    /// The provider's id of the object that this is about, for example `octo/repo#7`.
    pub resource: Option<String>,
    /// The thread within the resource where an answer belongs.
    pub thread: Option<String>,
    /// Where a person can look at it.
    pub url: Option<String>,
    /// The sender's id of this delivery.
    pub delivery_id: Option<String>,
    /// Whether the signature covers that id; if not, the body decides about duplicates too.
    pub delivery_id_signed: bool,
    /// A button that decides about a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressed: Option<Pressed>,
}

/// Somebody pressed a button of ours under a question whether a task may run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressed {
    pub approve: bool,
    pub task: TaskId,
    /// The digest of the prompt, or its beginning, as it stood under the question.
    pub digest: String,
}

impl Pressed {
    /// From what the button carries: the id of the task, and the digest.
    pub fn parse(approve: bool, about: &str) -> Option<Self> {
        let (task, digest) = about.trim().split_once(' ')?;
        Some(Self { approve, task: TaskId::parse(task).ok()?, digest: digest.to_owned() })
    }
}

/// Who caused the event, as the payload tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    pub id: String,
    pub bot: bool,
    /// It is the account that this gateway itself writes with.
    pub own: bool,
    pub permission: Permission,
    /// The association as the provider words it, where it was valid for this actor (`MEMBER`, `NONE`, …).
    pub association: Option<String>,
}

/// What the payload says about the actor's right to start work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// The payload proves it.
    Trusted,
    /// The payload denies it.
    Untrusted,
    /// The payload is silent, but the provider's API can be asked.
    Ask,
    /// Neither the payload nor an API of this provider can tell.
    Untold,
}
