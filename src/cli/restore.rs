//! `restore`: everything back from a copy, on a machine that has nothing.

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use serde_json::json;

use super::context::Context;
use super::exit::Exit;
use crate::app;
use crate::config::{Config, Overrides, environment};
use crate::copies::{self, Place, Restored, Wanted, manifest};
use crate::error::{Code, Error, Result};
use crate::model::digest::Digest;
use crate::repo::Repository;

#[derive(Debug, Args)]
#[command(after_help = "\
Lays the newest revision of a copy down in an empty directory: the files, the git history where the copy holds it, and
an index with the digest that the copy names. Every byte is compared with its digest on the way; a restore that fails
leaves nothing behind.

A copy is named by dir:PATH, s3:BUCKET/PREFIX, postgres://USER@HOST/DATABASE or git:URL; env:NAME takes that line from
the environment, for lines with a password. Storage is reached with the AWS_… variables.

Exit codes: 0 done, 1 the index differs or the copy is damaged, 2 wrong key, 3 no copy there, 4 the directory is not
empty, 6 the copy does not answer.

Examples:
  skillhook restore --from dir:/backup/skillhook project
  skillhook restore --from s3:backups/skillhook --age-key-file key.txt project
  skillhook restore --from git:https://github.com/octo/project.git project")]
pub struct Restore {
    /// Where the copy is
    #[arg(long, value_name = "COPY")]
    from: String,
    /// An empty directory, or one that does not exist; the root if not given
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: Option<PathBuf>,
    /// An earlier revision: the beginning of its digest or of its commit
    #[arg(long, value_name = "NAME")]
    revision: Option<String>,
    /// The age key that the copy is sealed to
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    age_key_file: Option<PathBuf>,
    /// The same, from a variable of the environment
    #[arg(long, value_name = "NAME", conflicts_with = "age_key_file")]
    age_key_env: Option<String>,
}

/// What was laid down and what its index should be.
struct Laid {
    restored: Restored,
    revision: Option<Digest>,
    index: Option<Digest>,
    rules: Option<manifest::Rules>,
    files: Option<usize>,
}

impl Restore {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let named = self.directory.clone().or_else(|| context.overrides.root.clone());
        let target = std::path::absolute(named.unwrap_or_else(|| PathBuf::from(".")))
            .map_err(|error| Error::new(Code::Usage, "the directory is not a path").detail(error))?;
        let laid = match self.from.strip_prefix("git:") {
            Some(url) => self.lay_remote(url, &target)?,
            None => self.lay_copy(&target).await?,
        };
        let overrides = Overrides { root: Some(laid.restored.root.clone()), ..context.overrides.clone() };
        let config = Config::load(&overrides)?;
        let index = app::copies::index_of(&config, laid.rules.as_ref()).await?;
        if let Some(expected) = laid.index.filter(|expected| *expected != index) {
            let message = format!("the files are restored, but they make the index {index} and not {expected}");
            return Err(Error::new(Code::RestoreDiffers, message)
                .hint("compare the version of skillhook with the one that made the copy"));
        }
        context.output.record(&json!({
            "root": laid.restored.root,
            "commit": laid.restored.commit.as_str(),
            "revision": laid.revision,
            "files": laid.files,
            "history": laid.restored.history,
            "index": index,
            "index_verified": laid.index.is_some(),
        }));
        context.output.note(&format!("next: skillhook up --root {}", laid.restored.root.display()));
        Ok(Exit::Done)
    }

    async fn lay_copy(&self, target: &Path) -> Result<Laid> {
        if Place::tells_a_password(&self.from) {
            return Err(Error::new(Code::Usage, "a password on the command line is seen by everyone on this machine")
                .hint("put the line into a variable of the environment: `--from env:NAME`"));
        }
        let environment = environment();
        let here = std::env::current_dir().unwrap_or_default();
        let copy = copies::open(&Place::parse(&self.from, &here, &environment)?, &environment)?;
        let key = app::copies::key(self.age_key_env.as_deref(), self.age_key_file.as_deref(), &here, &environment)?;
        let wanted = self.revision.clone().map_or(Wanted::Newest, Wanted::Named);
        let manifest = copies::find(&*copy, key.as_ref(), &wanted).await?;
        let options = app::copies::plain_repository_options(&environment);
        let restored = copies::lay_down(&*copy, key.as_ref(), &manifest, target, options).await?;
        Ok(Laid {
            restored,
            revision: Some(manifest.revision),
            index: manifest.index,
            rules: Some(manifest.rules),
            files: Some(manifest.files.len()),
        })
    }

    fn lay_remote(&self, url: &str, target: &Path) -> Result<Laid> {
        if self.revision.is_some() || self.age_key_file.is_some() || self.age_key_env.is_some() {
            return Err(Error::new(Code::Usage, "a remote is restored at its newest commit, and git knows no age key"));
        }
        if Place::tells_a_password(url) {
            return Err(Error::new(Code::Usage, "a password in the URL of a remote would stay in git's configuration")
                .hint("give git a credential helper or a key"));
        }
        let options = app::copies::plain_repository_options(&environment());
        let restored = copies::clone(url, target, options.clone())?;
        let index = Repository::open(&restored.root, options)?.index_of(&restored.commit)?;
        Ok(Laid { restored, revision: None, index, rules: None, files: None })
    }
}
