//! The server under test: a receiver and an admin listener with one GitHub webhook, on addresses of their own.
//!
//! [`start_server`] is all that the cases know of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;
use skillhook::http::serve::Limits;
use skillhook::model::secret::SecretSet;

use super::{PATIENCE, Request};
use crate::gateway::{Gateway, Setup, Webhook};
use crate::wire::exchange;

pub const SECRET: &str = "It is a secret to everybody 8f2c";
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

pub struct Server {
    pub receiver: SocketAddr,
    pub admin: SocketAddr,
    process: u32,
    gateway: Gateway,
}

pub struct Resources {
    pub descriptors: usize,
    pub resident_kib: usize,
}

pub fn start_server() -> Server {
    let webhook = Webhook::of("github", SecretSet::new().with("webhook_secret", SECRET));
    let mut setup = Setup::with([webhook.with("/default_command", json!("analyze"))]);
    // Short enough that slow senders are cut within a test.
    setup.limits = Limits {
        body_bytes_max: BODY_BYTES_MAX as u64,
        head_deadline: Duration::from_secs(1),
        body_deadline: Duration::from_secs(1),
        idle_deadline: Duration::from_secs(2),
        ..setup.limits
    };
    let gateway = Gateway::start(setup);
    Server { receiver: gateway.receiver, admin: gateway.admin, process: std::process::id(), gateway }
}

impl Server {
    /// How many tasks there are, in any state.
    pub fn runs(&self) -> usize {
        self.gateway.tasks().len()
    }

    pub fn is_live(&self) -> bool {
        let outcome = exchange(self.receiver, &Request::get("/livez").bytes(), PATIENCE);
        outcome.answer().is_some_and(|answer| answer.status == 200)
    }

    /// What an answer shows that it must not.
    pub fn leak(&self, answer: &str) -> Option<String> {
        let places = [self.gateway.directory.path().to_str().unwrap(), env!("CARGO_MANIFEST_DIR"), "/root", "/home/"];
        let words = [SECRET, "panicked", "RUST_BACKTRACE", ".rs:", "src/", "redb", "root:x:"];
        places.into_iter().chain(words).find(|leak| answer.contains(leak)).map(str::to_owned)
    }

    pub fn resources(&self) -> Resources {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.process)).unwrap().count();
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process)).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident_kib = resident.trim().trim_end_matches(" kB").parse().unwrap();
        Resources { descriptors, resident_kib }
    }

    #[track_caller]
    pub fn wait_for(&self, what: &str, state: impl Fn() -> bool) {
        let begun = Instant::now();
        while !state() {
            assert!(begun.elapsed() < Duration::from_secs(10), "in vain: {what}");
            std::thread::yield_now();
        }
    }
}

pub fn hmac_sha256(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(body);
    mac.finalize().into_bytes().to_vec()
}

/// The value of GitHub's signature header.
pub fn signature(body: &[u8]) -> String {
    format!("sha256={}", hex::encode(hmac_sha256(SECRET.as_bytes(), body)))
}

pub fn fresh_guid() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("72d3162e-cc78-11e3-81ab-{:012x}", NEXT.fetch_add(1, Ordering::Relaxed))
}
