//! Conditions of a command on the payload: data that can be explained, never a language that can run away.
//!
//! A condition is parsed and limited when the file is checked ([`Condition::parse`]), compiled once a webhook
//! ([`Compiled`]), and evaluated once a delivery. Evaluating is linear in the payload: paths walk without
//! recursion, and regular expressions are those of the `regex` crate, over a bounded piece of text.
//! There are deliberately no globs, no arithmetic and no variables in here.

mod compiled;
mod parse;
mod path;

pub(in crate::model) use compiled::clip;
pub use compiled::{Compiled, Verdict};
pub use parse::Fault;
pub use path::Path;

use serde::{Deserialize, Serialize};

/// How deep `all`, `any` and `not` may nest.
pub const DEPTH_MAX: usize = 8;
/// How many comparisons and groups one command may have.
pub const NODES_MAX: usize = 64;
/// Longest regular expression in characters.
pub const PATTERN_CHARS_MAX: usize = 512;
/// Longest text to compare with, in characters.
pub const TEXT_CHARS_MAX: usize = 1024;
/// How many values `in` and `not` may list.
pub const VALUES_MAX: usize = 64;

/// A condition in canonical form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Test { path: String, test: Test },
}

/// One comparison of the value at a path. Where the path leads to several values, one that fits is enough;
/// only `not` wants none of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// `null` also stands for a value that is missing.
    Eq(serde_json::Value),
    In(Vec<serde_json::Value>),
    /// One value, or a list of values.
    Not(serde_json::Value),
    Matches(String),
    Exists(bool),
    Gt(serde_json::Number),
    Lt(serde_json::Number),
    Prefix(String),
    Suffix(String),
}
