//! A damaged file is put aside untouched, and what is readable in it is taken over into a new one.
//!
//! Reading happens on a copy, because even opening may change a file. Each row proves itself by its checksum, which
//! covers its key and table, so nothing wrong comes over; what does not come over stays in the file put aside.
//! Afterwards the rows that can be derived are made anew: the queue from the tasks, the pending calls from the outbox.

use std::fs;
use std::ops::Bound;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use redb::{Database, ReadableDatabase as _};

use super::codec::{self, Row};
use super::database::{create_draft, finish_draft, with_suffix};
use super::engine::Transaction;
use super::kept::{
    BodyRow, CallRow, ConversationRow, DedupeRow, HappeningRow, LiveRow, LogRow, LogSizeRow, OutboxRow, PendingRow,
    SpecRow, TaskRow,
};
use super::tables::{DeadMark, Entry, Reader, Rows, Tables, TaskOf, Writing, join};
use super::{Failure, damaged_file};
use crate::error::{Code, Context as _, Error, Result};
use crate::ledger::rows::{Delivery, Generation, KeptAnswer, Suspension, Token};
use crate::model::task::{Reason, TaskState};

/// Rows and bytes of one commit of the new file.
const ROWS_A_COMMIT: usize = 5_000;
const BYTES_A_COMMIT: usize = 32 * 1024 * 1024;

/// What became of a damaged file.
#[derive(Clone, Debug)]
pub struct Salvage {
    /// Where the damaged file is now, as it was.
    pub aside: PathBuf,
    /// Rows that came over.
    pub rows: usize,
    /// Rows that were seen and are damaged; others may not even have been seen.
    pub damaged: usize,
    pub error: Error,
}

/// Puts `path` aside and makes a new file in its place.
pub fn salvage(path: &Path, cache_bytes: usize, error: Error, now: Timestamp) -> Result<Salvage> {
    let cannot = "the damaged ledger cannot be put aside";
    let copy = with_suffix(path, ".copy");
    let draft = create_draft(path, cache_bytes)?;
    let mut salvage = Salvage { aside: free_name(path, now), rows: 0, damaged: 0, error };
    fs::copy(path, &copy).context(Code::LedgerUnavailable, cannot)?;
    if let Err(error) = take_over(&copy, &draft, cache_bytes, now, &mut salvage) {
        // Not even the beginning can be read: the new ledger stays as empty as it is.
        tracing::error!(error = %error.internal(), "nothing more can be salvaged");
    }
    mend(&draft, now).map_err(Failure::into_error)?;
    draft.close().context(Code::LedgerUnavailable, cannot)?;
    fs::remove_file(&copy).context(Code::LedgerUnavailable, cannot)?;
    fs::rename(path, &salvage.aside).context(Code::LedgerUnavailable, cannot)?;
    finish_draft(path)?;
    Ok(salvage)
}

fn free_name(path: &Path, now: Timestamp) -> PathBuf {
    let stamp = now.strftime("%Y%m%dT%H%M%SZ");
    let name = |number: u32| match number {
        0 => with_suffix(path, &format!(".damaged-{stamp}")),
        number => with_suffix(path, &format!(".damaged-{stamp}-{number}")),
    };
    (0..).map(name).find(|name| !name.exists()).unwrap_or_else(|| with_suffix(path, ".damaged"))
}

fn take_over(
    copy: &Path,
    draft: &Database,
    cache_bytes: usize,
    now: Timestamp,
    salvage: &mut Salvage,
) -> Result<(), Error> {
    tracing::info!(at = %now, "salvaging the ledger");
    let opened = guarded(|| {
        let damaged = Database::builder().set_cache_size(cache_bytes).open(copy);
        let damaged = damaged.map_err(|error| Failure::from(damaged_file(error)))?;
        let reader = Reader::File(damaged.begin_read()?);
        Ok((damaged, reader))
    });
    let (damaged, reader) = opened.map_err(Failure::into_error)?;
    macro_rules! tables {
        ($($field:ident: $row:ty,)*) => {$(
            copy_table::<$row>(&reader, draft, salvage, |tables| &mut tables.$field)?;
        )*};
    }
    tables! {
        deliveries: Delivery, bodies: BodyRow, dedupe: DedupeRow, tasks: TaskRow, specs: SpecRow, live: LiveRow,
        dead: DeadMark, tasks_of: TaskOf, outbox: OutboxRow, calls: CallRow, pending: PendingRow,
        conversations: ConversationRow, generations: Generation, happenings: HappeningRow, logs: LogRow,
        log_sizes: LogSizeRow, tokens: Token, answers: KeptAnswer, suspended: Suspension,
    }
    drop(reader);
    // Its state no longer matters, and closing it may meet the damage again.
    let _ = guarded(|| {
        drop(damaged);
        Ok(())
    });
    Ok(())
}

/// Forwards until something cannot be read, then backwards from the end until the same place.
fn copy_table<R: Row>(
    reader: &Reader,
    draft: &Database,
    salvage: &mut Salvage,
    table: impl for<'a, 't> Fn(&'a mut Tables<'t>) -> &'a mut Rows<Writing<'t>, R>,
) -> Result<()> {
    for direction in [Direction::Forwards, Direction::Backwards] {
        let mut from = None;
        loop {
            let some = some_rows::<R>(reader, direction, from.as_deref());
            put_rows(draft, &some.rows, salvage, &table).map_err(Failure::into_error)?;
            match some.end {
                End::OfTable => return Ok(()),
                End::Unreadable => break,
                End::OfBudget => from = some.rows.into_iter().last().map(|(key, _)| key),
            }
        }
    }
    Ok(())
}

fn put_rows<R: Row>(
    draft: &Database,
    rows: &[EncodedRow],
    salvage: &mut Salvage,
    table: &impl for<'a, 't> Fn(&'a mut Tables<'t>) -> &'a mut Rows<Writing<'t>, R>,
) -> Result<(), Failure> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut transaction = draft.begin_write()?;
    // The last commit, which mends, makes them all durable.
    transaction.set_durability(redb::Durability::None).map_err(damaged_file)?;
    let transaction = Transaction::File(Box::new(transaction));
    {
        let mut tables = Tables::open(&transaction)?;
        for (key, row) in rows {
            match row {
                Some(row) if !table(&mut tables).has(key)? => {
                    table(&mut tables).put_encoded(key, row)?;
                    salvage.rows += 1;
                }
                Some(_) => {}
                None => salvage.damaged += 1,
            }
        }
    }
    transaction.commit(0, 0)
}

#[derive(Clone, Copy)]
enum Direction {
    Forwards,
    Backwards,
}

/// A key and its row as it is written; `None` for a row that is damaged.
type EncodedRow = (Vec<u8>, Option<Vec<u8>>);

struct SomeRows {
    rows: Vec<EncodedRow>,
    end: End,
}

enum End {
    OfTable,
    OfBudget,
    Unreadable,
}

/// Rows beyond the key `from`, as many as one commit may have.
fn some_rows<R: Row>(reader: &Reader, direction: Direction, from: Option<&[u8]>) -> SomeRows {
    let (mut rows, mut bytes_left) = (Vec::new(), BYTES_A_COMMIT);
    let read = guarded(|| {
        let table = reader.rows::<R>()?;
        let beyond = from.map_or(Bound::Unbounded, Bound::Excluded);
        let mut entries: Box<dyn Iterator<Item = Entry<R>>> = match direction {
            Direction::Forwards => Box::new(table.range(beyond, Bound::Unbounded)?),
            Direction::Backwards => Box::new(table.range(Bound::Unbounded, beyond)?.rev()),
        };
        while rows.len() < ROWS_A_COMMIT && bytes_left > 0 {
            let Some(entry) = entries.next() else { return Ok(End::OfTable) };
            let (key, row) = entry?;
            let row = row.ok().map(|row| codec::encode(&key, &row)).transpose()?;
            bytes_left = bytes_left.saturating_sub(row.as_ref().map_or(0, Vec::len));
            rows.push((key, row));
        }
        Ok(End::OfBudget)
    });
    SomeRows { rows, end: read.unwrap_or(End::Unreadable) }
}

fn guarded<T>(read: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    std::panic::catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(damaged_file("redb could not make sense of it").into()))
}

/// Makes anew what can be derived from what came over.
fn mend(draft: &Database, now: Timestamp) -> Result<(), Failure> {
    let transaction = Transaction::File(Box::new(draft.begin_write()?));
    {
        let mut tables = Tables::open(&transaction)?;
        mend_tasks(&mut tables, now)?;
        mend_outbox(&mut tables, now)?;
    }
    transaction.commit(0, 0)
}

/// A task of which only its birth is left becomes a dead letter: whether it ran is not known.
fn mend_tasks(tables: &mut Tables<'_>, now: Timestamp) -> Result<(), Failure> {
    for key in tables.specs.keys_under(&[], usize::MAX)? {
        let Some(spec) = tables.specs.get(&key)?.map(|row| row.spec) else { continue };
        if let Some(delivery) = spec.delivery {
            tables.tasks_of.put(&join(delivery.as_bytes(), &key), &TaskOf)?;
        }
        if tables.live.has(&key)? {
            continue;
        }
        let row = match tables.tasks.get(&key)? {
            Some(row) => row,
            None => {
                let message = "what became of the task was lost with the ledger's damage".to_owned();
                let reason = Reason { code: Code::LedgerDamaged, message };
                let row = TaskRow::lost(&spec, reason, now);
                tables.tasks.put(&key, &row)?;
                row
            }
        };
        if row.state == TaskState::Dead {
            tables.dead.put(&key, &DeadMark)?;
        }
    }
    Ok(())
}

/// A call of which only its birth is left may have gone out or not.
fn mend_outbox(tables: &mut Tables<'_>, now: Timestamp) -> Result<(), Failure> {
    for key in tables.calls.keys_under(&[], usize::MAX)? {
        let Some(CallRow(item)) = tables.calls.get(&key)? else { continue };
        let id = *item.id.as_bytes();
        if !tables.outbox.has(&key)? && !tables.pending.has(&id)? {
            tables.pending.put(&id, &PendingRow::in_doubt(&item, now))?;
        }
    }
    Ok(())
}
