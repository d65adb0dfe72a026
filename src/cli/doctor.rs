//! `doctor`: whether everything that the service needs is there, and what to do about what is not.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::client::{DEADLINE, Route};
use super::context::Context;
use super::exit::Exit;
use super::files;
use super::sheet::{Form, Sheet, column};
use super::trigger;
use crate::app;
use crate::config::{Config, LedgerPlace};
use crate::error::{Code, Error, Result};
use crate::ledger::{self, SharedSettings};
use crate::model::diagnostic::Diagnostic;
use crate::model::ids::ProviderName;
use crate::model::provider::InForce;
use crate::model::provider::schema::SlotUse;
use crate::repo::{Options, Repository};
use crate::worker::agent::{self, smoke};

/// Longest path of a socket on Linux and macOS, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 103;
/// Fewer open files than this are soon used up by connections and agents.
const OPEN_FILES_MIN: u64 = 1024;
/// Less free space than this is soon used up by deliveries, in bytes.
const FREE_BYTES_MIN: u64 = 256 << 20;
/// Fewer watches than this may not be enough for all skills.
const WATCHES_MIN: u64 = 8192;

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 nothing is broken (there may be warnings), 1 something is.

Examples:
  skillhook doctor
  skillhook doctor -o json")]
pub struct Doctor {}

const CHECKS: Sheet = Sheet {
    singular: "check",
    plural: "checks",
    name: &["/check"],
    columns: &[
        column("CHECK", Form::Text, &["/check"]),
        column("RESULT", Form::State, &["/result"]),
        column("FOUND", Form::Text, &["/found"]),
        column("WHAT TO DO", Form::Text, &["/hint"]),
    ],
};

/// What one check came to.
enum Found {
    Good(String),
    /// It works, but not as well as it could.
    Care(String, String),
    /// What is wrong, and what to do.
    Bad(String, String),
}

impl From<Error> for Found {
    fn from(error: Error) -> Self {
        let hint = error.hint_text().map_or_else(|| format!("skillhook error {}", error.code()), str::to_owned);
        Found::Bad(error.message().to_owned(), hint)
    }
}

impl Doctor {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let config = match context.config() {
            Ok(config) => config,
            Err(error) => {
                context.output.list(&CHECKS, &[row("settings", error.into())]);
                return Ok(Exit::Difference);
            }
        };
        let checks = [
            ("settings", Found::Good(settings(&config))),
            ("repository", repository(&config)),
            ("files", files(&config)),
            ("data directory", data_directory(&config)),
            ("ledger", ledger(&config)),
            ("server", server(context).await),
            ("agent program", agent_program(&config).await),
            ("agent trial", agent_trial(&config).await),
            ("sandbox", sandbox(&config)),
            ("open files", open_files()),
            ("file watches", file_watches()),
        ];
        let rows: Vec<Value> = checks
            .into_iter()
            .chain(secrets(&config))
            .chain(answers(&config))
            .map(|(check, found)| row(check, found))
            .collect();
        context.output.list(&CHECKS, &rows);
        Ok(if rows.iter().any(|row| row["result"] == "failed") { Exit::Difference } else { Exit::Done })
    }
}

fn row(check: &str, found: Found) -> Value {
    let (result, found, hint) = match found {
        Found::Good(found) => ("ready", found, None),
        Found::Care(found, hint) => ("warning", found, Some(hint)),
        Found::Bad(found, hint) => ("failed", found, Some(hint)),
    };
    json!({"check": check, "result": result, "found": found, "hint": hint})
}

fn settings(config: &Config) -> String {
    let file = config.root.join(crate::config::FILE);
    if file.exists() {
        format!("{} is valid", file.display())
    } else {
        "defaults: there is no skillhook.toml".to_owned()
    }
}

fn repository(config: &Config) -> Found {
    let opened = Repository::open(&config.root, Options::default()).and_then(|repository| repository.status());
    let status = match opened {
        Ok(status) => status,
        Err(error) => return error.into(),
    };
    if program(&config.path, Path::new("git")).is_none() {
        return Found::Bad("the `git` program is not on the PATH".into(), "install git".into());
    }
    let branch = status.branch.unwrap_or_else(|| "a detached HEAD".to_owned());
    match status.upstream {
        Some(upstream) => Found::Good(format!("{branch}, pushed to {}/{}", upstream.remote, upstream.branch)),
        None if config.settings.git.push => {
            let hint = "add one with `git remote add origin URL`, or set `git.push = false`";
            Found::Care(format!("{branch}, without a remote: commits stay here"), hint.into())
        }
        None => Found::Good(branch),
    }
}

fn files(config: &Config) -> Found {
    let look = match files::look(config) {
        Ok(look) => look,
        Err(error) => return error.into(),
    };
    let errors = look.findings.iter().filter(|found| found.is_error()).count();
    let warnings = look.findings.len() - errors;
    let first = look.findings.first().map(Diagnostic::to_string).unwrap_or_default();
    match (errors, warnings) {
        (0, 0) => Found::Good(format!("{} webhooks, no findings", look.judgement.desired.webhooks.len())),
        (0, _) => Found::Care(format!("{warnings} warnings: {first}"), "skillhook validate".into()),
        _ => Found::Bad(format!("{errors} errors: {first}"), "skillhook validate".into()),
    }
}

fn data_directory(config: &Config) -> Found {
    let socket = config.admin_socket();
    if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Found::Bad(
            format!("`{}` is too long for a socket", socket.display()),
            "choose a shorter `--data`".into(),
        );
    }
    // Before the first start it is its parent that must be usable.
    let there = config.data.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    if rustix::fs::access(there, rustix::fs::Access::WRITE_OK).is_err() {
        return Found::Bad(
            format!("`{}` is not writable", there.display()),
            "run as its owner, or choose another `--data`".into(),
        );
    }
    match rustix::fs::statvfs(there) {
        Ok(space) if space.f_bavail.saturating_mul(space.f_frsize) < FREE_BYTES_MIN => {
            let free = (space.f_bavail * space.f_frsize) >> 20;
            Found::Bad(format!("`{}` has {free} MiB left", there.display()), "free some space".into())
        }
        Ok(space) => {
            Found::Good(format!("{}, {} GiB free", config.data.display(), (space.f_bavail * space.f_frsize) >> 30))
        }
        Err(error) => Found::Care(format!("the free space cannot be told: {error}"), "look at `df`".into()),
    }
}

fn ledger(config: &Config) -> Found {
    let url = match config.ledger() {
        Ok(LedgerPlace::File) => return Found::Good("redb, a file of this service alone".into()),
        Ok(LedgerPlace::Postgres(url)) => url,
        Err(error) => return error.into(),
    };
    let (place, nodes) = match ledger::look_at(&SharedSettings { url, lease: config.lease() }) {
        Ok(found) => found,
        Err(error) => return error.into(),
    };
    let digests: BTreeSet<_> = nodes.iter().filter_map(|node| node.about.index_digest.as_deref()).collect();
    let all: Vec<String> = nodes.iter().map(|node| node.about.to_string()).collect();
    let found = format!("{place}, {} nodes{}{}", nodes.len(), if all.is_empty() { "" } else { ": " }, all.join("; "));
    match digests.len() {
        0 | 1 => Found::Good(found),
        _ => Found::Care(format!("{found} (their indexes differ)"), "wait a moment, else look at their remotes".into()),
    }
}

async fn server(context: &Context) -> Found {
    let asked = match context.client() {
        Ok(client) => client.get(Route::api(&["status"]), DEADLINE).await,
        Err(error) => Err(error),
    };
    let ours = env!("CARGO_PKG_VERSION");
    match asked {
        Err(error) if error.code() == Code::ServerAway => Found::Care("not running".into(), "skillhook up".into()),
        Err(error) => error.into(),
        Ok(status) if status["version"] != ours => {
            let theirs = status["version"].as_str().unwrap_or("an unknown version");
            Found::Care(format!("it runs {theirs}, this is {ours}"), "restart it".into())
        }
        Ok(status) if status["ready"] != true => Found::Bad("running, not ready".into(), "look at its log".into()),
        Ok(_) => Found::Good("running and ready".into()),
    }
}

async fn agent_program(config: &Config) -> Found {
    let agent = &config.settings.agent;
    let Some(found) = program(&config.path, Path::new(&agent.program)) else {
        return Found::Bad(
            format!("`{}` is not on the PATH", agent.program),
            "install it, or set `agent.program` in skillhook.toml".into(),
        );
    };
    let credentials = agent.env_pass.iter().chain(agent.env.keys()).any(|name| config.agent_env.contains_key(name));
    let version = match app::agent_config(config) {
        Ok(agent) => smoke::version(&agent).await,
        Err(error) => return error.into(),
    };
    let (oldest, newest) = smoke::TESTED;
    match version {
        Err(error) => error.into(),
        Ok(None) => Found::Care(
            format!("{} does not say which version it is", found.display()),
            format!("runs are tried with the versions {oldest} to {newest}"),
        ),
        Ok(Some(version)) if !version.is_tested() => Found::Care(
            format!("{} {version} is not among the versions that runs are tried with", found.display()),
            format!("install one of {oldest} to {newest}, or try it out first"),
        ),
        Ok(Some(version)) if !credentials => {
            let hint = format!("set one of {}", agent.env_pass.join(", "));
            Found::Care(format!("{} {version}, without credentials in the environment", found.display()), hint)
        }
        Ok(Some(version)) => Found::Good(format!("{} {version}", found.display())),
    }
}

/// One run against a provider of our own, which costs nothing.
async fn agent_trial(config: &Config) -> Found {
    if program(&config.path, Path::new(&config.settings.agent.program)).is_none() {
        return Found::Care("there is no agent program to try".into(), "install it".into());
    }
    let agent = match app::agent_config(config) {
        Ok(agent) => agent,
        Err(error) => return error.into(),
    };
    let place = match tempfile::tempdir() {
        Ok(place) => place,
        Err(error) => return Found::Care(format!("there is no place for a trial: {error}"), "free some space".into()),
    };
    match smoke::trial(&agent, place.path()).await {
        Ok(()) => Found::Good("skills and agents are used, a payload stays a payload".into()),
        Err(error) => Found::Bad(error.message().to_owned(), "install a version that runs are tried with".into()),
    }
}

fn sandbox(config: &Config) -> Found {
    match app::agent_config(config) {
        Err(error) => error.into(),
        Ok(agent) => match &agent.sandbox {
            agent::Sandbox::Bubblewrap { .. } => Found::Good(agent.sandbox.describe()),
            agent::Sandbox::Landlock { .. } => {
                Found::Care(agent.sandbox.describe(), "install bubblewrap and allow user namespaces".into())
            }
            agent::Sandbox::Off { .. } if agent.sandbox.is_settled() => {
                Found::Care(agent.sandbox.describe(), "runs can read whatever this user can".into())
            }
            agent::Sandbox::Off { .. } => Found::Care(
                format!("{}; runs get no tool that runs commands", agent.sandbox.describe()),
                "install bubblewrap and allow user namespaces".into(),
            ),
        },
    }
}

fn open_files() -> Found {
    match rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        Some(limit) if limit < OPEN_FILES_MIN => {
            Found::Care(format!("at most {limit}"), format!("raise it: `ulimit -n {OPEN_FILES_MIN}`"))
        }
        Some(limit) => Found::Good(format!("at most {limit}")),
        None => Found::Good("without a limit".into()),
    }
}

fn file_watches() -> Found {
    let read = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches");
    match read.ok().and_then(|text| text.trim().parse::<u64>().ok()) {
        Some(limit) if limit < WATCHES_MIN => Found::Care(
            format!("at most {limit}: changes may be seen only by the timer"),
            format!("sysctl fs.inotify.max_user_watches={}", WATCHES_MIN * 8),
        ),
        Some(limit) => Found::Good(format!("at most {limit}")),
        None => Found::Good("no limit is known on this system".into()),
    }
}

/// One row a webhook that has no secret yet, or one that says that all have theirs.
fn secrets(config: &Config) -> Vec<(&'static str, Found)> {
    let (Ok(look), Ok(secrets)) = (files::look(config), trigger::secrets(config)) else { return Vec::new() };
    let signed = look.judgement.desired.webhooks.values().filter(|(spec, _)| spec.requires_signature && spec.enabled);
    let (mut missing, mut set) = (Vec::new(), 0);
    for (spec, _) in signed {
        if secrets.for_webhook(spec).slots().next().is_some() {
            set += 1;
            continue;
        }
        let wanted: Vec<String> = spec.secrets.values().flatten().map(ToString::to_string).collect();
        let found = format!("webhook `{}` has no secret here and will not be served", spec.id);
        missing.push(("secret", Found::Care(found, format!("set {}", wanted.join(" or ")))));
    }
    if missing.is_empty() { vec![("secrets", Found::Good(format!("{set} webhooks have theirs")))] } else { missing }
}

/// One row a provider whose webhooks are served and that takes answers: what they are sent with.
fn answers(config: &Config) -> Vec<(&'static str, Found)> {
    let (Ok(look), Ok(secrets)) = (files::look(config), trigger::secrets(config)) else { return Vec::new() };
    let served = look.judgement.desired.webhooks.values().map(|(spec, _)| spec);
    let served = served.filter(|spec| spec.enabled && secrets.for_webhook(spec).slots().next().is_some());
    let providers: BTreeSet<&ProviderName> = served.map(|spec| &spec.provider).collect();
    let mut rows = Vec::new();
    for provider in providers {
        let Some(definition) = look.catalogue.get(provider.as_str()) else { continue };
        let Some((first, _)) = definition.slots().find(|(_, usage)| *usage == SlotUse::Reply) else { continue };
        let (settings, held) = (secrets.settings(provider), secrets.for_calls(provider));
        let in_force = definition.in_force(&settings, &held);
        let found = match (definition.unfinished(&settings, &held).first(), &in_force) {
            (Some(way), _) => Found::Care(
                format!("`{provider}`: {way}; in force: {}", in_force.describe()),
                format!("complete `[providers.{provider}]` in skillhook.toml"),
            ),
            (None, InForce::Nothing) => Found::Care(
                format!("`{provider}` has no token here: runs happen, their answers wait"),
                format!("name its variable in skillhook.toml: `[providers.{provider}]`, `{first}_env = \"…\"`"),
            ),
            (None, InForce::Got(_) | InForce::Held(_)) => {
                Found::Good(format!("`{provider}` is called with {}", in_force.describe()))
            }
        };
        rows.push(("answers", found));
    }
    rows
}

/// The file that a name on the PATH leads to, or the path itself.
fn program(path: &str, name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return Some(name.to_owned()).filter(|file| file.is_file());
    }
    std::env::split_paths(path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_on_the_path_or_by_their_own() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("agent"), "").unwrap();
        let path = format!("/nowhere:{}", dir.path().display());
        assert_eq!(program(&path, Path::new("agent")), Some(dir.path().join("agent")));
        assert_eq!(program("/nowhere", &dir.path().join("agent")), Some(dir.path().join("agent")));
        assert_eq!(program(&path, Path::new("missing")), None);
    }
}
