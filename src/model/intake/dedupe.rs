//! Under which keys a delivery counts as seen.
//!
//! The sender's id is one. Where no signature covers that id, whoever has captured a delivery could send it again
//! under a new one, so the body is another; and it is the only one where there is no id. An item of a batch has keys
//! of its own, since senders batch what they repeat anew.

use std::time::Duration;

use crate::model::digest::Digest;
use crate::model::ids::WebhookId;
use crate::model::provider::{Incoming, Item};

const ID_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
const BODY_KEPT: Duration = Duration::from_secs(72 * 3600);

/// A key, and for how long it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupeKey {
    pub key: Digest,
    pub kept: Duration,
}

pub fn keys(
    webhook: &WebhookId,
    item: &Item,
    incoming: &Incoming,
    is_batch: bool,
    nonce: Option<&str>,
) -> Vec<DedupeKey> {
    let key = |kind: &str, value: &[u8], kept| {
        let key = Digest::of_parts([webhook.as_str().as_bytes(), kind.as_bytes(), value]);
        DedupeKey { key, kept }
    };
    let event = &item.event;
    let mut keys = Vec::with_capacity(2);
    if let Some(id) = &event.delivery_id {
        keys.push(key("id", id.as_bytes(), ID_KEPT));
    }
    if event.delivery_id.is_none() || !event.delivery_id_signed {
        let body = if is_batch { Digest::of_value(&item.payload) } else { Digest::of(&incoming.body) };
        keys.push(key("body", body.as_bytes(), BODY_KEPT));
    }
    // A nonce speaks for the whole request, so it cannot tell the items of a batch apart.
    if let Some(nonce) = nonce.filter(|_| !is_batch) {
        keys.push(key("nonce", nonce.as_bytes(), ID_KEPT));
    }
    keys
}
