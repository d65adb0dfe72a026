//! What the service may reach beside its providers' replies: calls while a sender waits, and targets of `forward`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{self, Config};
use crate::error::Result;
use crate::http::intake::Outside;
use crate::model::forward::{Target, Targets};
use crate::model::ids::ProviderName;
use crate::model::provider::PreparedCall;
use crate::model::secret::{SecretSet, SecretValue};
use crate::repo::Repository;
use crate::respond::proposal::Reviewer;
use crate::respond::transport::Transport;
use crate::seam::Clock;
use crate::secrets::Secrets;

/// The calls that the intake may make while a sender waits, and where it keeps what handshakes bring.
pub(super) fn outside(secrets: &Secrets, transport: &Transport) -> Outside {
    let (kept, secrets, transport) = (secrets.clone(), secrets.clone(), transport.clone());
    Outside {
        call: Some(Arc::new(move |provider: ProviderName, call: PreparedCall, given: Option<Arc<SecretSet>>| {
            let (secrets, transport) = (secrets.clone(), transport.clone());
            Box::pin(async move {
                let secrets = given.unwrap_or_else(|| Arc::new(secrets.for_calls(&provider)));
                let filled = call.fill(&BTreeMap::new(), &secrets)?;
                let answer = transport.exchange(&filled).await.map_err(|none| none.error)?;
                Ok((answer.status, answer.body))
            })
        })),
        keep: Some(Arc::new(move |webhook, slot, value| kept.keep_of_handshake(webhook, slot, value))),
    }
}

/// Where `forward` commands may post; the addresses were checked with the settings.
pub(super) fn targets(config: &Config) -> Targets {
    let targets = config.settings.forward.iter();
    targets.filter_map(|(name, it)| Some((name.clone(), Target::new(&it.url, it.allow_private).ok()?))).collect()
}

pub(super) fn forward_secrets(config: &Config, secrets: &Secrets) -> BTreeMap<String, SecretValue> {
    let targets = config.settings.forward.iter();
    let secret = |it: &config::Forward| secrets.of_operator(it.secret_env.as_deref(), it.secret_file.as_deref());
    targets.filter_map(|(name, it)| Some((name.clone(), secret(it)?))).collect()
}

/// Speaks with the provider that keeps the remote, where its address tells one.
pub(super) fn reviewer(
    config: &Config,
    repository: &Repository,
    transport: &Transport,
    secrets: &Secrets,
    clock: &Clock,
) -> Result<Option<Reviewer>> {
    let Some(location) = repository.location()? else { return Ok(None) };
    Ok(Some(Reviewer {
        transport: transport.clone(),
        secrets: secrets.clone(),
        clock: clock.clone(),
        host: location.host.unwrap_or_else(|| "localhost".to_owned()),
        repository: config.settings.git.repository.clone().unwrap_or(location.path),
    }))
}
