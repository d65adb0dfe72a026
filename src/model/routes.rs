//! Where deliveries go: one route a webhook, found by the exact path that the sender called.
//!
//! A route holds everything that a decision needs, so a decision never looks at the index. Routes are made whole by a
//! pass and then only read; nothing in here changes.

use std::collections::HashMap;
use std::sync::Arc;

use super::digest::Digest;
use super::ids::WebhookId;
use super::matching::Matcher;
use super::provider::Definition;
use super::spec::WebhookSpec;
use crate::error::Result;

/// One webhook, ready to receive.
#[derive(Clone, Debug)]
pub struct Route {
    pub spec: WebhookSpec,
    pub generation: u64,
    /// With the inline sections of the webhook applied.
    pub definition: Arc<Definition>,
    pub matcher: Matcher,
}

impl Route {
    /// Compiles the conditions of the commands; `spec` has been checked, so an error is a fault of ours.
    pub fn new(spec: WebhookSpec, generation: u64, definition: Arc<Definition>) -> Result<Self> {
        let matcher = Matcher::new(&spec)?;
        Ok(Self { spec, generation, definition, matcher })
    }
}

/// Every route of one published state.
#[derive(Clone, Debug)]
pub struct Routes {
    by_endpoint: HashMap<Box<str>, Arc<Route>>,
    pub index_digest: Digest,
    /// The served tree that tasks are pinned to.
    pub revision: Digest,
}

impl Routes {
    /// Endpoints are unique: that was checked over the whole snapshot.
    pub fn new(routes: impl IntoIterator<Item = Arc<Route>>, index_digest: Digest, revision: Digest) -> Self {
        let by_endpoint = routes.into_iter().map(|route| (route.spec.endpoint.as_str().into(), route)).collect();
        Self { by_endpoint, index_digest, revision }
    }

    /// The path as it was sent: endpoints consist of characters that no sender needs to encode, so another spelling
    /// of one is another path.
    pub fn find(&self, path: &str) -> Option<&Arc<Route>> {
        self.by_endpoint.get(path)
    }

    pub fn webhook(&self, id: &WebhookId) -> Option<&Arc<Route>> {
        self.by_endpoint.values().find(|route| route.spec.id == *id)
    }

    pub fn len(&self) -> usize {
        self.by_endpoint.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_endpoint.is_empty()
    }
}
