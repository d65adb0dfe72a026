//! `status`, `reconcile` and `events`: how the running server is, and what it does.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::client::{Client, DEADLINE, Route};
use super::context::{Context, duration};
use super::exit::Exit;
use super::get::items_of;
use super::output::{Output, STRONG, harmless};
use super::sheet;
use crate::error::{Code, Error, Result};
use crate::model::diagnostic::Diagnostic;
use crate::seam::Clock;

/// Between two questions while something is waited for.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// Events that are shown when nothing says since when.
const RECENT: usize = 50;

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 ready, 1 not ready, 5 not ready in time (--wait), 6 no server answers.

Examples:
  skillhook status
  skillhook status --wait --timeout 30s
  skillhook status -o json")]
pub struct Status {
    /// Wait until the server is there and ready
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    timeout: Duration,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The server looks at the files by itself when they change; this asks it to look now.

Examples:
  skillhook reconcile --wait
  skillhook reconcile --with-source --wait
  skillhook reconcile --wait --allow-prune")]
pub struct Reconcile {
    /// Wait until the pass has been applied
    #[arg(long)]
    wait: bool,
    /// Fetch from the remote first, and pull what is new there
    #[arg(long)]
    with_source: bool,
    /// Confirm that a large deletion of skills or agents is meant
    #[arg(long)]
    allow_prune: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    timeout: Duration,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skillhook events
  skillhook events -w
  skillhook events --since 1h -o json")]
pub struct Events {
    /// Stay and show what happens
    #[arg(short, long)]
    watch: bool,
    /// Begin after this number, or so long ago (`10m`, `1h`); without it, the last 50 are shown
    #[arg(long, value_name = "NUMBER|DURATION", value_parser = since)]
    since: Option<Since>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Number(u64),
    Ago(Duration),
}

fn since(text: &str) -> Result<Since, String> {
    match text.parse() {
        Ok(number) => Ok(Since::Number(number)),
        Err(_) => duration(text).map(Since::Ago),
    }
}

impl Status {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let client = context.client()?;
        let begun = Instant::now();
        loop {
            let asked = client.get(Route::api(&["status"]), DEADLINE).await;
            let late = begun.elapsed() >= self.timeout;
            match asked {
                Ok(status) if is_ready(&status) || !self.wait => {
                    context.output.record(&status);
                    return Ok(if is_ready(&status) { Exit::Done } else { Exit::Difference });
                }
                Ok(status) if late => {
                    context.output.record(&status);
                    context.output.error(&Error::new(Code::TimedOut, "the server is not ready yet"));
                    return Ok(Exit::TimedOut);
                }
                Err(error) if !self.wait || late || !may_pass(&error) => return Err(error),
                Ok(_) | Err(_) => tokio::time::sleep(ASK_EVERY).await,
            }
        }
    }
}

fn is_ready(status: &Value) -> bool {
    status["ready"].as_bool().unwrap_or(false)
}

/// Whether it may be over in a moment: the server is starting or restarting.
fn may_pass(error: &Error) -> bool {
    matches!(error.code(), Code::ServerAway | Code::NotReady | Code::TimedOut)
}

impl Reconcile {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let config = context.config()?;
        let client = context.client()?;
        let begun = Instant::now();
        let report = loop {
            let route = Route::api(&["reconcile"]).with("wait", self.wait);
            let route = route.with_some("allow_prune", self.allow_prune.then_some(true));
            let route = route.with_some("with_source", self.with_source.then_some(true));
            let left = self.timeout.saturating_sub(begun.elapsed());
            match client.post(route, if self.wait { left } else { DEADLINE }).await {
                // The server holds a question back for a limited time.
                Err(error) if error.code() == Code::TimedOut && begun.elapsed() < self.timeout => {}
                answered => break answered?,
            }
        };
        context.output.record(&report);
        let found: Vec<Diagnostic> = serde_json::from_value(report["diagnostics"].clone()).unwrap_or_default();
        context.output.diagnostics(&found, &config.root);
        if let Some(held) = report["held"].as_str() {
            context.output.error(
                &Error::new(Code::PruneHeld, held)
                    .hint("if the deletion is meant, run `skillhook reconcile --allow-prune`"),
            );
            return Ok(Exit::Refused);
        }
        Ok(if found.iter().any(Diagnostic::is_error) { Exit::Usage } else { Exit::Done })
    }
}

impl Events {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let client = context.client()?;
        let (mut seq, not_before) = match self.since {
            Some(Since::Number(number)) => (number, None),
            Some(Since::Ago(ago)) => {
                let ago = SignedDuration::try_from(ago).unwrap_or(SignedDuration::MAX);
                (0, Some(Clock::System.now().checked_sub(ago).unwrap_or(Timestamp::MIN)))
            }
            None => (0, None),
        };
        let keep = if self.since.is_none() { RECENT } else { usize::MAX };
        let mut past = VecDeque::new();
        loop {
            let page = page(&client, &mut seq).await?;
            if page.is_empty() {
                break;
            }
            past.extend(page.into_iter().filter(|event| not_before.is_none_or(|from| at(event) >= Some(from))));
            past.drain(..past.len().saturating_sub(keep));
        }
        past.iter().for_each(|event| print(&context.output, event));
        if !self.watch {
            return Ok(Exit::Done);
        }
        // What an agent says is in the log of its task.
        let mut happening = client.follow(Route::api(&["stream"]).with("since", seq)).await?;
        while let Some(told) = happening.next().await? {
            match told.kind.as_str() {
                "task.output" => {}
                "stream.missed" => context.output.note(&format!("some of it was missed: {}", told.data)),
                "stream.ended" => break,
                _ => print(&context.output, &told.data),
            }
            if context.output.is_closed() {
                break;
            }
        }
        Ok(Exit::Done)
    }
}

/// What happened after `seq`, which moves on.
async fn page(client: &Client, seq: &mut u64) -> Result<Vec<Value>> {
    let (events, _) = items_of(client.get(Route::api(&["events"]).with("since", *seq), DEADLINE).await?);
    let last = events.last().and_then(|event| event["seq"].as_u64());
    *seq = last.map_or(*seq, |last| last.max(*seq));
    Ok(events)
}

fn at(event: &Value) -> Option<Timestamp> {
    event["at"].as_str()?.parse().ok()
}

fn print(output: &Output, event: &Value) {
    if output.format.is_machine() {
        // One object a line: there is no end to wait for.
        output.line(&event.to_string());
        return;
    }
    let said = |key: &str| harmless(&sheet::text(&event[key]));
    let at = at(event).map_or_else(String::new, |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string());
    let about: Vec<String> =
        ["webhook", "delivery", "task"].map(said).into_iter().filter(|about| !about.is_empty()).collect();
    output.line(&format!("{at}  {STRONG}{:<20}{STRONG:#} {}  {}", said("kind"), about.join(" "), said("message")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Format;
    use crate::cli::output::tests::buffered;
    use serde_json::json;

    #[test]
    fn since_is_a_number_or_a_duration() {
        assert_eq!(since("17"), Ok(Since::Number(17)));
        assert_eq!(since("10m"), Ok(Since::Ago(Duration::from_secs(600))));
        since("yesterday").unwrap_err();
    }

    #[test]
    fn an_event_is_one_line() {
        let (output, out, _) = buffered(Format::Table);
        let event = json!({
            "seq": 3, "at": "2026-01-02T03:04:05.678Z", "kind": "task.completed",
            "webhook": "github", "delivery": null, "task": "tsk_1", "message": "review\nsucceeded",
        });
        print(&output, &event);
        assert_eq!(out.text(), "2026-01-02 03:04:05Z  task.completed       github tsk_1  review succeeded\n");
    }
}
