//! From a plan to the one transition that the ledger makes of it.

use bytes::Bytes;
use jiff::Timestamp;

use super::Arrived;
use crate::ledger::rows::{DecidedItem, DedupeKey, Delivery, OutboxItem, OutboxState, Outcome, Purpose, RawRequest};
use crate::ledger::{Accept, NewTask};
use crate::model::ids::{OutboxId, TaskId};
use crate::model::intake::{self, Plan};
use crate::seam::fresh_id;

pub(super) fn accept(arrived: &Arrived, plan: Plan, body: Bytes, peer: &str, scheme: Option<String>) -> Accept {
    let Arrived { routes, route, incoming, now, .. } = arrived;
    let tasks: Vec<TaskId> = plan.tasks.iter().map(|task| task.spec.id).collect();
    let outbox = plan.acks.into_iter().map(|ack| OutboxItem {
        id: OutboxId(fresh_id()),
        webhook: route.spec.id.clone(),
        provider: route.spec.provider.clone(),
        delivery: Some(plan.delivery),
        task: tasks.first().copied(),
        purpose: if ack.whole { Purpose::Reply } else { Purpose::Ack },
        call: ack.call,
        text: ack.text,
        part: 0,
        parts: 1,
        state: OutboxState::Waiting,
        attempts: 0,
        not_before: *now,
        created_at: *now,
        updated_at: *now,
        error: None,
        url: None,
    });
    Accept {
        outbox: outbox.collect(),
        dedupe: (plan.dedupe.iter())
            .map(|key| DedupeKey { key: key.key, expires_at: now.checked_add(key.kept).unwrap_or(Timestamp::MAX) })
            .collect(),
        delivery: Delivery {
            id: plan.delivery,
            webhook: route.spec.id.clone(),
            provider: route.spec.provider.clone(),
            generation: route.generation,
            revision: routes.revision,
            index_digest: routes.index_digest,
            received_at: *now,
            peer: peer.to_owned(),
            scheme,
            body_bytes: body.len() as u64,
            outcome: if tasks.is_empty() { Outcome::Ignored } else { Outcome::Accepted },
            items: vec![DecidedItem { event: plan.event, decision: plan.decision }],
            tasks,
        },
        request: RawRequest {
            method: incoming.method.clone(),
            url: intake::stored_url(&incoming.url),
            headers: intake::stored_headers(&incoming.headers),
            body,
        },
        tasks: (plan.tasks.into_iter())
            .map(|task| NewTask {
                spec: task.spec,
                lookup: task.lookup,
                reply: task.reply,
                continues: task.continues,
                says: task.says,
            })
            .collect(),
    }
}
