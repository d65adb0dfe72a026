//! What a stream tells: everything that happens, in the order of its numbers, and what agents say while they run.
//!
//! Nothing is queued for a reader: he gets the next message when he has taken the last one, read from the ledger then. So a
//! slow one holds up nobody, and loses only what the ledger itself has dropped meanwhile, which he is told.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

use super::access::Caller;
use super::query::Query;
use super::state::ApiState;
use crate::error::Result;
use crate::ledger::rows::Happening;
use crate::ledger::{Ledger, LogGrown};
use crate::model::ids::{DeliveryId, TaskId, WebhookId};

/// A quiet stream shows this often that it is alive.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The kind of message that carries what an agent says.
pub const OUTPUT: &str = "task.output";
/// The kinds that tell of the stream itself; no filter leaves them out.
const MISSED: &str = "stream.missed";
const ENDED: &str = "stream.ended";
/// Happenings and lines that are read at once.
const READ_AT_ONCE: usize = 200;
/// Tasks whose output one stream follows at one time.
const FOLLOWED_MAX: usize = 1_000;

/// One message of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// To go on after it: the number of the happening.
    pub seq: Option<u64>,
    pub kind: String,
    pub data: Value,
}

/// What comes next.
#[derive(Debug, PartialEq)]
pub enum Next {
    Message(Message),
    KeepAlive,
    End,
}

/// What a reader wants to hear of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    since: Option<u64>,
    /// Whole kinds, or `task.*`; `!task.output` leaves one out. None but such: all others.
    kinds: Vec<String>,
    webhook: Option<WebhookId>,
    delivery: Option<DeliveryId>,
    task: Option<TaskId>,
    /// The first line of the task's output.
    from: Option<u64>,
}

impl Wanted {
    /// # Errors
    /// SH0902 names what cannot be read.
    pub fn of(query: &Query, last_event_id: Option<&str>) -> Result<Self> {
        let list = |text: &str| Ok(text.split(',').map(|kind| kind.trim().to_owned()).collect());
        Ok(Self {
            since: query.number("since")?.or_else(|| last_event_id?.parse().ok()),
            kinds: query.parsed("kind", list)?.unwrap_or_default(),
            webhook: query.parsed("webhook", WebhookId::parse)?,
            delivery: query.parsed("delivery", DeliveryId::parse)?,
            task: query.parsed("task", TaskId::parse)?,
            from: query.number("from")?,
        })
    }

    fn kind(&self, kind: &str) -> bool {
        let fits = |wanted: &str| match wanted.strip_suffix('*') {
            Some(beginning) => kind.starts_with(beginning),
            None => wanted == kind,
        };
        let left_out = |wanted: &String| wanted.strip_prefix('!').is_some_and(fits);
        let mut named = self.kinds.iter().filter(|wanted| !wanted.starts_with('!')).peekable();
        !self.kinds.iter().any(left_out) && (named.peek().is_none() || named.any(|wanted| fits(wanted)))
    }

    fn happening(&self, happening: &Happening) -> bool {
        self.kind(&happening.kind)
            && (self.webhook.is_none() || self.webhook == happening.webhook)
            && (self.delivery.is_none() || self.delivery == happening.delivery)
            && (self.task.is_none() || self.task == happening.task)
    }
}

/// A task whose output is told, and the number of its next line; `None` for one that the reader does not want.
type Followed = Option<u64>;

/// One reader's place in what happens.
#[derive(Debug)]
pub struct Feed {
    ledger: Ledger,
    wanted: Wanted,
    seq: u64,
    grown: broadcast::Receiver<LogGrown>,
    followed: BTreeMap<TaskId, Followed>,
    /// Read, and not told yet.
    waiting: VecDeque<Message>,
    ended: bool,
}

impl Feed {
    pub fn new(ledger: &Ledger, wanted: Wanted) -> Self {
        let last = ledger.last_seq();
        // Who is ahead of us was following another ledger.
        let (seq, waiting) = match wanted.since {
            Some(since) if since > last => (last, VecDeque::from([missed(since, last)])),
            Some(since) => (since, VecDeque::new()),
            None => (last, VecDeque::new()),
        };
        let mut feed = Self {
            ledger: ledger.clone(),
            seq,
            grown: ledger.logs(),
            followed: BTreeMap::new(),
            waiting,
            ended: false,
            wanted,
        };
        if let (Some(task), Some(from)) = (feed.wanted.task, feed.wanted.from) {
            feed.followed.insert(task, Some(from));
        }
        feed
    }

    /// Reads what there is of the output that was asked for from a line on.
    ///
    /// # Errors
    /// SH0601 when the ledger cannot be read.
    pub async fn begin(&mut self) -> Result<()> {
        match self.wanted.task {
            Some(task) if self.wanted.from.is_some() => self.read_output(task).await,
            Some(_) | None => Ok(()),
        }
    }

    /// Says why it ends, and ends.
    pub fn end(&mut self, why: &str) {
        self.waiting.push_back(Message { seq: None, kind: ENDED.to_owned(), data: json!({ "reason": why }) });
        self.ended = true;
    }

    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The next message, as soon as there is one.
    pub async fn next(&mut self) -> Next {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                return Next::Message(message);
            }
            if self.ended {
                return Next::End;
            }
            let ledger = self.ledger.clone();
            tokio::select! {
                // What was said before a task ended is told before its end.
                biased;
                grown = self.grown.recv() => self.output(grown).await,
                happened = ledger.happenings(self.seq, READ_AT_ONCE, KEEP_ALIVE) => match happened {
                    Ok(happenings) if happenings.is_empty() => return Next::KeepAlive,
                    Ok(happenings) => self.tell(happenings),
                    Err(_) => self.end("the ledger cannot be read"),
                },
            }
        }
    }

    fn tell(&mut self, happenings: Vec<Happening>) {
        for happening in happenings {
            if happening.seq > self.seq + 1 {
                self.waiting.push_back(missed(self.seq + 1, happening.seq - 1));
            }
            self.seq = happening.seq;
            if self.wanted.happening(&happening) {
                let (seq, kind) = (Some(happening.seq), happening.kind.clone());
                let data = serde_json::to_value(&happening).unwrap_or_default();
                self.waiting.push_back(Message { seq, kind, data });
            }
        }
    }

    async fn output(&mut self, grown: Result<LogGrown, broadcast::error::RecvError>) {
        if !self.wanted.kind(OUTPUT) {
            return;
        }
        let read = match grown {
            Ok(grown) => match self.follow(grown).await {
                Ok(true) => self.read_output(grown.task).await,
                other => other.map(|_| ()),
            },
            // Too many at once: what is followed already is read from where it was left.
            Err(broadcast::error::RecvError::Lagged(times)) => {
                let followed: Vec<TaskId> =
                    self.followed.iter().filter(|(_, place)| place.is_some()).map(|(task, _)| *task).collect();
                self.waiting.push_back(Message {
                    seq: None,
                    kind: MISSED.to_owned(),
                    data: json!({ "reason": "output of tasks that were not followed yet", "times": times }),
                });
                let mut read = Ok(());
                for task in followed {
                    read = read.and(self.read_output(task).await);
                }
                read
            }
            Err(broadcast::error::RecvError::Closed) => {
                self.end("the service stops");
                Ok(())
            }
        };
        if read.is_err() {
            self.end("the ledger cannot be read");
        }
    }

    /// Whether the reader wants this task's output.
    async fn follow(&mut self, grown: LogGrown) -> Result<bool> {
        if let Some(place) = self.followed.get(&grown.task) {
            return Ok(place.is_some());
        }
        let wanted = &self.wanted;
        let is_wanted = match (wanted.task, &wanted.webhook, wanted.delivery) {
            (Some(task), ..) => task == grown.task,
            (None, None, None) => true,
            (None, webhook, delivery) => self.ledger.task(grown.task).await?.is_some_and(|task| {
                webhook.as_ref().is_none_or(|webhook| *webhook == task.spec.webhook)
                    && (delivery.is_none() || delivery == task.spec.delivery)
            }),
        };
        while self.followed.len() >= FOLLOWED_MAX {
            self.followed.pop_first();
        }
        self.followed.insert(grown.task, is_wanted.then_some(grown.first));
        Ok(is_wanted)
    }

    async fn read_output(&mut self, task: TaskId) -> Result<()> {
        let Some(Some(next)) = self.followed.get_mut(&task) else { return Ok(()) };
        loop {
            let from = usize::try_from(*next).unwrap_or(usize::MAX);
            let lines = self.ledger.log(task, from, READ_AT_ONCE).await?;
            let read = lines.len();
            for line in lines {
                let mut data = serde_json::to_value(&line).unwrap_or_default();
                if let Some(fields) = data.as_object_mut() {
                    fields.insert("task".to_owned(), json!(task));
                    fields.insert("number".to_owned(), json!(*next));
                }
                self.waiting.push_back(Message { seq: None, kind: OUTPUT.to_owned(), data });
                *next += 1;
            }
            if read < READ_AT_ONCE {
                return Ok(());
            }
        }
    }
}

fn missed(from: u64, to: u64) -> Message {
    Message { seq: None, kind: MISSED.to_owned(), data: json!({ "from": from, "to": to }) }
}

/// When a stream must end although its reader stays.
#[derive(Debug)]
pub struct Leave {
    changes: watch::Receiver<u64>,
}

impl Leave {
    pub fn new(state: &ApiState) -> Self {
        Self { changes: state.access.changes() }
    }

    /// Waits until the caller may no longer listen, and says why.
    pub async fn over(&mut self, state: &ApiState, caller: &Caller) -> &'static str {
        loop {
            if !state.access.still_holds(caller) {
                return "the token does not hold any more";
            }
            let holds_for = state.access.holds_for(caller).unwrap_or(Duration::MAX);
            tokio::select! {
                () = state.stop.cancelled() => return "the service stops",
                changed = self.changes.changed() => if changed.is_err() { return "the service stops" },
                () = tokio::time::sleep(holds_for.min(KEEP_ALIVE)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::api::table::Operation;
    use crate::ledger::NewTask;
    use crate::ledger::Options;
    use crate::ledger::rows::LogLine;
    use crate::model::chat;
    use crate::model::task::task_for_tests;

    /// More than a reader is told of at once.
    const LINES: usize = 1_500;
    #[test]
    fn kinds_are_named_or_left_out() {
        let wanted = |kinds: &str| {
            let query = Query::parse(Some(&format!("kind={kinds}")), Operation::Stream.parameters()).unwrap();
            Wanted::of(&query, None).unwrap()
        };
        let heard = |kinds: &str| ["task.started", OUTPUT, "repo.pushed"].map(|kind| wanted(kinds).kind(kind));
        assert_eq!(heard("task.*"), [true, true, false]);
        assert_eq!(heard("!task.output"), [true, false, true]);
        assert_eq!(heard("task.*,!task.output"), [true, false, false]);
    }

    fn ledger(directory: &tempfile::TempDir) -> Ledger {
        Ledger::open(&directory.path().join("ledger.redb"), Options::default()).unwrap()
    }

    async fn message(feed: &mut Feed) -> Message {
        match feed.next().await {
            Next::Message(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_reader_who_was_too_slow_is_told_which_numbers_he_missed() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = ledger(&directory);
        ledger.note("a.first", None, String::new()).await.unwrap();
        let mut feed = Feed::new(&ledger, Wanted { since: Some(0), ..Wanted::default() });
        assert_eq!(message(&mut feed).await.seq, Some(1));
        // More than is kept happens while he looks away.
        for _ in 0..4 {
            let notes = (0..1_000).map(|n| ledger.note("a.b", None, n.to_string()));
            futures_util::future::join_all(notes).await;
        }
        let missed = message(&mut feed).await;
        let (from, to) = (missed.data["from"].as_u64().unwrap(), missed.data["to"].as_u64().unwrap());
        assert_eq!((missed.kind.as_str(), missed.seq, from), (MISSED, None, 2));
        let next = message(&mut feed).await;
        assert_eq!(next.seq, Some(to + 1), "what was missed ends where he goes on");
        assert!(to > 2_000, "{to}");
    }

    #[tokio::test]
    async fn a_reader_who_was_too_slow_for_output_is_told_so_and_goes_on_with_what_he_follows() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = ledger(&directory);
        let mut task = task_for_tests().spec;
        task.webhook = chat::webhook();
        let id = task.id;
        let new = NewTask { spec: task, lookup: None, reply: None, continues: None, says: None };
        ledger.create(new, &chat::provider(), jiff::Timestamp::UNIX_EPOCH).await.unwrap();
        let wanted = Wanted { kinds: vec![OUTPUT.to_owned()], task: Some(id), from: Some(0), ..Wanted::default() };
        let mut feed = Feed::new(&ledger, wanted);
        let line =
            |text: String| LogLine { at: jiff::Timestamp::UNIX_EPOCH, attempt: 1, kind: "agent".to_owned(), text };
        let appends = (0..LINES).map(|n| ledger.append_log(id, vec![line(format!("{n:05}"))]));
        futures_util::future::join_all(appends).await;
        let missed = message(&mut feed).await;
        assert_eq!(missed.kind, MISSED);
        assert!(missed.data["times"].as_u64().unwrap() > 0, "{missed:?}");
        let mut heard = Vec::new();
        for _ in 0..LINES {
            heard.push(message(&mut feed).await.data["text"].as_str().unwrap().to_owned());
        }
        heard.sort();
        let all: Vec<String> = (0..LINES).map(|n| format!("{n:05}")).collect();
        assert_eq!(heard, all, "of the task that he follows nothing is lost");
    }
}
