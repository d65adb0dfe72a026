//! From a request to what is to be written: verified, decoded, decided, rendered, without doing any of it.
//!
//! Two steps, because a key or a secret may have to be fetched between them. [`assess`] says whether the request is
//! what it claims to be; [`plan`] says what follows from it, one [`Plan`] for each thing that happened. The shell
//! writes plans and answers; whether a delivery was seen before is decided by the write itself.
//!
//! Invariants: nothing in here believes an unverified byte, except handshakes that the sender's contract puts before
//! verification. One command that cannot be rendered does not take the others with it.

mod dedupe;
mod message;
mod prompt;
pub mod says;
mod source;
mod stored;
mod task;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

pub use dedupe::DedupeKey;
pub use message::{Message, answered, go_on};
pub use stored::{headers as stored_headers, url as stored_url};
pub use task::PlannedTask;

use super::admission::{Admission, admit};
use super::digest::Digest;
use super::event::Event;
use super::forward::Targets;
use super::ids::{DeliveryId, TaskId};
use super::matching::Decision;
use super::provider::{
    self, Definition, Delivered, FetchedKeys, Handshake, Incoming, Item, KeyRequest, Payload, PreparedCall,
    PreparedLookup, Proof, Refusal, Response, Settings, Verdict,
};
use super::routes::Route;
use super::secret::SecretSet;
use super::spec::{AckMode, CommandSpec, ReplyMode};
use super::template::Template;
use crate::error::{Code, Error, Result};

/// What a request turns out to be.
#[derive(Debug)]
pub enum Assessment {
    /// Answered from the definition; nothing runs.
    Handshake(Box<Handshake>),
    Delivery(Box<Verified>),
    /// The sender's public key must be fetched; then assess again.
    NeedsKey(Box<KeyRequest>),
}

/// A delivery that is believed, with its body read.
#[derive(Debug)]
pub struct Verified {
    /// `None` where the webhook asks for no signature.
    pub proof: Option<Proof>,
    pub payload: Payload,
}

/// A request that is not believed: 401 outside, the reason inside.
#[derive(Debug)]
pub struct Unbelieved {
    pub error: Error,
    /// For the log and a metric.
    pub refusal: Option<Refusal>,
}

impl From<Error> for Unbelieved {
    fn from(error: Error) -> Self {
        Self { error, refusal: None }
    }
}

/// What the decision about a request rests on.
#[derive(Clone, Copy)]
pub struct Grounds<'a> {
    pub route: &'a Route,
    pub incoming: &'a Incoming,
    pub secrets: &'a SecretSet,
    pub settings: &'a Settings,
    pub keys: &'a FetchedKeys,
    /// Where `forward` commands may post.
    pub forward: &'a Targets,
    /// The operator lets webhooks go unsigned that say so.
    pub unsigned_allowed: bool,
    pub now: Timestamp,
}

/// Verification and what comes before and right after it.
pub fn assess(grounds: Grounds<'_>) -> Result<Assessment, Unbelieved> {
    let definition = &*grounds.route.definition;
    if has_handshakes(definition, false) {
        let payload = provider::decode(definition, grounds.incoming).ok();
        if let Some(handshake) = handshake(grounds, payload.as_ref(), false) {
            return Ok(Assessment::Handshake(Box::new(handshake)));
        }
    }
    let proof = match verified(grounds)? {
        Trust::Proven(proof) => Some(proof),
        Trust::Unsigned => None,
        Trust::NeedsKey(request) => return Ok(Assessment::NeedsKey(request)),
    };
    let payload = provider::decode(definition, grounds.incoming);
    if has_handshakes(definition, true)
        && let Some(handshake) = handshake(grounds, payload.as_ref().ok(), true)
    {
        return Ok(Assessment::Handshake(Box::new(handshake)));
    }
    Ok(Assessment::Delivery(Box::new(Verified { proof, payload: payload? })))
}

/// A delivery that was verified when it came, and is taken in once more: its signature was not kept.
///
/// # Errors
/// SH0407 when its body cannot be read.
pub fn believed(grounds: Grounds<'_>) -> Result<Verified> {
    Ok(Verified { proof: None, payload: provider::decode(&grounds.route.definition, grounds.incoming)? })
}

enum Trust {
    Proven(Proof),
    Unsigned,
    NeedsKey(Box<KeyRequest>),
}

fn verified(grounds: Grounds<'_>) -> Result<Trust, Unbelieved> {
    let Grounds { route, incoming, secrets, settings, keys, now, .. } = grounds;
    if !route.spec.requires_signature && grounds.unsigned_allowed {
        return Ok(Trust::Unsigned);
    }
    match provider::verify(&route.definition, incoming, secrets, settings, keys, now) {
        Verdict::Verified(proof) => Ok(Trust::Proven(proof)),
        Verdict::NeedsKey(request) => Ok(Trust::NeedsKey(request)),
        Verdict::NotConfigured => {
            Err(Error::new(Code::SecretMissing, "the webhook has no secret yet").hint("send it again later").into())
        }
        Verdict::Refused(refusal) => Err(Unbelieved {
            error: Error::new(Code::NotVerified, "the delivery could not be verified").detail(refusal.as_str()),
            refusal: Some(refusal),
        }),
    }
}

fn has_handshakes(definition: &Definition, verified: bool) -> bool {
    definition.document().challenge.iter().any(|challenge| challenge.verified == verified)
}

fn handshake(grounds: Grounds<'_>, payload: Option<&Payload>, verified: bool) -> Option<Handshake> {
    let Grounds { route, incoming, secrets, settings, .. } = grounds;
    provider::challenge(&route.definition, incoming, payload, secrets, settings, verified)
}

/// What is to be written for one thing that happened.
#[derive(Debug)]
pub struct Plan {
    pub delivery: DeliveryId,
    /// The item's own part of a batch; empty where the delivery is about one thing.
    pub part: Bytes,
    pub event: Event,
    pub decision: Decision,
    /// Seen under any of these before: nothing is written.
    pub dedupe: Vec<DedupeKey>,
    pub tasks: Vec<PlannedTask>,
    /// At once: that it was seen.
    pub acks: Vec<PlannedAck>,
    /// An answer in the HTTP response that the sender shows to people.
    pub response: Option<Response>,
    /// What was said, where no command was called by its name: a task may wait for it.
    pub message: Option<Message>,
}

#[derive(Debug)]
pub struct PlannedAck {
    pub call: PreparedCall,
    pub text: String,
    /// It is an answer of its own rather than a sign of having seen something.
    pub whole: bool,
}

/// What the shell lends to [`plan`]: compiled templates, and fresh ids.
#[derive(Clone, Copy)]
pub struct Lent<'a> {
    pub template: &'a dyn Fn(&CommandSpec) -> Result<Arc<Template>>,
    pub fresh_id: &'a dyn Fn() -> Uuid,
    /// What runs and waits in a flow, in words, where that was looked up.
    pub standing: &'a dyn Fn(&str) -> Option<String>,
    /// What each item only named, by field of the event, where it was fetched.
    pub enriched: &'a [BTreeMap<String, String>],
}

/// What follows from a verified delivery; empty for an empty batch.
pub fn plan(grounds: Grounds<'_>, verified: &Verified, revision: Digest, lent: Lent<'_>) -> Result<Vec<Plan>> {
    let Grounds { route, incoming, settings, .. } = grounds;
    let Verified { proof, payload } = verified;
    let items = provider::extract(&route.definition, incoming, payload, settings, proof.as_ref())?;
    let is_batch = !route.definition.document().split.is_empty();
    let plan_one = |(n, mut item): (usize, Item)| {
        if let Some(fields) = lent.enriched.get(n) {
            item.event.text = fields.get("text").map(|text| text.trim().to_owned()).or(item.event.text);
            item.event.title = fields.get("title").cloned().or(item.event.title);
        }
        let delivered = Delivered {
            definition: &route.definition,
            incoming,
            payload,
            item: is_batch.then_some(&item.payload),
            settings,
        };
        let delivery = DeliveryId((lent.fresh_id)());
        let nonce = proof.as_ref().and_then(|proof| proof.nonce.as_deref());
        let dedupe = dedupe::keys(&route.spec.id, &item, incoming, is_batch, nonce);
        Planner { grounds, delivered, item: &item, delivery, revision, lent }.plan(dedupe)
    };
    Ok(items.into_iter().enumerate().map(plan_one).collect())
}

/// A call that fetches what an item only names, and what to take from the answer: fields of the event, with pointers.
#[derive(Debug)]
pub struct Enrichment {
    pub call: PreparedCall,
    pub take: Vec<(String, String)>,
}

/// For each item of a verified delivery, what is to be fetched before it can be planned.
pub fn enrichments(grounds: Grounds<'_>, verified: &Verified) -> Result<Vec<Vec<Enrichment>>> {
    let Grounds { route, incoming, settings, .. } = grounds;
    let Verified { proof, payload } = verified;
    let items = provider::extract(&route.definition, incoming, payload, settings, proof.as_ref())?;
    let is_batch = !route.definition.document().split.is_empty();
    let of_item = |item: &Item| {
        let item = is_batch.then_some(&item.payload);
        let delivered = Delivered { definition: &route.definition, incoming, payload, item, settings };
        let calls = provider::enrich_calls(&delivered).into_iter();
        calls.map(|(call, take)| Enrichment { call, take }).collect()
    };
    Ok(items.iter().map(of_item).collect())
}

struct Planner<'a> {
    grounds: Grounds<'a>,
    delivered: Delivered<'a>,
    item: &'a Item,
    delivery: DeliveryId,
    revision: Digest,
    lent: Lent<'a>,
}

impl Planner<'_> {
    fn plan(&self, dedupe: Vec<DedupeKey>) -> Plan {
        let (route, event) = (self.grounds.route, &self.item.event);
        let mut decision = route.matcher.decide(event, &self.item.payload);
        let wanted = !decision.selected.is_empty();
        let named = decision.selected.iter().any(|one| !one.by_default);
        let said = message::text_of(event).filter(|_| !named);
        let (mut lookup, mut heard) = (None, None);
        if wanted || said.is_some() {
            match self.admitted() {
                Ok(asks) => (lookup, heard) = (asks, said),
                Err(why) if wanted => ignore(&mut decision, why),
                Err(_) => {}
            }
        }
        let (tasks, responses) = self.tasks(&mut decision, lookup.as_ref());
        let acks = self.acks(&tasks).into_iter().collect();
        let response = responses.into_iter().next().or_else(|| self.response(&decision, !tasks.is_empty()));
        let part = self.delivered.item.map(|item| Bytes::from(item.to_string())).unwrap_or_default();
        let message = heard.map(|text| self.message(text, lookup));
        Plan { delivery: self.delivery, part, event: event.clone(), decision, dedupe, tasks, acks, response, message }
    }

    /// What must be asked before anything of this may run; why nothing may.
    fn admitted(&self) -> Result<Option<PreparedLookup>, String> {
        match admit(&self.grounds.route.spec.allow, &self.item.event) {
            Admission::Admit => Ok(None),
            Admission::Ask => match provider::lookup_call(&self.delivered) {
                Some(lookup) => Ok(Some(lookup)),
                None => Err("nothing tells whether the actor may start runs here".to_owned()),
            },
            Admission::Refuse(why) | Admission::Ignore(why) => Err(why),
        }
    }

    fn tasks(&self, decision: &mut Decision, lookup: Option<&PreparedLookup>) -> (Vec<PlannedTask>, Vec<Response>) {
        let (mut tasks, mut responses) = (Vec::new(), Vec::new());
        let mut failures: Vec<String> = Vec::new();
        let selected = std::mem::take(&mut decision.selected);
        for one in selected {
            match self.task(&one, lookup) {
                Ok((task, response)) => {
                    tasks.push(task);
                    responses.extend(response);
                    decision.selected.push(one);
                }
                Err(error) => {
                    if let Some(rule) = decision.rules.iter_mut().find(|rule| rule.command == one.command) {
                        rule.why = format!("{}, but it cannot run: {}", rule.why, error.message());
                    }
                    failures.push(error.message().to_owned());
                }
            }
        }
        if tasks.is_empty() && !failures.is_empty() {
            decision.ignored = Some(failures.join("; "));
        }
        (tasks, responses)
    }

    fn message(&self, text: &str, lookup: Option<PreparedLookup>) -> Message {
        let spec = &self.grounds.route.spec;
        Message {
            text: text.to_owned(),
            source: source::of(spec, &self.item.event, self.delivery),
            lookup,
            reply: match spec.reply {
                ReplyMode::Comment => provider::reply_call(&self.delivered),
                ReplyMode::None => None,
            },
            ack: self.ack("Going on.".to_owned()),
        }
    }

    /// Of what an agent runs for; the others speak at once.
    fn acks(&self, tasks: &[PlannedTask]) -> Option<PlannedAck> {
        let runs: Vec<&PlannedTask> = tasks.iter().filter(|task| task.says.is_none()).collect();
        if runs.is_empty() { None } else { self.ack(seen_text(&runs)) }
    }

    fn ack(&self, text: String) -> Option<PlannedAck> {
        match self.grounds.route.spec.ack {
            AckMode::None => None,
            AckMode::Reaction => Some(PlannedAck { call: provider::ack_call(&self.delivered)?, text, whole: false }),
            AckMode::Comment => {
                let call = provider::reply_call(&self.delivered)?;
                // A mark of its own: that of a task belongs to its answer.
                let mark = TaskId((self.lent.fresh_id)());
                let marked = call.reply.as_ref().and_then(|reply| reply.messages(&text, mark).into_iter().next());
                Some(PlannedAck { text: marked.unwrap_or(text), call, whole: true })
            }
        }
    }

    /// Senders whose people wait for the response get one when something runs, and always where they typed a command.
    fn response(&self, decision: &Decision, runs: bool) -> Option<Response> {
        if self.grounds.route.spec.ack == AckMode::None && runs {
            return None;
        }
        if runs {
            return provider::ack_response(&self.delivered, "Working on it.");
        }
        if self.item.event.name != "slash_command" {
            return None;
        }
        let why = decision.ignored.as_deref().unwrap_or("no command matches");
        provider::ack_response(&self.delivered, &format!("Nothing was started: {why}."))
    }
}

fn seen_text(tasks: &[&PlannedTask]) -> String {
    let commands: Vec<String> = tasks.iter().map(|task| format!("`{}`", task.spec.command)).collect();
    format!("Working on {}.", commands.join(" and "))
}

fn ignore(decision: &mut Decision, why: String) {
    decision.selected.clear();
    decision.ignored = Some(why);
}
