//! Several nodes on one ledger: each says what it has in force, hears when another one has something new, and knows
//! whether it is the odd one out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::Config;
use crate::http::api::access::Access;
use crate::ledger::{Ledger, NodeSeen};
use crate::reconcile::activator::{Activator, Scope};
use crate::reconcile::pass::Published;
use crate::reconcile::source::Bell;
use crate::telemetry::metrics::Metrics;

/// Nodes may differ for so long while a change reaches them all.
const GRACE: Duration = Duration::from_secs(30);
/// How often it is looked whether the difference has lasted.
const TICK: Duration = Duration::from_secs(5);

/// What the node needs to know of the others, and to say.
pub(super) struct Nodes {
    pub(super) ledger: Ledger,
    pub(super) access: Access,
    pub(super) activator: Activator,
    pub(super) bell: Bell,
    pub(super) published: watch::Receiver<Option<Published>>,
    pub(super) metrics: Metrics,
    /// Set while deliveries are to be refused.
    pub(super) stopped: Arc<AtomicBool>,
    pub(super) stops: bool,
}

/// Says who this node is.
pub(super) fn introduce(ledger: &Ledger, config: &Config) {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().to_owned();
    ledger.introduce(|about| {
        about.name = format!("{host} {}", config.settings.server.listen);
        about.roles.clone_from(&config.settings.server.roles);
        about.version = env!("CARGO_PKG_VERSION").to_owned();
    });
}

impl Nodes {
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let (Some(own), Some(mut nodes)) = (self.ledger.node(), self.ledger.nodes()) else {
            return stop.cancelled().await;
        };
        let mut tokens = self.ledger.tokens_changed();
        let mut others = BTreeMap::new();
        let mut differs_since = None;
        loop {
            let mine = self.published.borrow_and_update().as_ref().map(|news| news.report.index_digest.to_string());
            self.ledger.introduce(|about| about.index_digest.clone_from(&mine));
            let seen = nodes.borrow_and_update().clone();
            self.follow(own, mine.as_deref(), &seen, &mut others);
            let differs = mine.is_some_and(|mine| is_odd(own, &mine, &seen));
            self.judge(differs, &mut differs_since);
            self.metrics.observe_nodes(seen.len(), differs);
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.published.changed() => if changed.is_err() { return },
                changed = nodes.changed() => if changed.is_err() { return },
                changed = tokens.changed() => {
                    if changed.is_err() { return }
                    self.read_tokens().await;
                }
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// What another node has put in force since may have come by the remote.
    fn follow(&self, own: Uuid, mine: Option<&str>, seen: &[NodeSeen], others: &mut BTreeMap<Uuid, String>) {
        let now: BTreeMap<Uuid, String> = seen
            .iter()
            .filter(|node| node.id != own)
            .filter_map(|node| Some((node.id, node.about.index_digest.clone()?)))
            .collect();
        let is_news =
            |(node, digest): (&Uuid, &String)| others.get(node) != Some(digest) && mine != Some(digest.as_str());
        if now.iter().any(is_news) {
            tracing::debug!("another node has another index: the remote is asked");
            self.bell.ring();
            self.activator.activate(Scope::Everything, "node");
        }
        *others = now;
    }

    fn judge(&self, differs: bool, since: &mut Option<Instant>) {
        if !differs {
            if since.take().is_some_and(|since| since.elapsed() >= GRACE) {
                tracing::info!("the index of this node is that of the others again");
            }
            self.stopped.store(false, Ordering::Release);
            return;
        }
        let lasted = since.get_or_insert_with(Instant::now).elapsed() >= GRACE;
        if lasted && !self.stopped.swap(self.stops, Ordering::AcqRel) {
            tracing::warn!(stops = self.stops, "the index of this node is not that of the other nodes");
        }
    }

    async fn read_tokens(&self) {
        let access = self.access.clone();
        match tokio::task::spawn_blocking(move || access.read_again()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = error.internal(), "the tokens cannot be read again"),
            Err(_) => tracing::error!("reading the tokens went wrong"),
        }
    }
}

/// Whether most nodes have another index; of two sides that are equally many, the one with the lowest node is right.
fn is_odd(own: Uuid, mine: &str, seen: &[NodeSeen]) -> bool {
    let mut sides: BTreeMap<&str, (usize, Uuid)> = BTreeMap::from([(mine, (0, own))]);
    for node in seen {
        let digest = if node.id == own { Some(mine) } else { node.about.index_digest.as_deref() };
        if let Some(digest) = digest {
            let side = sides.entry(digest).or_insert((0, node.id));
            *side = (side.0 + 1, side.1.min(node.id));
        }
    }
    let right = sides.iter().max_by_key(|(_, (count, lowest))| (*count, std::cmp::Reverse(*lowest)));
    right.is_some_and(|(digest, _)| *digest != mine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::About;

    fn node(number: u128, digest: &str) -> NodeSeen {
        let index_digest = Some(digest.to_owned()).filter(|digest| !digest.is_empty());
        NodeSeen { id: Uuid::from_u128(number), about: About { index_digest, ..About::default() } }
    }

    #[test]
    fn the_odd_one_is_whoever_has_not_what_most_have() {
        for (nodes, odd) in [
            (vec![node(1, "a")], vec![]),
            (vec![node(1, "a"), node(2, "a")], vec![]),
            (vec![node(1, "a"), node(2, "b")], vec![2]),
            (vec![node(1, "a"), node(2, "b"), node(3, "b")], vec![1]),
            (vec![node(1, ""), node(2, "b"), node(3, "b")], vec![]),
        ] {
            let is_odd = |node: &&NodeSeen| {
                node.about.index_digest.as_deref().is_some_and(|digest| super::is_odd(node.id, digest, &nodes))
            };
            let found: Vec<u128> = nodes.iter().filter(is_odd).map(|node| node.id.as_u128()).collect();
            assert_eq!(found, odd, "{nodes:?}");
        }
    }
}
