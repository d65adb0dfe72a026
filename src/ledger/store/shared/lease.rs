//! This node's life, as the database sees it, and as the node itself may count on it.
//!
//! The database's clock decides: a node is gone when its lease has ended there. The node counts by its own steady clock
//! from *before* the renewal was sent, and lets go of what it runs at three quarters of the lease, so that even with a
//! clock that runs a quarter too slow nothing has two holders.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use uuid::Uuid;

use super::wire::lost;
use crate::error::{Code, Context as _, Result};
use crate::ledger::store::Failure;
use crate::seam::fresh_id;

/// Nothing is renewed where another process has taken the node's name.
pub const RENEW: &str = "
    INSERT INTO node (id, boot, alive_until, about) VALUES ($1, $2, now() + make_interval(secs => $3), $4)
    ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until, about = excluded.about
    WHERE node.boot = excluded.boot";
pub const LEAVE: &str = "DELETE FROM node WHERE id = $1 AND boot = $2";
pub const BURY: &str = "DELETE FROM node WHERE alive_until < now()";
pub const OWNERLESS: &str =
    "SELECT book, key FROM holder WHERE NOT EXISTS (SELECT FROM node WHERE node.id = holder.node)";

#[derive(Debug)]
pub struct Lease {
    node: Uuid,
    /// Of this process: who came last has the node's name.
    boot: Uuid,
    length: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the last renewal that came through was sent.
    renewed: Option<Instant>,
    about: About,
    /// The others have not heard of it yet.
    is_news: bool,
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// For people.
    pub name: String,
    pub roles: Vec<String>,
    pub version: String,
    /// Of the index that it has in force.
    pub index_digest: Option<String>,
}

impl std::fmt::Display for About {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digest = self.index_digest.as_deref().unwrap_or("no index");
        write!(f, "{} ({}) {}", self.name, self.roles.join(", "), digest.get(..12).unwrap_or(digest))
    }
}

/// A node that is alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeSeen {
    pub id: Uuid,
    #[serde(flatten)]
    pub about: About,
}

impl Lease {
    pub fn new(node: Uuid, boot: Uuid, length: Duration) -> Self {
        Self { node, boot, length, state: Mutex::default() }
    }

    pub fn node(&self) -> Uuid {
        self.node
    }

    pub fn boot(&self) -> Uuid {
        self.boot
    }

    pub fn seconds(&self) -> f64 {
        self.length.as_secs_f64()
    }

    /// How often somebody has to look after it.
    pub fn beat(&self) -> Duration {
        self.length / 12
    }

    pub fn about(&self) -> String {
        serde_json::to_string(&self.state().about).unwrap_or_default()
    }

    /// What the node says of itself from the next renewal on, which comes soon.
    pub fn introduce(&self, change: impl FnOnce(&mut About)) {
        let mut state = self.state();
        let before = state.about.clone();
        change(&mut state.about);
        state.is_news |= state.about != before;
    }

    pub fn is_to_be_renewed(&self) -> bool {
        let state = self.state();
        state.is_news || state.renewed.is_none_or(|renewed| renewed.elapsed() >= self.length / 4)
    }

    /// Whether the others are to hear what this node says of itself.
    pub fn take_news(&self) -> bool {
        std::mem::take(&mut self.state().is_news)
    }

    /// A renewal that was sent then came through.
    pub fn renewed(&self, sent: Option<Instant>) {
        if let Some(sent) = sent {
            self.state().renewed = Some(sent);
        }
    }

    /// Whether this node may count on what it holds.
    pub fn holds(&self) -> bool {
        self.state().renewed.is_some_and(|renewed| holds_after(self.length, renewed.elapsed()))
    }

    /// Enters this node under its name; a process that had the name before has it no longer.
    pub async fn enter(&self, client: &Client) -> Result<(), Failure> {
        let enter =
            "INSERT INTO node (id, boot, alive_until, about) VALUES ($1, $2, now() + make_interval(secs => $3), '')
                     ON CONFLICT (id) DO UPDATE SET boot = excluded.boot, alive_until = excluded.alive_until";
        let sent = Instant::now();
        client.execute(enter, &[&self.node, &self.boot, &self.seconds()]).await.map_err(lost)?;
        self.renewed(Some(sent));
        Ok(())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a node may still count on a lease of this length so long after it sent the last renewal that came through.
pub fn holds_after(length: Duration, elapsed: Duration) -> bool {
    elapsed < length * 3 / 4
}

pub async fn nodes(client: &Client) -> Result<Vec<NodeSeen>, Failure> {
    let alive = "SELECT id, about FROM node WHERE alive_until >= now() ORDER BY id";
    let rows = client.query(alive, &[]).await.map_err(lost)?;
    let about = |text: &str| serde_json::from_str(text).unwrap_or_default();
    Ok(rows.iter().map(|row| NodeSeen { id: row.get(0), about: about(row.get(1)) }).collect())
}

/// The name that this node keeps, so that it finds what it held after a restart.
pub fn own_name(path: &Path) -> Result<Uuid> {
    let cannot = "the node's name cannot be kept in the data directory";
    match fs::read_to_string(path) {
        Ok(text) => Uuid::parse_str(text.trim()).context(Code::LedgerDamaged, "the file `node` holds no node's name"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let name = fresh_id();
            let draft = path.with_extension("new");
            fs::write(&draft, format!("{name}\n")).context(Code::LedgerUnavailable, cannot)?;
            fs::rename(&draft, path).context(Code::LedgerUnavailable, cannot)?;
            Ok(name)
        }
        Err(error) => Err(error).context(Code::LedgerUnavailable, cannot),
    }
}
