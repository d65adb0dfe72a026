//! `history`, `diff` and `rollback`: the versions of the configuration, in git; `suspend` and `resume`.

use clap::Args;
use serde_json::{Value, json};

use super::client::{DEADLINE, Route};
use super::context::Context;
use super::exit::Exit;
use super::output::{self, harmless_lines};
use super::sheet::{Form, Sheet, column, wide};
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::repo::{FileDiff, Options, PullOutcome, Repository};

/// Commits that are shown unless more are asked for.
const LIMIT: usize = 20;

#[derive(Debug, Args)]
#[command(after_help = "\
Shows the commits that changed skills, agents or provider definitions, newest first, and who made them: a person, or
skillhook for a file, the API, a chat or an agent.

Examples:
  skillhook history
  skillhook history .claude/skills/pr-review --limit 5
  skillhook history -o json | jq -r '.[0].commit'")]
pub struct History {
    /// Only commits that changed this file or directory
    #[arg(value_name = "PATH")]
    path: Option<String>,
    /// At most this many
    #[arg(long, value_name = "COUNT", default_value_t = LIMIT)]
    limit: usize,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The text that differs; `skillhook plan` shows what a difference means.
Exit codes: 0 done, 1 there is a difference (--exit-code), 3 there is no such commit.

Examples:
  skillhook diff                  what the remote has not yet
  skillhook diff HEAD~3
  skillhook diff v1 v2 --exit-code")]
pub struct Diff {
    /// The older commit, branch or tag [default: the remote's branch]
    #[arg(value_name = "FROM")]
    from: Option<String>,
    /// The newer one
    #[arg(value_name = "TO", default_value = "HEAD")]
    to: String,
    /// End with 1 when there is a difference
    #[arg(long)]
    exit_code: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Makes a new commit in which skills, agents and provider definitions are as they were at REV, and puts it in force;
nothing of the history goes. Other files stay as they are.
Exit codes: 0 done, 3 there is no such commit, 4 a person's work is in the way or nothing would change.

Examples:
  skillhook rollback HEAD~1 --dry-run
  skillhook rollback HEAD~1 --yes")]
pub struct Rollback {
    /// The commit, branch or tag to go back to
    #[arg(value_name = "REV")]
    revision: String,
    /// Show what would change, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
With a webhook: its deliveries are stored and answered, its tasks wait. Without one: files, commits and the remote are
not looked at, and what is in force goes on. Both outlast a restart; `skillhook status` shows them.

Examples:
  skillhook suspend webhook/github
  skillhook suspend")]
pub struct Suspend {
    /// A webhook; the reconciler if none is named
    #[arg(value_name = "WEBHOOK")]
    webhook: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skillhook resume webhook/github
  skillhook resume")]
pub struct Resume {
    /// A webhook; the reconciler if none is named
    #[arg(value_name = "WEBHOOK")]
    webhook: Option<String>,
}

impl Suspend {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        hold(context, self.webhook.as_deref(), "suspend").await
    }
}

impl Resume {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        hold(context, self.webhook.as_deref(), "resume").await
    }
}

async fn hold(context: &Context, webhook: Option<&str>, verb: &str) -> Result<Exit> {
    let named = webhook.map(|name| name.strip_prefix("webhook/").unwrap_or(name));
    let route = match named {
        Some(name) => Route::api(&["webhooks", name, verb]),
        None => Route::api(&[verb]),
    };
    context.output.record(&context.client()?.post(route, DEADLINE).await?);
    Ok(Exit::Done)
}

const COMMITS: Sheet = Sheet {
    singular: "commit",
    plural: "commits",
    name: &["/commit"],
    columns: &[
        column("COMMIT", Form::Text, &["/short"]),
        column("AGE", Form::Age, &["/at"]),
        column("BY", Form::Text, &["/by"]),
        column("FILES", Form::Count, &["/changes"]),
        column("WHAT", Form::Prose, &["/title"]),
        wide("AUTHOR", Form::Text, &["/author"]),
    ],
};

impl History {
    pub fn run(self, context: &Context) -> Result<Exit> {
        let entries = repository(&context.config()?)?.history(self.path.as_deref(), None, self.limit)?;
        let items = entries.iter().map(|entry| {
            let mut item = serde_json::to_value(entry).unwrap_or_default();
            item["short"] = json!(entry.commit.short());
            item["by"] = json!(entry.origin.as_deref().unwrap_or("person"));
            item
        });
        context.output.list(&COMMITS, &items.collect::<Vec<_>>());
        Ok(Exit::Done)
    }
}

impl Diff {
    pub fn run(self, context: &Context) -> Result<Exit> {
        let repository = repository(&context.config()?)?;
        let from = match self.from {
            Some(from) => from,
            None => remote_branch(&repository)?,
        };
        let found = repository.diff(&from, &self.to)?;
        show(context, &found);
        Ok(if self.exit_code && !found.is_empty() { Exit::Difference } else { Exit::Done })
    }
}

fn remote_branch(repository: &Repository) -> Result<String> {
    let commit = repository.status()?.upstream.and_then(|upstream| upstream.commit);
    commit.map(|commit| commit.to_string()).ok_or_else(|| {
        Error::new(Code::Usage, "there is no remote branch to compare with")
            .hint("name a commit: `skillhook diff HEAD~1`")
    })
}

fn show(context: &Context, found: &[FileDiff]) {
    let value = json!(found);
    if context.output.format.is_machine() {
        context.output.text(&output::json(&value));
        return;
    }
    for each in found {
        match &each.text {
            Some(text) => context.output.text(&harmless_lines(text)),
            None => context.output.line(&format!(
                "{} {} (not shown)",
                each.change.verb,
                output::harmless(&each.change.path)
            )),
        }
    }
}

impl Rollback {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let config = context.config()?;
        let repository = repository(&config)?;
        if self.dry_run {
            show(context, &repository.diff("HEAD", &self.revision)?);
            return Ok(Exit::Done);
        }
        let changes = repository.diff("HEAD", &self.revision)?.len();
        let question = format!("Change {changes} files back to `{}`?", output::harmless(&self.revision));
        if !self.yes && !context.output.confirmed(&question)? {
            return Ok(Exit::Refused);
        }
        let route = Route::api(&["rollback"]).with("revision", &self.revision);
        let done = match context.client()?.post(route, DEADLINE).await {
            Err(error) if error.code() == Code::ServerAway => restore(&repository, &self.revision)?,
            answered => answered?,
        };
        context.output.record(&done);
        Ok(Exit::Done)
    }
}

/// Without a server: it finds the commit when it starts.
fn restore(repository: &Repository, revision: &str) -> Result<Value> {
    match repository.restore(revision, &[("Skillhook-Origin".to_owned(), "restore".to_owned())])? {
        PullOutcome::Applied { to, paths, .. } => Ok(json!({"commit": to, "paths": paths, "in_force": false})),
        PullOutcome::Held { reason, paths } => {
            let places = if paths.is_empty() { String::new() } else { format!(": `{}`", paths.join("`, `")) };
            Err(Error::new(Code::Conflict, format!("{reason}{places}")))
        }
        PullOutcome::UpToDate | PullOutcome::Diverged { .. } | PullOutcome::NoUpstream => {
            Err(Error::new(Code::Bug, "a rollback ended as a pull"))
        }
    }
}

fn repository(config: &Config) -> Result<Repository> {
    Repository::open(&config.root, Options::default())
}
