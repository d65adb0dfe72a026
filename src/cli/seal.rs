//! `seal` and `secret`: secrets that may stand in files, and which of them are set. A secret is read from standard input,
//! never from the command line, where other users of the machine would see it.

use std::io::Read as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;

use super::client::{DEADLINE, Route};
use super::context::{Context, duration};
use super::exit::Exit;
use super::get::items_of;
use super::sheet::{Form, Sheet, column, wide};
use crate::error::{Code, Context as _, Error, Result};
use crate::secrets::seal::{SECRET_BYTES_MAX, Sealer};

#[derive(Debug, Args)]
#[command(after_help = "\
Reads the secret from standard input and prints `age:…`, which may stand in a SKILL.md and in git: only a service with
the key in this data directory opens it. The key is made when there is none; keep a copy of it.

Examples:
  skillhook seal < secret.txt
  printf %s \"$SECRET\" | skillhook seal")]
pub struct Seal {}

#[derive(Debug, Subcommand)]
pub enum Secret {
    /// Which secrets there are: set or missing, and when they were last used; never a value
    List(List),
    /// Seal a secret and write it into the file of a webhook; the secret is read from standard input
    Set(Set),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skillhook secret list
  skillhook secret list -o json")]
pub struct List {}

#[derive(Debug, Args)]
#[command(after_help = "\
The secret is sealed and written into the file, committed and in force when the command ends. With --keep-old what
verified before goes on verifying for so long, until the sender has the new secret.

Examples:
  skillhook secret set github < secret.txt
  skillhook secret set github --keep-old 1d < new-secret.txt
  printf %s \"$TOKEN\" | skillhook secret set slack --slot signing_secret")]
pub struct Set {
    /// The webhook's id
    webhook: String,
    /// Which of the provider's secrets it is; the usual one if not given
    #[arg(long, value_name = "NAME")]
    slot: Option<String>,
    /// For how long the secrets of before still verify
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    keep_old: Option<Duration>,
}

const SECRETS: Sheet = Sheet {
    singular: "secret",
    plural: "secrets",
    name: &["/webhook"],
    columns: &[
        column("WEBHOOK", Form::Text, &["/webhook"]),
        column("SLOT", Form::Text, &["/slot"]),
        column("STATE", Form::Text, &["/state"]),
        column("WHERE", Form::Text, &["/place"]),
        column("LAST USED", Form::Age, &["/last_used_at"]),
        wide("NOT AFTER", Form::Text, &["/not_after"]),
    ],
};

impl Seal {
    pub fn run(self, context: &Context) -> Result<Exit> {
        let config = context.config()?;
        let sealer = Sealer::open_or_create(&config.data.join(&config.settings.secrets.directory))?;
        context.output.line(&sealer.seal(&from_standard_input()?)?);
        Ok(Exit::Done)
    }
}

impl Secret {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        match self {
            Secret::List(List {}) => {
                let (items, _) = items_of(context.client()?.get(Route::api(&["secrets"]), DEADLINE).await?);
                context.output.list(&SECRETS, &items);
                Ok(Exit::Done)
            }
            Secret::Set(set) => set.run(context).await,
        }
    }
}

impl Set {
    async fn run(self, context: &Context) -> Result<Exit> {
        let value = String::from_utf8(from_standard_input()?)
            .map_err(|_| Error::new(Code::Usage, "the secret is no UTF-8 text"))?;
        let body = json!({
            "value": value,
            "slot": self.slot,
            "keep_old_seconds": self.keep_old.map(|keep| keep.as_secs()),
        });
        let made =
            context.client()?.send(Method::PUT, Route::api(&["secrets", &self.webhook]), &body, DEADLINE).await?;
        context.output.value(&made, |made| {
            format!("the secret of {} is {}\n", self.webhook, made["status"].as_str().unwrap_or("written"))
        });
        Ok(Exit::Done)
    }
}

/// Without the line end that editors and `echo` put behind it.
fn from_standard_input() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = SECRET_BYTES_MAX as u64 + 2;
    std::io::stdin().take(most).read_to_end(&mut bytes).context(Code::Usage, "standard input cannot be read")?;
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(bytes)
}
