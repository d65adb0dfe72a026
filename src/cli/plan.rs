//! `plan`: what the files below the root would change in what is in force, by the planner that the service itself uses.
//!
//! The base is what a running server serves (it writes every served tree into the repository), or a commit. Both
//! sides are judged in the same way, so what does not differ is not shown.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::client::{DEADLINE, Route};
use super::context::Context;
use super::exit::Exit;
use super::files::{self, Look};
use super::get::items_of;
use super::sheet::{Form, Sheet, column};
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::model::diagnostic::Diagnostic;
use crate::model::digest::Digest;
use crate::model::entry::Observed;
use crate::model::ids::WebhookId;
use crate::model::plan::{Generations, plan};
use crate::model::snapshot::{agent_path, skill_path};
use crate::reconcile::{embedded, preview};
use crate::repo::{Options, Repository, ServedFile};

#[derive(Debug, Args)]
#[command(after_help = "\
Without REF the base is what the running server serves, or HEAD where no server answers: what a start would \
change in what is committed.
Exit codes: 0 done, 1 there are changes (--exit-code), 2 a file has errors.

Examples:
  skillhook plan
  skillhook plan origin/main --exit-code
  skillhook plan HEAD~1 -o json
  skillhook plan HEAD --of origin/main    what pulling would do")]
pub struct Plan {
    /// A commit, branch or tag to compare with
    #[arg(value_name = "REF")]
    base: Option<String>,
    /// Look at the files of this commit, branch or tag instead of those below the root; nothing is checked out
    #[arg(long, value_name = "REF")]
    of: Option<String>,
    /// End with 1 when there are changes
    #[arg(long)]
    exit_code: bool,
}

const ACTIONS: Sheet = Sheet {
    singular: "change",
    plural: "changes",
    name: &["/name"],
    columns: &[
        column("ACTION", Form::Text, &["/verb"]),
        column("KIND", Form::Text, &["/kind"]),
        column("NAME", Form::Text, &["/name"]),
        column("GENERATION", Form::Text, &["/generation"]),
        column("WHY", Form::Text, &["/note"]),
    ],
};

/// What is compared with.
struct Base {
    name: String,
    files: Vec<ServedFile>,
    /// Known where a server told them.
    generations: BTreeMap<WebhookId, u64>,
}

impl Plan {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let config = context.config()?;
        let base = match &self.base {
            Some(reference) => at_commit(&config, reference)?,
            None => match served(context, &config).await {
                Err(error) if matches!(error.code(), Code::ServerAway | Code::NotReady) => at_head(&config)?,
                told => told?,
            },
        };
        let before = observed(&config, &base)?;
        let laid =
            self.of.as_deref().map(|reference| laid_out(&config, &at_commit(&config, reference)?)).transpose()?;
        let root = laid.as_ref().map_or_else(|| config.root.clone(), |laid| laid.path().to_owned());
        let (look, actions) = changes(&config, root, &before, &base)?;
        context.output.note(&format!("compared with {}", base.name));
        context.output.list(&ACTIONS, &actions);
        context.output.diagnostics(&look.findings, &config.root);
        if look.findings.iter().any(Diagnostic::is_error) {
            return Ok(Exit::Usage);
        }
        Ok(if self.exit_code && !actions.is_empty() { Exit::Difference } else { Exit::Done })
    }
}

/// The planner's actions; generations only where they are known.
fn changes(config: &Config, root: PathBuf, before: &Observed, base: &Base) -> Result<(Look, Vec<Value>)> {
    let look = files::look_beside(config, root, before, &long_gone(before))?;
    let planned = plan(look.judgement.desired.clone(), before, &Generations::new());
    let known = |name: &str| base.generations.keys().any(|id| id.as_str() == name) || base.generations.is_empty();
    let actions = planned.actions.into_iter().map(|action| {
        let generation = action.generation.filter(|_| !base.generations.is_empty() && known(&action.name));
        json!({"verb": action.verb, "kind": action.kind, "name": action.name, "generation": generation, "note": action.note})
    });
    let actions = actions.collect();
    Ok((look, actions))
}

/// What is missing now has been missing for long: a plan does not wait for a file to come back.
fn long_gone(before: &Observed) -> BTreeMap<String, Timestamp> {
    let skills = before.skills.keys().map(|name| skill_path(name.as_str()));
    let agents = before.agents.keys().map(|name| agent_path(name.as_str()));
    skills.chain(agents).map(|path| (path, Timestamp::UNIX_EPOCH)).collect()
}

fn at_commit(config: &Config, reference: &str) -> Result<Base> {
    let files = repository(config)?.files_at(reference)?;
    Ok(Base { name: reference.to_owned(), files, generations: BTreeMap::new() })
}

/// Before the first commit everything is new.
fn at_head(config: &Config) -> Result<Base> {
    match at_commit(config, "HEAD") {
        Err(error) if error.code() == Code::NotFound => {
            let name = "nothing: there is no commit yet".to_owned();
            Ok(Base { name, files: Vec::new(), generations: BTreeMap::new() })
        }
        found => found,
    }
}

async fn served(context: &Context, config: &Config) -> Result<Base> {
    let client = context.client()?;
    let status = client.get(Route::api(&["status"]), DEADLINE).await?;
    let digest = status.pointer("/index/revision").and_then(Value::as_str);
    let digest = digest.ok_or_else(|| Error::new(Code::NotReady, "the server has not applied its first pass"))?;
    let digest = Digest::parse(digest).map_err(|message| Error::new(Code::Bug, message))?;
    let files = repository(config)?.read_served(&digest)?;
    let (webhooks, _) = items_of(client.get(Route::api(&["webhooks"]), DEADLINE).await?);
    let generation =
        |webhook: &Value| Some((WebhookId::parse(webhook["id"].as_str()?).ok()?, webhook["generation"].as_u64()?));
    let generations = webhooks.iter().filter_map(generation).collect();
    Ok(Base { name: format!("what is served (revision {})", digest.short()), files, generations })
}

fn repository(config: &Config) -> Result<Repository> {
    Repository::open(&config.root, Options::default())
}

/// The base as the index would hold it.
fn observed(config: &Config, base: &Base) -> Result<Observed> {
    let directory = laid_out(config, base)?;
    let look = files::look_beside(config, directory.path().to_owned(), &Observed::default(), &BTreeMap::new())?;
    let mut observed = plan(look.judgement.desired, &Observed::default(), &Generations::new()).next;
    for (id, webhook) in &mut observed.webhooks {
        webhook.generation = base.generations.get(id).copied().unwrap_or(webhook.generation);
    }
    Ok(observed)
}

/// The files as a directory, for a look.
fn laid_out(config: &Config, base: &Base) -> Result<tempfile::TempDir> {
    let shipped = embedded::files();
    // A served tree holds the built-in files too: they are not files of the root as long as none stands there.
    let is_of_the_root = |file: &&ServedFile| {
        let built_in = shipped.get(&file.path).is_some_and(|bytes| **bytes == *file.bytes);
        !built_in || config.root.join(&file.path).exists()
    };
    preview::laid_out(base.files.iter().filter(is_of_the_root))
}
