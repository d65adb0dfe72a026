//! The way back: a revision of a copy, or a remote, as a work tree in an empty directory.
//!
//! Everything is laid down beside the target and takes its name at the end: a restore that fails leaves nothing. Every
//! object, file and bundle is compared with its digest on the way, and every file again as it lies on disk.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::manifest::{Bundle, File, Head, Manifest};
use super::{CloudCopy, Key, damaged, fetch, push, seal};
use crate::error::{Code, Context as _, Error, Result};
use crate::model::digest::{Digest, Hasher};
use crate::model::revision::CommitId;
use crate::repo::{Directory, Options, Repository};

/// Longest single step of git.
const STEP: Duration = Duration::from_secs(600);
/// Longest chain of manifests that is searched for a revision.
const SEARCHED_MAX: usize = 100_000;

/// Which revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    Newest,
    /// The beginning of a commit's or a revision's name.
    Named(String),
}

/// What was laid down.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Where `.claude/` lies: the target, or a directory in it.
    pub root: PathBuf,
    pub commit: CommitId,
    /// `false`: the commit has the files, but the copy holds no history, so git begins anew.
    pub history: bool,
}

/// The manifest of a revision.
///
/// # Errors
/// SH0901 when there is none.
pub async fn find(copy: &dyn CloudCopy, key: Option<&Key>, wanted: &Wanted) -> Result<Manifest> {
    let none = || Error::new(Code::NotFound, "the place holds no copy");
    let (head, _) = copy.head().await?.ok_or_else(none)?;
    let head = Head::decode(&head)?;
    let mut manifest = push::load(copy, key, head.manifest).await?;
    let Wanted::Named(name) = wanted else { return Ok(manifest) };
    for _ in 0..SEARCHED_MAX {
        if manifest.commit.as_str().starts_with(name) || manifest.revision.to_string().starts_with(name) {
            return Ok(manifest);
        }
        let Some(parent) = manifest.parent else { break };
        manifest = push::load(copy, key, parent).await?;
    }
    Err(Error::new(Code::NotFound, format!("the copy has no revision `{}`", name.escape_default())))
}

/// Lays a revision down.
///
/// # Errors
/// SH0903 when the target is not empty or lies in another repository, SH0912 when the copy does not hold what it says.
pub async fn lay_down(
    copy: &dyn CloudCopy,
    key: Option<&Key>,
    manifest: &Manifest,
    target: &Path,
    options: Options,
) -> Result<Restored> {
    let aside = Aside::beside(target)?;
    let repository = aside.repository(options)?;
    for bundle in &manifest.history {
        let file = download(copy, key, bundle).await?;
        let repository = repository.clone();
        push::blocking(move || repository.take_bundle(file.path(), STEP)).await?;
    }
    if !manifest.history.is_empty() {
        let (repository, branch, commit) = (repository.clone(), manifest.branch.clone(), manifest.commit.clone());
        push::blocking(move || repository.begin_branch(&branch, &commit, STEP)).await?;
    }
    let top = aside.path().join(&manifest.prefix);
    std::fs::create_dir_all(&top).context(Code::TreeUnreadable, "the directory cannot be made")?;
    let top = Directory::open(&top).context(Code::TreeUnreadable, "the directory cannot be opened")?;
    for (path, file) in &manifest.files {
        let content = seal::open(&fetch(copy, file.object).await?, key)?;
        if content.len() as u64 != file.bytes || Digest::of(&content) != file.digest {
            return Err(damaged(format!("the object of `{path}` holds another content")));
        }
        write(&top, path, &content, file).context(Code::TreeUnreadable, format!("`{path}` cannot be written"))?;
    }
    for (path, file) in &manifest.files {
        let there =
            top.read(path, file.bytes).context(Code::TreeUnreadable, format!("`{path}` cannot be read back"))?;
        if Digest::of(&there) != file.digest {
            return Err(damaged(format!("`{path}` was not written as it should be")));
        }
    }
    let _ = top.sync_file_system();
    aside.take_name(target)?;
    let root = target.join(&manifest.prefix);
    Ok(Restored { root, commit: manifest.commit.clone(), history: !manifest.history.is_empty() })
}

/// Lays the main branch of a remote down.
///
/// # Errors
/// SH0903 when the target is not empty or lies in another repository, SH0505 when the remote does not answer.
pub fn clone(url: &str, target: &Path, options: Options) -> Result<Restored> {
    let aside = Aside::beside(target)?;
    let commit = aside.repository(options)?.begin_from_remote(url, STEP)?;
    aside.take_name(target)?;
    Ok(Restored { root: target.to_owned(), commit, history: true })
}

fn write(top: &Directory, path: &str, content: &[u8], file: &File) -> std::io::Result<()> {
    let (directory, name) = top.parent(path, Some(0o755))?;
    directory.remove_all(name)?;
    let mode = if file.executable { 0o755 } else { 0o644 };
    directory.create_file(name, content, mode)?.sync_all()?;
    directory.set_mode(name, mode)
}

async fn download(copy: &dyn CloudCopy, key: Option<&Key>, bundle: &Bundle) -> Result<tempfile::NamedTempFile> {
    let failed = "there is no room for a bundle of the history";
    let mut file = tempfile::NamedTempFile::new().context(Code::TreeUnreadable, failed)?;
    let mut hasher = Hasher::default();
    let mut bytes = 0;
    for id in &bundle.objects {
        let chunk = seal::open(&fetch(copy, *id).await?, key)?;
        hasher.update(&chunk);
        bytes += chunk.len() as u64;
        file.write_all(&chunk).context(Code::TreeUnreadable, failed)?;
    }
    file.flush().context(Code::TreeUnreadable, failed)?;
    if bytes != bundle.bytes || hasher.finish() != bundle.digest {
        return Err(damaged(format!("the bundle up to `{}` holds another content", bundle.tip.short())));
    }
    Ok(file)
}

/// A directory beside the target that vanishes unless it takes the target's name.
struct Aside {
    directory: tempfile::TempDir,
}

impl Aside {
    fn beside(target: &Path) -> Result<Self> {
        let taken = std::fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some());
        if taken || target.is_file() {
            return Err(Error::new(Code::Conflict, format!("`{}` is not empty", target.display()))
                .hint("restore into a directory that is empty or does not exist"));
        }
        let parent = Some(target).filter(|target| target.is_dir()).or_else(|| target.parent());
        let parent = parent.filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let failed = || format!("`{}` cannot be written to", parent.display());
        std::fs::create_dir_all(parent).context(Code::TreeUnreadable, failed())?;
        let directory = tempfile::Builder::new().prefix(".restoring-").tempdir_in(parent);
        Ok(Self { directory: directory.context(Code::TreeUnreadable, failed())? })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn repository(&self, options: Options) -> Result<Repository> {
        if !Repository::init(self.path())? {
            return Err(Error::new(Code::Conflict, "the target lies in another git work tree")
                .hint("restore into a directory of its own"));
        }
        Repository::open(self.path(), options)
    }

    fn take_name(self, target: &Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let failed = || format!("the restored files cannot take the name `{}`", target.display());
        if target.is_dir() {
            // It may be where somebody stands, or a mount: it stays, and takes the entries.
            for entry in std::fs::read_dir(self.path()).context(Code::TreeUnreadable, failed())? {
                let entry = entry.context(Code::TreeUnreadable, failed())?;
                std::fs::rename(entry.path(), target.join(entry.file_name()))
                    .context(Code::TreeUnreadable, failed())?;
            }
            return Ok(());
        }
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.path(), mode).context(Code::TreeUnreadable, failed())?;
        std::fs::rename(self.path(), target).context(Code::TreeUnreadable, failed())
    }
}
