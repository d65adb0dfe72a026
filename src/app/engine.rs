//! The ledger that the settings name.

use std::time::Duration;

use crate::config::{Config, LedgerPlace};
use crate::error::{Code, Context as _, Result};
use crate::http::api::access::Access;
use crate::ledger::{self, Ledger};
use crate::seam::Clock;

/// The tokens of a service that does not run; whoever can open its ledger owns it.
///
/// # Errors
/// SH0303 when the service runs, SH0601 when there can be no ledger.
pub fn tokens_at_rest(config: &Config) -> Result<(Ledger, Access)> {
    super::prepare_data(config)?;
    let ledger = Ledger::open(&config.data.join(ledger::FILE), options(config)?)?;
    let access = Access::open(ledger.clone(), Clock::System)?;
    Ok((ledger, access))
}

/// Reading a whole ledger may take seconds.
pub(super) async fn open(config: &Config) -> Result<Ledger> {
    let (file, options) = (config.data.join(ledger::FILE), options(config)?);
    let opening = tokio::task::spawn_blocking(move || Ledger::open(&file, options));
    opening.await.context(Code::LedgerUnavailable, "the ledger could not be opened")?
}

fn options(config: &Config) -> Result<ledger::Options> {
    let shared = match config.ledger()? {
        LedgerPlace::File => None,
        LedgerPlace::Postgres(url) => Some(ledger::SharedSettings { url, lease: config.lease() }),
    };
    Ok(ledger::Options {
        shared,
        cache_bytes: config.settings.queue.cache_mib << 20,
        keep: Duration::from_secs(config.settings.queue.keep_days.saturating_mul(24 * 60 * 60)),
        ..ledger::Options::default()
    })
}
