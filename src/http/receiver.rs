//! The public listener: deliveries, and whether the service lives and is ready.
//!
//! The order of work, cheap before dear: method and path, the cap on the body, then everything that [`Intake`] does.
//! Whoever has no webhook here learns nothing: an unknown path, another spelling of a known one and a wrong provider
//! are answered alike.

use std::sync::Arc;

use serde_json::json;
use warp::filters::BoxedFilter;
use warp::http::{Method, StatusCode};

use super::answer::Answer;
use super::body::Budget;
use super::exchange::{self, BodyStream, Head};
use super::intake::{Intake, refused_event};
use super::serve::Limits;
use crate::error::{Code, Error, Result};
use crate::model::routes::{Route, Routes};
use crate::telemetry::event::{BodyRead, Event as _};

/// The name of this listener in logs and metrics.
pub const LISTENER: &str = "receiver";
/// Everything below it is for webhooks.
const WEBHOOKS: &str = "/webhooks/";

/// The receiver as a filter.
pub fn filter(intake: Arc<Intake>, limits: &Limits) -> BoxedFilter<(warp::reply::Response,)> {
    let metrics = intake.metrics.clone();
    let budget = Budget::new(limits.bodies_bytes_max);
    let receiver = Arc::new(Receiver { intake, budget, limits: limits.clone() });
    exchange::filter(LISTENER, metrics, move |head, body| {
        let receiver = Arc::clone(&receiver);
        async move { receiver.answer(&head, body).await }
    })
}

struct Receiver {
    intake: Arc<Intake>,
    limits: Limits,
    budget: Budget,
}

impl Receiver {
    async fn answer(&self, head: &Head, body: BodyStream) -> Answer {
        if let Err(error) = head.check_form().and_then(|()| head.host()) {
            return self.refuse(None, head, error);
        }
        match head.path.as_str() {
            "/livez" => probe(head, Ok("live")),
            "/readyz" => probe(head, self.ready()),
            _ => self.webhook(head, body).await,
        }
    }

    fn ready(&self) -> Result<&'static str> {
        match self.intake.routes.current() {
            None => Err(Error::new(Code::NotReady, "the first pass has not been applied yet")),
            Some(_) if !self.intake.ledger.healthy() => {
                Err(Error::new(Code::LedgerUnavailable, "deliveries cannot be kept"))
            }
            Some(_) => Ok("ready"),
        }
    }

    async fn webhook(&self, head: &Head, stream: BodyStream) -> Answer {
        let (routes, route) = match self.find(&head.path) {
            Ok(found) => found,
            Err(error) => return self.refuse(None, head, error),
        };
        let methods = &route.definition.document().receive.methods;
        if !methods.iter().any(|method| method.as_str() == head.method.as_str()) {
            let allowed = methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(", ");
            let answer = Answer::method_not_allowed(&allowed);
            if let Some(error) = answer.error() {
                refused_event(Some(&route.spec.id), error, head, &self.intake.metrics);
            }
            return answer;
        }
        let bytes_max = self.limits.body_bytes_max.min(route.definition.document().receive.max_body);
        let body = match self.budget.read(head, stream, bytes_max, self.limits.body_deadline).await {
            Ok(body) => body,
            Err(error) => return self.refuse(Some(&route), head, error),
        };
        BodyRead { bytes: body.bytes().len() as u64 }.emit(&self.intake.metrics);
        let receiving = self.intake.receive(routes, Arc::clone(&route), head, body.bytes().clone());
        match tokio::time::timeout(self.limits.answer_deadline, receiving).await {
            Ok(answer) => answer,
            // It may still be written: then the sender's next try is a duplicate.
            Err(_) => {
                self.refuse(Some(&route), head, Error::new(Code::NotReady, "the delivery could not be kept in time"))
            }
        }
    }

    fn find(&self, path: &str) -> Result<(Arc<Routes>, Arc<Route>)> {
        let unknown = || Error::new(Code::UnknownEndpoint, "there is no webhook at this address");
        if !path.starts_with(WEBHOOKS) {
            return Err(unknown());
        }
        let Some(routes) = self.intake.routes.current() else {
            return Err(Error::new(Code::NotReady, "the server is not ready yet"));
        };
        if self.intake.is_stopped() {
            return Err(Error::new(Code::NotReady, "the configuration of this node is not that of the others"));
        }
        let route = routes.find(path).cloned().ok_or_else(unknown)?;
        Ok((routes, route))
    }

    fn refuse(&self, route: Option<&Route>, head: &Head, error: Error) -> Answer {
        refused_event(route.map(|route| &route.spec.id), &error, head, &self.intake.metrics);
        Answer::problem(error)
    }
}

fn probe(head: &Head, state: Result<&'static str>) -> Answer {
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Answer::method_not_allowed("GET, HEAD");
    }
    match state {
        Ok(status) => Answer::json(StatusCode::OK, &json!({ "status": status })),
        Err(error) => Answer::problem(error),
    }
}
