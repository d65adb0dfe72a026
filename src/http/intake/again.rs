//! Deliveries that were believed before, taken in once more: with the routes of now, and without a signature, which is
//! not kept. And samples, signed with the webhook's own secret and verified like any delivery. Nothing here is reached
//! by a request of a provider.

use std::sync::Arc;

use bytes::Bytes;

use super::{Arrived, Intake, Thought, transition};
use crate::error::{Code, Error, Result};
use crate::ledger::rows::{Delivery, RawRequest};
use crate::model::ids::{DeliveryId, TaskId, WebhookId};
use crate::model::intake::{self, Lent, Plan};
use crate::model::provider::sample::{self, Sample};
use crate::model::provider::{FetchedKeys, Headers, Incoming};
use crate::seam::fresh_id;

/// What came of it.
#[derive(Clone, Debug)]
pub struct Again {
    pub delivery: DeliveryId,
    pub tasks: Vec<TaskId>,
}

impl Intake {
    /// What the webhook of now makes of a delivery. Nothing is written.
    ///
    /// # Errors
    /// SH0401 when there is no such webhook any more, else those of reading the body.
    pub async fn reconsider(self: &Arc<Self>, delivery: &Delivery, request: RawRequest) -> Result<Vec<Plan>> {
        let arrived = self.arrived(&delivery.webhook, incoming(request))?;
        self.plans(arrived.clone()).await.map(|plans| of_the_same(plans, delivery))
    }

    /// Takes a delivery in once more, whatever was seen before.
    ///
    /// # Errors
    /// As [`Intake::reconsider`], SH0411 when the webhook is disabled, SH0601 when it cannot be written.
    pub async fn replay(self: &Arc<Self>, delivery: &Delivery, request: RawRequest) -> Result<Vec<Again>> {
        let arrived = self.arrived(&delivery.webhook, incoming(request))?;
        if !arrived.route.spec.enabled {
            return Err(Error::new(Code::WebhookDisabled, "the webhook is disabled"));
        }
        let plans = of_the_same(self.plans(arrived.clone()).await?, delivery);
        let mut again = Vec::with_capacity(plans.len());
        for mut plan in plans {
            plan.dedupe.clear();
            again.push(self.take_in(&arrived, plan, "replay", delivery.scheme.clone()).await?);
        }
        Ok(again)
    }

    /// Takes a sample in as a delivery: signed with the webhook's secret, and verified as any other.
    ///
    /// # Errors
    /// SH0408 without a secret, else those of a delivery.
    pub async fn send(self: &Arc<Self>, webhook: &WebhookId, sample: &Sample) -> Result<Vec<Again>> {
        let routes = self.routes.current().ok_or_else(not_ready)?;
        let route = routes.webhook(webhook).ok_or_else(unknown)?;
        let url = format!("http://localhost{}", route.spec.endpoint);
        let (secrets, now) = (self.secrets.of(webhook), self.clock.now());
        let id = fresh_id().to_string();
        let incoming = sample::sign(&route.definition, &secrets, sample, &url, &id, now)?;
        let arrived = self.arrived(webhook, incoming)?;
        let thought = self.think_with_key(&arrived).await.map_err(|refused| refused.error)?;
        let Thought::Plans { mut plans, verified } = thought else {
            return Err(Error::new(Code::Usage, "the sample asks for a handshake, which makes no delivery"));
        };
        if plans.is_empty() {
            let enriched = self.enriched(&arrived, &verified).await?;
            plans = self.plan(&arrived, &verified, super::Known { enriched: &enriched, standing: None })?;
        }
        let scheme = verified.proof.as_ref().map(|proof| proof.scheme().to_owned());
        let mut sent = Vec::with_capacity(plans.len());
        for plan in plans {
            sent.push(self.take_in(&arrived, plan, "test", scheme.clone()).await?);
        }
        Ok(sent)
    }

    async fn take_in(&self, arrived: &Arrived, plan: Plan, peer: &str, scheme: Option<String>) -> Result<Again> {
        let body: Bytes = arrived.incoming.body.clone();
        let accept = transition::accept(arrived, plan, body, peer, scheme);
        let (delivery, tasks) = (accept.delivery.id, accept.delivery.tasks.clone());
        self.ledger.accept(accept).await?;
        Ok(Again { delivery, tasks })
    }

    /// What a webhook makes of a sample. Nothing is written, nothing is signed.
    ///
    /// # Errors
    /// As [`Intake::reconsider`].
    pub async fn consider(self: &Arc<Self>, webhook: &WebhookId, sample: &Sample) -> Result<Vec<Plan>> {
        let routes = self.routes.current().ok_or_else(not_ready)?;
        let route = routes.webhook(webhook).ok_or_else(unknown)?;
        let url = format!("http://localhost{}", route.spec.endpoint);
        let (secrets, now) = (self.secrets.of(webhook), self.clock.now());
        let signed = sample::sign(&route.definition, &secrets, sample, &url, "test", now);
        // A webhook whose secret is not set yet can be tried too.
        let incoming = signed.unwrap_or_else(|_| {
            let headers = sample.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
            Incoming::new("POST", url, headers.collect(), sample.body.to_string())
        });
        self.plans(self.arrived(webhook, incoming)?).await
    }

    fn arrived(&self, webhook: &WebhookId, incoming: Incoming) -> Result<Arc<Arrived>> {
        let routes = self.routes.current().ok_or_else(not_ready)?;
        let route = Arc::clone(routes.webhook(webhook).ok_or_else(unknown)?);
        let (secrets, now) = (self.secrets.of(webhook), self.clock.now());
        Ok(Arc::new(Arrived { routes, route, incoming, secrets, now }))
    }

    async fn plans(self: &Arc<Self>, arrived: Arc<Arrived>) -> Result<Vec<Plan>> {
        let intake = Arc::clone(self);
        let thinking = tokio::task::spawn_blocking(move || {
            let keys = FetchedKeys::default();
            let grounds = intake.grounds(&arrived, &keys);
            let template = |command: &_| intake.templates.get(&arrived.route, command);
            // Nothing is asked elsewhere for a look at what would happen.
            let lent = Lent { template: &template, fresh_id: &fresh_id, standing: &|_| None, enriched: &[] };
            intake::plan(grounds, &intake::believed(grounds)?, arrived.routes.revision, lent)
        });
        thinking.await.unwrap_or_else(|error| Err(Error::new(Code::Bug, "skillhook itself has a fault").detail(error)))
    }
}

fn incoming(request: RawRequest) -> Incoming {
    let latin1 = |value: &str| value.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect::<Vec<u8>>();
    let headers: Headers = request.headers.iter().map(|(name, value)| (name.as_str(), latin1(value))).collect();
    Incoming::new(&request.method, request.url, headers, request.body)
}

/// Of a batch that was stored whole, the item that this delivery is about.
fn of_the_same(mut plans: Vec<Plan>, delivery: &Delivery) -> Vec<Plan> {
    let Some(item) = delivery.items.first() else { return plans };
    if plans.iter().any(|plan| plan.event == item.event) {
        plans.retain(|plan| plan.event == item.event);
    }
    plans
}

fn not_ready() -> Error {
    Error::new(Code::NotReady, "the first pass has not been applied yet")
}

fn unknown() -> Error {
    Error::new(Code::UnknownEndpoint, "the webhook is not there any more")
}
