//! The accept loop around warp's filters, since warp's own has no deadlines, no connection cap and no bounded drain.
//!
//! Over the cap nothing is accepted: further connections wait in the kernel's backlog until one ends, so a burst is
//! delayed and not refused. Every open connection either handles a request or is under a deadline, so one does end.
//! A drain stops accepting, lets requests in flight finish, and cuts what is left at its deadline.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;
use warp::filters::BoxedFilter;

use super::connection::{Patience, Watch, Watched};
use super::exchange::{Arrival, Peer};
use super::listen::{Listener, Stream};
use crate::telemetry::event::{AcceptFailed, ConnectionCapReached, ConnectionTooSlow, Event as _};
use crate::telemetry::metrics::Metrics;

/// What one listener grants to the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at one time; further ones wait to be accepted.
    pub connections_max: usize,
    /// Of a request line and headers together.
    pub head_bytes_max: usize,
    /// Header fields of one request.
    pub headers_max: usize,
    /// Of one request's body, whatever a provider's definition allows.
    pub body_bytes_max: u64,
    /// Of all bodies that are being read or handled.
    pub bodies_bytes_max: usize,
    /// From the first byte (of a new connection: from its beginning) to the end of a head.
    pub head_deadline: Duration,
    /// From the end of a head to the end of its body.
    pub body_deadline: Duration,
    /// From the end of a body to its answer.
    pub answer_deadline: Duration,
    /// Between two requests on one connection.
    pub idle_deadline: Duration,
    /// Without a byte of the answer being taken.
    pub write_deadline: Duration,
    /// From the beginning of a drain until connections that are still busy are cut.
    pub drain_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            head_bytes_max: 64 * 1024,
            headers_max: 100,
            body_bytes_max: 25 * 1024 * 1024,
            bodies_bytes_max: 256 * 1024 * 1024,
            head_deadline: Duration::from_secs(10),
            body_deadline: Duration::from_secs(30),
            answer_deadline: Duration::from_secs(30),
            idle_deadline: Duration::from_secs(75),
            write_deadline: Duration::from_secs(10),
            drain_deadline: Duration::from_secs(5),
        }
    }
}

/// One listener with what it needs to serve.
#[derive(Debug)]
pub struct Server {
    /// `receiver`, `admin` or `socket`: for logs and metrics.
    pub name: &'static str,
    pub listener: Listener,
    pub limits: Limits,
    pub metrics: Metrics,
}

impl Server {
    /// Serves until `drain` is cancelled and every connection has ended or was cut. Answers how many were cut.
    pub async fn serve(self, filter: BoxedFilter<(warp::reply::Response,)>, drain: CancellationToken) -> usize {
        let slots = Arc::new(Semaphore::new(self.limits.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
        let (connections, cut) = (TaskTracker::new(), CancellationToken::new());
        let accepting = async {
            let mut backoff = AcceptBackoff::default();
            let mut at_cap = false;
            loop {
                let slot = self.slot(&slots, &mut at_cap).await;
                match self.listener.accept().await {
                    Ok((stream, peer)) => {
                        backoff = AcceptBackoff::default();
                        let connection = self.connection(stream, peer, filter.clone(), slot);
                        connections.spawn(connection.run(drain.clone(), cut.clone()));
                    }
                    Err(error) => self.pause(&error, backoff.pause_after(&error)).await,
                }
            }
        };
        tokio::select! {
            () = drain.cancelled() => {}
            () = accepting => {}
        }
        // From here on new connections are refused by the kernel.
        drop(self.listener);
        connections.close();
        if tokio::time::timeout(self.limits.drain_deadline, connections.wait()).await.is_ok() {
            return 0;
        }
        let left = connections.len();
        cut.cancel();
        connections.wait().await;
        left
    }

    async fn slot(&self, slots: &Arc<Semaphore>, at_cap: &mut bool) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
            *at_cap = false;
            return Some(slot);
        }
        // Said once for as long as the cap is met.
        if !std::mem::replace(at_cap, true) {
            ConnectionCapReached { listener: self.name, connections_max: self.limits.connections_max }
                .emit(&self.metrics);
        }
        Arc::clone(slots).acquire_owned().await.ok()
    }

    async fn pause(&self, error: &io::Error, pause: Duration) {
        if pause > Duration::ZERO {
            AcceptFailed { listener: self.name, error, pause }.emit(&self.metrics);
            tokio::time::sleep(pause).await;
        }
    }

    fn connection(
        &self,
        stream: Box<dyn Stream>,
        peer: Peer,
        filter: BoxedFilter<(warp::reply::Response,)>,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Connection {
        Connection {
            listener: self.name,
            stream,
            peer,
            filter,
            slot,
            limits: self.limits.clone(),
            metrics: self.metrics.clone(),
        }
    }
}

struct Connection {
    listener: &'static str,
    stream: Box<dyn Stream>,
    peer: Peer,
    filter: BoxedFilter<(warp::reply::Response,)>,
    /// Given back when the connection ends.
    slot: Option<OwnedSemaphorePermit>,
    limits: Limits,
    metrics: Metrics,
}

impl Connection {
    async fn run(self, drain: CancellationToken, cut: CancellationToken) {
        let (_open, _slot) = (self.metrics.connection(), self.slot);
        let limits = &self.limits;
        let watch = Arc::new(Watch::default());
        let patience =
            Patience { head: limits.head_deadline, idle: limits.idle_deadline, write: limits.write_deadline };
        let stream = TokioIo::new(Watched::new(self.stream, Arc::clone(&watch), patience));
        let (peer, service, requests) = (self.peer, warp::service(self.filter), Arc::clone(&watch));
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            let busy = Arc::new(requests.begin());
            let authority = request.uri().authority().cloned();
            let fragment = requests.take_fragment();
            let arrival = Arrival { peer, authority, fragment, busy: Some(Arc::clone(&busy)) };
            request.extensions_mut().insert(arrival);
            let answer = service.clone().call(request);
            async move {
                let answer = answer.await;
                drop(busy);
                answer
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // Behind the deadlines of `Watched`: this clock runs from the end of the last request.
            .header_read_timeout(limits.idle_deadline + limits.head_deadline)
            .max_headers(limits.headers_max)
            .max_buf_size(limits.head_bytes_max.max(HYPER_BUFFER_BYTES_MIN))
            .serve_connection(stream, service)
            .with_upgrades();
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = drain.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => Some(ended),
                    () = cut.cancelled() => None,
                }
            }
        };
        if watch.was_slow() {
            ConnectionTooSlow { listener: self.listener }.emit(&self.metrics);
        } else if let Some(Err(error)) = ended {
            tracing::debug!(listener = self.listener, %error, "a connection broke off");
        }
    }
}

/// hyper panics below this.
const HYPER_BUFFER_BYTES_MIN: usize = 8192;

/// How long to wait after a connection could not be accepted. What concerns that one connection needs no wait; what
/// concerns the process (no descriptors left) gets longer and longer ones, so that the loop does not spin.
#[derive(Debug, Default)]
struct AcceptBackoff {
    failures: u32,
}

impl AcceptBackoff {
    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(1);

    fn pause_after(&mut self, error: &io::Error) -> Duration {
        match error.kind() {
            io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted => Duration::ZERO,
            _ => {
                let pause = Self::FIRST.saturating_mul(2u32.saturating_pow(self.failures)).min(Self::LONGEST);
                self.failures = self.failures.saturating_add(1);
                pause
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_out_of_descriptors_pauses_longer_and_longer_up_to_a_second() {
        let mut backoff = AcceptBackoff::default();
        let emfile = io::Error::from_raw_os_error(24);
        let pauses: Vec<_> = (0..9).map(|_| backoff.pause_after(&emfile).as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    }

    #[test]
    fn a_connection_that_went_away_costs_no_pause() {
        let mut backoff = AcceptBackoff::default();
        assert_eq!(backoff.pause_after(&io::Error::from(io::ErrorKind::ConnectionAborted)), Duration::ZERO);
    }
}
