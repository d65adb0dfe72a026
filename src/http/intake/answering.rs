//! Answers in the form that a sender expects.

use warp::http::StatusCode;
use warp::http::header::HeaderName;

use crate::http::answer::Answer;
use crate::model::provider::Response;
use crate::model::routes::Route;
use crate::telemetry::event::Outcome;

/// As a provider definition words it.
pub(super) fn of_response(response: Response) -> Answer {
    let status = StatusCode::from_u16(response.status).unwrap_or(StatusCode::OK);
    let answer = match &response.content_type {
        Some(content_type) => Answer::of_type(status, content_type, response.body),
        None => Answer::text(status, response.body),
    };
    response.headers.iter().fold(answer, |answer, (name, value)| match HeaderName::from_bytes(name.as_bytes()) {
        Ok(name) => answer.header(name, value),
        Err(_) => answer,
    })
}

/// Some senders insist on a status or a body for what they count as delivered.
pub(super) fn in_the_senders_way(route: &Route, outcome: Outcome, body: &serde_json::Value) -> Answer {
    let ok = &route.definition.document().receive.ok;
    let status = StatusCode::from_u16(ok.status).unwrap_or(StatusCode::ACCEPTED);
    let status = if outcome != Outcome::Accepted && status == 202 { StatusCode::OK } else { status };
    match &ok.body {
        Some(text) => {
            Answer::of_type(status, ok.content_type.as_deref().unwrap_or("text/plain; charset=utf-8"), text.clone())
        }
        None if status == StatusCode::NO_CONTENT => Answer::empty(status),
        None => Answer::json(status, body),
    }
}
