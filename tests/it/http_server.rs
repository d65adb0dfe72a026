//! The accept loop: deadlines, the connection cap, the drain, the socket file.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skillhook::http::answer::Answer;
use skillhook::http::body::Budget;
use skillhook::http::exchange::{self, BodyStream, Head};
use skillhook::http::listen::Listener;
use skillhook::http::serve::{Limits, Server};
use skillhook::telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;

use crate::wire::{Outcome, Wire, exchange};

/// Longest wait for what must come; nothing is asserted about when.
const LONG: Duration = Duration::from_secs(60);
const GET: &[u8] = b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n";

/// A server that echoes bodies, on a runtime of its own; it is drained when this is dropped.
struct Echo {
    address: SocketAddr,
    metrics: Metrics,
    drain: CancellationToken,
    served: Option<std::thread::JoinHandle<usize>>,
}

impl Echo {
    fn start(limits: Limits) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(async { Listener::tcp("127.0.0.1:0").unwrap() });
        Self::on(runtime, listener, limits)
    }

    fn on(runtime: tokio::runtime::Runtime, listener: Listener, limits: Limits) -> Self {
        let (drain, metrics) = (CancellationToken::new(), Metrics::new());
        let address = listener.address().unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let server = Server { name: "receiver", listener, limits: limits.clone(), metrics: metrics.clone() };
        let filter = exchange::filter("receiver", metrics.clone(), move |head, body| echo(limits.clone(), head, body));
        let until = drain.clone();
        let served = std::thread::spawn(move || runtime.block_on(server.serve(filter, until)));
        Self { address, metrics, drain, served: Some(served) }
    }

    /// Connections that had to be cut.
    fn stop(mut self) -> usize {
        self.drain.cancel();
        self.served.take().unwrap().join().unwrap()
    }

    fn metric(&self, line: &str) -> bool {
        self.metrics.encode().unwrap().lines().any(|found| found == line)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.drain.cancel();
        if let Some(served) = self.served.take() {
            let _ = served.join();
        }
    }
}

async fn echo(limits: Limits, head: Arc<Head>, body: BodyStream) -> Answer {
    if head.path == "/slow" {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let budget = Budget::new(limits.bodies_bytes_max);
    match budget.read(&head, body, limits.body_bytes_max, limits.body_deadline).await {
        Ok(body) => {
            Answer::text(200.try_into().unwrap(), format!("{} {}", head.arrival.peer.host(), body.bytes().len()))
        }
        Err(error) => Answer::problem(error),
    }
}

fn short() -> Limits {
    Limits {
        head_deadline: Duration::from_millis(200),
        body_deadline: Duration::from_millis(200),
        idle_deadline: Duration::from_secs(2),
        write_deadline: Duration::from_millis(300),
        drain_deadline: Duration::from_millis(500),
        ..Limits::default()
    }
}

#[track_caller]
fn check_cut(server: &Echo, sent: &[u8], at_least: Duration) {
    let begun = Instant::now();
    let mut wire = Wire::open(server.address);
    wire.send(sent);
    assert!(wire.closes(LONG), "still open");
    let took = begun.elapsed();
    assert!(took >= at_least, "cut after {took:?}");
}

#[test]
fn silent_and_one_byte_and_half_head_connections_are_cut() {
    let server = Echo::start(short());
    let soonest = Duration::from_millis(190);
    for sent in ["", "G", "GET /echo HT", "GET /echo HTTP/1.1\r\nHost: a\r\nX:"] {
        check_cut(&server, sent.as_bytes(), soonest);
    }
    assert!(server.metric("skillhook_slow_connections_total 4"), "{}", server.metrics.encode().unwrap());
}

#[test]
fn a_head_that_trickles_is_cut_although_something_always_comes() {
    let server = Echo::start(short());
    let mut wire = Wire::open(server.address);
    let begun = Instant::now();
    for byte in GET.iter().cycle() {
        if !wire.send(&[*byte]) || begun.elapsed() > LONG {
            break;
        }
        if wire.closes(Duration::from_millis(20)) {
            break;
        }
    }
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
}

#[test]
fn an_idle_connection_is_kept_for_its_own_deadline_and_then_cut() {
    let server = Echo::start(short());
    let mut wire = Wire::open(server.address);
    wire.send(GET);
    assert_eq!(wire.answer(LONG).expect_answer().status, 200);
    // Longer than a head may take, shorter than idleness may last.
    assert!(!wire.closes(Duration::from_millis(500)));
    wire.send(GET);
    assert_eq!(wire.answer(LONG).expect_answer().status, 200);
    assert!(wire.closes(LONG));
}

#[test]
fn a_second_head_has_the_deadline_of_a_head() {
    let server = Echo::start(Limits { idle_deadline: LONG * 10, ..short() });
    let mut wire = Wire::open(server.address);
    wire.send(GET);
    assert_eq!(wire.answer(LONG).expect_answer().status, 200);
    wire.send(b"GET /echo");
    assert!(wire.closes(LONG));
}

#[test]
fn a_body_that_does_not_come_is_answered_and_its_connection_closed() {
    let server = Echo::start(short());
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ] {
        let mut wire = Wire::open(server.address);
        wire.send(request.as_bytes());
        assert_eq!(wire.answer(LONG).expect_answer().status, 408);
        assert!(wire.closes(LONG));
    }
}

#[test]
fn a_slow_handler_is_not_cut_by_the_deadlines_of_reading() {
    let server = Echo::start(short());
    let outcome = exchange(server.address, b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", LONG);
    assert_eq!(outcome.expect_answer().status, 200);
}

#[test]
fn over_the_cap_connections_wait_until_one_ends() {
    let server = Echo::start(Limits { connections_max: 2, ..Limits::default() });
    let mut open: Vec<Wire> = (0..2).map(|_| Wire::open(server.address)).collect();
    for wire in &mut open {
        wire.send(GET);
        assert_eq!(wire.answer(LONG).expect_answer().status, 200);
    }
    let mut third = Wire::open(server.address);
    third.send(GET);
    assert!(matches!(third.answer(Duration::from_millis(200)), Outcome::Hung));
    assert!(server.metric("skillhook_connection_waits_total 1"));
    open.pop();
    assert_eq!(third.answer(LONG).expect_answer().status, 200);
}

#[test]
fn a_drain_ends_idle_connections_lets_requests_finish_and_cuts_the_rest() {
    let server = Echo::start(Limits { drain_deadline: Duration::from_secs(3), ..Limits::default() });
    let address = server.address;
    let (mut silent, mut idle, mut busy, mut stuck) =
        (Wire::open(address), Wire::open(address), Wire::open(address), Wire::open(address));
    idle.send(GET);
    assert_eq!(idle.answer(LONG).expect_answer().status, 200);
    stuck.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    busy.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    std::thread::scope(|scope| {
        let answer = scope.spawn(move || busy.answer(LONG));
        // The request must have begun before the drain does.
        while !server.metric("skillhook_connections 4") {
            std::thread::yield_now();
        }
        assert!(matches!(stuck.answer(Duration::from_millis(50)), Outcome::Hung));
        server.drain.cancel();
        assert!(silent.closes(LONG));
        assert!(idle.closes(LONG));
        // Those were ended at once, not by the deadline: what is not done is still let finish.
        assert!(matches!(stuck.answer(Duration::from_millis(1)), Outcome::Hung));
        assert_eq!(answer.join().unwrap().expect_answer().status, 200);
    });
    assert_eq!(server.stop(), 1);
    assert!(stuck.closes(LONG));
    assert!(std::net::TcpStream::connect(address).is_err(), "still listening");
}

#[test]
fn an_answer_that_nobody_reads_is_given_up() {
    let server = Echo::start(short());
    let mut wire = Wire::open(server.address);
    // Pipelined requests whose answers fill both sides' buffers.
    let many = GET.repeat(2000);
    let begun = Instant::now();
    while begun.elapsed() < LONG && wire.send(&many) {}
    assert!(begun.elapsed() < LONG, "the server went on reading");
}

#[test]
fn the_socket_file_serves_too_and_its_callers_are_local() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(async { Listener::unix(&path).unwrap() });
    let server = Echo::on(runtime, listener, Limits::default());
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("local 3"), "{text}");
    assert_eq!(server.stop(), 0);
    assert!(!path.exists());
}

#[test]
fn the_peer_is_known_without_its_port() {
    let server = Echo::start(Limits::default());
    assert_eq!(exchange(server.address, GET, LONG).expect_answer().text(), "127.0.0.1 0");
}

/// Soft limit on descriptors under which [`out_of_descriptors`] plays.
const FEW_DESCRIPTORS: usize = 40;

#[test]
fn running_out_of_descriptors_neither_ends_nor_spins_the_server() {
    // In a process of its own: the limit is the whole process's.
    let script = format!("ulimit -n {FEW_DESCRIPTORS}; exec \"$0\" --exact http_server::out_of_descriptors");
    let me = std::env::current_exe().unwrap();
    let ended = std::process::Command::new("sh").arg("-c").arg(script).arg(me).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
    assert!(String::from_utf8_lossy(&ended.stdout).contains("1 passed"));
}

/// Plays only where descriptors are few.
#[test]
fn out_of_descriptors() {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let open_files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    if open_files.split_whitespace().nth(3) != Some(&FEW_DESCRIPTORS.to_string()) {
        return;
    }
    let server = Echo::start(Limits::default());
    let mut open: Vec<std::net::TcpStream> = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect(server.address) {
        open.push(stream);
    }
    let failures = || -> u64 {
        let text = server.metrics.encode().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("skillhook_accept_errors_total ")).unwrap();
        line.parse().unwrap()
    };
    // A connection that waits to be accepted, so that the loop has something to fail at.
    open.pop();
    open.push(std::net::TcpStream::connect(server.address).unwrap());
    let begun = Instant::now();
    while failures() < 3 {
        assert!(begun.elapsed() < LONG, "accepting never failed");
        std::thread::yield_now();
    }
    let (before, since) = (failures(), Instant::now());
    while since.elapsed() < Duration::from_millis(700) {
        std::thread::yield_now();
    }
    assert!(failures() - before < 12, "it spins: {} failures", failures() - before);
    drop(open);
    assert_eq!(exchange(server.address, GET, LONG).expect_answer().status, 200);
}
