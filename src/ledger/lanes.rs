//! The way to the writer: two bounded lanes, accepts first. Room is counted in KiB, so that big bodies cannot fill memory.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::command::Job;
use super::store::unavailable;
use crate::error::{Code, Error, Result};

/// What may wait in each lane, in KiB; each job counts for at least one.
const LANE_KIB_MAX: u32 = 64 * 1024;
/// Most jobs in one commit.
pub const BATCH_JOBS_MAX: usize = 512;
/// So many of them are kept for the slow lane when both are full, so that accepts cannot starve the workers.
const BATCH_JOBS_SLOW: usize = 128;
/// No further job joins a commit that is larger than this, in KiB.
const BATCH_KIB_MAX: usize = 32 * 1024;
/// Blocking callers at once; they come one at a time from the reconciler.
const BLOCKING_JOBS_MAX: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Fast,
    Slow,
}

pub struct Lanes {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    fast_room: Arc<Semaphore>,
    slow_room: Arc<Semaphore>,
}

#[derive(Default)]
struct Waiting {
    fast: VecDeque<(Job, usize)>,
    slow: VecDeque<(Job, usize)>,
    /// There is something to look at, though no job waits.
    nudged: bool,
    closed: bool,
}

/// What the writer found.
pub enum Taken {
    Jobs(Vec<Job>),
    /// Nothing came in the time that it was ready to wait, or before it was nudged.
    Nothing,
    /// Closed, and nothing waits any more.
    Closed,
}

impl Default for Lanes {
    fn default() -> Self {
        let room = || Arc::new(Semaphore::new(LANE_KIB_MAX as usize));
        Self { waiting: Mutex::default(), arrived: Condvar::new(), fast_room: room(), slow_room: room() }
    }
}

impl Lanes {
    /// Waits for room. `bytes`: roughly what the job weighs.
    pub async fn push(&self, lane: Lane, bytes: usize, make: impl FnOnce() -> Job) -> Result<()> {
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).saturating_add(1).min(LANE_KIB_MAX);
        let room = match lane {
            Lane::Fast => &self.fast_room,
            Lane::Slow => &self.slow_room,
        };
        let permit = Arc::clone(room).acquire_many_owned(kib).await.map_err(|_| closed())?;
        let job = Job { _room: Some(permit), ..make() };
        self.enqueue(lane, job, kib as usize)
    }

    /// For callers that may not wait for room; refused when too many of them come at once.
    pub fn push_blocking(&self, job: Job) -> Result<()> {
        let unpermitted = |waiting: &Waiting| waiting.slow.iter().filter(|(job, _)| job._room.is_none()).count();
        if unpermitted(&self.lock()) >= BLOCKING_JOBS_MAX {
            return Err(unavailable("too many blocking callers"));
        }
        self.enqueue(Lane::Slow, job, 1)
    }

    fn enqueue(&self, lane: Lane, job: Job, kib: usize) -> Result<()> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(closed());
        }
        match lane {
            Lane::Fast => waiting.fast.push_back((job, kib)),
            Lane::Slow => waiting.slow.push_back((job, kib)),
        }
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// Everything that waits, accepts first, up to the limits of one commit.
    pub fn take(&self, at_most: Option<Duration>) -> Taken {
        let mut waiting = self.lock();
        while waiting.fast.is_empty() && waiting.slow.is_empty() {
            if waiting.closed {
                return Taken::Closed;
            }
            if std::mem::take(&mut waiting.nudged) {
                return Taken::Nothing;
            }
            waiting = match at_most {
                None => self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(at_most) => {
                    let waited = self.arrived.wait_timeout(waiting, at_most).unwrap_or_else(PoisonError::into_inner);
                    if waited.1.timed_out() {
                        return Taken::Nothing;
                    }
                    waited.0
                }
            };
        }
        let kept = waiting.slow.len().min(BATCH_JOBS_SLOW);
        let mut kib_left = BATCH_KIB_MAX;
        let mut jobs = Vec::new();
        move_jobs(&mut waiting.fast, &mut jobs, BATCH_JOBS_MAX - kept, &mut kib_left);
        kib_left = kib_left.max(1);
        move_jobs(&mut waiting.slow, &mut jobs, BATCH_JOBS_MAX, &mut kib_left);
        Taken::Jobs(jobs)
    }

    /// Has the writer look around, though no job waits.
    pub fn nudge(&self) {
        self.lock().nudged = true;
        self.arrived.notify_one();
    }

    /// What waits is still done; nothing more comes in.
    pub fn close(&self) {
        self.lock().closed = true;
        self.fast_room.close();
        self.slow_room.close();
        self.arrived.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn move_jobs(from: &mut VecDeque<(Job, usize)>, to: &mut Vec<Job>, jobs_max: usize, kib_left: &mut usize) {
    while to.len() < jobs_max && *kib_left > 0 {
        let Some((job, kib)) = from.pop_front() else { break };
        *kib_left = kib_left.saturating_sub(kib);
        to.push(job);
    }
}

fn closed() -> Error {
    Error::new(Code::LedgerUnavailable, "the ledger is closed")
}
