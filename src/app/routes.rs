//! Makes what the receiver reads from what a pass published: routes, and the secrets that verify their deliveries.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::http::intake::{CurrentRoutes, CurrentSecrets};
use crate::index::{Reader, State};
use crate::model::digest::Digest;
use crate::model::entry::WebhookEntry;
use crate::model::ids::WebhookId;
use crate::model::provider::{Catalogue, Definition};
use crate::model::routes::{Route, Routes};
use crate::secrets::Secrets;

/// How often secrets are looked for again: a file that is written later is seen without an edit of the skill.
const SECRETS_AGAIN: Duration = Duration::from_secs(5);

/// Keeps the routes that did not change.
#[derive(Debug)]
pub(super) struct Publisher {
    pub routes: CurrentRoutes,
    pub secrets: CurrentSecrets,
    pub finder: Secrets,
    pub made: HashMap<WebhookId, (Digest, Arc<Route>)>,
}

impl Publisher {
    pub(super) fn publish(&mut self, state: &State, revision: Digest, catalogue: &Catalogue) {
        let mut made = HashMap::with_capacity(state.observed.webhooks.len());
        for (id, entry) in &state.observed.webhooks {
            let kept = self
                .made
                .remove(id)
                .filter(|(digest, route)| (*digest, route.generation) == (entry.digest, entry.generation));
            let route = kept.map(|(_, route)| route).or_else(|| route(entry, catalogue));
            made.extend(route.map(|route| (id.clone(), (entry.digest, route))));
        }
        publish_secrets(&self.secrets, &self.finder, state);
        let routes = made.values().map(|(_, route)| Arc::clone(route)).collect::<Vec<_>>();
        self.routes.publish(Arc::new(Routes::new(routes, state.digest, revision)));
        self.made = made;
    }
}

/// A checked webhook makes a route; one that does not is a fault of ours and is said aloud.
fn route(entry: &WebhookEntry, catalogue: &Catalogue) -> Option<Arc<Route>> {
    let base = catalogue.get(entry.spec.provider.as_str())?;
    let definition: Arc<Definition> = match &entry.spec.definition {
        None => Arc::clone(base),
        Some(fragment) => match base.overlaid(fragment) {
            Ok(definition) => Arc::new(definition),
            Err(faults) => {
                tracing::error!(webhook = %entry.spec.id, faults = faults.len(), "the inline definition is not usable");
                return None;
            }
        },
    };
    match Route::new(entry.spec.clone(), entry.generation, definition) {
        Ok(route) => Some(Arc::new(route)),
        Err(error) => {
            tracing::error!(webhook = %entry.spec.id, error = error.internal(), "the webhook makes no route");
            None
        }
    }
}

fn publish_secrets(current: &CurrentSecrets, finder: &Secrets, state: &State) {
    let webhooks = state.observed.webhooks.iter();
    current.publish(webhooks.map(|(id, entry)| (id.clone(), Arc::new(finder.for_webhook(&entry.spec)))).collect());
}

/// Looks for secrets again now and then.
pub(super) async fn keep_secrets(current: CurrentSecrets, finder: Secrets, reader: Reader, stop: CancellationToken) {
    loop {
        tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(SECRETS_AGAIN) => {} }
        let (current, finder, state) = (current.clone(), finder.clone(), reader.state());
        if tokio::task::spawn_blocking(move || publish_secrets(&current, &finder, &state)).await.is_err() {
            return;
        }
    }
}
