//! Conditions of a command on the payload.

use serde::{Deserialize, Serialize};

/// A condition in canonical form. (Parsing and evaluation follow.)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Test { path: String, test: Test },
}

/// One comparison of the value at a path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    Eq(serde_json::Value),
    In(Vec<serde_json::Value>),
    Not(serde_json::Value),
    Matches(String),
    Exists(bool),
    Gt(serde_json::Number),
    Lt(serde_json::Number),
    Prefix(String),
    Suffix(String),
}
