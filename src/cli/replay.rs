//! `replay`: deliveries sent again. What would happen is shown first; it happens with `-y` or after a question.

use std::time::Duration;

use clap::Args;
use hyper::Method;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::client::{DEADLINE, Route};
use super::context::{Context, duration};
use super::exit::Exit;
use super::get::items_of;
use super::output::harmless;
use crate::error::{Code, Error, Result};
use crate::seam::Clock;

#[derive(Debug, Args)]
#[command(after_help = "\
A delivery is taken in once more, with the webhooks of now: what was ignored then may run now. Answers go to the source
again. Without -y it is counted and tried first, and then asked.

Examples:
  skillhook replay dlv_0197a3c0de7d7f0b8a5d3c2b1a098765 --dry-run
  skillhook replay --webhook github --since 1h --ignored
  skillhook replay --webhook github --since 2d -y")]
pub struct Replay {
    /// Ids of deliveries
    deliveries: Vec<String>,
    /// Those of this webhook
    #[arg(long, value_name = "ID")]
    webhook: Option<String>,
    /// Those that came within this time
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    since: Option<Duration>,
    /// Only those that nothing came of
    #[arg(long)]
    ignored: bool,
    /// At most so many, the newest
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
    /// Only show what would happen
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Replay {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let client = context.client()?;
        let deliveries: Vec<&str> =
            self.deliveries.iter().map(|id| id.strip_prefix("delivery/").unwrap_or(id)).collect();
        let since = self.since.map(|since| {
            let since = SignedDuration::try_from(since).unwrap_or(SignedDuration::MAX);
            Clock::System.now().checked_sub(since).unwrap_or(jiff::Timestamp::MIN)
        });
        let mut body = json!({
            "deliveries": deliveries,
            "webhook": self.webhook,
            "since": since,
            "outcome": self.ignored.then_some("ignored"),
            "limit": self.limit,
            "dry_run": true,
        });
        let route = || Route::api(&["deliveries", "replay"]);
        let tried = client.send(Method::POST, route(), &body, DEADLINE).await?;
        let (items, _) = items_of(tried.clone());
        if items.is_empty() {
            return Err(
                Error::new(Code::NotFound, "there is no such delivery").hint("`skillhook get deliveries` lists them")
            );
        }
        if self.dry_run {
            context.output.value(&tried, |_| items.iter().map(|item| format!("{}\n", would(item))).collect());
            return Ok(Exit::Done);
        }
        if !self.yes {
            items.iter().for_each(|item| context.output.note(&would(item)));
            if !context.output.confirmed(&format!("Send {} deliveries again?", items.len()))? {
                context.output.note("nothing was done");
                return Ok(Exit::Refused);
            }
        }
        // Those that were shown, and no others.
        let shown: Vec<&Value> = items.iter().map(|item| &item["delivery"]).collect();
        body = json!({ "deliveries": shown, "dry_run": false });
        let done = client.send(Method::POST, route(), &body, DEADLINE).await?;
        let (items, _) = items_of(done.clone());
        let failed = items.iter().any(|item| item["error"].is_object());
        context.output.value(&done, |_| items.iter().map(|item| format!("{}\n", became(item))).collect());
        Ok(if failed { Exit::Difference } else { Exit::Done })
    }
}

/// `delivery/ID github: analyze, plan`.
fn would(item: &Value) -> String {
    let plans = item["would"].as_array().map(Vec::as_slice).unwrap_or_default();
    let commands = plans.iter().flat_map(|plan| plan["tasks"].as_array().into_iter().flatten());
    let commands: Vec<&str> = commands.filter_map(|task| task["command"].as_str()).collect();
    let what = if commands.is_empty() { "nothing would run".to_owned() } else { commands.join(", ") };
    line(item, &what)
}

/// `delivery/ID github: again as ID, 1 tasks`.
fn became(item: &Value) -> String {
    let again = item["again"].as_array().map(Vec::as_slice).unwrap_or_default();
    let told = again.iter().map(|one| {
        let tasks = one["tasks"].as_array().map_or(0, Vec::len);
        format!("again as {}, {tasks} tasks", one["delivery"].as_str().unwrap_or_default())
    });
    line(item, &told.collect::<Vec<_>>().join("; "))
}

fn line(item: &Value, what: &str) -> String {
    let said = |key: &str| harmless(item[key].as_str().unwrap_or_default());
    let what = match item["error"]["message"].as_str() {
        Some(message) => harmless(message),
        None => harmless(what),
    };
    format!("delivery/{} {}: {what}", said("delivery"), said("webhook"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_happen_is_one_line() {
        let item = json!({ "delivery": "dlv_1", "webhook": "github", "would": [{ "tasks": [{ "command": "plan" }] }] });
        assert_eq!(would(&item), "delivery/dlv_1 github: plan");
        let nothing = json!({ "delivery": "dlv_1", "webhook": "github", "would": [{ "tasks": [] }] });
        assert_eq!(would(&nothing), "delivery/dlv_1 github: nothing would run");
        let error = json!({ "delivery": "dlv_1", "webhook": "github", "error": { "message": "gone\u{1b}[0m" } });
        assert!(would(&error).starts_with("delivery/dlv_1 github: gone") && !would(&error).contains('\u{1b}'));
    }
}
