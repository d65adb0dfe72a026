//! What the service may reach beside its providers' replies: calls while a sender waits, and targets of `forward`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{self, Config};
use crate::error::Result;
use crate::http::intake::Outside;
use crate::model::forward::{Target, Targets};
use crate::model::ids::ProviderName;
use crate::model::provider::{Operated, PreparedCall, Settings};
use crate::model::secret::{SecretSet, SecretValue};
use crate::repo::Repository;
use crate::respond::caller::{Asked, Caller};
use crate::respond::proposal::Reviewer;
use crate::seam::Clock;
use crate::secrets::{Secrets, names_secret};

/// The calls that the intake may make while a sender waits, and where it keeps what handshakes bring.
pub(super) fn outside(secrets: &Secrets, caller: &Caller) -> Outside {
    let (kept, caller) = (secrets.clone(), caller.clone());
    Outside {
        call: Some(Arc::new(move |provider: ProviderName, call: PreparedCall, given: Option<Arc<SecretSet>>| {
            let caller = caller.clone();
            Box::pin(async move {
                let context = BTreeMap::new();
                let answer = match given {
                    Some(secrets) => caller.transport().exchange(&call.fill(&context, &secrets)?).await,
                    None => {
                        let asked = Asked { provider: &provider, call: &call, context: &context, page: None };
                        caller.exchange(asked).await
                    }
                };
                let answer = answer.map_err(|none| none.error)?;
                Ok((answer.status, answer.body))
            })
        })),
        keep: Some(Arc::new(move |webhook, slot, value| kept.keep_of_handshake(webhook, slot, value))),
    }
}

/// What the operator's tables say about where credentials of providers may go.
pub(super) fn operated(config: &Config) -> BTreeMap<String, Operated> {
    let of_table = |(name, table): (&String, &BTreeMap<String, String>)| {
        let credentials = table.keys().any(|key| names_secret(key));
        let settings = Settings::new(table.iter().filter(|(key, _)| !names_secret(key)).map(owned).collect());
        (name.clone(), Operated::new(credentials, &settings))
    };
    config.settings.providers.iter().map(of_table).collect()
}

fn owned((name, value): (&String, &String)) -> (String, String) {
    (name.clone(), value.clone())
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
    caller: &Caller,
    clock: &Clock,
) -> Result<Option<Reviewer>> {
    let Some(location) = repository.location()? else { return Ok(None) };
    Ok(Some(Reviewer {
        caller: caller.clone(),
        clock: clock.clone(),
        host: location.host.unwrap_or_else(|| "localhost".to_owned()),
        repository: config.settings.git.repository.clone().unwrap_or(location.path),
    }))
}
