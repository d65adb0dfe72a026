//! `add` and `remove`: a skill directory or an agent file into the running service and out of it, as one checked change.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use clap::{Args, ValueHint};
use hyper::Method;
use serde_json::{Map, Value, json};

use super::client::{DEADLINE, Route};
use super::context::Context;
use super::exit::Exit;
use crate::error::{Code, Context as _, Error, Result};
use crate::model::change::{EDITS_MAX, FILE_BYTES_MAX};

#[derive(Debug, Args)]
#[command(after_help = "\
PATH is a directory with a SKILL.md, or the file of an agent. It is checked as a whole, put below `.claude`, in force at
once, and committed; what is not valid is refused, and nothing of it is written.

Examples:
  skillhook add ../shared-skills/bug-triage
  skillhook add ../agents/dependency-reviewer.md
  skillhook add --replace ../shared-skills/bug-triage")]
pub struct Add {
    /// A skill's directory or an agent's file
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    path: PathBuf,
    /// Take the place of what has that name already
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A skill goes with all its files and the webhook that it makes. An agent that commands name stays until they name another.

Examples:
  skillhook remove skill/bug-triage
  skillhook remove agent/dependency-reviewer -y")]
pub struct Remove {
    /// skill/NAME or agent/NAME
    #[arg(value_name = "KIND/NAME", value_parser = target)]
    target: (String, String),
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

fn target(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some(("skill" | "skills", name)) if !name.is_empty() => Ok(("skills".into(), name.into())),
        Some(("agent" | "agents", name)) if !name.is_empty() => Ok(("agents".into(), name.into())),
        _ => Err("write `skill/NAME` or `agent/NAME`".to_owned()),
    }
}

impl Add {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let client = context.client()?;
        let (kind, name, body) = if self.path.is_dir() { skill(&self.path)? } else { agent(&self.path)? };
        let place = Route::api(&["registry", kind, &name, "content"]);
        if !self.replace && client.exists(place, DEADLINE).await? {
            return Err(Error::new(Code::Conflict, format!("there is `{name}` below `.claude/{kind}` already"))
                .hint("add `--replace` if it is to go"));
        }
        let made = client.send(Method::POST, Route::api(&["registry", kind, "upload"]), &body, DEADLINE).await?;
        context.output.value(&made, said);
        Ok(Exit::Done)
    }
}

impl Remove {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let client = context.client()?;
        let (kind, name) = &self.target;
        let shown = format!(".claude/{kind}/{name}");
        if self.dry_run {
            if !client.exists(Route::api(&["registry", kind, name, "content"]), DEADLINE).await? {
                return Err(Error::new(Code::NotFound, format!("there is no {shown}")));
            }
            context.output.note(&format!("would remove {shown}"));
            return Ok(Exit::Done);
        }
        if !self.yes && !context.output.confirmed(&format!("Remove {shown}?"))? {
            context.output.note("nothing was done");
            return Ok(Exit::Refused);
        }
        let made = client.delete(Route::api(&["registry", kind, name]), DEADLINE).await?;
        context.output.value(&made, said);
        Ok(Exit::Done)
    }
}

/// One line: where the change stands.
fn said(made: &Value) -> String {
    let status = made["status"].as_str().unwrap_or_default();
    let place = made["commit"].as_str().or(made["branch"].as_str()).unwrap_or_default();
    format!("{status} {place}\n")
}

fn skill(path: &Path) -> Result<(&'static str, String, Value)> {
    let name = stem(path.canonicalize().ok().as_deref().unwrap_or(path));
    let content = text(&path.join("SKILL.md"))?;
    let mut files = Map::new();
    for entry in walkdir::WalkDir::new(path).follow_links(false).sort_by_file_name() {
        let entry = entry.context(Code::TreeUnreadable, format!("`{}` cannot be listed", path.display()))?;
        let relative = entry.path().strip_prefix(path).unwrap_or(entry.path());
        if !entry.file_type().is_file() || relative == Path::new("SKILL.md") {
            continue;
        }
        if files.len() >= EDITS_MAX {
            return Err(Error::new(Code::Usage, format!("a skill has at most {EDITS_MAX} files")));
        }
        let bytes = bytes(entry.path())?;
        let value = match String::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(other) => json!({ "base64": base64::engine::general_purpose::STANDARD.encode(other.into_bytes()) }),
        };
        files.insert(relative.to_string_lossy().into_owned(), value);
    }
    Ok(("skills", name.clone(), json!({ "name": name, "content": content, "files": files })))
}

fn agent(path: &Path) -> Result<(&'static str, String, Value)> {
    let name = stem(path);
    Ok(("agents", name.clone(), json!({ "name": name, "content": text(path)? })))
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn text(path: &Path) -> Result<String> {
    String::from_utf8(bytes(path)?)
        .map_err(|_| Error::new(Code::Usage, format!("`{}` is not UTF-8 text", path.display())))
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path)
        .map_err(|error| Error::new(Code::NotFound, format!("`{}` cannot be read", path.display())).detail(error))?;
    if bytes.len() > FILE_BYTES_MAX {
        let message = format!("`{}` is larger than {} KiB", path.display(), FILE_BYTES_MAX / 1024);
        return Err(Error::new(Code::Usage, message));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_says_what_it_is() {
        assert_eq!(target("skill/a"), Ok(("skills".into(), "a".into())));
        assert_eq!(target("agents/b"), Ok(("agents".into(), "b".into())));
        for bad in ["a", "skill/", "webhook/a"] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_skill_is_taken_with_all_its_files() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("triage");
        std::fs::create_dir_all(path.join("scripts")).unwrap();
        std::fs::write(path.join("SKILL.md"), "main").unwrap();
        std::fs::write(path.join("scripts/run.sh"), "#!/bin/sh\n").unwrap();
        std::fs::write(path.join("picture"), [0xff, 0xfe]).unwrap();
        let (kind, name, body) = skill(&path).unwrap();
        assert_eq!((kind, name.as_str(), &body["content"]), ("skills", "triage", &json!("main")));
        assert_eq!(body["files"], json!({ "scripts/run.sh": "#!/bin/sh\n", "picture": { "base64": "//4=" } }));
    }
}
