//! Which walls stand around a run, and how they are built.
//!
//! Strongest first: bubblewrap gives the run its own view of files and processes; landlock (a Linux security module)
//! keeps it from all files but those that are granted, and from signalling other processes; without either only the
//! supervisor's hold on the process tree is left. The network is not restricted: the agent program has to reach its
//! provider. It deliberately does not decide what an agent may do inside; the tool rules of a run do that.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
    path_beneath_rules,
};
use serde::{Deserialize, Serialize};

use crate::error::{Code, Context, Error, Result};

/// What the operator asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The strongest that works here.
    #[default]
    Auto,
    /// The same, but without any the service does not start.
    Required,
    Bubblewrap,
    Landlock,
    Off,
}

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sandbox {
    Bubblewrap { program: PathBuf },
    Landlock { abi: u8 },
    Off { reason: String },
}

/// Why there are no walls, where that is the operator's wish.
const SWITCHED_OFF: &str = "it is switched off";

/// The walls of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Policy {
    pub sandbox: Sandbox,
    /// Files and directories; those that do not exist are passed over.
    pub read: BTreeSet<PathBuf>,
    pub write: BTreeSet<PathBuf>,
    /// Inside what may be written, and yet only readable. Landlock has no such thing: there it is the modes of the
    /// files, and the look that is taken at them before each run, that keep them as they are.
    pub fixed: BTreeSet<PathBuf>,
}

impl Sandbox {
    /// Looks what works on this machine. It starts a program and waits for it for up to some seconds: ask once.
    /// A mode that is asked for by name and does not work is an error.
    pub fn detect(mode: Mode, path: &str) -> Result<Sandbox> {
        let missing = |what: &str| {
            Err(Error::new(Code::SettingInvalid, format!("the sandbox `{what}` does not work on this machine"))
                .hint("set `agent.sandbox` to `auto`, or install what is missing"))
        };
        match mode {
            Mode::Off => Ok(Sandbox::Off { reason: SWITCHED_OFF.to_owned() }),
            Mode::Bubblewrap => bubblewrap(path).map_or_else(|| missing("bubblewrap"), Ok),
            Mode::Landlock => landlock_here().map_or_else(|| missing("landlock"), Ok),
            Mode::Required => {
                bubblewrap(path).or_else(landlock_here).map_or_else(|| missing("bubblewrap or landlock"), Ok)
            }
            Mode::Auto => Ok(bubblewrap(path).or_else(landlock_here).unwrap_or_else(|| Sandbox::Off {
                reason: "neither bubblewrap nor landlock works on this machine".to_owned(),
            })),
        }
    }

    /// Whether walls stand around a run, or the operator wants none.
    pub fn is_settled(&self) -> bool {
        match self {
            Sandbox::Bubblewrap { .. } | Sandbox::Landlock { .. } => true,
            Sandbox::Off { reason } => reason == SWITCHED_OFF,
        }
    }

    /// One sentence for people.
    pub fn describe(&self) -> String {
        match self {
            Sandbox::Bubblewrap { program } => {
                format!("bubblewrap (`{}`): own files, own processes", program.display())
            }
            Sandbox::Landlock { abi } => format!("landlock (ABI {abi}): granted files only, processes by subreaper"),
            Sandbox::Off { reason } => format!("none ({reason}): processes by subreaper"),
        }
    }
}

impl Policy {
    /// The machine's programs and libraries to read, the run's own places to write.
    pub(super) fn for_run(sandbox: Sandbox, program: &Path, path: &str) -> Policy {
        let mut read: BTreeSet<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
        read.extend(path.split(':').filter(|entry| entry.starts_with('/')).map(PathBuf::from));
        read.extend(homes_of(program));
        Policy { sandbox, read, write: BTreeSet::new(), fixed: BTreeSet::new() }
    }
}

/// What every program needs to run at all; nothing here tells secrets of the machine.
const SYSTEM: [&str; 29] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/nix/store",
    "/etc/ssl",
    "/etc/ca-certificates",
    "/etc/pki",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/passwd",
    "/etc/group",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/gitconfig",
    "/etc/mime.types",
    "/etc/services",
    "/etc/protocols",
];

/// Devices without a memory.
const DEVICES: [&str; 8] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/pts"];

/// Where the program's own files are: beside it, where its links lead, and the package that it is part of.
fn homes_of(program: &Path) -> Vec<PathBuf> {
    let mut homes = Vec::new();
    let real = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    for path in [program, &real] {
        homes.extend(path.parent().map(Path::to_owned));
    }
    let package = real.ancestors().filter(|path| path.file_name().is_some_and(|name| name == "node_modules")).last();
    homes.extend(package.map(Path::to_owned));
    homes.retain(|home| home.parent().is_some());
    homes
}

fn bubblewrap(path: &str) -> Option<Sandbox> {
    let program = find(Path::new("bwrap"), path)?;
    let shell = find(Path::new("true"), path)?;
    let policy = Policy::for_run(Sandbox::Bubblewrap { program: program.clone() }, &shell, path);
    let mut probe = Command::new(&program);
    probe.args(bubblewrap_args(&policy, Path::new("/"))).arg(shell);
    probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).env_clear();
    let (sender, receiver) = sync_channel(1);
    let mut child = probe.spawn().ok()?;
    std::thread::spawn(move || drop(sender.send(child.wait())));
    let works = receiver.recv_timeout(Duration::from_secs(5)).is_ok_and(|status| status.is_ok_and(|s| s.success()));
    works.then_some(policy.sandbox)
}

/// The arguments before the program that is to run inside.
pub(super) fn bubblewrap_args(policy: &Policy, cwd: &Path) -> Vec<OsString> {
    let mut args: Vec<OsString> =
        ["--unshare-user-try", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent", "--new-session"]
            .map(OsString::from)
            .to_vec();
    let mut mount = |words: &[&str], paths: &[&Path]| {
        args.extend(words.iter().map(OsString::from));
        args.extend(paths.iter().map(|path| path.as_os_str().to_owned()));
    };
    mount(&["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"], &[]);
    for path in &policy.read {
        mount(&["--ro-bind-try"], &[path, path]);
    }
    // Later mounts lie over earlier ones.
    for path in &policy.write {
        mount(&["--bind-try"], &[path, path]);
    }
    for path in &policy.fixed {
        mount(&["--ro-bind-try"], &[path, path]);
    }
    mount(&["--chdir"], &[cwd]);
    args.push("--".into());
    args
}

const ABIS: [(ABI, u8); 7] =
    [(ABI::V7, 7), (ABI::V6, 6), (ABI::V5, 5), (ABI::V4, 4), (ABI::V3, 3), (ABI::V2, 2), (ABI::V1, 1)];

fn landlock_here() -> Option<Sandbox> {
    let supported = |abi: ABI| {
        let strict = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let files = strict.handle_access(AccessFs::from_all(abi)).ok()?;
        if abi >= ABI::V6 { files.scope(Scope::from_all(abi)).ok()?.create() } else { files.create() }.ok()
    };
    ABIS.iter().find(|(abi, _)| supported(*abi).is_some()).map(|(_, number)| Sandbox::Landlock { abi: *number })
}

/// Puts this very thread, and every program that it becomes, behind landlock. There is no way back.
pub(super) fn enter_landlock(policy: &Policy) -> Result<()> {
    let abi = ABI::V7;
    let (everything, look) = (AccessFs::from_all(abi), AccessFs::from_read(abi));
    let enter = || {
        let ruleset = Ruleset::default().handle_access(everything)?.scope(Scope::from_all(abi))?.create()?;
        ruleset
            .add_rules(path_beneath_rules(policy.read.iter().map(PathBuf::as_path).chain([Path::new("/proc")]), look))?
            .add_rules(path_beneath_rules(DEVICES, look | AccessFs::WriteFile | AccessFs::IoctlDev))?
            .add_rules(path_beneath_rules(&policy.write, everything))?
            .restrict_self()
    };
    let status = enter().context(Code::WorkspaceFailed, "landlock refused the policy of the run")?;
    match status.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => {
            Err(Error::new(Code::WorkspaceFailed, "landlock is not in force on this machine"))
        }
    }
}

/// The first executable file of that name in `path`, or the program itself if it is a path already.
pub(super) fn find(program: &Path, path: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    if program.components().count() > 1 {
        return Some(program.to_owned()).filter(is_program);
    }
    path.split(':').filter(|entry| !entry.is_empty()).map(|entry| Path::new(entry).join(program)).find(is_program)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

    #[test]
    fn switched_off_is_said_and_auto_always_answers() {
        assert!(Sandbox::detect(Mode::Off, PATH).unwrap().describe().contains("switched off"));
        assert!(Sandbox::detect(Mode::Auto, PATH).unwrap().describe().contains("process"));
    }

    #[test]
    fn sandbox_that_is_asked_for_and_missing_is_an_error() {
        let empty = tempfile::tempdir().unwrap();
        let error = Sandbox::detect(Mode::Bubblewrap, empty.path().to_str().unwrap()).unwrap_err();
        assert_eq!(error.code(), Code::SettingInvalid);
    }

    #[test]
    fn bubblewrap_that_does_not_work_is_not_chosen() {
        let place = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/bin/false", place.path().join("bwrap")).unwrap();
        let path = format!("{}:{PATH}", place.path().display());
        assert!(!matches!(Sandbox::detect(Mode::Auto, &path).unwrap(), Sandbox::Bubblewrap { .. }));
    }

    #[test]
    fn own_places_lie_over_what_is_only_readable() {
        let mut policy = Policy::for_run(Sandbox::Off { reason: String::new() }, Path::new("/usr/bin/claude"), PATH);
        policy.write.insert("/usr/local/work".into());
        policy.fixed.insert("/usr/local/work/.claude".into());
        let args: Vec<String> = bubblewrap_args(&policy, Path::new("/usr/local/work"))
            .iter()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect();
        let place = |word: &str, path: &str| args.windows(2).position(|pair| pair == [word, path]).unwrap();
        assert!(place("--ro-bind-try", "/usr") < place("--bind-try", "/usr/local/work"));
        assert!(place("--tmpfs", "/tmp") < place("--ro-bind-try", "/usr"));
        assert!(place("--bind-try", "/usr/local/work") < place("--ro-bind-try", "/usr/local/work/.claude"));
        assert_eq!(args.last().unwrap(), "--");
    }

    #[test]
    fn program_is_found_by_name_and_by_path_if_it_can_be_run() {
        assert!(find(Path::new("sh"), PATH).unwrap().is_absolute());
        assert_eq!(find(Path::new("/bin/sh"), ""), Some(PathBuf::from("/bin/sh")));
        assert_eq!(find(Path::new("/etc/passwd"), PATH), None);
        assert_eq!(find(Path::new("no-such-program"), PATH), None);
    }

    #[test]
    fn package_of_a_linked_program_is_readable() {
        let place = tempfile::tempdir().unwrap();
        let package = place.path().canonicalize().unwrap().join("lib/node_modules");
        std::fs::create_dir_all(package.join("agent/bin")).unwrap();
        std::fs::write(package.join("agent/bin/cli.js"), "").unwrap();
        let link = place.path().join("claude");
        std::os::unix::fs::symlink(package.join("agent/bin/cli.js"), &link).unwrap();
        assert!(homes_of(&link).contains(&package));
    }
}
