//! Where the files lie that a delivery is about, and what runs may ask the provider to do there.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::calls::Call;
use crate::model::provider::condition::Condition;
use crate::model::provider::template::Template;

/// The git repository of a delivery.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Repositories {
    /// Where git reaches the provider, for example `https://github.com`. The operator says otherwise by `git_base`; an
    /// instance of the operator's (`api_base` or `base_url`) keeps its repositories on its own machine.
    pub base: String,
    /// The path of the repository below it, without `.git`; the first that can be filled.
    pub name: Vec<Template>,
    /// What is looked at; the first whose conditions hold and that can be filled, else the default branch.
    #[serde(default)]
    pub references: Vec<Reference>,
    /// The branch that changes are proposed to.
    pub branch: Vec<Template>,
    /// The user that goes with the token.
    pub user: String,
    /// The slot of the token.
    pub secret: String,
}

/// A full name such as `refs/pull/7/head`.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    #[serde(default)]
    pub when: Vec<Condition>,
    pub name: Template,
}

/// What runs may ask the provider to do.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Operations {
    /// What a delivery is about, by name: calls know each as `ctx:NAME`, and a run cannot choose it, unless its command
    /// names the operation with the provider.
    pub bound: BTreeMap<String, Vec<Template>>,
    pub calls: BTreeMap<String, Operation>,
}

/// One call. Its holes are `ctx:` (of what is bound, or taken), `cfg:` and `secret:`.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// In words that agents read.
    pub description: String,
    /// It changes nothing: runs may use it at what their delivery is about, even if their command lists no operations.
    #[serde(default)]
    pub reads: bool,
    /// What the run says, by name, with what it is. A hole with a default may be left empty.
    #[serde(default)]
    pub takes: BTreeMap<String, String>,
    pub call: Call,
}
