//! `init`: lays down what a repository needs, and never overwrites what is there.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use serde_json::{Value, json};

use super::context::Context;
use super::exit::Exit;
use super::output::STRONG;
use super::settings_file;
use super::sheet::{Form, Sheet, column};
use crate::config::FILE;
use crate::error::{Code, Error, Result};
use crate::reconcile::embedded;
use crate::repo::Repository;

/// What keeps the data directory out of git.
const IGNORED: &str = ".skillhook/";

#[derive(Debug, Args)]
#[command(after_help = "\
Creates a git repository where there is none, the shipped agents and skills below `.claude/`, a commented \
skillhook.toml, and a line in .gitignore. What is there stays as it is.

Examples:
  skillhook init
  skillhook init ~/work/project
  skillhook init --ci github
  skillhook init --token")]
pub struct Init {
    /// The directory [default: the root]
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: Option<PathBuf>,
    /// Lay down a job too that checks pull or merge requests
    #[arg(long, value_name = "PROVIDER")]
    ci: Option<Ci>,
    /// Make the first token of the admin API too; it is printed once
    #[arg(long)]
    token: bool,
}

/// Whose jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Ci {
    /// A workflow of GitHub Actions
    Github,
    /// A job of GitLab CI
    Gitlab,
}

impl Ci {
    fn file(self) -> (&'static str, &'static str) {
        match self {
            Ci::Github => (".github/workflows/skillhook.yml", include_str!("ci/github.yml")),
            Ci::Gitlab => (".gitlab/skillhook.yml", include_str!("ci/gitlab.yml")),
        }
    }
}

const LAID: Sheet = Sheet {
    singular: "file",
    plural: "files",
    name: &["/path"],
    columns: &[column("DONE", Form::Text, &["/done"]), column("PATH", Form::Text, &["/path"])],
};

impl Init {
    pub fn run(self, context: &Context) -> Result<Exit> {
        let named = self.directory.clone().or_else(|| context.overrides.root.clone());
        let root = named.unwrap_or_else(|| PathBuf::from("."));
        let mut laid = lay(&root)?;
        if let Some((path, text)) = self.ci.map(Ci::file) {
            laid.push(json!({ "path": path, "done": create(&root, path, text.as_bytes())? }));
        }
        context.output.list(&LAID, &laid);
        if self.token {
            context.block_on(super::token::first(context, &root))?;
        }
        let new = laid.iter().filter(|file| file["done"] != "kept").count();
        context.output.note(&format!("\n{STRONG}{new} new or changed.{STRONG:#} Next:\n{NEXT}"));
        Ok(Exit::Done)
    }
}

const NEXT: &str = "  1. skillhook doctor                 is everything there that the service needs?
  2. export GITHUB_WEBHOOK_SECRET=…   the secret that you give GitHub for this webhook
     export GITHUB_TOKEN=…            for answers; name it in skillhook.toml, [providers.github]
  3. skillhook up                     serve it: http://127.0.0.1:8080/webhooks/github
  4. skillhook trigger github.issue_comment.created --override comment.body='@agent help'
                                      in another terminal: send a signed sample
`skillhook demo` shows the whole way without touching anything.";

/// What was done with each file.
fn lay(root: &Path) -> Result<Vec<Value>> {
    std::fs::create_dir_all(root).map_err(|error| unwritable(root, &error))?;
    let created = Repository::init(root)?;
    let mut laid = vec![json!({"done": if created { "created" } else { "kept" }, "path": ".git"})];
    for (path, bytes) in embedded::files() {
        laid.push(json!({"done": create(root, &path, &bytes)?, "path": path}));
    }
    laid.push(json!({"done": create(root, FILE, settings_file::commented().as_bytes())?, "path": FILE}));
    laid.push(json!({"done": ignore(root)?, "path": ".gitignore"}));
    Ok(laid)
}

/// Writes a file that is not there yet; what is there, a symlink that leads nowhere included, is kept.
fn create(root: &Path, relative: &str, bytes: &[u8]) -> Result<&'static str> {
    let path = root.join(relative);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| unwritable(parent, &error))?;
    }
    match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(mut file) => file.write_all(bytes).map(|()| "created").map_err(|error| unwritable(&path, &error)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok("kept"),
        Err(error) => Err(unwritable(&path, &error)),
    }
}

fn ignore(root: &Path) -> Result<&'static str> {
    let path = root.join(".gitignore");
    let before = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return create(root, ".gitignore", format!("{IGNORED}\n").as_bytes());
        }
        Err(error) => return Err(unwritable(&path, &error)),
    };
    let same = |line: &str| line.trim().trim_matches('/') == IGNORED.trim_matches('/');
    if before.lines().any(same) {
        return Ok("kept");
    }
    let line_end = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    let appended =
        OpenOptions::new().append(true).open(&path).and_then(|mut file| writeln!(file, "{line_end}{IGNORED}"));
    appended.map(|()| "extended").map_err(|error| unwritable(&path, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    Error::new(Code::TreeUnreadable, format!("`{}` cannot be written: {error}", path.display()))
        .hint("is the directory yours, and is there space?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(laid: &[Value], path: &str) -> String {
        let file = laid.iter().find(|file| file["path"] == path).unwrap();
        file["done"].as_str().unwrap().to_owned()
    }

    #[test]
    fn everything_is_laid_down_once_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join(".claude/agents/brain.md");
        std::fs::create_dir_all(own.parent().unwrap()).unwrap();
        std::fs::write(&own, "mine").unwrap();
        std::fs::write(dir.path().join(".gitignore"), "/target").unwrap();
        let first = lay(dir.path()).unwrap();
        assert_eq!(done(&first, ".claude/agents/brain.md"), "kept");
        assert_eq!(std::fs::read_to_string(&own).unwrap(), "mine");
        assert_eq!(done(&first, FILE), "created");
        assert_eq!(done(&first, ".gitignore"), "extended");
        assert_eq!(std::fs::read_to_string(dir.path().join(".gitignore")).unwrap(), "/target\n.skillhook/\n");
        let second = lay(dir.path()).unwrap();
        assert!(second.iter().all(|file| file["done"] == "kept"), "{second:?}");
    }
}
