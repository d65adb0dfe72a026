//! The bytes of one connection, watched: a head that does not come, an idle connection that nobody uses, and a reader
//! that does not read are cut; and a fragment in a request line is noticed, which hyper drops without a word.
//!
//! Bodies have a deadline of their own (`body.rs`), so nothing is cut here while a request is being handled.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::listen::Stream;

/// Where a connection is in the life of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// A head is being waited for: on a new connection, or since its first byte has come.
    Head = 0,
    /// A request is being handled.
    Busy = 1,
    /// Kept alive between two requests.
    Idle = 2,
}

/// What the two sides of a connection, bytes and requests, tell each other.
#[derive(Debug, Default)]
pub struct Watch {
    phase: AtomicU8,
    fragment: AtomicBool,
    slow: AtomicBool,
}

impl Watch {
    /// A head is complete: until the returned value is dropped, its request is being handled.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.phase.store(Phase::Busy as u8, Ordering::Relaxed);
        Busy { watch: Arc::clone(self) }
    }

    /// Whether the request line that came last had a fragment.
    pub fn take_fragment(&self) -> bool {
        self.fragment.swap(false, Ordering::Relaxed)
    }

    /// Whether the connection was cut for being slow.
    pub fn was_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Head,
            1 => Phase::Busy,
            _ => Phase::Idle,
        }
    }
}

/// A request is being handled; see [`Watch::begin`].
#[derive(Debug)]
pub struct Busy {
    watch: Arc<Watch>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.watch.phase.store(Phase::Idle as u8, Ordering::Relaxed);
    }
}

/// How long the other side may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub head: Duration,
    pub idle: Duration,
    /// Without a single byte of an answer taken.
    pub write: Duration,
}

/// A connection's stream with its deadlines.
pub struct Watched {
    stream: Box<dyn Stream>,
    watch: Arc<Watch>,
    patience: Patience,
    /// The phase that `read_timer` was set for.
    timed_phase: Phase,
    read_timer: Pin<Box<Sleep>>,
    write_timer: Option<Pin<Box<Sleep>>>,
    line: RequestLine,
}

impl Watched {
    pub fn new(stream: Box<dyn Stream>, watch: Arc<Watch>, patience: Patience) -> Self {
        let read_timer = Box::pin(sleep(patience.head));
        let (timed_phase, line) = (Phase::Head, RequestLine::default());
        Self { stream, watch, patience, timed_phase, read_timer, write_timer: None, line }
    }

    fn enter(&mut self, phase: Phase) {
        if self.timed_phase == phase {
            return;
        }
        self.timed_phase = phase;
        match phase {
            Phase::Head => self.read_timer.as_mut().reset(Instant::now() + self.patience.head),
            Phase::Idle => self.read_timer.as_mut().reset(Instant::now() + self.patience.idle),
            Phase::Busy => {}
        }
    }

    fn on_bytes(&mut self, bytes: &[u8]) {
        if self.watch.phase() == Phase::Idle {
            self.watch.phase.store(Phase::Head as u8, Ordering::Relaxed);
            self.line = RequestLine::default();
        }
        if self.watch.phase() == Phase::Head && self.line.saw_fragment(bytes) {
            self.watch.fragment.store(true, Ordering::Relaxed);
        }
    }

    fn cut(&self) -> io::Error {
        self.watch.slow.store(true, Ordering::Relaxed);
        io::Error::from(io::ErrorKind::TimedOut)
    }

    /// Gives up once nothing could be written for too long.
    fn write_progress<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.write_timer = None;
            return progress;
        }
        let patience = self.patience.write;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(self.cut()))
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let progress = Pin::new(&mut this.stream).poll_read(cx, buf);
        if progress.is_ready() {
            if buf.filled().len() > before {
                this.on_bytes(&buf.filled()[before..]);
            }
            this.enter(this.watch.phase());
            return progress;
        }
        this.enter(this.watch.phase());
        if this.timed_phase == Phase::Busy {
            return Poll::Pending;
        }
        ready!(this.read_timer.as_mut().poll(cx));
        Poll::Ready(Err(this.cut()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.write_progress(cx, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.write_progress(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_flush(cx);
        self.write_progress(cx, progress)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Looks at the first line of a head as its bytes come by.
#[derive(Debug, Default)]
struct RequestLine {
    begun: bool,
    ended: bool,
}

impl RequestLine {
    /// Whether there is a `#` in what these bytes add to the line.
    fn saw_fragment(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            match byte {
                _ if self.ended => return false,
                // Empty lines before a request line are skipped (RFC 9112, section 2.2).
                b'\n' => self.ended = self.begun,
                b'\r' => {}
                b'#' => return true,
                _ => self.begun = true,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_request_line_is_looked_at() {
        let fragment = |parts: &[&str]| {
            let mut line = RequestLine::default();
            parts.iter().any(|part| line.saw_fragment(part.as_bytes()))
        };
        assert!(fragment(&["GET /a#b HTTP/1.1\r\n"]));
        assert!(fragment(&["\r\n", "GET /a", "#b HTTP/1.1\r\n"]));
        assert!(!fragment(&["GET /a HTTP/1.1\r\nX: #\r\n"]));
        assert!(!fragment(&["\r\nGET /a HTTP/1.1\r\n", "X: #\r\n"]));
    }
}
