//! Looks at the files: a stat each, and a read only of what changed since the last look.
//!
//! Contents are memoised by (size, mtime, ctime, inode) as git's index does, and a memo is trusted only when the
//! file's ctime was old enough when it was read: a file written twice within one tick of the clock is read again.
//! Symlinks are never followed; odd names are passed over and reported.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::activator::Scope;
use super::judge::Judge;
use crate::error::Code;
use crate::model::diagnostic::Diagnostic;
use crate::model::digest::Digest;
use crate::model::ids::{AgentName, SkillName};
use crate::model::revision::FileRef;
use crate::model::snapshot::{AgentFacts, AgentSnapshot, Judged, SkillFacts, SkillSnapshot, Snapshot};

/// Largest file that is used, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most files in one skill.
pub const SKILL_FILES_MAX: usize = 500;
/// How deep a skill's directories go.
const SKILL_DEPTH_MAX: usize = 8;
/// A memo is trusted when the file's ctime was at least this much older than the read, in nanoseconds.
const SETTLED_NANOS: i128 = 2_000_000_000;

/// Contents of files by path.
pub type Contents = HashMap<String, Arc<[u8]>>;

/// What identifies a version of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    size: u64,
    modified_nanos: i128,
    changed_nanos: i128,
    inode: u64,
    mode: u32,
}

impl Stat {
    fn of(found: &std::fs::Metadata) -> Self {
        let nanos = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            size: found.size(),
            modified_nanos: nanos(found.mtime(), found.mtime_nsec()),
            changed_nanos: nanos(found.ctime(), found.ctime_nsec()),
            inode: found.ino(),
            mode: found.mode(),
        }
    }
}

#[derive(Clone, Debug)]
struct Memo {
    stat: Stat,
    settled: bool,
    file: FileRef,
}

/// What is remembered of one skill's directory.
#[derive(Clone, Debug)]
struct SkillMemo {
    /// Its directories and files with their stats; `None` for the reference of a file that is not used.
    directories: Vec<(PathBuf, Stat)>,
    settled: bool,
    snapshot: SkillSnapshot,
    problems: Vec<Diagnostic>,
}

/// Remembers what it saw, so that the next look is cheap.
#[derive(Debug)]
pub struct Looker {
    root: PathBuf,
    files: HashMap<String, Memo>,
    skills: BTreeMap<SkillName, SkillMemo>,
    agents: BTreeMap<AgentName, (FileRef, Arc<Judged<AgentFacts>>)>,
    /// Contents that were read and not yet taken by [`Looker::take_contents`].
    contents: Contents,
    providers: BTreeMap<String, FileRef>,
    listing_problems: Vec<Diagnostic>,
}

impl Looker {
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            files: HashMap::new(),
            skills: BTreeMap::new(),
            agents: BTreeMap::new(),
            contents: HashMap::new(),
            providers: BTreeMap::new(),
            listing_problems: Vec::new(),
        }
    }

    /// Contents read since the last call, by path.
    pub fn take_contents(&mut self) -> Contents {
        std::mem::take(&mut self.contents)
    }

    /// Puts contents back that could not be recorded.
    pub fn restore_contents(&mut self, contents: Contents) {
        for (path, bytes) in contents {
            self.contents.entry(path).or_insert(bytes);
        }
    }

    /// Looks. Outside the scope, what was seen last stands. `now_nanos` is the wall clock.
    pub fn look(&mut self, scope: &Scope, judge: &mut Judge, now_nanos: i128) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let everything = *scope == Scope::Everything;
        if everything {
            self.look_at_providers(judge, &mut snapshot, now_nanos);
        }
        match scope {
            Scope::Everything => self.list_skills(judge, &mut snapshot, now_nanos),
            Scope::Skills(names) => {
                for name in names {
                    self.look_at_named_skill(name, judge, now_nanos, &mut snapshot);
                }
            }
        }
        self.look_at_agents(judge, &mut snapshot, now_nanos);
        for (name, memo) in &self.skills {
            snapshot.skills.insert(name.clone(), memo.snapshot.clone());
            snapshot.problems.extend(memo.problems.iter().cloned());
        }
        snapshot.problems.extend(self.listing_problems.iter().cloned());
        snapshot.problems.extend(judge.provider_problems().iter().cloned());
        snapshot.providers.clone_from(&self.providers);
        snapshot
    }

    fn look_at_providers(&mut self, judge: &mut Judge, snapshot: &mut Snapshot, now: i128) {
        let mut found = BTreeMap::new();
        let mut texts = BTreeMap::new();
        for name in names_in(&self.root.join(".claude/providers"), &mut snapshot.partial) {
            let path = format!(".claude/providers/{name}");
            if !name.ends_with(".yaml") {
                continue;
            }
            if let Ok(file) = self.read(&path, now) {
                found.insert(path.clone(), file);
                if let Some(text) = self.content(&path) {
                    texts.insert(path, text);
                }
            }
        }
        if found != self.providers {
            judge.use_providers(&texts);
            self.providers = found;
            self.skills.clear();
        }
    }

    fn list_skills(&mut self, judge: &mut Judge, snapshot: &mut Snapshot, now: i128) {
        self.listing_problems.clear();
        let mut present = BTreeSet::new();
        for listed in names_in(&self.root.join(".claude/skills"), &mut snapshot.partial) {
            match SkillName::parse(&listed) {
                Ok(name) => {
                    if self.look_at_skill(&name, judge, now) {
                        present.insert(name);
                    }
                }
                Err(message) => self.report_odd_name(&format!(".claude/skills/{listed}"), message),
            }
        }
        if !snapshot.partial {
            self.skills.retain(|name, _| present.contains(name));
        }
    }

    fn report_odd_name(&mut self, path: &str, message: String) {
        if self.root.join(path).is_dir() {
            let shown = path.escape_debug().to_string();
            let hint = "rename the directory: lower-case letters, digits and `-`";
            self.listing_problems.push(Diagnostic::warning(shown, Code::SkillIdentity, message).hint(hint));
        }
    }

    fn look_at_named_skill(&mut self, name: &str, judge: &mut Judge, now: i128, snapshot: &mut Snapshot) {
        let Ok(name) = SkillName::parse(name) else { return };
        if !self.look_at_skill(&name, judge, now) {
            let listed = std::fs::symlink_metadata(self.root.join(".claude/skills"));
            snapshot.partial |= listed.is_err_and(|error| error.kind() != io::ErrorKind::NotFound);
            self.skills.remove(&name);
        }
    }

    /// Whether there is such a skill directory with a SKILL.md.
    fn look_at_skill(&mut self, name: &SkillName, judge: &Judge, now: i128) -> bool {
        let base = format!(".claude/skills/{name}");
        if self.skills.get(name).is_some_and(|memo| self.unchanged(memo)) {
            return true;
        }
        let Some(walked) = self.walk(&base, now) else { return false };
        let main = format!("{base}/SKILL.md");
        let judged = match walked.faults.get(&main) {
            Some(fault) => Arc::new(Judged::Invalid(vec![fault.clone()])),
            None if !walked.files.contains_key(&main) => return false,
            None => self.judged_skill(name, &main, &walked.files, judge),
        };
        let problems = walked.faults.into_iter().filter(|(path, _)| *path != main).map(|(_, fault)| fault).collect();
        let snapshot = SkillSnapshot { judged, files: Arc::new(walked.files) };
        let memo = SkillMemo { directories: walked.directories, settled: walked.settled, snapshot, problems };
        self.skills.insert(name.clone(), memo);
        true
    }

    fn judged_skill(
        &mut self,
        name: &SkillName,
        main: &str,
        files: &BTreeMap<String, FileRef>,
        judge: &Judge,
    ) -> Arc<Judged<SkillFacts>> {
        if let Some(memo) = self.skills.get(name)
            && *memo.snapshot.files == *files
        {
            return Arc::clone(&memo.snapshot.judged);
        }
        let Some(bytes) = self.content(main) else {
            let fault = Diagnostic::error(main, Code::TreeUnreadable, "the file cannot be read");
            return Arc::new(Judged::Invalid(vec![fault]));
        };
        let base = main.trim_end_matches("SKILL.md").to_owned();
        let template = |relative: &str| {
            let path = format!("{base}{relative}");
            let bytes = files.contains_key(&path).then(|| self.content(&path)).flatten()?;
            String::from_utf8(bytes.to_vec()).ok()
        };
        Arc::new(judge.skill(main, name, &bytes, &template))
    }

    fn unchanged(&self, memo: &SkillMemo) -> bool {
        memo.settled
            && memo.directories.iter().all(|(path, stat)| stat_of(path).is_ok_and(|now| now == *stat))
            && memo.snapshot.files.keys().all(|path| {
                let known = self.files.get(path).filter(|known| known.settled);
                known.is_some_and(|known| stat_of(&self.root.join(path)).is_ok_and(|now| now == known.stat))
            })
    }

    fn walk(&mut self, base: &str, now: i128) -> Option<Walked> {
        let top = self.root.join(base);
        if !std::fs::symlink_metadata(&top).is_ok_and(|found| found.is_dir()) {
            if std::fs::symlink_metadata(&top).is_ok_and(|found| found.is_symlink()) {
                let fault = Diagnostic::warning(base, Code::UnsafePath, "a symlink is not followed");
                self.listing_problems.push(fault);
            }
            return None;
        }
        let mut walked = Walked { settled: true, ..Walked::default() };
        for entry in walkdir::WalkDir::new(&top).follow_links(false).max_depth(SKILL_DEPTH_MAX).sort_by_file_name() {
            let Ok(entry) = entry else {
                walked.settled = false;
                continue;
            };
            let shown = entry.path().strip_prefix(&self.root).unwrap_or(entry.path());
            let Some(path) = shown.to_str().filter(|path| !path.chars().any(char::is_control)) else {
                let shown = shown.to_string_lossy().escape_debug().to_string();
                let fault = Diagnostic::warning(&shown, Code::UnsafePath, "the name is not usable");
                walked.faults.insert(shown, fault);
                continue;
            };
            self.visit(path.to_owned(), &entry, &mut walked, now);
        }
        Some(walked)
    }

    fn visit(&mut self, path: String, entry: &walkdir::DirEntry, walked: &mut Walked, now: i128) {
        let kind = entry.file_type();
        if kind.is_dir() {
            match stat_of(entry.path()) {
                Ok(stat) => {
                    walked.settled &= now - stat.changed_nanos >= SETTLED_NANOS;
                    walked.directories.push((entry.path().to_owned(), stat));
                }
                Err(_) => walked.settled = false,
            }
            return;
        }
        let fault = if kind.is_symlink() {
            Diagnostic::error(&path, Code::UnsafePath, "a symlink is not followed")
        } else if !kind.is_file() {
            Diagnostic::error(&path, Code::UnsafePath, "this is not a regular file")
        } else if is_scratch(&path) {
            return;
        } else if walked.files.len() >= SKILL_FILES_MAX {
            Diagnostic::error(&path, Code::FrontmatterLimit, format!("a skill has at most {SKILL_FILES_MAX} files"))
        } else {
            match self.read(&path, now) {
                Ok(file) => {
                    walked.settled &= self.files.get(&path).is_some_and(|memo| memo.settled);
                    walked.files.insert(path, file);
                    return;
                }
                Err(fault) => fault,
            }
        };
        walked.settled = false;
        walked.faults.insert(path, fault);
    }

    fn look_at_agents(&mut self, judge: &Judge, snapshot: &mut Snapshot, now: i128) {
        for listed in names_in(&self.root.join(".claude/agents"), &mut snapshot.partial) {
            let Some(stem) = listed.strip_suffix(".md") else { continue };
            let path = format!(".claude/agents/{listed}");
            let name = match AgentName::parse(stem) {
                Ok(name) => name,
                Err(message) => {
                    snapshot.problems.push(Diagnostic::warning(path, Code::SkillIdentity, message));
                    continue;
                }
            };
            let (file, judged) = match self.read(&path, now) {
                Ok(file) => (Some(file), self.judged_agent(&name, &path, &file, judge)),
                Err(fault) => (None, Arc::new(Judged::Invalid(vec![fault]))),
            };
            snapshot.agents.insert(name, AgentSnapshot { judged, path, file });
        }
        self.agents.retain(|name, _| snapshot.agents.contains_key(name));
    }

    fn judged_agent(&mut self, name: &AgentName, path: &str, file: &FileRef, judge: &Judge) -> Arc<Judged<AgentFacts>> {
        if let Some((known, judged)) = self.agents.get(name)
            && known == file
        {
            return Arc::clone(judged);
        }
        let judged = match self.content(path) {
            Some(bytes) => Arc::new(judge.agent(path, name, &bytes)),
            None => {
                let fault = Diagnostic::error(path, Code::TreeUnreadable, "the file cannot be read");
                Arc::new(Judged::Invalid(vec![fault]))
            }
        };
        self.agents.insert(name.clone(), (*file, Arc::clone(&judged)));
        judged
    }

    /// The reference of a file, from memory where its stat is unchanged.
    fn read(&mut self, path: &str, now: i128) -> Result<FileRef, Diagnostic> {
        let full = self.root.join(path);
        let unreadable = |error: io::Error| {
            Diagnostic::error(path, Code::TreeUnreadable, format!("the file cannot be read: {}", error.kind()))
        };
        let found = std::fs::symlink_metadata(&full).map_err(unreadable)?;
        if !found.is_file() {
            return Err(Diagnostic::error(path, Code::UnsafePath, "this is not a regular file"));
        }
        let stat = Stat::of(&found);
        if let Some(memo) = self.files.get(path)
            && memo.settled
            && memo.stat == stat
        {
            return Ok(memo.file);
        }
        let bytes = read_capped(&full).map_err(unreadable)?.ok_or_else(|| {
            let message = format!("the file is larger than {} KiB", FILE_BYTES_MAX / 1024);
            Diagnostic::error(path, Code::FrontmatterLimit, message)
        })?;
        let after = stat_of(&full).map_err(unreadable)?;
        let settled = after == stat && now - stat.changed_nanos >= SETTLED_NANOS;
        let file = FileRef { digest: Digest::of(&bytes), executable: stat.mode & 0o100 != 0 };
        let known = self.files.get(path).is_some_and(|memo| memo.file == file);
        if !known || self.contents.contains_key(path) {
            self.contents.insert(path.to_owned(), bytes.into());
        }
        self.files.insert(path.to_owned(), Memo { stat, settled, file });
        Ok(file)
    }

    /// The content of a file that was referenced in this look.
    fn content(&self, path: &str) -> Option<Arc<[u8]>> {
        if let Some(bytes) = self.contents.get(path) {
            return Some(Arc::clone(bytes));
        }
        let bytes = read_capped(&self.root.join(path)).ok()??;
        let known = self.files.get(path).is_some_and(|memo| memo.file.digest == Digest::of(&bytes));
        known.then(|| bytes.into())
    }
}

#[derive(Default)]
struct Walked {
    directories: Vec<(PathBuf, Stat)>,
    files: BTreeMap<String, FileRef>,
    faults: BTreeMap<String, Diagnostic>,
    settled: bool,
}

fn stat_of(path: &Path) -> io::Result<Stat> {
    std::fs::symlink_metadata(path).map(|found| Stat::of(&found))
}

/// Files that editors leave for a moment.
fn is_scratch(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.ends_with('~')
        || name.ends_with(".swp")
        || name.ends_with(".swx")
        || name.ends_with(".tmp")
        || name.starts_with(".#")
        || name == "4913"
        || name == ".DS_Store"
}

/// `None` when the file is too big.
fn read_capped(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let opened = rustix::fs::open(
        path,
        rustix::fs::OFlags::RDONLY
            | rustix::fs::OFlags::NOFOLLOW
            | rustix::fs::OFlags::CLOEXEC
            | rustix::fs::OFlags::NONBLOCK,
        rustix::fs::Mode::empty(),
    )?;
    let mut bytes = Vec::new();
    std::fs::File::from(opened).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= FILE_BYTES_MAX).then_some(bytes))
}

/// The names in a directory, sorted; a missing directory has none, an unreadable one makes the look partial.
fn names_in(directory: &Path, partial: &mut bool) -> Vec<String> {
    match std::fs::symlink_metadata(directory) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Vec::new(),
        Err(error) => {
            *partial |= error.kind() != io::ErrorKind::NotFound;
            return Vec::new();
        }
    }
    let Ok(listing) = std::fs::read_dir(directory) else {
        *partial = true;
        return Vec::new();
    };
    let mut names = Vec::new();
    for entry in listing {
        match entry {
            Ok(entry) => names.push(entry.file_name().to_string_lossy().into_owned()),
            Err(_) => *partial = true,
        }
    }
    names.sort();
    names
}
