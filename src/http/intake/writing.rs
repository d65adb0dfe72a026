//! One plan on its way into the ledger: what it continues, what a thread may still start, and the write.

use std::time::Duration;

use super::{Arrived, BATCH_COPIES_BYTES_MAX, Intake, Written, transition};
use crate::error::{Code, Result};
use crate::http::breaker::{Open, WINDOW};
use crate::http::exchange::Head;
use crate::ledger::rows::Outcome;
use crate::ledger::{Accept, Accepted, TaskFilter};
use crate::model::ids::TaskId;
use crate::model::intake::{self, Plan, PlannedAck};
use crate::seam::fresh_id;

/// Newest tasks of a webhook that a `status` looks through.
const STANDING_TASKS_MAX: usize = 500;
/// Newest tasks that are looked through at the start.
const REMEMBERED_MAX: usize = 2_000;

impl Intake {
    pub(super) async fn write_one(
        &self,
        arrived: &Arrived,
        head: &Head,
        mut plan: Plan,
        (scheme, plans): (Option<String>, usize),
    ) -> Result<Written> {
        self.go_on(arrived, &mut plan).await?;
        self.hold_back(&mut plan);
        let copies = arrived.incoming.body.len().saturating_mul(plans) <= BATCH_COPIES_BYTES_MAX || plans == 1;
        let body = if copies { arrived.incoming.body.clone() } else { plan.part.clone() };
        let mut written = Written::of(&plan);
        let runs = plan.tasks.iter().filter(|task| task.says.is_none()).count();
        let thread = plan.tasks.first().map(|task| task.spec.source.flow_id.clone());
        let accept = transition::accept(arrived, plan, body, &head.arrival.peer.host(), scheme);
        match self.accept(accept).await? {
            (Accepted::Duplicate { of }, _) => written.duplicate_of = Some(of),
            (Accepted::Fresh, true) => {
                if let Some(thread) = thread {
                    self.breaker.count(&thread, runs);
                }
            }
            (Accepted::Fresh, false) => {
                written.tasks.clear();
                written.ignored = Some("somebody else's answer came first".to_owned());
            }
        }
        Ok(written)
    }

    /// Counts the runs that threads have started before this process began.
    ///
    /// # Errors
    /// SH0601 when the ledger cannot be read.
    pub async fn remember_threads(&self) -> Result<()> {
        let now = self.clock.now();
        let (mut recent, mut before) = (Vec::new(), None);
        while recent.len() < REMEMBERED_MAX {
            let page = self.ledger.tasks(TaskFilter { before, ..TaskFilter::default() }).await?;
            before = page.last().map(|task| task.spec.id);
            let ended = page.is_empty();
            let young = page.into_iter().filter_map(|task| {
                let ago = Duration::try_from(now.duration_since(task.spec.created_at)).unwrap_or_default();
                (ago < WINDOW).then_some((task.spec.source.flow_id, task.spec.action.runs_agent(), ago))
            });
            let counted = recent.len();
            recent.extend(young);
            if ended || recent.len() == counted {
                break;
            }
        }
        for (thread, _, ago) in recent.iter().rev().filter(|(_, runs, _)| *runs) {
            self.breaker.remember(thread, *ago);
        }
        Ok(())
    }

    /// A task may wait for just these words.
    async fn go_on(&self, arrived: &Arrived, plan: &mut Plan) -> Result<()> {
        let Some(message) = plan.message.take() else { return Ok(()) };
        let asked = self.ledger.asking(&arrived.route.spec.id, &message.source.conversation_id).await?;
        if let Some(asked) = asked {
            intake::go_on(plan, &asked, message, TaskId(fresh_id()), arrived.now);
        }
        Ok(())
    }

    /// Nothing that runs an agent is started in a thread that has started too much, and that is said there once.
    fn hold_back(&self, plan: &mut Plan) {
        let Some(task) = plan.tasks.iter().find(|task| task.says.is_none()) else { return };
        let Err(open) = self.breaker.check(&task.spec.source.flow_id) else { return };
        let said = said(open);
        let call = task.reply.clone().filter(|_| open.first);
        // A mark of its own, by which the gateway knows its own words.
        let text = call.as_ref().and_then(|call| {
            let messages = intake::says::messages(call, &task.spec.prefixes, &said, TaskId(fresh_id()));
            messages.ok()?.into_iter().next()
        });
        plan.acks = call.zip(text).map(|(call, text)| PlannedAck { call, text, whole: true }).into_iter().collect();
        plan.tasks.retain(|task| task.says.is_some());
        let left: Vec<_> = plan.tasks.iter().map(|task| task.spec.command.clone()).collect();
        plan.decision.selected.retain(|one| left.contains(&one.command));
        for rule in plan.decision.rules.iter_mut().filter(|rule| rule.matched && !left.contains(&rule.command)) {
            rule.matched = false;
            rule.why = format!("{}, but the thread has started too many runs", rule.why);
        }
        if plan.tasks.is_empty() {
            plan.decision.ignored = Some(said);
            plan.response = None;
        }
    }

    /// Whether it was taken as it is: a task that waits may have been answered in between, and then the delivery is
    /// kept without its part.
    async fn accept(&self, accept: Accept) -> Result<(Accepted, bool)> {
        if accept.tasks.iter().all(|task| task.continues.is_none()) {
            return Ok((self.ledger.accept(accept).await?, true));
        }
        let mut plain = accept.clone();
        match self.ledger.accept(accept).await {
            Err(error) if error.code() == Code::WrongState => {
                plain.tasks.clear();
                plain.outbox.clear();
                plain.delivery.tasks.clear();
                plain.delivery.outcome = Outcome::Ignored;
                Ok((self.ledger.accept(plain).await?, false))
            }
            other => Ok((other?, true)),
        }
    }

    /// What runs and waits in a flow, in words.
    pub(super) async fn standing(&self, arrived: &Arrived, flow: &str) -> Result<String> {
        let webhook = Some(arrived.route.spec.id.clone());
        let filter = TaskFilter { webhook, limit: STANDING_TASKS_MAX, ..TaskFilter::default() };
        let tasks = self.ledger.tasks(filter).await?;
        Ok(intake::says::standing(tasks.iter().filter(|task| task.spec.source.flow_id == flow)))
    }
}

fn said(open: Open) -> String {
    let Open { runs, minutes, .. } = open;
    format!(
        "Nothing more is started here for now: this conversation has started {runs} runs within an hour, which looks \
         like two programs answering each other. It can go on in {minutes} min."
    )
}
