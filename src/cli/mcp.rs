//! `mcp`: the tools of a run, over standard streams. The agent program starts it; it passes calls on to the service.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::client::{Client, Route};
use super::context::Context;
use super::exit::Exit;
use crate::config;
use crate::error::{Code, Error, Result};
use crate::mcp::stdio;
use crate::worker::tools::{SOCKET_VARIABLE, TOKEN_VARIABLE};

/// How long one call may take: a change waits for its pass and its commit.
const CALL_MAX: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
#[command(after_help = "\
The service starts agents with this as an MCP server, and gives it the token of the run; it is of no use by hand.
Agents whose `tools` name `mcp__skillhook__*` may use it.")]
pub struct Mcp {}

impl Mcp {
    pub async fn run(self, _context: &Context) -> Result<Exit> {
        let environment = config::environment();
        let named = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
        let (Some(socket), Some(token)) = (named(SOCKET_VARIABLE), named(TOKEN_VARIABLE)) else {
            let message = format!("`{SOCKET_VARIABLE}` and `{TOKEN_VARIABLE}` are not set");
            return Err(Error::new(Code::Usage, message).hint("the service sets them for the runs that it starts"));
        };
        let client = Arc::new(Client::new(PathBuf::from(socket)));
        let token: Arc<str> = token.into();
        stdio::serve(move |tool, arguments| {
            let (client, token) = (Arc::clone(&client), Arc::clone(&token));
            async move { call(&client, &token, &tool, &arguments).await }
        })
        .await?;
        Ok(Exit::Done)
    }
}

async fn call(client: &Client, token: &str, tool: &str, arguments: &Value) -> std::result::Result<Value, String> {
    let call = json!({ "token": token, "tool": tool, "arguments": arguments });
    let sent = client.send(Method::POST, Route::api(&["call"]), &call, CALL_MAX).await;
    let mut answer = sent.map_err(|error| error.to_string())?;
    match answer["refused"].take() {
        Value::String(words) => Err(words),
        _ => Ok(answer["ok"].take()),
    }
}
