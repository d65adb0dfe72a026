//! `Idempotency-Key`: the same request with the same key is done once, and answered as before (for a day, over restarts).
//!
//! What is kept is the answer, under the caller and the key. An answer that shows a secret is never kept, so where there
//! may be one a key is refused. A request that failed by a fault of ours may be tried again with its key.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::SignedDuration;
use warp::http::{HeaderName, Method, StatusCode, header};

use super::request::Asked;
use super::state::ApiState;
use super::table::Operation;
use crate::error::{Code, Error, Result};
use crate::http::answer::Answer;
use crate::ledger::rows::KeptAnswer;
use crate::model::digest::Digest;

const KEY: &str = "idempotency-key";
/// Says that an answer is one that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const KEY_CHARS_MAX: usize = 200;
/// Answers up to this size are kept.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// Keys whose requests are being carried out.
#[derive(Clone, Debug, Default)]
pub struct Once {
    running: Arc<Mutex<HashSet<Digest>>>,
}

/// One request that is carried out under its key.
pub struct Turn {
    running: Arc<Mutex<HashSet<Digest>>>,
    id: Digest,
    fingerprint: Digest,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// What to do about a request.
pub enum Begin {
    /// It has no key.
    Plain,
    /// Carry it out, and then [`Once::keep`] its answer.
    Turn(Turn),
    Answered(Answer),
}

impl Once {
    /// # Errors
    /// SH0902 for what is no key, SH0813 when it belongs to another request, SH0903 while its request runs.
    pub async fn begin(&self, state: &ApiState, operation: Operation, asked: &Asked<'_>) -> Result<Begin> {
        if !asked.head.headers.contains_key(KEY) || matches!(asked.head.method, Method::GET | Method::HEAD) {
            return Ok(Begin::Plain);
        }
        let key = asked.head.single_header(KEY).unwrap_or_default();
        if key.is_empty() || key.len() > KEY_CHARS_MAX || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::new(Code::Usage, "the idempotency key is not usable")
                .hint(format!("1 to {KEY_CHARS_MAX} visible ASCII characters, for example a UUID")));
        }
        if operation.shows_secrets() {
            return Err(Error::new(Code::Usage, "an idempotency key is not taken here")
                .hint("the answer shows a secret, and is not kept"));
        }
        let id = Digest::of_parts([asked.caller.actor().as_bytes(), key.as_bytes()]);
        if !self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            return Err(Error::new(Code::Conflict, "a request with this idempotency key is being carried out"));
        }
        let turn = Turn { running: Arc::clone(&self.running), id, fingerprint: fingerprint(asked) };
        match state.ledger.kept_answer(id).await?.filter(|kept| state.clock.now() < kept.expires_at) {
            Some(kept) if kept.fingerprint == turn.fingerprint => Ok(Begin::Answered(again(kept))),
            Some(_) => Err(Error::new(Code::KeyReused, "the idempotency key was used for another request")),
            None => Ok(Begin::Turn(turn)),
        }
    }

    /// # Errors
    /// SH0601 when it cannot be written.
    pub async fn keep(&self, state: &ApiState, turn: Turn, answer: &Answer) -> Result<()> {
        let Ok(body) = std::str::from_utf8(answer.body()) else { return Ok(()) };
        if answer.status().is_server_error() || body.len() > ANSWER_BYTES_MAX {
            return Ok(());
        }
        let header = |name| answer.header_value(&name).map(str::to_owned);
        let kept = KeptAnswer {
            fingerprint: turn.fingerprint,
            status: answer.status().as_u16(),
            content_type: header(header::CONTENT_TYPE),
            etag: header(header::ETAG),
            body: body.to_owned(),
            expires_at: state.clock.now().checked_add(KEPT).unwrap_or(jiff::Timestamp::MAX),
        };
        state.ledger.keep_answer(turn.id, kept).await
    }
}

fn again(kept: KeptAnswer) -> Answer {
    let status = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK);
    let answer = Answer::of_type(status, kept.content_type.as_deref().unwrap_or("application/json"), kept.body);
    let answer = kept.etag.iter().fold(answer, |answer, etag| answer.header(header::ETAG, etag));
    answer.header(REPLAYED, "true")
}

/// What makes it the same request.
fn fingerprint(asked: &Asked<'_>) -> Digest {
    let head = asked.head;
    let field = |name| head.single_header(name).unwrap_or_default().as_bytes();
    Digest::of_parts([
        head.method.as_str().as_bytes(),
        head.path.as_bytes(),
        head.query.as_deref().unwrap_or_default().as_bytes(),
        field(header::CONTENT_TYPE),
        field(header::IF_MATCH),
        field(header::IF_NONE_MATCH),
        asked.body,
    ])
}
