//! The outbox sender: claims what is due, sends it, records what became of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::caller::{Asked, Caller};
use super::forward::Forward;
use super::pacing::Pacing;
use super::transport::{Answer, NoAnswer, RETRY_AFTER_MAX, retry_after};
use crate::error::{Code, Error};
use crate::ledger::Ledger;
use crate::ledger::rows::{OutboxItem, OutboxState, Purpose};
use crate::model::backoff;
use crate::model::ids::TaskId;
use crate::model::provider::{PreparedCall, PreparedFind};
use crate::model::task::Reason;
use crate::seam::{Clock, random};
use crate::telemetry::event::{Event as _, OutboxCalled};
use crate::telemetry::metrics::Metrics;

/// Calls on their way at one time.
const SENDING_MAX: usize = 8;
/// Tries of an answer before it is given up; over a day with the usual backoff.
const REPLY_TRIES_MAX: u32 = 100;
/// Tries of a sign of having seen something: late it is worth nothing.
const ACK_TRIES_MAX: u32 = 4;
/// Pages of a listing that are searched for an answer that may stand there already.
const PAGES_MAX: usize = 10;
/// How long the loop sleeps when nothing tells it to look.
const IDLE: Duration = Duration::from_secs(1);

/// Sends what the ledger's outbox holds.
#[derive(Clone, Debug)]
pub struct Sender {
    pub ledger: Ledger,
    pub caller: Caller,
    pub forward: Forward,
    pub pacing: Pacing,
    pub clock: Clock,
    pub metrics: Metrics,
}

/// What became of one try.
#[derive(Debug)]
enum Fate {
    Sent { url: Option<String> },
    Again { error: Error, wait: Option<Duration> },
    GivenUp { error: Error },
}

impl Sender {
    /// Sends until the token is cancelled, then ends what is on its way.
    pub async fn run(self, stop: CancellationToken) {
        let this = Arc::new(self);
        let mut sending = JoinSet::new();
        while !stop.is_cancelled() {
            while sending.try_join_next().is_some() {}
            let free = SENDING_MAX - sending.len();
            if free == 0 {
                tokio::select! { () = stop.cancelled() => {}, _ = sending.join_next() => {} }
                continue;
            }
            match this.ledger.claim_outbox(this.clock.now(), free).await {
                Ok(claimed) if claimed.is_empty() => {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = this.ledger.work_signal(IDLE) => {}
                        Some(_) = sending.join_next() => {}
                    }
                }
                Ok(claimed) => {
                    for (item, may_be_there) in claimed {
                        let this = Arc::clone(&this);
                        sending.spawn(async move { this.send(item, may_be_there).await });
                    }
                }
                Err(error) => {
                    tracing::warn!(error = error.internal(), "the outbox cannot be read, it is tried again");
                    tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(IDLE) => {} }
                }
            }
        }
        while sending.join_next().await.is_some() {}
    }

    async fn send(&self, item: OutboxItem, may_be_there: bool) {
        let begun = Instant::now();
        if let Some(turn) = self.pacing.turn(item.id, &item.provider, &item.call.spacing, self.clock.now()) {
            return self.record(&item, OutboxState::Waiting, None, None, turn).await;
        }
        let fate = self.attempt(&item, may_be_there).await;
        let now = self.clock.now();
        if let Fate::Again { wait: Some(wait), .. } = &fate {
            self.pacing.hold(&item.provider, &item.call.spacing, after(now, *wait));
        }
        let tries_max = match item.purpose {
            Purpose::Ack => ACK_TRIES_MAX,
            Purpose::Reply | Purpose::Forward => REPLY_TRIES_MAX,
        };
        let (state, url, error, not_before) = match fate {
            Fate::Sent { url } => (OutboxState::Sent, url, None, now),
            Fate::Again { error, wait } if item.attempts < tries_max => {
                let delay = backoff::delay(item.attempts, random(), wait);
                (OutboxState::Waiting, None, Some(error), after(now, delay))
            }
            Fate::Again { error, .. } | Fate::GivenUp { error } => (OutboxState::Failed, None, Some(error), now),
        };
        OutboxCalled {
            id: item.id,
            provider: &item.provider,
            purpose: match item.purpose {
                Purpose::Ack => "ack",
                Purpose::Reply => "reply",
                Purpose::Forward => "forward",
            },
            result: error.as_ref().map_or(Ok(()), |error| Err((error, state == OutboxState::Waiting))),
            elapsed: begun.elapsed(),
        }
        .emit(&self.metrics);
        let reason = error.as_ref().map(Reason::from);
        self.record(&item, state, url, reason, not_before).await;
    }

    /// Without a reason a call that waits was not tried: its turn has not come.
    async fn record(
        &self,
        item: &OutboxItem,
        state: OutboxState,
        url: Option<String>,
        reason: Option<Reason>,
        not_before: Timestamp,
    ) {
        let mut failures = 0_u32;
        while let Err(error) = self.ledger.outbox_done(item.id, state, url.clone(), reason.clone(), not_before).await {
            failures += 1;
            if failures > 60 {
                tracing::error!(outbox = %item.id, error = error.internal(), "the fate of a call is not recorded");
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn attempt(&self, item: &OutboxItem, may_be_there: bool) -> Fate {
        if item.purpose == Purpose::Forward {
            return self.forward(item).await;
        }
        let later = item.part > 0;
        let call = item.call.next.as_deref().filter(|_| later).unwrap_or(&item.call);
        if expired(call, item, self.clock.now()) {
            let message = "the source takes no answer any more: its time is over";
            return Fate::GivenUp { error: Error::new(Code::ReplyRefused, message) };
        }
        if may_be_there && let Some(find) = item.call.reply.as_ref().and_then(|traits| traits.find.as_ref()) {
            match self.look_for(item, find).await {
                Ok(Some(url)) => return Fate::Sent { url },
                Ok(None) => {}
                Err(fate) => return fate,
            }
        }
        let context = context(item);
        let asked = Asked { provider: &item.provider, call, context: &context, page: None };
        self.judged(call, item, self.caller.exchange(asked).await)
    }

    /// Receivers of such posts know repeated ones by their id.
    async fn forward(&self, item: &OutboxItem) -> Fate {
        let transport = self.caller.transport();
        let outcome = match self.forward.fill(item, self.clock.now()) {
            Ok((filled, true)) => transport.exchange(&filled).await,
            Ok((filled, false)) => transport.exchange_guarded(&filled).await,
            Err(error) => return without_answer(error),
        };
        self.judged(&item.call, item, outcome)
    }

    fn judged(&self, call: &PreparedCall, item: &OutboxItem, outcome: Result<Answer, NoAnswer>) -> Fate {
        match outcome {
            Err(none) => without_answer(none.error),
            Ok(answer) => judge(call, item, &answer, self.clock.now()),
        }
    }

    /// Where the answer stands already; the outer error says that it cannot be known now.
    async fn look_for(
        &self,
        item: &OutboxItem,
        find: &PreparedFind,
    ) -> std::result::Result<Option<Option<String>>, Fate> {
        let Some((task, part)) = marked(&item.text) else { return Ok(None) };
        let context = context(item);
        let marker = item.call.reply.as_ref().map(|traits| traits.marker).unwrap_or_default();
        let mut page: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let asked = Asked { provider: &item.provider, call: &find.call, context: &context, page: page.as_deref() };
            let answer = self.caller.exchange(asked).await.map_err(|none| without_answer(none.error))?;
            let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
            if !find.call.succeeded(answer.status, body.as_ref()) {
                return Err(judge(&find.call, item, &answer, self.clock.now()));
            }
            if let Some(standing) = body.as_ref().and_then(|body| find.locate(body, marker, task, part)) {
                return Ok(Some(standing.url));
            }
            match answer.next {
                Some(next) => page = Some(next),
                None => break,
            }
        }
        Ok(None)
    }
}

fn after(now: Timestamp, delay: Duration) -> Timestamp {
    SignedDuration::try_from(delay).ok().and_then(|delay| now.checked_add(delay).ok()).unwrap_or(now)
}

fn expired(call: &PreparedCall, item: &OutboxItem, now: Timestamp) -> bool {
    call.ttl_seconds.is_some_and(|ttl| {
        let age = now.duration_since(item.created_at).as_secs();
        u64::try_from(age).is_ok_and(|age| age > ttl)
    })
}

fn context(item: &OutboxItem) -> BTreeMap<String, String> {
    let name = match item.purpose {
        Purpose::Ack => "ack_text",
        Purpose::Reply | Purpose::Forward => "reply",
    };
    BTreeMap::from([(name.to_owned(), item.text.clone()), ("since".to_owned(), item.created_at.to_string())])
}

/// Trouble with sending: secrets may be set and machines may be reached later, the rest never works.
fn without_answer(error: Error) -> Fate {
    match error.code() {
        Code::SecretMissing | Code::CredentialRefused | Code::ReplyUnavailable => Fate::Again { error, wait: None },
        _ => Fate::GivenUp { error },
    }
}

fn judge(call: &PreparedCall, item: &OutboxItem, answer: &Answer, now: Timestamp) -> Fate {
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    if call.succeeded(answer.status, body.as_ref()) {
        let created = item.call.reply.as_ref().zip(body.as_ref()).and_then(|(traits, body)| traits.created(body).url);
        return Fate::Sent { url: created };
    }
    let wait = retry_after(answer, now).or_else(|| asked_by(call, answer, body.as_ref(), now));
    if call.asks_again(body.as_ref()) {
        let message = "the source answered that the call may work later";
        return Fate::Again { error: Error::new(Code::ReplyUnavailable, message), wait };
    }
    match answer.status {
        408 | 425 | 429 | 500..=599 => {
            let message = format!("the source answered with status {}", answer.status);
            Fate::Again { error: Error::new(Code::ReplyUnavailable, message), wait }
        }
        403 if wait.is_some() => {
            Fate::Again { error: Error::new(Code::ReplyUnavailable, "the source asks for patience"), wait }
        }
        200..=299 => {
            let why = call.complaint(body.as_ref()).map(|why| format!(": {why}")).unwrap_or_default();
            let message = format!("the source answered that the call did not work{why}");
            Fate::GivenUp { error: Error::new(Code::ReplyRefused, message) }
        }
        status => {
            let message = format!("the source refused the call with status {status}");
            let hint = match status {
                401 | 403 => "check the provider's `api_token_env` and what that token may do",
                404 => "check `api_base`, and that the token may see the repository",
                _ => "see the service's log for the kind of call",
            };
            Fate::GivenUp { error: Error::new(Code::ReplyRefused, message).hint(hint) }
        }
    }
}

/// How long the provider wants to be left alone, in the places where its definition says that it tells so.
fn asked_by(call: &PreparedCall, answer: &Answer, body: Option<&Value>, now: Timestamp) -> Option<Duration> {
    if !matches!(answer.status, 403 | 429 | 503) {
        return None;
    }
    let header = |name: &String| answer.headers.get(name.as_str())?.to_str().ok()?.trim().parse::<f64>().ok();
    let in_body = || body?.pointer(call.retry_body.as_deref()?)?.as_f64();
    let told = call.retry_headers.iter().find_map(header).or_else(in_body)?;
    let now = now.as_millisecond() as f64 / 1000.0;
    // A number of seconds, or a point in time in seconds or milliseconds: nobody asks for thirty years.
    let seconds = match told {
        told if told >= 1e12 => told / 1000.0 - now,
        told if told >= 1e9 => told - now,
        told => told,
    };
    seconds.is_finite().then(|| Duration::from_secs_f64(seconds.clamp(0.0, RETRY_AFTER_MAX.as_secs_f64())))
}

/// The task and the part, from 0, that a marked text names.
fn marked(text: &str) -> Option<(TaskId, usize)> {
    let rest = text.rsplit_once("<!-- skillhook:task=")?.1;
    let (task, rest) = rest.split_once(" part=")?;
    let part: usize = rest.split_once('/')?.0.parse().ok()?;
    Some((TaskId::parse(task).ok()?, part.checked_sub(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use reqwest::header::{HeaderMap, HeaderValue};
    use uuid::Uuid;

    #[test]
    fn a_marked_text_names_its_task_and_part() {
        let task = TaskId(Uuid::from_u128(9));
        let text = format!("quoted <!-- skillhook:task=x --> text\n\n<!-- skillhook:task={task} part=2/3 -->");
        assert_eq!(marked(&text), Some((task, 1)));
        assert_eq!(marked("no marker"), None);
    }

    #[test]
    fn each_definition_says_where_its_provider_asks_for_patience() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let mut call = PreparedCall::post("https://api.example/");
        call.retry_headers = vec!["x-reset".to_owned()];
        call.retry_body = Some("/parameters/retry_after".to_owned());
        let asked = |status: u16, header: Option<&'static str>, body: Value| {
            let mut headers = HeaderMap::new();
            if let Some(value) = header {
                headers.insert("x-reset", HeaderValue::from_static(value));
            }
            let wait = asked_by(&call, &Answer { status, headers, body: Bytes::new(), next: None }, Some(&body), now);
            wait.map(|wait| wait.as_secs())
        };
        let none = serde_json::json!({});
        assert_eq!(asked(429, Some("7"), none.clone()), Some(7));
        assert_eq!(asked(429, Some("1700000030"), none.clone()), Some(30));
        assert_eq!(asked(403, Some("1700000030000"), none.clone()), Some(30));
        assert_eq!(asked(429, None, serde_json::json!({"parameters": {"retry_after": 5}})), Some(5));
        assert_eq!(asked(429, Some("soon"), none.clone()), None);
        assert_eq!(asked(500, Some("7"), none), None);
    }
}
