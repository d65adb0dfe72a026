//! Agent files: `.claude/agents/NAME.md`.

use serde_json::Value;

use super::identity;
use super::report::Report;
use crate::error::Code;
use crate::model::diagnostic::Diagnostic;
use crate::model::frontmatter::{Document, Fields, KeyPath};
use crate::model::ids::{AgentName, SkillName};
use crate::model::raw::{Several, Text};

const TOOLS_MAX: usize = 256;
const SKILLS_MAX: usize = 64;
const ITEM_CHARS_MAX: usize = 200;

/// What the gateway needs to know of an agent; the agent program reads the file itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AgentFile {
    pub name: AgentName,
    pub description: String,
    /// `None`: the file does not restrict them.
    pub tools: Option<Vec<String>>,
    pub model: Option<String>,
    pub skills: Vec<SkillName>,
}

/// Checks an agent file. `name` is the stem of its file name.
///
/// # Errors
/// Everything that is wrong with it. What would run without asking, hooks and programs of its own, is refused.
pub fn check_agent(path: &str, name: &AgentName, document: &Document<'_>) -> Result<AgentFile, Vec<Diagnostic>> {
    let Some(block) = &document.frontmatter else {
        let missing = Diagnostic::error(path, Code::FrontmatterUnreadable, "the file has no frontmatter");
        return Err(vec![missing.at(1, 1).hint("begin it with a line `---`, then `name:` and `description:`")]);
    };
    let fields = Fields::of(path, block).map_err(|diagnostic| vec![diagnostic])?;
    let mut report = Report::new(&fields, KeyPath::root());
    let description = identity(&mut report, "agent", name.as_str());
    refuse_power(&mut report);
    let tools = list(&mut report, "tools", TOOLS_MAX);
    let model = report.typed::<Text>(&report.at("model")).ok().flatten();
    let model = report.text(&report.at("model"), model.as_ref(), ITEM_CHARS_MAX);
    let skills = skills(&mut report);
    match description {
        Some(description) if !report.has_errors() => {
            Ok(AgentFile { name: name.clone(), description, tools, model, skills })
        }
        _ => Err(report.into_findings()),
    }
}

/// What would give every run of this agent more than its command may give.
fn refuse_power(report: &mut Report<'_>) {
    let json = report.fields().json();
    if json.get("permissionMode").and_then(Value::as_str) == Some("bypassPermissions") {
        let message = "an agent may not bypass permissions";
        report.error(&report.at("permissionMode"), Code::ConfigValue, message).hint("name the `tools` that it needs");
    }
    if json.get("hooks").is_some_and(|hooks| !hooks.is_null()) {
        let message = "hooks of an agent are not run";
        report.error(&report.at("hooks"), Code::ConfigValue, message).hint("remove them");
    }
    let servers = json.get("mcpServers");
    let defines =
        |value: &Value| value.is_object() || value.as_array().is_some_and(|list| list.iter().any(Value::is_object));
    if servers.is_some_and(defines) {
        let message = "an agent may not define MCP servers";
        report.error(&report.at("mcpServers"), Code::ConfigValue, message).hint("name servers of the operator instead");
    }
}

fn list(report: &mut Report<'_>, key: &str, max: usize) -> Option<Vec<String>> {
    let at = report.at(key);
    let several = comma_list(report.typed::<Several<Text>>(&at).ok().flatten()?);
    if several.items.is_empty() {
        return Some(Vec::new());
    }
    report.texts(&at, Some(&several), max, ITEM_CHARS_MAX)
}

/// As the agent program reads lists: of YAML, or one text with commas outside of parentheses, for example
/// `Read, Bash(git log:*, git diff:*)`.
pub(super) fn comma_list(several: Several<Text>) -> Several<Text> {
    match several.listed {
        true => several,
        false => Several { items: several.items.iter().flat_map(|text| split(&text.0)).collect(), listed: false },
    }
}

fn split(text: &str) -> Vec<Text> {
    let mut depth = 0usize;
    let items = text.split(|c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    items.map(str::trim).filter(|item| !item.is_empty()).map(|item| Text(item.to_owned())).collect()
}

fn skills(report: &mut Report<'_>) -> Vec<SkillName> {
    let mut out = Vec::new();
    for name in list(report, "skills", SKILLS_MAX).unwrap_or_default() {
        match SkillName::parse(&name) {
            Ok(name) => out.push(name),
            Err(message) => drop(report.error(&report.at("skills"), Code::ConfigValue, message)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::frontmatter::split as split_file;

    fn agent(front: &str) -> Result<AgentFile, Vec<Diagnostic>> {
        let file = format!("---\n{front}\n---\nBody.\n");
        let document = split_file("planning.md", file.as_bytes()).unwrap();
        check_agent("planning.md", &AgentName::parse("planning").unwrap(), &document)
    }

    #[test]
    fn agent_files_are_read() {
        let read = agent("name: planning\ndescription: Plans.\ntools: Read, Bash(git log:*, git diff:*), Grep\nmodel: opus\nskills: [testing]\ncolor: red").unwrap();
        assert_eq!(read.tools.unwrap(), ["Read", "Bash(git log:*, git diff:*)", "Grep"]);
        assert_eq!((read.model.as_deref(), read.skills[0].as_str()), (Some("opus"), "testing"));
        let listed = agent("name: planning\ndescription: Plans.\ntools: [Read, Grep]").unwrap();
        assert_eq!((listed.tools.unwrap().len(), listed.skills.len()), (2, 0));
        assert_eq!(agent("name: planning\ndescription: Plans.").unwrap().tools, None);
    }

    #[test]
    fn agents_get_no_power_of_their_own() {
        let refused = |line: &str, expect: &str| {
            let front = format!("name: planning\ndescription: Plans.\n{line}");
            assert_eq!(agent(&front).unwrap_err()[0].to_string(), expect);
        };
        refused(
            "permissionMode: bypassPermissions",
            "planning.md:4:1: error[SH0106]: an agent may not bypass permissions",
        );
        refused("hooks: {Stop: []}", "planning.md:4:1: error[SH0106]: hooks of an agent are not run");
        refused(
            "mcpServers: {x: {command: sh}}",
            "planning.md:4:1: error[SH0106]: an agent may not define MCP servers",
        );
        refused("tools: 7", "planning.md:4:8: error[SH0105]: `tools`: expected a text, found integer `7`");
        refused(
            "skills: [No Such]",
            "planning.md:4:1: error[SH0106]: `No Such` is no skill name: it must begin and end with a lower-case letter or a digit",
        );
        assert!(agent("name: planning\ndescription: Plans.\nmcpServers: [github]\npermissionMode: plan").is_ok());
        let other = agent("name: other\ndescription: x").unwrap_err();
        assert_eq!(other[0].message, "the agent is called `other` here, but its path says `planning`");
    }
}
