//! What is in force: one writer publishes a whole value, any number of readers take it without waiting.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::model::ids::WebhookId;
use crate::model::routes::Routes;
use crate::model::secret::SecretSet;

/// The routes in force; empty until the first pass has been applied. A cheap handle.
#[derive(Clone, Debug, Default)]
pub struct CurrentRoutes {
    routes: Arc<ArcSwapOption<Routes>>,
}

impl CurrentRoutes {
    pub fn publish(&self, routes: Arc<Routes>) {
        self.routes.store(Some(routes));
    }

    /// While the index is being rebuilt: deliveries are answered 503, never 404.
    pub fn withdraw(&self) {
        self.routes.store(None);
    }

    pub fn current(&self) -> Option<Arc<Routes>> {
        self.routes.load_full()
    }
}

/// The secrets of each webhook as they were found last. A cheap handle.
#[derive(Clone, Debug, Default)]
pub struct CurrentSecrets {
    sets: Arc<ArcSwap<HashMap<WebhookId, Arc<SecretSet>>>>,
}

impl CurrentSecrets {
    pub fn publish(&self, sets: HashMap<WebhookId, Arc<SecretSet>>) {
        self.sets.store(Arc::new(sets));
    }

    /// An empty set where nothing was found, which verifies nothing.
    pub(super) fn of(&self, webhook: &WebhookId) -> Arc<SecretSet> {
        self.sets.load().get(webhook).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_whose_secrets_were_not_found_has_none() {
        let secrets = CurrentSecrets::default();
        let webhook = WebhookId::parse("github").unwrap();
        assert_eq!(secrets.of(&webhook).slots().count(), 0);
        secrets.publish([(webhook.clone(), Arc::new(SecretSet::new().with("a", "b")))].into());
        assert_eq!(secrets.of(&webhook).slots().count(), 1);
    }
}
