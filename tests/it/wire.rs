//! HTTP as bytes on a socket: what is sent is exactly what a test says, and what comes back is read as it is.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// An answer, read until its end.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Head and body as one text.
    pub fn everything(&self) -> String {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        format!("{}\n{headers}\n{}", self.status, self.text())
    }
}

/// What a request came to.
#[derive(Clone, Debug)]
pub enum Outcome {
    Answer(Answer),
    /// The connection was closed without an answer.
    Closed,
    /// Neither within the deadline.
    Hung,
}

impl Outcome {
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Outcome::Answer(answer) => Some(answer),
            Outcome::Closed | Outcome::Hung => None,
        }
    }

    #[track_caller]
    pub fn expect_answer(self) -> Answer {
        match self {
            Outcome::Answer(answer) => answer,
            Outcome::Closed => panic!("closed without an answer"),
            Outcome::Hung => panic!("no answer in time"),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(60)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// Sends what can be sent: a server may have cut the connection before the last byte.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub fn shut_down_write(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes with a reset instead of an orderly end.
    pub fn reset(self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _inside = runtime.enter();
        self.stream.set_nonblocking(true).unwrap();
        tokio::net::TcpStream::from_std(self.stream).unwrap().set_zero_linger().unwrap();
    }

    /// The next answer on this connection.
    pub fn answer(&mut self, within: Duration) -> Outcome {
        let deadline = Instant::now() + within;
        loop {
            if let Some((answer, used)) = parse(&self.read, false) {
                self.read.drain(..used);
                return Outcome::Answer(answer);
            }
            match self.fill(deadline) {
                Some(0) => {
                    return parse(&self.read, true).map_or(Outcome::Closed, |(answer, _)| Outcome::Answer(answer));
                }
                Some(_) => {}
                None => return Outcome::Hung,
            }
        }
    }

    /// Whether the other side closes within that time, whatever it still sends.
    pub fn closes(&mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        loop {
            match self.fill(deadline) {
                Some(0) => return true,
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// Bytes read; 0 at the end of the stream; `None` at the deadline.
    fn fill(&mut self, deadline: Instant) -> Option<usize> {
        let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        self.stream.set_read_timeout(Some(left)).unwrap();
        let mut part = [0; 16 * 1024];
        match self.stream.read(&mut part) {
            Ok(bytes) => {
                self.read.extend_from_slice(&part[..bytes]);
                Some(bytes)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) if error.kind() == ErrorKind::Interrupted => Some(1),
            Err(_) => Some(0),
        }
    }
}

/// Sends one request on a connection of its own.
pub fn exchange(address: SocketAddr, request: &[u8], within: Duration) -> Outcome {
    let mut wire = Wire::open(address);
    wire.send(request);
    wire.answer(within)
}

/// A whole answer at the beginning of `bytes`, and how long it is. `ended`: nothing more will come.
fn parse(bytes: &[u8], ended: bool) -> Option<(Answer, usize)> {
    let head_end = find(bytes, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let start = head_end + 4;
    if status == 100 {
        return parse(&bytes[start..], ended).map(|(answer, used)| (answer, start + used));
    }
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = match length {
        Some((_, length)) => length.parse().ok()?,
        None if matches!(status, 204 | 304) => 0,
        None if ended => bytes.len() - start,
        None => return None,
    };
    let end = start + length;
    // An answer to HEAD announces a body that does not come.
    let body = if bytes.len() >= end {
        &bytes[start..end]
    } else if ended {
        &bytes[start..]
    } else {
        return None;
    };
    Some((Answer { status, headers, body: body.to_vec() }, start + body.len()))
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
