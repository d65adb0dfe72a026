//! Hears of what other nodes commit, and knows whether this node leads: on a connection of its own.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::SharedStore;
use super::lease::{self, NodeSeen};
use crate::error::Result;
use crate::ledger::store::Failure;
use crate::postgres;

/// Pause before a connection that was lost is made again.
const PAUSE: Duration = Duration::from_millis(500);

/// Who is told that there is something to look at.
pub type Follower = Arc<dyn Fn() + Send + Sync>;

/// What runs beside the writer, and what it has heard.
#[derive(Debug, Default)]
pub struct News {
    /// The nodes that are alive.
    pub nodes: watch::Sender<Vec<NodeSeen>>,
    following: Mutex<Option<JoinHandle<()>>>,
}

impl News {
    fn keep(&self, following: JoinHandle<()>) {
        *self.following.lock().unwrap_or_else(PoisonError::into_inner) = Some(following);
    }

    pub fn end(&self) {
        if let Some(following) = self.following.lock().unwrap_or_else(PoisonError::into_inner).take() {
            following.abort();
        }
    }
}

impl SharedStore {
    /// From here on `follower` is called whenever others have committed, and often enough to renew the lease.
    pub fn follow(self: &Arc<Self>, follower: Follower) {
        let store = Arc::downgrade(self);
        let beat = self.lease.beat();
        let following = self.runtime().spawn(async move {
            loop {
                let Some(database) = store.upgrade().map(|store| store.database.clone()) else { return };
                let listening = async {
                    let (client, mut notified) = database.connect().await?;
                    let listen = format!("LISTEN {}", database.schema());
                    client.batch_execute(&listen).await.map_err(postgres::failed)?;
                    loop {
                        let leads = client.query_one(&leading(database.schema()), &[]).await;
                        let leads = leads.map_err(postgres::failed)?.get(0);
                        let nodes = lease::nodes(&client).await.map_err(Failure::into_error)?;
                        let Some(store) = store.upgrade() else { return Ok(()) };
                        store.leads.store(leads, Ordering::Release);
                        store.news.nodes.send_if_modified(|known| std::mem::replace(known, nodes.clone()) != nodes);
                        drop(store);
                        let pulse = tokio::time::Instant::now() + beat;
                        let payloads = notified.borrow_and_update().payloads;
                        while notified.borrow_and_update().payloads == payloads {
                            follower();
                            match tokio::time::timeout_at(pulse, notified.changed()).await {
                                Ok(Ok(())) => {}
                                Ok(Err(_)) => return Ok(()),
                                Err(_) => break,
                            }
                        }
                    }
                };
                let heard: Result<()> = listening.await;
                let Some(store) = store.upgrade() else { return };
                store.leads.store(false, Ordering::Release);
                drop(store);
                if let Err(error) = heard {
                    tracing::debug!(error = error.internal(), "the ledger's database cannot be listened to");
                }
                follower();
                tokio::time::sleep(PAUSE.min(beat)).await;
            }
        });
        self.news.keep(following);
    }
}

/// Whether this session has the leader's lock, which it then keeps while it lives. The lock is taken at most once: a
/// second one would have to be given back as well.
fn leading(schema: &str) -> String {
    format!(
        "SELECT CASE
             WHEN EXISTS (
                 SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted
                 AND mode = 'ExclusiveLock' AND objsubid = 1
                 AND (classid::bigint << 32) | objid::bigint = hashtextextended('skillhook leader {schema}', 0)
             ) THEN true
             ELSE pg_try_advisory_lock(hashtextextended('skillhook leader {schema}', 0))
         END"
    )
}
