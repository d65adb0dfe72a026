//! `/api/stream`: what happens, as it happens, as server-sent events or over a WebSocket.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use warp::Reply as _;
use warp::http::{HeaderValue, Method, header};
use warp::ws::{Message as Frame, WebSocket, Ws};

use super::access::Caller;
use super::feed::{Feed, Leave, Message, Next, Wanted};
use super::request::Asked;
use super::state::ApiState;
use super::table::Operation;
use super::tickets::LIFETIME;
use crate::error::{Code, Error, Result};
use crate::http::answer::Answer;
use crate::http::exchange::{Head, Outgoing};

/// Streams open at one time.
const STREAMS_MAX: usize = 256;
/// A reader that takes nothing for so long is cut; he can go on where he was.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Readers have nothing to say.
const FRAME_BYTES_MAX: usize = 4 * 1024;
/// After how many milliseconds a browser comes again.
const RETRY_MILLISECONDS: u64 = 2_000;

/// Room for streams.
#[derive(Clone, Debug)]
pub struct Streams {
    slots: Arc<Semaphore>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { slots: Arc::new(Semaphore::new(STREAMS_MAX)) }
    }
}

/// A ticket for one stream of this caller.
pub fn ticket(state: &ApiState, caller: &Caller) -> Result<serde_json::Value> {
    let ticket = state.access.tickets().issue(caller)?;
    Ok(json!({ "ticket": ticket, "expires_in_seconds": LIFETIME.as_secs() }))
}

impl Streams {
    /// Opens a stream, in the way that the request asks for.
    pub async fn open(&self, state: &Arc<ApiState>, asked: &Asked<'_>, socket: Option<Ws>) -> Result<Outgoing> {
        let wanted = Wanted::of(asked.query, asked.head.single_header("last-event-id"))?;
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| {
            Error::new(Code::NotReady, format!("{STREAMS_MAX} streams are open already")).hint("close one")
        })?;
        let mut feed = Feed::new(&state.ledger, wanted);
        feed.begin().await?;
        let reader = Reader {
            state: Arc::clone(state),
            caller: asked.caller.clone(),
            leave: Leave::new(state),
            feed,
            _busy: asked.head.arrival.busy.clone(),
            _slot: slot,
        };
        match socket {
            Some(socket) if has_whole_key(asked.head) => Ok(Outgoing::Open(over_socket(socket, reader))),
            _ if asks_for_socket(asked.head) => {
                Err(Error::new(Code::Usage, "the WebSocket handshake is not complete (RFC 6455, section 4.2.1)"))
            }
            _ if asked.head.method == Method::HEAD => Ok(Answer::text(warp::http::StatusCode::OK, "").into()),
            _ => Ok(Outgoing::Open(as_events(reader))),
        }
    }
}

/// The ticket with which a stream is asked for: a browser cannot send a token with one.
pub fn ticket_in(head: &Head, operation: Operation) -> Option<String> {
    let query = head.query.as_deref().filter(|_| operation == Operation::Stream)?;
    let mut fields = url::form_urlencoded::parse(query.as_bytes());
    fields.find(|(name, _)| name == "ticket").map(|(_, ticket)| ticket.into_owned())
}

fn asks_for_socket(head: &Head) -> bool {
    head.headers.contains_key(header::UPGRADE) || head.headers.contains_key("sec-websocket-key")
}

/// Sixteen bytes, as RFC 6455, section 4.1, asks for: warp takes anything.
fn has_whole_key(head: &Head) -> bool {
    let key = head.single_header("sec-websocket-key").and_then(|key| BASE64_STANDARD.decode(key).ok());
    key.is_some_and(|key| key.len() == 16)
}

/// Who listens, and what he has heard.
struct Reader {
    state: Arc<ApiState>,
    caller: Caller,
    leave: Leave,
    feed: Feed,
    /// While it lives, the connection counts as busy: nothing is waited for from the reader.
    _busy: Option<Arc<crate::http::connection::Busy>>,
    _slot: OwnedSemaphorePermit,
}

impl Reader {
    async fn next(&mut self) -> Next {
        let Self { state, caller, leave, feed, .. } = self;
        if !feed.has_ended() {
            tokio::select! {
                biased;
                why = leave.over(state, caller) => feed.end(why),
                next = feed.next() => return next,
            }
        }
        // The last word, and then the end.
        feed.next().await
    }
}

/// Server-sent events (HTML, section 9.2).
fn as_events(mut reader: Reader) -> warp::reply::Response {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        let mut part = Bytes::from(format!("retry: {RETRY_MILLISECONDS}\n\n"));
        loop {
            match tokio::time::timeout(WRITE_DEADLINE, sender.send(part)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
            let next = tokio::select! {
                () = sender.closed() => return,
                next = reader.next() => next,
            };
            part = match next {
                Next::Message(message) => event(&message),
                Next::KeepAlive => Bytes::from_static(b": nothing happens\n\n"),
                Next::End => return,
            };
        }
    });
    let parts = stream::poll_fn(move |context| receiver.poll_recv(context)).map(Ok::<_, std::convert::Infallible>);
    let mut response = warp::reply::stream(parts).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Proxies that gather answers would hold back what happens.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn event(message: &Message) -> Bytes {
    let id = message.seq.map(|seq| format!("id: {seq}\n")).unwrap_or_default();
    // JSON has no bare line ends, so the data is one line.
    Bytes::from(format!("{id}event: {}\ndata: {}\n\n", message.kind, message.data))
}

/// One JSON text a message: `{seq, kind, data}`.
fn over_socket(socket: Ws, mut reader: Reader) -> warp::reply::Response {
    let socket = socket.max_message_size(FRAME_BYTES_MAX).max_frame_size(FRAME_BYTES_MAX);
    let talk = async move |socket: WebSocket| {
        let (mut sender, mut incoming) = socket.split();
        // Listened to apart, so that a word of the reader does not break off the reading of what he is to be told.
        let gone = CancellationToken::new();
        let hang_up = gone.clone().drop_guard();
        let _listening = AbortOnDropHandle::new(tokio::spawn(async move {
            let _hang_up = hang_up;
            while incoming.next().await.is_some_and(|heard| heard.is_ok_and(|frame| !frame.is_close())) {}
        }));
        loop {
            let next = tokio::select! {
                () = gone.cancelled() => return,
                next = reader.next() => next,
            };
            let frame = match next {
                Next::Message(message) => {
                    let text = json!({ "seq": message.seq, "kind": message.kind, "data": message.data });
                    Frame::text(text.to_string())
                }
                Next::KeepAlive => Frame::ping(Bytes::new()),
                Next::End => Frame::close(),
            };
            let is_last = frame.is_close();
            match tokio::time::timeout(WRITE_DEADLINE, sender.send(frame)).await {
                Ok(Ok(())) if !is_last => {}
                Ok(Ok(()) | Err(_)) | Err(_) => return,
            }
        }
    };
    socket.on_upgrade(talk).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_data_whatever_is_in_it() {
        let data = json!({ "message": "a\n\ndata: b\r\nevent: c" });
        let text = event(&Message { seq: Some(7), kind: "task.output".to_owned(), data });
        let text = std::str::from_utf8(&text).unwrap();
        assert!(text.starts_with("id: 7\nevent: task.output\ndata: {"), "{text}");
        assert_eq!((text.lines().count(), text.ends_with("}\n\n")), (4, true), "{text}");
    }
}
