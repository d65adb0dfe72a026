//! Pull and merge requests: how a branch is put up for review at the provider, and what became of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::calls::Call;
use crate::model::provider::condition::Condition;
use crate::model::provider::pointer::Pointer;
use crate::model::provider::template::Template;

/// Calls know `ctx:repository` (`acme/hooks`), `ctx:owner` (`acme`), `ctx:branch`, `ctx:base`, `ctx:title`,
/// `ctx:text`, `ctx:number`; marks know `ctx:commit`, `ctx:state`, `ctx:text`.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proposals {
    /// Machines whose repositories this is about. An instance of the operator's is known by its `api_base` or
    /// `base_url`.
    pub hosts: Vec<String>,
    /// The page on which a person opens one; it knows `ctx:host` too.
    pub page: Template,
    /// Lists those of a branch, newest first.
    pub find: Listing,
    pub open: Call,
    pub update: Call,
    /// Where one says its number, in the list and in the answer to `open`.
    pub number: Pointer,
    /// Where it says its page.
    pub url: Pointer,
    /// It waits for people when all of these hold; conditions look at the answer, by pointers like `/state`.
    pub opened: Vec<Condition>,
    /// It was accepted when all of these hold.
    pub merged: Vec<Condition>,
    /// Longest text in characters.
    pub text_chars_max: usize,
    pub mark: Option<Mark>,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    pub call: Call,
    /// Where the list stands in the answer; empty where the answer is the list.
    pub list: Pointer,
}

/// Says at a commit what became of it.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    pub call: Call,
    /// The provider's words.
    pub states: BTreeMap<MarkState, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MarkState {
    /// It is in force.
    Success,
    /// A file of it is not in force.
    Failure,
}
