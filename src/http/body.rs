//! Reads a request body with a cap on its bytes, a deadline, and a budget that all bodies in flight share.
//!
//! A body whose announced length is over the cap is refused before any of it is read; one without an announced length
//! as soon as it passes the cap. The budget is taken as bytes arrive, so announcing much reserves nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::exchange::{BodyStream, Head};
use crate::error::{Code, Error, Result};

const KIBIBYTE: usize = 1024;
/// Room set aside before the first byte has come, whatever length was announced.
const FIRST_ROOM_BYTES_MAX: u64 = 16 * 1024;

/// Memory for the bodies that are being read or handled at one time.
#[derive(Clone, Debug)]
pub struct Budget {
    kibibytes: Arc<Semaphore>,
}

/// A whole body; its share of the budget is given back when this is dropped.
#[derive(Debug)]
pub struct Body {
    bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

impl Body {
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl Budget {
    pub fn new(bytes_max: usize) -> Self {
        Self { kibibytes: Arc::new(Semaphore::new((bytes_max / KIBIBYTE).clamp(1, Semaphore::MAX_PERMITS))) }
    }

    /// Reads the body of `head`: at most `bytes_max`, all of it before `deadline` has passed.
    pub async fn read(&self, head: &Head, stream: BodyStream, bytes_max: u64, deadline: Duration) -> Result<Body> {
        let declared = head.declared_body_bytes();
        if declared.is_some_and(|declared| declared > bytes_max) {
            return Err(too_large(bytes_max));
        }
        let reading = self.collect(stream, declared.unwrap_or(0), bytes_max);
        tokio::time::timeout(deadline, reading).await.unwrap_or_else(|_| {
            Err(Error::new(Code::BodyIncomplete, "the body did not arrive in time")
                .hint(format!("send it within {} seconds", deadline.as_secs_f32())))
        })
    }

    async fn collect(&self, mut stream: BodyStream, declared: u64, bytes_max: u64) -> Result<Body> {
        let mut share = Share { budget: self, held: None, bytes: 0 };
        let mut parts = Parts::Empty;
        while let Some(part) = stream.next().await {
            let part = part.map_err(|error| Error::new(Code::BadPayload, "the body is broken off").detail(error))?;
            let bytes = parts.len() + part.len();
            if bytes as u64 > bytes_max {
                return Err(too_large(bytes_max));
            }
            share.grow_to(bytes)?;
            parts = parts.push(part, declared);
        }
        Ok(Body { bytes: parts.into_bytes(), _share: share.held })
    }
}

fn too_large(bytes_max: u64) -> Error {
    Error::new(Code::BodyTooLarge, "the body is too large").hint(format!("at most {bytes_max} bytes are read"))
}

/// What one body holds of the budget.
struct Share<'a> {
    budget: &'a Budget,
    held: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Share<'_> {
    fn grow_to(&mut self, bytes: usize) -> Result<()> {
        let more = bytes.div_ceil(KIBIBYTE).saturating_sub(self.bytes.div_ceil(KIBIBYTE));
        self.bytes = bytes;
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.budget.kibibytes)
            .try_acquire_many_owned(more)
            .map_err(|_| Error::new(Code::NotReady, "too many large bodies are being read").hint("try again later"))?;
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        Ok(())
    }
}

/// Most bodies come in one part, which is then not copied.
enum Parts {
    Empty,
    One(Bytes),
    Many(BytesMut),
}

impl Parts {
    fn len(&self) -> usize {
        match self {
            Parts::Empty => 0,
            Parts::One(bytes) => bytes.len(),
            Parts::Many(bytes) => bytes.len(),
        }
    }

    fn push(self, part: Bytes, declared: u64) -> Self {
        match self {
            Parts::Empty => Parts::One(part),
            Parts::One(first) => {
                let room = usize::try_from(declared.min(FIRST_ROOM_BYTES_MAX)).unwrap_or(0);
                let mut all = BytesMut::with_capacity(room.max(first.len() + part.len()));
                all.extend_from_slice(&first);
                all.extend_from_slice(&part);
                Parts::Many(all)
            }
            Parts::Many(mut all) => {
                all.extend_from_slice(&part);
                Parts::Many(all)
            }
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Parts::Empty => Bytes::new(),
            Parts::One(bytes) => bytes,
            Parts::Many(bytes) => bytes.freeze(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::exchange::tests::head;
    use super::*;
    use futures_util::stream;

    const MINUTE: Duration = Duration::from_secs(60);

    fn parts(parts: &[&'static str]) -> BodyStream {
        let parts: Vec<_> = parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect();
        Box::pin(stream::iter(parts))
    }

    #[tokio::test]
    async fn an_announced_length_over_the_cap_is_refused_before_anything_is_read() {
        let head = head("POST", "/", &[("content-length", "11")]);
        let error = Budget::new(1 << 20).read(&head, Box::pin(stream::pending()), 10, MINUTE).await.unwrap_err();
        assert_eq!(error.code(), Code::BodyTooLarge);
    }

    #[tokio::test]
    async fn a_body_without_a_length_is_cut_at_the_cap() {
        let head = head("POST", "/", &[]);
        let budget = Budget::new(1 << 20);
        let whole = budget.read(&head, parts(&["12345", "67890"]), 10, MINUTE).await.unwrap();
        assert_eq!(whole.bytes(), "1234567890");
        let endless = parts(&["12345", "67890", "1"]).chain(stream::pending());
        let error = budget.read(&head, Box::pin(endless), 10, MINUTE).await.unwrap_err();
        assert_eq!(error.code(), Code::BodyTooLarge);
    }

    #[tokio::test]
    async fn a_body_that_trickles_is_cut_at_the_deadline() {
        let head = head("POST", "/", &[]);
        let trickle = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(7)).await;
            Some((Ok(Bytes::from_static(b"x")), ()))
        });
        let (budget, deadline) = (Budget::new(1 << 20), Duration::from_millis(50));
        let error = budget.read(&head, Box::pin(trickle), 1000, deadline).await.unwrap_err();
        assert_eq!(error.code(), Code::BodyIncomplete);
    }

    #[tokio::test]
    async fn bodies_in_flight_share_a_budget_and_give_it_back() {
        let head = head("POST", "/", &[]);
        let budget = Budget::new(2 * KIBIBYTE);
        let first = budget.read(&head, parts(&["a"]), 10, MINUTE).await.unwrap();
        let second = budget.read(&head, parts(&["b"]), 10, MINUTE).await.unwrap();
        let error = budget.read(&head, parts(&["c"]), 10, MINUTE).await.unwrap_err();
        assert_eq!(error.code(), Code::NotReady);
        drop((first, second));
        assert!(budget.read(&head, parts(&["c"]), 10, MINUTE).await.is_ok());
    }
}
