//! The only reader of `skillhook.toml` and of the environment (apart from `secrets/env.rs`): raw text in, checked
//! settings out. Precedence: flag > environment (`SKILLHOOK_SERVER_LISTEN` for `server.listen`) > `skillhook.toml` > default.

mod agent;
mod copies;
mod ledger;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};
use crate::model::change::{WriteMode, WriteModes};
use crate::model::forward::Target;
use crate::model::ids::ProviderName;

pub use agent::Agent;
pub use copies::Copy;
pub use ledger::{Ledger, LedgerPlace, tells_a_password};

/// The name of the settings file beside `.claude/`.
pub const FILE: &str = "skillhook.toml";

/// All settings, as they stand in the file; every field has a default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub server: Server,
    pub limits: Limits,
    pub reconcile: Reconcile,
    pub git: Git,
    pub changes: Changes,
    pub queue: Queue,
    pub ledger: Ledger,
    pub agent: Agent,
    pub secrets: Secrets,
    /// Cloud copies of every committed revision; SKILLHOOK_COPIES names others instead, separated by blanks.
    pub copies: Vec<Copy>,
    /// By provider: `api_base`, `bot_login` and the other settings that its definition names; a reply token as
    /// `api_token_env = "NAME"` or `api_token_file = "PATH"`.
    pub providers: BTreeMap<String, BTreeMap<String, String>>,
    /// By name: the only addresses that commands with `action: forward` may post to.
    pub forward: BTreeMap<String, Forward>,
}

/// A target of `forward` commands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Forward {
    pub url: String,
    /// The environment variable that holds what signs the posts (Standard Webhooks).
    pub secret_env: Option<String>,
    /// The file that holds it, in place of a variable.
    pub secret_file: Option<PathBuf>,
    /// The target may lie in a private network, and be called by `http://` there.
    pub allow_private: bool,
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// The public receiver.
    pub listen: String,
    /// The admin API, metrics and health; beyond loopback only once a token was made.
    pub admin_listen: String,
    /// Names under which the admin listener may be called, beside loopback ones and, beyond loopback, addresses.
    pub admin_hosts: Vec<String>,
    /// The address under which providers reach the receiver, for signatures that cover the URL.
    pub public_url: Option<String>,
    /// `text` or `json`.
    pub log_format: String,
    /// A filter such as `info` or `skillhook=debug`.
    pub log: String,
    /// How long running work may take to end after a stop was asked for, in seconds.
    pub drain_seconds: u64,
    /// What this node does: `receiver` takes deliveries, `worker` runs agents and answers, `reconciler` commits what people
    /// edit and fills the cloud copies, `api` is the admin listener. Every node follows the files.
    pub roles: Vec<String>,
}

/// All of `server.roles`.
pub const ROLES: &[&str] = &["receiver", "worker", "reconciler", "api"];

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".into(),
            admin_listen: "127.0.0.1:8081".into(),
            admin_hosts: Vec::new(),
            public_url: None,
            log_format: "text".into(),
            log: "info".into(),
            drain_seconds: 8,
            roles: ROLES.iter().map(|role| (*role).to_owned()).collect(),
        }
    }
}

/// Limits of the receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest body in bytes; a provider's own limit applies where it is smaller.
    pub body_bytes_max: usize,
    /// Open connections; more wait to be accepted.
    pub connections_max: usize,
    /// Until the headers must have arrived, in seconds.
    pub header_seconds: u64,
    /// Until the body must have arrived, in seconds.
    pub body_seconds: u64,
    /// Until an idle connection is closed, in seconds.
    pub idle_seconds: u64,
    /// Runs that one thread at a source may start within an hour: what goes on beyond that is a loop.
    pub thread_runs_per_hour: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 26_214_400,
            connections_max: 1024,
            header_seconds: 10,
            body_seconds: 20,
            idle_seconds: 60,
            thread_runs_per_hour: 30,
        }
    }
}

/// The reconcile pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Reconcile {
    /// Every so many seconds everything is looked at and the remote is asked, whatever the watcher says.
    pub poll_seconds: u64,
}

impl Default for Reconcile {
    fn default() -> Self {
        Self { poll_seconds: 60 }
    }
}

/// How changes are recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Git {
    /// Commit changes below `.claude/`.
    pub commit: bool,
    /// Push those commits.
    pub push: bool,
    /// Fetch, and bring what was merged elsewhere into the files.
    pub pull: bool,
    /// How deliveries name this repository (`acme/hooks`), to pull as soon as one comes from it; by default what the
    /// address of the remote ends with.
    pub repository: Option<String>,
    /// The provider that opens pull or merge requests where a change may not be pushed; by default the one that the
    /// address of the remote belongs to.
    pub provider: Option<String>,
    pub remote: String,
    pub author_name: String,
    pub author_email: String,
    /// For every call to the remote, in seconds.
    pub network_seconds: u64,
}

impl Default for Git {
    fn default() -> Self {
        Self {
            commit: true,
            push: true,
            pull: true,
            repository: None,
            provider: None,
            remote: "origin".into(),
            author_name: "skillhook".into(),
            author_email: "skillhook@localhost".into(),
            network_seconds: 30,
        }
    }
}

/// How changes that come through skillhook get into the files: `direct` writes, commits and pushes them, `propose`
/// makes a branch that a person merges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Changes {
    /// Through the HTTP API and the dashboard.
    pub api: WriteMode,
    /// Through commands such as `skillhook add`.
    pub cli: WriteMode,
    /// In a conversation that somebody with the right to write has begun.
    pub chat: WriteMode,
    /// By runs that a delivery has started; what widens their power is proposed in any case.
    pub agent: WriteMode,
}

impl Default for Changes {
    fn default() -> Self {
        let WriteModes { api, cli, chat, agent } = WriteModes::default();
        Self { api, cli, chat, agent }
    }
}

/// The queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Runs at once, over all webhooks; 0 runs none.
    pub running_max: usize,
    /// Finished work is forgotten after so many days.
    pub keep_days: u64,
    /// Memory for the ledger's pages, in MiB.
    pub cache_mib: usize,
}

impl Default for Queue {
    fn default() -> Self {
        Self { running_max: 2, keep_days: 30, cache_mib: 64 }
    }
}

/// Where secrets may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Secrets {
    /// Patterns of environment variables that a skill may name.
    pub env_allow: Vec<String>,
    /// The directory that holds `secret_file`s; relative to the data directory.
    pub directory: PathBuf,
    /// Webhooks without a signature are served (`requires_signature: false`).
    pub allow_unsigned: bool,
}

impl Default for Secrets {
    fn default() -> Self {
        let allow = ["SKILLHOOK_SECRET_*", "*_WEBHOOK_SECRET", "*_SIGNING_SECRET"];
        Self { env_allow: allow.map(String::from).to_vec(), directory: "keys".into(), allow_unsigned: false }
    }
}

/// What flags say over everything else.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub root: Option<PathBuf>,
    pub data: Option<PathBuf>,
    pub listen: Option<String>,
    pub admin_listen: Option<String>,
    pub poll_seconds: Option<u64>,
    /// Empty: those of the settings.
    pub roles: Vec<String>,
}

/// Settings that are checked and belong together.
#[derive(Clone)]
pub struct Config {
    /// The git work tree that holds `.claude/`; absolute.
    pub root: PathBuf,
    /// Absolute.
    pub data: PathBuf,
    pub listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub settings: Settings,
    /// Of this process: secrets are looked for here, and `git` sees a part of it.
    pub environment: BTreeMap<String, String>,
    /// What runs of agents see of this process's environment.
    pub agent_env: BTreeMap<String, String>,
    /// `PATH` of this process, to find programs.
    pub path: String,
}

/// The environment may hold secrets.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("root", &self.root).field("data", &self.data).finish_non_exhaustive()
    }
}

impl Config {
    /// Reads everything and checks it.
    ///
    /// # Errors
    /// SH0301 names the setting.
    pub fn load(overrides: &Overrides) -> Result<Self> {
        let environment: BTreeMap<String, String> = environment();
        let root = overrides.root.clone().unwrap_or_else(|| PathBuf::from("."));
        let root = std::path::absolute(&root)
            .map_err(|error| Error::new(Code::SettingInvalid, "the root is not a path").detail(error))?;
        let root = root.canonicalize().unwrap_or(root);
        let mut settings = read(&root.join(FILE), &environment)?;
        if let Some(listen) = &overrides.listen {
            settings.server.listen.clone_from(listen);
        }
        if let Some(listen) = &overrides.admin_listen {
            settings.server.admin_listen.clone_from(listen);
        }
        if let Some(seconds) = overrides.poll_seconds {
            settings.reconcile.poll_seconds = seconds;
        }
        if !overrides.roles.is_empty() {
            settings.server.roles.clone_from(&overrides.roles);
        }
        let named = overrides.data.clone().or_else(|| environment.get("SKILLHOOK_DATA").map(PathBuf::from));
        let data = match named {
            Some(data) => std::path::absolute(&data).unwrap_or(data),
            None => root.join(".skillhook"),
        };
        Self::checked(root, data, settings, environment)
    }

    /// Checks settings that were made elsewhere.
    ///
    /// # Errors
    /// SH0301 names the setting.
    pub fn checked(
        root: PathBuf,
        data: PathBuf,
        settings: Settings,
        environment: BTreeMap<String, String>,
    ) -> Result<Self> {
        let listen = address("server.listen", &settings.server.listen)?;
        let admin_listen = address("server.admin_listen", &settings.server.admin_listen)?;
        at_least_one("reconcile.poll_seconds", settings.reconcile.poll_seconds)?;
        at_least_one("limits.header_seconds", settings.limits.header_seconds)?;
        at_least_one("limits.body_seconds", settings.limits.body_seconds)?;
        at_least_one("limits.idle_seconds", settings.limits.idle_seconds)?;
        at_least_one("limits.thread_runs_per_hour", u64::from(settings.limits.thread_runs_per_hour))?;
        at_least_one("limits.connections_max", settings.limits.connections_max as u64)?;
        at_least_one("limits.body_bytes_max", settings.limits.body_bytes_max as u64)?;
        at_least_one("agent.idle_seconds", settings.agent.idle_seconds)?;
        at_least_one("git.network_seconds", settings.git.network_seconds)?;
        one_of("server.log_format", &settings.server.log_format, &["text", "json"])?;
        one_of("agent.sandbox", &settings.agent.sandbox, &["auto", "required", "bubblewrap", "landlock", "off"])?;
        for (name, target) in &settings.forward {
            Target::new(&target.url, target.allow_private)
                .map_err(|message| invalid(&format!("forward.{name}.url"), &message))?;
        }
        copies::check(&settings.copies)?;
        ledger::check(&settings.ledger)?;
        for role in &settings.server.roles {
            one_of("server.roles", role, ROLES)?;
        }
        for name in settings.providers.keys() {
            ProviderName::parse(name).map_err(|message| invalid(&format!("providers.{name}"), &message))?;
        }
        if let Some(name) = &settings.git.provider {
            ProviderName::parse(name).map_err(|message| invalid("git.provider", &message))?;
        }
        let pass = settings.agent.env_pass.iter();
        let mut agent_env: BTreeMap<String, String> =
            pass.filter_map(|name| Some((name.clone(), environment.get(name)?.clone()))).collect();
        agent_env.extend(settings.agent.env.clone());
        let path = environment.get("PATH").cloned().unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        Ok(Self { root, data, listen, admin_listen, settings, environment, agent_env, path })
    }

    /// The socket through which commands on the same machine reach the server.
    pub fn admin_socket(&self) -> PathBuf {
        self.data.join("admin.sock")
    }

    /// The socket on which runs call the tools of the service, and reach nothing else.
    pub fn runs_socket(&self) -> PathBuf {
        self.data.join("runs.sock")
    }

    /// Whether this node does that; see [`ROLES`].
    pub fn has_role(&self, role: &str) -> bool {
        self.settings.server.roles.iter().any(|own| own == role)
    }

    pub fn poll(&self) -> Duration {
        Duration::from_secs(self.settings.reconcile.poll_seconds)
    }
}

/// The environment as text; variables that are not UTF-8 are not ours.
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn read(file: &Path, environment: &BTreeMap<String, String>) -> Result<Settings> {
    let defaults = serde_json::to_value(Settings::default()).unwrap_or_default();
    let mut builder = config::Config::builder();
    if file.exists() {
        builder = builder.add_source(config::File::from(file.to_owned()).format(config::FileFormat::Toml));
    }
    let mut keys = Vec::new();
    leaves("", &defaults, &mut keys);
    for key in keys {
        let name = format!("SKILLHOOK_{}", key.replace('.', "_").to_uppercase());
        if let Some(value) = environment.get(&name) {
            builder = builder.set_override(&key, value.as_str()).map_err(|error| invalid(&name, &error.to_string()))?;
        }
    }
    let built = builder.build().map_err(|error| invalid(FILE, &error.to_string()))?;
    let mut settings: Settings = built.try_deserialize().map_err(|error| invalid(FILE, &error.to_string()))?;
    settings.copies = copies::named(settings.copies, environment)?;
    Ok(settings)
}

/// The dotted keys of all settings that hold one value.
fn leaves(prefix: &str, value: &serde_json::Value, keys: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                leaves(&path, value, keys);
            }
        }
        serde_json::Value::Array(_) => {}
        _ => keys.push(prefix.to_owned()),
    }
}

fn invalid(setting: &str, message: &str) -> Error {
    Error::new(Code::SettingInvalid, format!("`{setting}`: {message}"))
        .hint(format!("correct it in `{FILE}`, in the environment or on the command line"))
}

fn address(setting: &str, text: &str) -> Result<SocketAddr> {
    text.parse().map_err(|_| invalid(setting, &format!("`{text}` is no address of the form `127.0.0.1:8080`")))
}

fn at_least_one(setting: &str, value: u64) -> Result<()> {
    if value == 0 { Err(invalid(setting, "must be at least 1")) } else { Ok(()) }
}

fn one_of(setting: &str, value: &str, allowed: &[&str]) -> Result<()> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(invalid(setting, &format!("`{value}` is none of `{}`", allowed.join("`, `"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn read_text(text: &str, environment: &[(&str, &str)]) -> Result<Settings> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        std::fs::write(&file, text).unwrap();
        read(&file, &environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let text = "[server]\nlisten = \"127.0.0.1:1\"\n[queue]\nrunning_max = 5\n";
        let settings = read_text(text, &[("SKILLHOOK_SERVER_LISTEN", "127.0.0.1:2")]).unwrap();
        assert_eq!(settings.server.listen, "127.0.0.1:2");
        assert_eq!(settings.queue.running_max, 5);
        assert_eq!(settings.limits, Limits::default());
    }

    #[test]
    fn unknown_settings_are_refused() {
        let error = read_text("[server]\nlistn = \"x\"\n", &[]).unwrap_err();
        assert_eq!(error.code(), Code::SettingInvalid);
        assert!(error.message().contains("listn"), "{error}");
    }

    #[test]
    fn zero_limits_and_odd_addresses_are_refused() {
        let check = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            Config::checked("/r".into(), "/d".into(), settings, BTreeMap::new()).unwrap_err().message().to_owned()
        };
        assert!(check(|s| s.server.listen = "here".into()).contains("server.listen"));
        assert!(check(|s| s.reconcile.poll_seconds = 0).contains("poll_seconds"));
        assert!(check(|s| s.agent.sandbox = "maybe".into()).contains("sandbox"));
    }
}
