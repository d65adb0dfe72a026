//! The token buckets of webhooks that have a rate limit. They live in memory: a restart begins with full ones.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Code, Error, Result};
use crate::model::ids::WebhookId;
use crate::model::rate::Bucket;
use crate::model::spec::RateLimit;

/// Buckets kept before those that are full again are forgotten.
const KEPT_MAX: usize = 4096;

#[derive(Debug)]
pub struct Rates {
    since: Instant,
    buckets: Mutex<HashMap<WebhookId, (RateLimit, Bucket)>>,
}

impl Default for Rates {
    fn default() -> Self {
        Self { since: Instant::now(), buckets: Mutex::default() }
    }
}

/// A delivery came too early: refused with 429, and when it may come again.
#[derive(Debug)]
pub struct TooMany {
    pub error: Error,
    pub retry_after_seconds: u64,
}

impl Rates {
    pub fn take(&self, webhook: &WebhookId, limit: RateLimit) -> Result<(), TooMany> {
        self.take_at(webhook, limit, self.since.elapsed())
    }

    fn take_at(&self, webhook: &WebhookId, limit: RateLimit, now: Duration) -> Result<(), TooMany> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= KEPT_MAX && !buckets.contains_key(webhook) {
            buckets.retain(|_, (limit, bucket)| !bucket.is_full(*limit, now));
        }
        let (known, bucket) = buckets.entry(webhook.clone()).or_insert_with(|| (limit, Bucket::full(limit, now)));
        // An edited limit begins anew.
        if *known != limit {
            (*known, *bucket) = (limit, Bucket::full(limit, now));
        }
        bucket.take(limit, now).map_err(|wait| TooMany {
            error: Error::new(Code::RateLimited, "too many deliveries").hint("send it again later"),
            retry_after_seconds: wait.as_secs_f64().ceil().clamp(1.0, 86_400.0) as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_webhook_has_its_own_bucket_and_an_edited_limit_begins_anew() {
        let rates = Rates::default();
        let webhook = |id| WebhookId::parse(id).unwrap();
        let one = RateLimit { max: 1, per_seconds: 60 };
        let now = Duration::from_secs(5);
        assert!(rates.take_at(&webhook("a"), one, now).is_ok());
        assert_eq!(rates.take_at(&webhook("a"), one, now).unwrap_err().retry_after_seconds, 60);
        assert!(rates.take_at(&webhook("b"), one, now).is_ok());
        assert!(rates.take_at(&webhook("a"), RateLimit { max: 2, per_seconds: 60 }, now).is_ok());
    }

    #[test]
    fn buckets_that_are_full_again_are_forgotten() {
        let rates = Rates::default();
        let limit = RateLimit { max: 1, per_seconds: 60 };
        for n in 0..KEPT_MAX {
            assert!(rates.take_at(&WebhookId::parse(&format!("w{n}")).unwrap(), limit, Duration::ZERO).is_ok());
        }
        assert!(rates.take_at(&WebhookId::parse("new").unwrap(), limit, Duration::from_secs(60)).is_ok());
        assert_eq!(rates.buckets.lock().unwrap().len(), 1);
    }
}
