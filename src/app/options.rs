//! What the operator's settings mean for each part.

use std::time::Duration;

use super::outside::{operated, outside, targets};
use crate::config::Config;
use crate::http::intake;
use crate::http::serve::Limits;
use crate::model::change::WriteModes;
use crate::model::check::Rules;
use crate::model::ids::ProviderName;
use crate::model::provider::Catalogue;
use crate::repo;
use crate::respond::caller::Caller;
use crate::secrets::Secrets;

/// What checks files: the operator's part of the rules.
pub fn rules(config: &Config) -> Rules {
    Rules {
        secret_env_patterns: config.settings.secrets.env_allow.clone(),
        unsigned_allowed: config.settings.secrets.allow_unsigned,
        providers: operated(config),
    }
}

pub(super) fn repository_options(config: &Config) -> repo::Options {
    let environment = config.environment.iter().filter(|(name, _)| repo::passes_to_git(name));
    repo::Options {
        remote: Some(config.settings.git.remote.clone()),
        environment: environment.map(|(name, value)| (name.into(), value.into())).collect(),
        committer: author(config),
        ..repo::Options::default()
    }
}

pub(super) fn write_modes(config: &Config) -> WriteModes {
    let changes = &config.settings.changes;
    WriteModes { api: changes.api, cli: changes.cli, chat: changes.chat, agent: changes.agent }
}

fn author(config: &Config) -> repo::Author {
    let git = &config.settings.git;
    repo::Author { name: git.author_name.clone(), email: git.author_email.clone() }
}

pub(super) fn intake_options(
    config: &Config,
    catalogue: &Catalogue,
    secrets: &Secrets,
    caller: &Caller,
) -> intake::Options {
    intake::Options {
        public_url: config.settings.server.public_url.clone(),
        unsigned_allowed: config.settings.secrets.allow_unsigned,
        // A provider that a file of the repository adds may come later than the settings.
        providers: (config.settings.providers.keys().filter_map(|name| ProviderName::parse(name).ok()))
            .chain(catalogue.names().cloned())
            .map(|name| (name.clone(), secrets.settings(&name)))
            .collect(),
        forward: targets(config),
        thread_runs_per_hour: config.settings.limits.thread_runs_per_hour,
        outside: outside(secrets, caller),
        ..intake::Options::default()
    }
}

pub(super) fn limits(config: &Config) -> Limits {
    let limits = &config.settings.limits;
    Limits {
        connections_max: limits.connections_max,
        body_bytes_max: limits.body_bytes_max as u64,
        head_deadline: Duration::from_secs(limits.header_seconds),
        body_deadline: Duration::from_secs(limits.body_seconds),
        idle_deadline: Duration::from_secs(limits.idle_seconds),
        ..Limits::default()
    }
}
