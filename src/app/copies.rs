//! Cloud copies as the operator has set them up, and what a restore needs.

use std::collections::BTreeMap;
use std::path::Path;

use tokio::sync::watch;

use super::Service;
use crate::config::{self, Config};
use crate::copies::{self, Copied, Copier, Key, Place};
use crate::error::{Code, Context as _, Error, Result};
use crate::model::digest::Digest;
use crate::reconcile::activator::{Activation, Scope};
use crate::reconcile::judge::Judge;
use crate::reconcile::pass::{Parts, Reconciler};
use crate::repo::{self, Repository};
use crate::seam::Clock;
use crate::telemetry::metrics::Metrics;

/// The copiers, and where their progress is seen.
pub(super) struct Copies {
    pub(super) copiers: Vec<Copier>,
    pub(super) progress: watch::Receiver<BTreeMap<String, Copied>>,
}

/// # Errors
/// SH0301 when a place or its settings are not usable, SH0913 for a key that is none.
pub(super) fn copies(config: &Config, repository: &Repository, clock: &Clock, metrics: &Metrics) -> Result<Copies> {
    let (sender, progress) = watch::channel(BTreeMap::new());
    let rules = super::rules(config);
    let copier = |named: &config::Copy| {
        let place = Place::parse(&named.to, &config.root, &config.environment)?;
        Ok(Copier::new(copies::Parts {
            name: named.name().to_owned(),
            place: place.to_string(),
            copy: copies::open(&place, &config.environment)?,
            key: key(named.age_key_env.as_deref(), named.age_key_file.as_deref(), &config.data, &config.environment)?,
            repository: repository.clone(),
            rules: copies::manifest::Rules {
                secret_env_patterns: rules.secret_env_patterns.clone(),
                unsigned_allowed: rules.unsigned_allowed,
                providers: rules.providers.clone(),
            },
            history: named.history,
            clock: clock.clone(),
            metrics: metrics.clone(),
            progress: sender.clone(),
            poll: config.poll(),
        }))
    };
    let copiers = config.settings.copies.iter().map(copier).collect::<Result<Vec<_>>>()?;
    if !copiers.is_empty() && !config.settings.git.commit {
        return Err(Error::new(Code::SettingInvalid, "`copies`: only commits are copied, and `git.commit` is off")
            .hint("switch `git.commit` on, or remove the copies"));
    }
    Ok(Copies { copiers, progress })
}

impl Service {
    /// How far each cloud copy has come, by name.
    pub fn copies(&self) -> watch::Receiver<BTreeMap<String, Copied>> {
        self.copies.clone()
    }
}

/// The operator's age key, from the environment or a file.
///
/// # Errors
/// SH0913.
pub fn key(
    variable: Option<&str>,
    file: Option<&Path>,
    data: &Path,
    environment: &BTreeMap<String, String>,
) -> Result<Option<Key>> {
    let text = match (variable, file) {
        (Some(variable), _) => environment.get(variable).cloned().ok_or_else(|| {
            Error::new(Code::CopyKey, format!("the environment has no variable `{variable}` with the age key"))
        })?,
        (None, Some(file)) => {
            let file = data.join(file);
            std::fs::read_to_string(&file)
                .context(Code::CopyKey, format!("the age key in `{}` cannot be read", file.display()))?
        }
        (None, None) => return Ok(None),
    };
    Key::parse(&text).map(Some)
}

/// How git is called without settings of a work tree.
pub fn plain_repository_options(environment: &BTreeMap<String, String>) -> repo::Options {
    let environment = environment.iter().filter(|(name, _)| repo::passes_to_git(name));
    repo::Options {
        environment: environment.map(|(name, value)| (name.into(), value.into())).collect(),
        ..repo::Options::default()
    }
}

/// Makes the index of a restored tree and answers its digest. `rules`: those of the copy, else those of the settings.
///
/// # Errors
/// Those of the databases and of a pass.
pub async fn index_of(config: &Config, rules: Option<&copies::manifest::Rules>) -> Result<Digest> {
    super::prepare_data(config)?;
    let mut judged_by = super::rules(config);
    if let Some(rules) = rules {
        judged_by.secret_env_patterns.clone_from(&rules.secret_env_patterns);
        judged_by.unsigned_allowed = rules.unsigned_allowed;
        judged_by.providers.clone_from(&rules.providers);
    }
    let judge = Judge::new(judged_by)?;
    let parts = Parts { judge, ..Parts::for_directory(&config.root, &config.data, Clock::System)? };
    let ledger = parts.ledger.clone();
    let passed = tokio::task::spawn_blocking(move || {
        let (mut reconciler, _published) = Reconciler::new(parts)?;
        let activation = Activation::of(Scope::Everything, "restore");
        Ok::<_, Error>(reconciler.pass(1, &activation)?.0.report.index_digest)
    });
    let digest = passed.await.map_err(|error| Error::new(Code::Bug, "the pass panicked").detail(error))??;
    ledger.close().await;
    Ok(digest)
}
