//! Real servers for tests, each started and ended by the test that needs it: PostgreSQL, and S3-compatible storage.
//!
//! `tests/run` installs them. Where one cannot be had, a test says so and passes over it; where `CI` is `true` it fails.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// Longest wait for a server to be there.
const START: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "tests look at their own surroundings")]
fn variable(name: &str) -> String {
    std::env::var_os(name).and_then(|value| value.into_string().ok()).unwrap_or_default()
}

fn missing<T>(what: &str) -> Option<T> {
    assert_ne!(variable("CI"), "true", "{what} is missing: tests/run installs it");
    eprintln!("passed over: {what} is not here (tests/run installs it)");
    None
}

/// A PostgreSQL server on a socket in a directory of its own.
pub struct PostgresServer {
    directory: TempDir,
    child: Option<Child>,
}

impl PostgresServer {
    pub fn start() -> Option<Self> {
        let Some(programs) = postgres_programs() else { return missing("PostgreSQL") };
        let directory = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        let mut server = Self { directory, child: None };
        if is_root() {
            assert!(Command::new("chown").arg("postgres").arg(server.directory.path()).status().unwrap().success());
        }
        let cluster = server.cluster();
        let mut init = as_postgres(&programs.join("initdb"));
        init.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(&cluster);
        let made = init.stdin(Stdio::null()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.run();
        Some(server)
    }

    /// As a URL; `query` is added to it.
    pub fn url(&self, query: &str) -> String {
        format!("postgres:///postgres?host={}&user=postgres&{query}", self.directory.path().display())
    }

    /// Pulls the plug.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let postmaster = std::fs::read_to_string(self.cluster().join("postmaster.pid")).unwrap_or_default();
            let pid = postmaster.lines().next().unwrap_or_default().to_owned();
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again after [`kill`](Self::kill).
    pub fn run(&mut self) {
        let programs = postgres_programs().unwrap();
        let socket = self.directory.path().display().to_string();
        let mut command = as_postgres(&programs.join("postgres"));
        command.arg("-D").arg(self.cluster()).args(["-k", &socket, "-c", "listen_addresses=", "-c", "fsync=on"]);
        command.args(["-c", "max_connections=200", "-c", "shared_buffers=32MB"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        self.child = Some(child);
        wait_for_line(said, |line| line.contains("ready to accept connections"), "PostgreSQL");
    }

    fn cluster(&self) -> PathBuf {
        self.directory.path().join("cluster")
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An S3-compatible server that keeps everything in memory.
pub struct S3Server {
    child: Child,
    address: String,
}

impl S3Server {
    pub async fn start(buckets: &[&str]) -> Option<Self> {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/moto/bin/moto_server");
        let Some(program) = Some(own).filter(|own| own.exists()).or_else(|| on_path("moto_server")) else {
            return missing("the S3 server moto");
        };
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", "0"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        let line = wait_for_line(said, |line| line.contains("Running on http://127.0.0.1:"), "moto");
        let address = line.split("Running on ").nth(1).unwrap().trim().to_owned();
        let server = Self { child, address };
        for bucket in buckets {
            let url = format!("{}/{bucket}", server.address);
            let made = reqwest::Client::new().put(url).send().await.unwrap();
            assert!(made.status().is_success(), "{made:?}");
        }
        Some(server)
    }

    /// What programs need to reach it.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let all = [
            ("AWS_ENDPOINT_URL", self.address.as_str()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ];
        all.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first line that is wanted; the rest is read too, so that the server never waits for a reader.
fn wait_for_line(said: impl BufRead + Send + 'static, wanted: fn(&str) -> bool, what: &str) -> String {
    let (found, finding) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut lines = said.lines().map_while(Result::ok);
        if let Some(line) = lines.by_ref().find(|line| wanted(line)) {
            let _ = found.send(line);
        }
        lines.for_each(drop);
    });
    finding.recv_timeout(START).unwrap_or_else(|_| panic!("{what} does not start"))
}

fn postgres_programs() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    versions.sort();
    versions.extend(on_path("initdb").and_then(|initdb| Some(initdb.parent()?.to_owned())));
    versions.into_iter().rfind(|bin| bin.join("initdb").exists() && bin.join("postgres").exists())
}

fn on_path(program: &str) -> Option<PathBuf> {
    variable("PATH").split(':').map(|directory| Path::new(directory).join(program)).find(|path| path.exists())
}

/// PostgreSQL does not run as root.
fn as_postgres(program: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/");
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
