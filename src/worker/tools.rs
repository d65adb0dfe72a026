//! The tools of the service in a run: how the agent program starts the server that passes its calls on.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::agent::invocation::OWN_SERVER;
use crate::mcp::grants::{Grant, Grants};

/// Variables through which `skillhook mcp` learns where to call and as whom.
pub const SOCKET_VARIABLE: &str = "SKILLHOOK_RUN_SOCKET";
pub const TOKEN_VARIABLE: &str = "SKILLHOOK_RUN_TOKEN";

/// What gives runs their tools.
#[derive(Clone, Debug)]
pub struct Tools {
    pub grants: Grants,
    /// This program.
    pub program: PathBuf,
    /// The socket on which nothing but calls of tools is served.
    pub socket: PathBuf,
}

impl Tools {
    /// The configuration of the one server that a run has. It holds the token, so it travels as a private file.
    pub fn config(&self, grant: &Grant) -> Value {
        let environment = json!({ SOCKET_VARIABLE: self.socket, TOKEN_VARIABLE: grant.token });
        let server = json!({ "command": self.program, "args": ["mcp"], "env": environment });
        json!({ "mcpServers": { OWN_SERVER: server } })
    }
}
