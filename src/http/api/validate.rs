//! What would be said about a file before it is one: for editors. Nothing is written, and the diagnostics are those of
//! `skillhook validate`, because a change set that is only looked at is judged as one that is made.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::request::Asked;
use super::shown;
use super::state::ApiState;
use crate::change::{Preview, Refused};
use crate::error::{Code, Error, Result};
use crate::model::change::{Authority, ChangeSet, Edit, Expect, Origin};

/// A file as it would be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// Relative to the root, for example `.claude/skills/triage/SKILL.md`.
    path: String,
    /// The whole file.
    text: String,
}

pub async fn validate(state: &ApiState, asked: &Asked<'_>) -> Result<Value> {
    let draft: Draft = asked.json()?;
    let changes = state.changes.as_ref();
    let changes = changes.ok_or_else(|| Error::new(Code::NotReady, "files cannot be judged here"))?;
    let set = ChangeSet {
        edits: vec![Edit::put(draft.path, draft.text.into_bytes(), Expect::Any)],
        title: "Look at a draft".to_owned(),
        authority: Authority::of_person(Origin::Api, asked.caller.actor()),
        proposal: None,
    };
    match changes.preview(set).await {
        Ok(Preview { mode, actions, widens, warnings }) => Ok(json!({
            "valid": true,
            "diagnostics": shown(&warnings)?,
            "mode": mode,
            "actions": shown(&actions)?,
            "widens": shown(&widens)?,
        })),
        // Without a place in the file it is no judgement of the file.
        Err(Refused { error, diagnostics }) if diagnostics.is_empty() => Err(error),
        Err(Refused { diagnostics, .. }) => Ok(json!({ "valid": false, "diagnostics": shown(&diagnostics)? })),
    }
}
