//! Tokens over the API: who has which, a new one, the end of one.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use warp::http::StatusCode;

use super::access::{self, Caller, Wanted};
use super::listing::Listing;
use super::not_found;
use super::query::Query;
use super::request::Asked;
use super::state::ApiState;
use crate::error::{Code, Error, Result};
use crate::http::answer::Answer;
use crate::ledger::rows::Token;
use crate::model::token::{Scope, Scopes, TokenId};

/// Longest life of a token that has an end, in seconds: a hundred years.
const SECONDS_MAX: u64 = 3_153_600_000;

/// A token to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// For people: who or what will use it.
    #[schemars(length(min = 1, max = 100))]
    name: String,
    /// What it may do; each scope includes `read`, and `admin` includes all.
    #[schemars(length(min = 1, max = 4))]
    scopes: Vec<Scope>,
    /// For how long it holds, in seconds; for ever if not given.
    #[serde(default)]
    #[schemars(range(min = 1, max = SECONDS_MAX))]
    expires_in_seconds: Option<u64>,
}

/// Who asks, and what he may do.
pub fn me(caller: &Caller) -> Value {
    let may: Vec<Scope> = Scope::ALL.into_iter().filter(|scope| caller.may(*scope)).collect();
    match caller {
        Caller::Local => json!({ "kind": "local", "scopes": may }),
        Caller::Anonymous => json!({ "kind": "anonymous", "scopes": may }),
        Caller::Token(grant) => json!({ "kind": "token", "id": grant.id, "name": grant.name, "scopes": may }),
    }
}

pub fn list(state: &ApiState, query: &Query) -> Result<Value> {
    let now = state.clock.now();
    Listing::by("id").page(query, state.access.tokens().iter().map(|token| shown(token, now)).collect())
}

pub async fn create(state: &ApiState, asked: &Asked<'_>) -> Result<Answer> {
    let wanted: NewToken = asked.json()?;
    if wanted.expires_in_seconds.is_some_and(|seconds| !(1..=SECONDS_MAX).contains(&seconds)) {
        return Err(Error::new(Code::Usage, format!("`expires_in_seconds` must be from 1 to {SECONDS_MAX}")));
    }
    if wanted.scopes.len() > Scope::ALL.len() {
        return Err(Error::new(Code::Usage, "`scopes` names one of them more than once"));
    }
    let now = state.clock.now();
    let expires_at = wanted.expires_in_seconds.map(|seconds| access::expiry(now, Duration::from_secs(seconds)));
    let wanted = Wanted { name: wanted.name, scopes: Scopes::of(wanted.scopes), expires_at };
    let (token, text) = state.access.create(wanted, asked.caller).await?;
    Ok(Answer::json(StatusCode::CREATED, &told(&token, &text, now)))
}

pub async fn revoke(state: &ApiState, id: &str, asked: &Asked<'_>) -> Result<Value> {
    let id = TokenId::parse(id).map_err(|_| not_found("token", id))?;
    let token = state.access.revoke(&id, asked.caller).await?;
    Ok(shown(&token, state.clock.now()))
}

/// A token with what it reads as, for the one time that this is shown.
pub fn told(token: &Token, text: &str, now: jiff::Timestamp) -> Value {
    let mut value = shown(token, now);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("token".to_owned(), json!(text));
    }
    value
}

/// A token without its digest.
pub fn shown(token: &Token, now: jiff::Timestamp) -> Value {
    let state = match () {
        () if token.revoked_at.is_some() => "revoked",
        () if token.is_valid(now) => "valid",
        () => "expired",
    };
    json!({
        "id": token.id,
        "name": token.name,
        "scopes": token.scopes,
        "state": state,
        "created_at": token.created_at,
        "created_by": token.created_by,
        "expires_at": token.expires_at,
        "last_used_at": token.last_used_at,
        "revoked_at": token.revoked_at,
    })
}
