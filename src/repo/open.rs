//! Finding a repository, and saying plainly when it has a form that cannot be worked with.
//!
//! Every handle gets a configuration file of ours on top, which turns on fsync for objects and refs: by default
//! libgit2 does none, and a power cut then tears the repository.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use git2::{ConfigLevel, ErrorCode, RepositoryInitOptions};

use crate::error::{Code, Context, Error, Result};

/// Where a repository lies.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The directory that paths of revisions are relative to.
    pub(super) root: PathBuf,
    /// The top of the work tree.
    pub(super) work_tree: PathBuf,
    /// What stands before root-relative paths in git's paths: empty, or the root's place in the work tree and a `/`.
    pub(super) prefix: String,
    /// The git directory of this work tree: HEAD, index.
    pub(super) git_directory: PathBuf,
    /// The git directory that all work trees share: objects, refs.
    pub(super) common_directory: PathBuf,
}

impl Place {
    /// The directory inside git's own in which we keep what belongs to this work tree.
    pub(super) fn own_directory(&self) -> PathBuf {
        self.git_directory.join("skillhook")
    }

    /// A fresh handle; cheap (a few files are read), so that readers need not wait for the writer.
    pub(super) fn handle(&self) -> Result<git2::Repository> {
        let failed = "the repository cannot be opened";
        let repo = git2::Repository::open(&self.work_tree).map_err(|error| not_a_repository(&self.root, &error))?;
        let mut config = repo.config().context(Code::GitFailed, failed)?;
        config
            .add_file(&self.own_directory().join("config"), ConfigLevel::App, true)
            .context(Code::GitFailed, failed)?;
        repo.set_config(&config).context(Code::GitFailed, failed)?;
        Ok(repo)
    }
}

/// Looks for the repository around `root` and checks its form.
pub(super) fn locate(root: &Path) -> Result<Place> {
    let root = root.canonicalize().context(Code::NotARepository, format!("`{}` cannot be read", root.display()))?;
    let none: [&Path; 0] = [];
    let git_directory =
        git2::Repository::discover_path(&root, none).map_err(|error| not_a_repository(&root, &error))?;
    let common = common_directory(&git_directory)?;
    check_form(&common.join("config"))?;
    let repo = git2::Repository::open(&git_directory).map_err(|error| not_a_repository(&root, &error))?;
    let work_tree = repo.workdir().filter(|_| !repo.is_bare()).ok_or_else(bare)?;
    let work_tree = work_tree.canonicalize().context(Code::NotARepository, "the work tree cannot be read")?;
    let inner = root.strip_prefix(&work_tree).map_err(|_| bare())?;
    if root.starts_with(repo.commondir()) {
        return Err(bare());
    }
    let inner = inner.to_str().ok_or_else(|| {
        Error::new(Code::NotARepository, format!("the path of `{}` is not valid UTF-8", root.display()))
    })?;
    let place = Place {
        prefix: if inner.is_empty() { String::new() } else { format!("{inner}/") },
        work_tree,
        git_directory: repo.path().to_owned(),
        common_directory: repo.commondir().to_owned(),
        root,
    };
    check_index(&place.git_directory.join("index"))?;
    prepare_own_directory(&place)?;
    Ok(place)
}

/// Creates a repository with the branch `main` around `root`, unless there is one. Answers whether it did.
pub(super) fn create(root: &Path) -> Result<bool> {
    let none: [&Path; 0] = [];
    if git2::Repository::discover_path(root, none).is_ok() {
        return Ok(false);
    }
    let mut options = RepositoryInitOptions::new();
    // No template: hooks that someone's machine lays down are not ours to run.
    options.initial_head("main").external_template(false).mkpath(true);
    let repo = git2::Repository::init_opts(root, &options).context(Code::GitFailed, "no repository can be created")?;
    let info = repo.path().join("info");
    create_directories(&info)
        .and_then(|()| std::fs::write(info.join("exclude"), "/.skillhook/\n"))
        .context(Code::GitFailed, "the new repository cannot be written")?;
    Ok(true)
}

pub(super) fn create_directories(path: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(path)
}

fn prepare_own_directory(place: &Place) -> Result<()> {
    let own = place.own_directory();
    let config = own.join("config");
    let text = "[core]\n\tfsyncObjectFiles = true\n";
    let written = create_directories(&own).and_then(|()| match std::fs::read_to_string(&config) {
        Ok(found) if found == text => Ok(()),
        Ok(_) | Err(_) => std::fs::write(&config, text),
    });
    written
        .context(Code::GitFailed, "the git directory cannot be written")
        .map_err(|error| error.hint("the user that runs skillhook needs write access to the repository"))
}

/// Linked work trees name the shared directory in a file.
fn common_directory(git_directory: &Path) -> Result<PathBuf> {
    match std::fs::read_to_string(git_directory.join("commondir")) {
        Ok(text) => Ok(git_directory.join(text.trim_end())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(git_directory.to_owned()),
        Err(error) => Err(Error::new(Code::NotARepository, "the git directory cannot be read").detail(error)),
    }
}

/// Forms that libgit2 cannot read are recognised before it is asked, for the sake of a plain sentence.
fn check_form(config: &Path) -> Result<()> {
    let config = git2::Config::open(config).context(Code::NotARepository, "the git configuration cannot be read")?;
    let text = |key: &str| config.get_string(key).unwrap_or_default().to_ascii_lowercase();
    if text("extensions.objectformat") == "sha256" {
        return Err(unsupported("SHA-256 object names", "use a repository with SHA-1 object names (git's default)"));
    }
    if !matches!(text("extensions.refstorage").as_str(), "" | "files") {
        return Err(unsupported("the reftable format", "run `git refs migrate --ref-format=files`"));
    }
    if !text("extensions.partialclone").is_empty() {
        return Err(unsupported("a partial clone", "clone again without `--filter`"));
    }
    if config.get_bool("core.splitIndex").unwrap_or(false) {
        return Err(split_index());
    }
    Ok(())
}

/// A damaged index is repaired when it is needed; one of a form that cannot be read is said at once.
pub(super) fn check_index(path: &Path) -> Result<()> {
    match git2::Index::open(path) {
        Err(error) if error.message().contains("'link'") => Err(split_index()),
        Err(error) if error.message().contains("'sdir'") => {
            Err(unsupported("a sparse index", "run `git sparse-checkout reapply --no-sparse-index`"))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn split_index() -> Error {
    unsupported("a split index", "run `git update-index --no-split-index` and unset `core.splitIndex`")
}

fn unsupported(what: &str, hint: &str) -> Error {
    Error::new(Code::NotARepository, format!("the repository uses {what}, which is not supported")).hint(hint)
}

fn bare() -> Error {
    Error::new(
        Code::NotARepository,
        "the root does not lie in a work tree: the repository is bare, or it is git's own directory",
    )
    .hint("point skillhook at a clone with files: `git clone URL DIRECTORY`")
}

fn not_a_repository(root: &Path, error: &git2::Error) -> Error {
    let error_of = |message: String, hint: &str| Error::new(Code::NotARepository, message).hint(hint).detail(error);
    match error.code() {
        ErrorCode::Owner => error_of(
            format!("the repository at `{}` belongs to another user", root.display()),
            "run skillhook as that user, or allow it: `git config --global --add safe.directory DIRECTORY`",
        ),
        ErrorCode::NotFound => error_of(
            format!("`{}` is not in a git work tree", root.display()),
            "run `skillhook init` there, or `git init`",
        ),
        _ if error.message().contains("extension") => error_of(
            format!("the repository at `{}` uses an extension of git that is not supported", root.display()),
            "see `git config --get-regexp '^extensions'`",
        ),
        _ => error_of(format!("the repository at `{}` cannot be opened", root.display()), "see `git status` there"),
    }
}
