//! `skillhook mcp` as its client sees it: lists the tools, and passes calls on.

use std::future::Future;
use std::sync::Arc;

use rmcp::handler::server::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, JsonObject, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::{RequestContext, RoleServer, ServiceExt as _};
use serde_json::Value;

use super::tools::TOOLS;
use crate::error::{Code, Context as _, Result};

/// What clients tell their agents about all of it.
const INSTRUCTIONS: &str = "Webhooks, skills and agents of this skillhook service. Look with list_webhooks and \
                            explain_provider first. Every write is checked as a whole; what is refused says why.";

/// Serves one client over standard streams until it closes them. `forward` carries out a call: the answer, or what
/// went wrong in words for an agent.
///
/// # Errors
/// When the client does not speak the protocol.
pub async fn serve<F, A>(forward: F) -> Result<()>
where
    F: Fn(String, Value) -> A + Send + Sync + 'static,
    A: Future<Output = std::result::Result<Value, String>> + Send + 'static,
{
    let failed = "the client does not speak the Model Context Protocol";
    let server = Server { forward };
    let running = server.serve(rmcp::transport::stdio()).await.context(Code::Usage, failed)?;
    running.waiting().await.context(Code::Bug, "the server of the tools broke off")?;
    Ok(())
}

struct Server<F> {
    forward: F,
}

impl<F, A> ServerHandler for Server<F>
where
    F: Fn(String, Value) -> A + Send + Sync + 'static,
    A: Future<Output = std::result::Result<Value, String>> + Send + 'static,
{
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("skillhook", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> std::result::Result<ListToolsResult, rmcp::ErrorData> {
        Ok(ListToolsResult::with_all_items(TOOLS.iter().map(listed).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> std::result::Result<CallToolResponse, rmcp::ErrorData> {
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let result = match (self.forward)(request.name.into_owned(), arguments).await {
            Ok(value) => CallToolResult::success(vec![ContentBlock::text(value.to_string())]),
            Err(message) => CallToolResult::error(vec![ContentBlock::text(message)]),
        };
        Ok(result.into())
    }
}

fn listed(tool: &super::tools::Tool) -> Tool {
    let schema: JsonObject = match (tool.arguments)() {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    };
    let mut listed = Tool::new(tool.name, tool.description, Arc::new(schema));
    listed.annotations = Some(ToolAnnotations::new().read_only(tool.reads));
    listed
}
