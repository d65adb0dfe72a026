//! What people read and what could drift from the program: error pages, commands in the documentation.

use std::collections::BTreeSet;
use std::path::Path;

use clap::error::ErrorKind;
use skillhook::error::Code;
use skillhook::worker::agent::wire;

use super::source;

/// Placeholders in commands that stand for a command themselves.
const ANY_COMMAND: &str = "COMMAND";

/// Every code has its page under its title, and there is no page without a code.
pub fn error_pages(root: &Path, found: &mut Vec<String>) {
    let directory = root.join("src/error/codes");
    let mut pages: BTreeSet<String> = source::files(&directory)
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect();
    for code in Code::ALL {
        let file = format!("{code}.md");
        let heading = format!("# {code}: {}", code.title());
        if code.page().lines().next() != Some(heading.as_str()) {
            found.push(format!("src/error/codes/{file}:1: the heading is not `{heading}`"));
        }
        for section in ["## What happened", "## What stays in force", "## What to do"] {
            if !code.page().lines().any(|line| line == section) {
                found.push(format!("src/error/codes/{file}:1: `{section}` is missing"));
            }
        }
        pages.remove(&file);
    }
    found.extend(pages.into_iter().map(|page| format!("src/error/codes/{page}:1: no code has this page")));
}

/// Every command that the documentation shows is one that the program knows.
pub fn commands(root: &Path, found: &mut Vec<String>) {
    let mut documents = vec![root.join("README.md"), root.join("Dockerfile"), root.join("src/ARCHITECTURE.md")];
    documents.extend(source::files(&root.join("src/error/codes")));
    documents.extend(source::files(&root.join(".claude")));
    documents.extend(source::files(&root.join("docs")));
    for document in documents {
        let Ok(text) = std::fs::read_to_string(&document) else { continue };
        let shown = document.strip_prefix(root).unwrap().display().to_string();
        for (line, command) in shown_commands(&text) {
            if let Err(why) = understood(&command) {
                found.push(format!("{shown}:{line}: `{command}` is not understood: {why}"));
            }
        }
    }
}

/// Every tool of the service that agents are told of is one that it has.
pub fn tools(root: &Path, found: &mut Vec<String>) {
    const PREFIX: &str = "mcp__skillhook__";
    let mut documents = vec![root.join("README.md"), root.join("src/ARCHITECTURE.md")];
    documents.extend(source::files(&root.join(".claude")));
    documents.extend(source::files(&root.join("docs")));
    for document in documents {
        let Ok(text) = std::fs::read_to_string(&document) else { continue };
        let shown = document.strip_prefix(root).unwrap().display().to_string();
        for (n, line) in text.lines().enumerate() {
            for rest in line.split(PREFIX).skip(1) {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                let name = &rest[..end];
                if !name.is_empty() && skillhook::mcp::tools::find(name).is_none() {
                    found.push(format!("{shown}:{}: there is no tool `{PREFIX}{name}`", n + 1));
                }
            }
        }
    }
}

/// Commands at the beginning of lines of code blocks, and in back-ticks.
fn shown_commands(text: &str) -> Vec<(usize, String)> {
    let mut commands = Vec::new();
    let mut fenced = false;
    for (n, line) in text.lines().enumerate() {
        let content = line.trim_start();
        if content.starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let in_block = fenced || line.starts_with("    ");
        let content = content.strip_prefix("$ ").unwrap_or(content);
        if in_block && content.starts_with("skillhook ") {
            commands.push((n + 1, content.to_owned()));
        } else if !fenced {
            let spans = line.split('`').skip(1).step_by(2).filter(|span| span.starts_with("skillhook "));
            commands.extend(spans.map(|span| (n + 1, span.to_owned())));
        }
    }
    commands
}

/// Parses as the program would, up to the first word that belongs to the shell.
fn understood(command: &str) -> Result<(), String> {
    let words = words(command);
    // Placeholders, and what skillhook calls itself with.
    let special = [ANY_COMMAND, wire::SUPERVISOR_COMMAND, wire::STAGE_COMMAND, wire::SCRIPTED_COMMAND];
    if words.get(1).is_some_and(|word| special.contains(&word.as_str())) {
        return Ok(());
    }
    match skillhook::cli::command().try_get_matches_from(&words) {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            // `skillhook trigger` alone names the command.
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::MissingRequiredArgument
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Ok(()),
            _ => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
        },
    }
}

fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (Some(open), _) if open == c => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '|' | '>' | '&' | ';' | '#' | '\\') => break,
            (None, ' ') => words.push(String::new()),
            _ => words.last_mut().unwrap().push(c),
        }
    }
    let optional = |word: &String| word.starts_with('[') || word.ends_with(']') || word == "…" || word == "...";
    words.into_iter().filter(|word| !word.is_empty() && word != "2" && !optional(word)).collect()
}

#[test]
fn commands_are_found_in_blocks_and_back_ticks_and_end_where_the_shell_begins() {
    let text = "Run `skillhook get webhooks` now.\n\n```sh\n$ skillhook version -o json | jq .\nskillhook nonsense\n```\n    skillhook error SH0105\n";
    let commands = shown_commands(text);
    let lines: Vec<usize> = commands.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 4, 5, 7]);
    let verdicts: Vec<bool> = commands.iter().map(|(_, command)| understood(command).is_ok()).collect();
    assert_eq!(verdicts, [true, true, false, true]);
    assert_eq!(words("skillhook x --a 'b c' > d"), ["skillhook", "x", "--a", "b c"]);
}
