//! Budgets of a day: how many runs a webhook, and all together, may begin, and what those may cost. Days are those of
//! UTC. A run that is under way when the money runs out goes on; the next one does not begin.

use jiff::{SignedDuration, Timestamp};

use super::{Ledgers, Step};
use crate::error::Code;
use crate::ledger::command::Reserve;
use crate::ledger::store::Failure;
use crate::ledger::store::kept::SpendRow;
use crate::model::ids::WebhookId;
use crate::model::task::{DailyBudget, Reason};

/// Under this name stands what all webhooks used together; it is no id of one.
pub const ALL: &str = "*";
/// What was used longer ago is forgotten.
const KEPT_DAYS: i64 = 40;
/// Most rows that one run forgets.
const FORGOTTEN_MAX: usize = 64;

impl Ledgers<'_, '_> {
    pub(super) fn reserve(&mut self, reserve: &Reserve) -> Step<Option<Reason>> {
        let Reserve { task, webhook, of_webhook, of_all, now } = reserve;
        let mut live = match task {
            Some(task) => self.tables.live.get(task.as_bytes())?,
            None => None,
        };
        if live.as_ref().is_some_and(|live| live.task.counted) {
            return Ok(None);
        }
        let places = [(webhook.as_str(), of_webhook, "this webhook"), (ALL, of_all, "this service")];
        for (name, budget, whose) in places {
            if let Some(refusal) = refusal(&self.spent(name, *now)?, budget, whose) {
                return Ok(Some(refusal));
            }
        }
        for (name, ..) in places {
            self.spend(name, *now, SpendRow { runs: 1, usd: 0.0 })?;
        }
        if let (Some(task), Some(live)) = (task, &mut live) {
            live.task.counted = true;
            self.tables.live.put(task.as_bytes(), live)?;
        }
        self.forget_spending(*now)?;
        Ok(None)
    }

    pub(super) fn charge(&mut self, webhook: &WebhookId, usd: f64, now: Timestamp) -> Step<()> {
        let usd = if usd.is_finite() { usd.max(0.0) } else { 0.0 };
        for name in [webhook.as_str(), ALL] {
            self.spend(name, now, SpendRow { runs: 0, usd })?;
        }
        Ok(())
    }

    /// A row that is damaged counts as nothing used: the next one puts it right.
    fn spent(&self, name: &str, now: Timestamp) -> Step<SpendRow> {
        match self.tables.spend.get(&key(name, now)) {
            Ok(row) => Ok(row.unwrap_or_default()),
            Err(Failure::Refused(_)) => Ok(SpendRow::default()),
            Err(storage) => Err(storage),
        }
    }

    fn spend(&mut self, name: &str, now: Timestamp, more: SpendRow) -> Step<()> {
        let so_far = self.spent(name, now)?;
        let row = SpendRow { runs: so_far.runs.saturating_add(more.runs), usd: so_far.usd + more.usd };
        self.tables.spend.put(&key(name, now), &row)
    }

    fn forget_spending(&mut self, now: Timestamp) -> Step<()> {
        let before = now.checked_sub(SignedDuration::from_hours(24 * KEPT_DAYS)).unwrap_or(Timestamp::MIN);
        let oldest = key("", before);
        for key in self.tables.spend.keys_under(&[], FORGOTTEN_MAX)? {
            if key >= oldest {
                break;
            }
            self.tables.spend.remove(&key)?;
        }
        Ok(())
    }
}

/// `2026-11-28/github`: days sort as they pass.
pub fn key(name: &str, now: Timestamp) -> Vec<u8> {
    format!("{}/{name}", now.strftime("%Y-%m-%d")).into_bytes()
}

fn refusal(spent: &SpendRow, budget: &DailyBudget, whose: &str) -> Option<Reason> {
    let message = match (budget.runs, budget.usd) {
        (Some(runs), _) if spent.runs >= runs => {
            format!("the {runs} runs that {whose} may begin in one day are used up")
        }
        (_, Some(usd)) if spent.usd >= usd => {
            format!("the {usd:.2} US dollars that {whose} may spend in one day are used up")
        }
        _ => return None,
    };
    let message = format!("{message}; ask again tomorrow (UTC), or have the budget raised");
    Some(Reason { code: Code::BudgetSpent, message })
}
