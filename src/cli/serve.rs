//! `up` and `demo`: the service itself, until somebody stops it.

use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::context::{Context, duration};
use super::exit::Exit;
use crate::app::{self, Service};
use crate::demo;
use crate::error::{Code, Context as _, Error, Result};
use crate::reconcile::activator::Scope;
use crate::telemetry::log;

/// What outlives its deadline after the end (a fetch that never answers) is not waited for longer than this.
const LEFTOVERS: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(after_help = "\
Serves until SIGTERM or Ctrl-C, then lets running work end; a second signal stops at once. SIGHUP looks at the \
files again. Logs go to standard error.

Examples:
  skillhook up
  skillhook up --listen 0.0.0.0:8080
  skillhook up --role receiver --role api
  GITHUB_WEBHOOK_SECRET=… skillhook up --root ~/work/project")]
pub struct Up {
    /// Where providers deliver to [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The admin API, health and metrics; beyond loopback only once a token was made [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// What this node does, where several share a ledger: receiver, worker, reconciler or api; may be given several
    /// times [default: all of them]
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Look at everything at least this often [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    poll: Option<Duration>,
    /// How long running work may take to end after a stop was asked for [default: 8s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    drain: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Lays a repository, a bare remote and a stand-in for the GitHub API into a temporary directory, starts the \
service on them, edits a skill, sends a signed delivery, runs an agent and shows its answer. Nothing outside is \
touched. With `claude` installed and its credentials set the agent is real, otherwise a built-in script.

Examples:
  skillhook demo
  skillhook demo --once")]
pub struct Demo {
    /// End after one round instead of staying up
    #[arg(long)]
    once: bool,
}

impl Up {
    pub fn run(self, context: &Context) -> Result<Exit> {
        let mut overrides = context.overrides.clone();
        overrides.listen = self.listen;
        overrides.admin_listen = self.admin_listen;
        overrides.roles = self.roles;
        overrides.poll_seconds = self.poll.map(|poll| poll.as_secs());
        let mut config = crate::config::Config::load(&overrides)?;
        if let Some(drain) = self.drain {
            config.settings.server.drain_seconds = drain.as_secs();
        }
        let server = &config.settings.server;
        let format = log::Format::parse(&server.log_format)?;
        log::init(format, &server.log, context.output.shows_colours_aside())?;
        on_all_threads(async {
            let service = Box::pin(app::start(config)).await?;
            match format {
                log::Format::Text => {
                    context.output.note(&format!("deliveries  http://{}/webhooks/…", service.receiver));
                    context.output.note(&format!("admin       http://{}/healthz", service.admin));
                }
                log::Format::Json => tracing::info!(receiver = %service.receiver, admin = %service.admin, "serving"),
            }
            until_stopped(service).await
        })
    }
}

impl Demo {
    pub fn run(self, context: &Context) -> Result<Exit> {
        log::init(log::Format::Text, "skillhook=warn", context.output.shows_colours_aside())?;
        let mut out = context.output.writer();
        on_all_threads(async {
            Box::pin(demo::run(demo::Options { once: self.once }, &mut out)).await?;
            Ok(Exit::Done)
        })
    }
}

fn on_all_threads(work: impl Future<Output = Result<Exit>>) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context(Code::Bug, "the runtime cannot be started")?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(LEFTOVERS);
    outcome
}

/// Waits for the end of the service, and passes signals on to it.
async fn until_stopped(service: Service) -> Result<Exit> {
    let mut signals = Signals::new()?;
    let (stopper, activator, bell) = (service.stopper(), service.activator.clone(), service.bell.clone());
    let mut ended = Box::pin(service.ended());
    loop {
        let asked = tokio::select! {
            ended = &mut ended => return ended.map(|()| Exit::Done),
            asked = signals.next() => asked,
        };
        match asked {
            Asked::Look => {
                bell.ring();
                activator.activate(Scope::Everything, "SIGHUP");
            }
            Asked::Stop if stopper.is_cancelled() => {
                return Err(Error::new(Code::Refused, "stopped at once: running work was broken off")
                    .hint("it is taken up again at the next start"));
            }
            Asked::Stop => {
                tracing::info!("asked to stop: running work may end");
                stopper.cancel();
            }
        }
    }
}

/// What a signal asks for.
enum Asked {
    Stop,
    Look,
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let on = |kind| signal(kind).context(Code::Bug, "signals cannot be received");
        let (interrupt, terminate) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hangup: on(SignalKind::hangup())? })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Look,
        }
    }
}
