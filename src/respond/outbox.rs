//! The outbox sender: claims what is due, sends it, records what became of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::forward::Forward;
use super::transport::{Answer, RETRY_AFTER_MAX, Transport, retry_after};
use crate::error::{Code, Error};
use crate::ledger::Ledger;
use crate::ledger::rows::{OutboxItem, OutboxState, Purpose};
use crate::model::backoff;
use crate::model::ids::TaskId;
use crate::model::provider::{FilledCall, PreparedCall, PreparedFind};
use crate::model::task::Reason;
use crate::seam::{Clock, random};
use crate::secrets::Secrets;
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
    pub transport: Transport,
    pub secrets: Secrets,
    pub forward: Forward,
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
        let fate = self.attempt(&item, may_be_there).await;
        let now = self.clock.now();
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
        let secrets = self.secrets.for_calls(&item.provider);
        let filled = match call.fill(&context(item), &secrets) {
            Ok(filled) => filled,
            Err(error) => return refused_at_home(error),
        };
        self.exchange(call, item, &filled, call.address_is_chosen()).await
    }

    /// Receivers of such posts know repeated ones by their id.
    async fn forward(&self, item: &OutboxItem) -> Fate {
        match self.forward.fill(item, self.clock.now()) {
            Ok((filled, private)) => self.exchange(&item.call, item, &filled, !private).await,
            Err(error) => refused_at_home(error),
        }
    }

    async fn exchange(&self, call: &PreparedCall, item: &OutboxItem, filled: &FilledCall, guarded: bool) -> Fate {
        let outcome = match guarded {
            true => self.transport.exchange_guarded(filled).await,
            false => self.transport.exchange(filled).await,
        };
        match outcome {
            Err(none) if none.error.code() == Code::ReplyTarget => Fate::GivenUp { error: none.error },
            Err(none) => Fate::Again { error: none.error, wait: None },
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
        let secrets = self.secrets.for_calls(&item.provider);
        let mut filled = find.call.fill(&context(item), &secrets).map_err(refused_at_home)?;
        let marker = item.call.reply.as_ref().map(|traits| traits.marker).unwrap_or_default();
        for _ in 0..PAGES_MAX {
            let again = |error| Fate::Again { error, wait: None };
            let answer = self.transport.exchange(&filled).await.map_err(|none| again(none.error))?;
            let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
            if !find.call.succeeded(answer.status, body.as_ref()) {
                return Err(judge(&find.call, item, &answer, self.clock.now()));
            }
            if let Some(standing) = body.as_ref().and_then(|body| find.locate(body, marker, task, part)) {
                return Ok(Some(standing.url));
            }
            match next_page(&answer, &filled.url) {
                Some(next) => filled.url = next,
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

/// Trouble before anything was sent: a secret may be set later, the rest never works.
fn refused_at_home(error: Error) -> Fate {
    match error.code() {
        Code::SecretMissing => Fate::Again { error, wait: None },
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
    match answer.status {
        408 | 425 | 429 | 500..=599 => {
            let message = format!("the source answered with status {}", answer.status);
            Fate::Again { error: Error::new(Code::ReplyUnavailable, message), wait }
        }
        403 if wait.is_some() => {
            Fate::Again { error: Error::new(Code::ReplyUnavailable, "the source asks for patience"), wait }
        }
        200..=299 => {
            let message = "the source answered that the call did not work";
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

/// The next page by the `Link` header (RFC 8288), on the same server only: the request carries credentials.
fn next_page(answer: &Answer, current: &str) -> Option<String> {
    let links = answer.headers.get("link")?.to_str().ok()?;
    let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    let target = next.split_once('<')?.1.split_once('>')?.0;
    let current = url::Url::parse(current).ok()?;
    let next = current.join(target).ok()?;
    (next.origin() == current.origin()).then(|| next.to_string())
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
            let wait = asked_by(&call, &Answer { status, headers, body: Bytes::new() }, Some(&body), now);
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

    #[test]
    fn pages_are_followed_on_the_same_server_only() {
        let page = |link: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("link", HeaderValue::from_str(link).unwrap());
            next_page(&Answer { status: 200, headers, body: Bytes::new() }, "https://api.example/a?page=1")
        };
        let good = "<https://api.example/a?page=2>; rel=\"next\", <https://api.example/a?page=9>; rel=\"last\"";
        assert_eq!(page(good).as_deref(), Some("https://api.example/a?page=2"));
        assert_eq!(page("<https://evil.example/a?page=2>; rel=\"next\""), None);
        assert_eq!(page("<https://api.example/a?page=1>; rel=\"prev\""), None);
    }
}
