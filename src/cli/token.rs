//! `token`: who may use the admin API over the network. The running server is asked; without one the ledger is opened
//! here, so that there can be a token before the first start.

use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::client::{DEADLINE, Route};
use super::context::{Context, duration};
use super::exit::Exit;
use super::get::items_of;
use super::output::STRONG;
use super::sheet::{Form, Sheet, column, wide};
use crate::app;
use crate::config::{Config, Overrides};
use crate::error::{Code, Error, Result};
use crate::http::api::access::{self, Access, Caller, Wanted};
use crate::http::api::tokens;
use crate::model::token::{Scope, Scopes, TokenId};
use crate::seam::Clock;

#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token; it is printed once and kept nowhere
    Create(Create),
    /// Every token: what it may do, when it expires, when it was last used
    List(List),
    /// Revoke a token; what is open by it is closed
    Revoke(Revoke),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Scopes: `read` looks, `write` changes files and steers tasks, `approve` lets waiting things go on, `admin` deals with
tokens and secrets and may do all of it. Commands on the same machine need no token: they use the data directory.

Examples:
  skillhook token create ci --scope read,write --expires 30d
  skillhook token create me --scope admin
  export TOKEN=$(skillhook token create script -o name)")]
pub struct Create {
    /// For people: who or what will use it
    name: String,
    /// What it may do: read, write, approve, admin
    #[arg(long, value_name = "SCOPE", value_delimiter = ',', default_value = "read", value_parser = Scope::parse)]
    scope: Vec<Scope>,
    /// For how long it holds; for ever if not given
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skillhook token list
  skillhook token list -o json")]
pub struct List {}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skillhook token revoke 1a2b3c4d5e6f
  skillhook token revoke 1a2b3c4d5e6f -y")]
pub struct Revoke {
    /// The token's id
    #[arg(value_parser = TokenId::parse)]
    id: TokenId,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Say what would be revoked, and revoke nothing
    #[arg(long)]
    dry_run: bool,
}

const TOKENS: Sheet = Sheet {
    singular: "token",
    plural: "tokens",
    name: &["/id"],
    columns: &[
        column("ID", Form::Text, &["/id"]),
        column("NAME", Form::Text, &["/name"]),
        column("SCOPES", Form::Text, &["/scopes"]),
        column("STATE", Form::Text, &["/state"]),
        column("LAST USED", Form::Age, &["/last_used_at"]),
        column("AGE", Form::Age, &["/created_at"]),
        wide("EXPIRES", Form::Text, &["/expires_at"]),
        wide("MADE BY", Form::Text, &["/created_by"]),
    ],
};

impl Token {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        match self {
            Token::Create(create) => create.run(context).await,
            Token::List(List {}) => {
                context.output.list(&TOKENS, &all(context).await?);
                Ok(Exit::Done)
            }
            Token::Revoke(revoke) => revoke.run(context).await,
        }
    }
}

impl Create {
    async fn run(self, context: &Context) -> Result<Exit> {
        let seconds = self.expires.map(|expires| expires.as_secs());
        let body = json!({ "name": self.name, "scopes": self.scope, "expires_in_seconds": seconds });
        let asked = context.client()?.send(Method::POST, Route::api(&["tokens"]), &body, DEADLINE).await;
        let made = match asked {
            Err(error) if error.code() == Code::ServerAway => {
                let wanted = Wanted {
                    name: self.name,
                    scopes: Scopes::of(self.scope),
                    expires_at: self.expires.map(|holds| access::expiry(Clock::System.now(), holds)),
                };
                at_rest(&context.config()?, async |access| create(access, wanted).await).await?
            }
            made => made?,
        };
        show(context, &made);
        Ok(Exit::Done)
    }
}

impl Revoke {
    async fn run(self, context: &Context) -> Result<Exit> {
        let known = all(context).await?;
        let Some(token) = known.iter().find(|token| token["id"] == self.id.as_str()) else {
            return Err(Error::new(Code::NotFound, format!("there is no token `{}`", self.id))
                .hint("`skillhook token list` lists them"));
        };
        let name = token["name"].as_str().unwrap_or_default();
        if self.dry_run {
            context.output.value(token, |_| format!("would revoke `{name}` ({})\n", self.id));
            return Ok(Exit::Done);
        }
        if !self.yes && !context.output.confirmed(&format!("Revoke the token `{name}` ({})?", self.id))? {
            context.output.note("nothing was done");
            return Ok(Exit::Refused);
        }
        let asked = context.client()?.delete(Route::api(&["tokens", self.id.as_str()]), DEADLINE).await;
        let revoked = match asked {
            Err(error) if error.code() == Code::ServerAway => {
                let id = self.id.clone();
                at_rest(&context.config()?, async |access| {
                    let token = access.revoke(&id, &Caller::Local).await?;
                    Ok(tokens::shown(&token, Clock::System.now()))
                })
                .await?
            }
            revoked => revoked?,
        };
        context.output.value(&revoked, |_| format!("token `{name}` ({}) opens nothing any more\n", self.id));
        Ok(Exit::Done)
    }
}

/// The first token of a repository that is being prepared.
pub async fn first(context: &Context, root: &Path) -> Result<Exit> {
    let overrides = Overrides { root: Some(root.to_owned()), ..context.overrides.clone() };
    let wanted = Wanted { name: "first".to_owned(), scopes: Scopes::of([Scope::Admin]), expires_at: None };
    let config = Config::load(&overrides)?;
    let made = at_rest(&config, async |access| {
        if access.any_holds() {
            return Err(Error::new(Code::Conflict, "there is a token already")
                .hint("`skillhook token create NAME` makes another one"));
        }
        create(access, wanted).await
    });
    show(context, &made.await?);
    Ok(Exit::Done)
}

async fn all(context: &Context) -> Result<Vec<Value>> {
    match context.client()?.get(Route::api(&["tokens"]), DEADLINE).await {
        Err(error) if error.code() == Code::ServerAway => {
            let config = context.config()?;
            at_rest(&config, async |access| {
                let now = Clock::System.now();
                Ok(access.tokens().iter().map(|token| tokens::shown(token, now)).collect())
            })
            .await
        }
        listed => Ok(items_of(listed?).0),
    }
}

async fn create(access: &Access, wanted: Wanted) -> Result<Value> {
    let (token, text) = access.create(wanted, &Caller::Local).await?;
    Ok(tokens::told(&token, &text, Clock::System.now()))
}

/// Does something with the tokens of a service that does not run.
async fn at_rest<T>(config: &Config, work: impl AsyncFnOnce(&Access) -> Result<T>) -> Result<T> {
    let (ledger, access) = app::tokens_at_rest(config)?;
    let done = work(&access).await;
    ledger.close().await;
    done
}

/// The token alone where a program reads; people are told what it is.
fn show(context: &Context, made: &Value) {
    if context.output.format.is_machine() {
        context.output.value(made, |_| String::new());
        return;
    }
    context.output.line(made["token"].as_str().unwrap_or_default());
    let (id, scopes) = (made["id"].as_str().unwrap_or_default(), super::sheet::text(&made["scopes"]));
    context.output.note(&format!(
        "{STRONG}It is shown this once.{STRONG:#} Id {id}, may {scopes}. Send it as `Authorization: Bearer TOKEN`."
    ));
}
