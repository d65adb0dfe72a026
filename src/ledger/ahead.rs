//! The rows that a batch will surely look at, so that a shared ledger can have them in one round trip.

use super::command::{Command, Job};
use super::encode::EncodedAccept;
use super::rows::Delivery;
use super::store::codec::Row as _;
use super::store::kept::{LiveRow, OutboxRow, PendingRow, SpecRow, TaskRow};
use super::store::shared::Key;
use crate::model::ids::TaskId;

pub fn wanted(jobs: &[Job]) -> Vec<Key> {
    let mut wanted = Vec::new();
    for job in jobs {
        match &job.command {
            Command::Accept(accept) => of_delivery(accept, &mut wanted),
            Command::Create { task, .. } => wanted.push((TaskRow::TABLE, task.id.as_bytes().to_vec())),
            Command::Finish { task, .. }
            | Command::Checked { task, .. }
            | Command::Cancel { task, .. }
            | Command::Redrive { task, .. }
            | Command::Decide { task, .. } => of_task(*task, &mut wanted),
            Command::OutboxDone(done) => wanted.push((PendingRow::TABLE, done.id.as_bytes().to_vec())),
            // What these look at depends on what is next, or is too seldom to matter.
            _ => {}
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

fn of_delivery(accept: &EncodedAccept, wanted: &mut Vec<Key>) {
    wanted.push((Delivery::TABLE, accept.id.as_bytes().to_vec()));
    wanted.extend(accept.tasks.iter().map(|task| (TaskRow::TABLE, task.id.as_bytes().to_vec())));
    let calls = accept.outbox.iter().chain(accept.tasks.iter().flat_map(|task| &task.calls));
    wanted.extend(calls.map(|call| (OutboxRow::TABLE, call.key.clone())));
}

fn of_task(task: TaskId, wanted: &mut Vec<Key>) {
    for table in [LiveRow::TABLE, SpecRow::TABLE] {
        wanted.push((table, task.as_bytes().to_vec()));
    }
}
