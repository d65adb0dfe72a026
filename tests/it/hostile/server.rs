//! The server under test: the real binary with its built-in github webhook, a fake agent and shortened deadlines.
//!
//! [`start_server`] is all that the cases know of it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::json;

use super::{PATIENCE, Request};
use crate::service::{Service, sign};
use crate::wire::exchange;

pub const SECRET: &str = "It is a secret to everybody 8f2c";
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

pub struct Server {
    pub receiver: SocketAddr,
    pub admin: SocketAddr,
    service: RefCell<Service>,
    /// The stand-in for GitHub lives on it.
    _runtime: tokio::runtime::Runtime,
}

pub struct Resources {
    pub descriptors: usize,
    pub resident_kib: usize,
}

pub fn start_server() -> Server {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let service = runtime.block_on(async {
        let mut service = Service::prepared(json!({})).await;
        service.set_env("GITHUB_WEBHOOK_SECRET", SECRET);
        // Short enough that slow senders are cut within a test.
        service.add_settings(&format!(
            "[limits]\nheader_seconds = 1\nbody_seconds = 1\nidle_seconds = 2\nbody_bytes_max = {BODY_BYTES_MAX}\n"
        ));
        service.start();
        service.wait_ready().await;
        service
    });
    let address = |url: String| url.trim_start_matches("http://").parse().unwrap();
    let (receiver, admin) = (address(service.url("")), address(service.admin_url("")));
    Server { receiver, admin, service: RefCell::new(service), _runtime: runtime }
}

impl Server {
    /// How many tasks there are, in any state.
    pub fn runs(&self) -> usize {
        let page = exchange(self.admin, &Request::get("/api/tasks?limit=1000").bytes(), PATIENCE).expect_answer();
        page.json()["items"].as_array().map(Vec::len).unwrap()
    }

    /// The same process answers, and says that it is well.
    pub fn is_live(&self) -> bool {
        let well = |address, path| {
            let outcome = exchange(address, &Request::get(path).bytes(), PATIENCE);
            outcome.answer().is_some_and(|answer| answer.status == 200)
        };
        self.service.borrow_mut().is_running() && well(self.receiver, "/livez") && well(self.admin, "/healthz")
    }

    /// What an answer shows that it must not.
    pub fn leak(&self, answer: &str) -> Option<String> {
        let service = self.service.borrow();
        let places = [service.dir.path().to_str().unwrap(), env!("CARGO_MANIFEST_DIR"), "/root", "/home/"];
        let words = [SECRET, "ghp_test_token", "panicked", "RUST_BACKTRACE", ".rs:", "src/", "redb", "root:x:"];
        places.into_iter().chain(words).find(|leak| answer.contains(leak)).map(str::to_owned)
    }

    pub fn resources(&self) -> Resources {
        let process = self.service.borrow().pid();
        let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident_kib = resident.trim().trim_end_matches(" kB").parse().unwrap();
        Resources { descriptors, resident_kib }
    }

    /// No panic was caught either.
    pub fn panics(&self) -> Option<String> {
        let metrics = exchange(self.admin, &Request::get("/metrics").bytes(), PATIENCE).expect_answer().text();
        let line = metrics.lines().find(|line| line.starts_with("skillhook_panics_total ")).unwrap().to_owned();
        (line != "skillhook_panics_total 0").then_some(line)
    }

    #[track_caller]
    pub fn wait_for(&self, what: &str, state: impl Fn() -> bool) {
        let begun = Instant::now();
        while !state() {
            assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
            std::thread::yield_now();
        }
    }
}

pub fn hmac_sha256(key: &[u8], body: &[u8]) -> Vec<u8> {
    sign(std::str::from_utf8(key).unwrap(), body)
}

/// The value of GitHub's signature header.
pub fn signature(body: &[u8]) -> String {
    format!("sha256={}", hex::encode(hmac_sha256(SECRET.as_bytes(), body)))
}

pub fn fresh_guid() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("72d3162e-cc78-11e3-81ab-{:012x}", NEXT.fetch_add(1, Ordering::Relaxed))
}
