//! The composition root: opens, builds, wires, supervises, drains. It reads top to bottom and decides nothing else.

mod background;
pub mod copies;
mod engine;
mod nodes;
mod options;
mod outside;
mod routes;
mod runs;
mod view;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use engine::tokens_at_rest;
pub use options::rules;
pub use runs::agent_config;

use self::options::{intake_options, limits, repository_options, write_modes};
use self::outside::{forward_secrets, reviewer, targets};
use crate::change::{self, Changes};
use crate::config::Config;
use crate::copies::Copied;
use crate::error::{Code, Context as _, Error, Result};
use crate::http::api::access::Access;
use crate::http::api::guard::Hosts;
use crate::http::api::state::{ApiState, CurrentIndex, Reconcile};
use crate::http::intake::{self, CurrentRoutes, CurrentSecrets, Intake};
use crate::http::listen::Listener;
use crate::http::receiver;
use crate::http::serve::Server;
use crate::index::{Found, Index};
use crate::ledger::Ledger;
use crate::mcp::desk::Desk;
use crate::mcp::grants::Grants;
use crate::model::ids::ProviderName;
use crate::outward::Outward;
use crate::reconcile::activator::{Activator, Scope};
use crate::reconcile::judge::Judge;
use crate::reconcile::origins::Origins;
use crate::reconcile::pass::{Parts, Published, Reconciler};
use crate::reconcile::pause::Pause;
use crate::reconcile::record::{Progress, Recorder};
use crate::reconcile::source::{Bell, Source};
use crate::reconcile::versions::{Ages, Versions};
use crate::reconcile::watch as watcher;
use crate::repo::Repository;
use crate::respond::caller::Caller;
use crate::respond::forward::Forward;
use crate::respond::outbox::Sender;
use crate::respond::pacing::Pacing;
use crate::respond::permission::Checker;
use crate::respond::transport::Transport;
use crate::review::Reviews;
use crate::seam::Clock;
use crate::secrets::Secrets;
use crate::secrets::seal::Sealer;
use crate::telemetry::metrics::Metrics;
use crate::workspace::{self, Workspaces};

/// Memory for the pages of the index, in bytes.
const INDEX_CACHE_BYTES: usize = 16 << 20;
/// Where a node listens that does not serve there: on any port, which nobody is told of.
const NOWHERE: &str = "127.0.0.1:0";

/// A service that was started.
#[derive(Debug)]
pub struct Service {
    /// Where providers deliver to.
    pub receiver: SocketAddr,
    pub admin: SocketAddr,
    pub ledger: Ledger,
    pub activator: Activator,
    /// Through which skills, agents and providers are edited.
    pub changes: Changes,
    /// Has the remote asked.
    pub bell: Bell,
    /// What passes published.
    pub published: watch::Receiver<Option<Published>>,
    /// How far recording in git has come.
    pub progress: watch::Receiver<Progress>,
    copies: watch::Receiver<BTreeMap<String, Copied>>,
    stop: CancellationToken,
    tasks: JoinSet<&'static str>,
    drain: Duration,
}

impl Service {
    /// Asks for an orderly stop; [`Service::ended`] tells when it is over.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits for the end. The unexpected end of any part is an error and starts the drain of the others.
    ///
    /// # Errors
    /// SH0999 names the part that ended by itself.
    pub async fn ended(mut self) -> Result<()> {
        let mut fault = None;
        while let Some(ended) = self.tasks.join_next().await {
            if self.stop.is_cancelled() {
                continue;
            }
            let part = ended.unwrap_or("a part that panicked");
            tracing::error!(part, "a part of the service ended by itself: the service stops");
            fault = Some(Error::new(Code::Bug, format!("`{part}` ended by itself")));
            self.stop.cancel();
        }
        let _ = tokio::time::timeout(self.drain, self.ledger.close()).await;
        fault.map_or(Ok(()), Err)
    }
}

/// Starts everything.
///
/// # Errors
/// With the code of the part that cannot be had: the data directory, a database, the repository, an address.
pub async fn start(config: Config) -> Result<Service> {
    let clock = Clock::System;
    let metrics = Metrics::new();
    let stop = CancellationToken::new();
    prepare_data(&config)?;

    let (index, found) = Index::open(&config.data, INDEX_CACHE_BYTES)?;
    let ledger = engine::open(&config).await?;
    nodes::introduce(&ledger, &config);
    let repository = Repository::open(&config.root, repository_options(&config))?;
    let secrets = secrets(&config)?;
    let known = secrets.clone();
    let judge = Judge::new(rules(&config))?;
    let (activator, bell) = (Activator::default(), Bell::default());
    let pause = Pause::remembered(ledger.clone(), activator.clone(), bell.clone()).await?;

    let reader = index.reader();
    let parts = Parts {
        root: config.root.clone(),
        judge,
        index,
        ledger: ledger.clone(),
        activator: activator.clone(),
        clock: clock.clone(),
        repository: Some(repository.clone()),
        rebuilds: found != Found::Whole,
    };
    let (reconciler, published) = Reconciler::new(parts)?;
    let contents = reconciler.contents();
    let (catalogue_sender, catalogue) = watch::channel(reconciler.catalogue());
    let caller = Caller::new(Transport::new()?, secrets.clone(), catalogue, clock.clone());
    let mut publisher = routes::Publisher {
        routes: CurrentRoutes::default(),
        secrets: CurrentSecrets::default(),
        finder: secrets.clone(),
        made: HashMap::new(),
    };
    if found == Found::Whole {
        // The last state serves at once; the first pass corrects it.
        let state = reader.state();
        publisher.publish(&state, state.observed.revision().digest, &reconciler.catalogue());
    }
    let stopped = Arc::new(AtomicBool::new(false));
    let intake = Intake::new(
        publisher.routes.clone(),
        publisher.secrets.clone(),
        ledger.clone(),
        metrics.clone(),
        clock.clone(),
        intake::Options {
            repository: config.settings.git.repository.clone().or(repository.location()?.map(|location| location.path)),
            bell: bell.clone(),
            stopped: Arc::clone(&stopped),
            ..intake_options(&config, &reconciler.catalogue(), &secrets, &caller)
        },
    );

    intake.remember_threads().await?;

    let limits = limits(&config);
    let receiver_listener =
        Listener::tcp(if config.has_role("receiver") { &config.settings.server.listen } else { NOWHERE })?;
    let access = Access::open(ledger.clone(), clock.clone())?;
    let admin_listener = admin_listener(&config, &access)?;
    let socket = Listener::unix(&config.admin_socket())?;
    let runs_socket = Listener::unix(&config.runs_socket())?;
    let origins = Origins::open(config.data.join("origins"))?;
    let proposed = Arc::new(Notify::new());
    let changes = Changes::new(change::Parts {
        root: config.root.clone(),
        repository: repository.clone(),
        ledger: ledger.clone(),
        activator: activator.clone(),
        published: published.clone(),
        origins: origins.clone(),
        pause: pause.clone(),
        rules: rules(&config),
        modes: write_modes(&config),
        clock: clock.clone(),
        network: Duration::from_secs(config.settings.git.network_seconds),
        proposed: Arc::clone(&proposed),
    })?;
    let address = |listener: &Listener| {
        listener.address().ok_or_else(|| Error::new(Code::ListenFailed, "the address cannot be told"))
    };
    let (receiver_address, admin_address) = (address(&receiver_listener)?, address(&admin_listener)?);

    let (reconcile, requests) = Reconcile::channel();
    let current = CurrentIndex::default();
    let api = Arc::new(ApiState {
        ledger: ledger.clone(),
        index: current.clone(),
        reconcile,
        versions: Some(Versions {
            repository: repository.clone(),
            ledger: ledger.clone(),
            activator: activator.clone(),
            bell: bell.clone(),
            pause: pause.clone(),
            rules: rules(&config),
            clock: clock.clone(),
            ages: Ages::default(),
        }),
        metrics: metrics.clone(),
        clock: clock.clone(),
        started_at: clock.now(),
        access: access.clone(),
        changes: Some(changes.clone()),
        secrets: Some(secrets.clone()),
        intake: Some(Arc::clone(&intake)),
        hosts: Hosts {
            addresses: !admin_address.ip().to_canonical().is_loopback(),
            names: config.settings.server.admin_hosts.clone(),
        },
        stop: stop.clone(),
        receiver_url: receiver_url(&config, receiver_address),
        daily: runs::daily(&config),
    });
    let (progress_sender, progress) = watch::channel(Progress::default());
    let copies = copies::copies(&config, &repository, &clock, &metrics)?;
    let progress_for_reviews = progress_sender.clone();
    let (committed_sender, committed) = watch::channel(None);

    let mut tasks = JoinSet::new();
    let server = |name, listener| Server { name, listener, limits: limits.clone(), metrics: metrics.clone() };
    let filter = receiver::filter(intake, &limits);
    if config.has_role("receiver") {
        spawn(&mut tasks, "receiver", server("receiver", receiver_listener).serve(filter, stop.clone()));
    }
    if config.has_role("api") {
        let admin = crate::http::api::filter("admin", Arc::clone(&api), &limits);
        spawn(&mut tasks, "admin", server("admin", admin_listener).serve(admin, stop.clone()));
    }
    let local = crate::http::api::filter("socket", api, &limits);
    spawn(&mut tasks, "socket", server("socket", socket).serve(local, stop.clone()));
    let grants = Grants::default();
    let known = runs::known_secrets(&config, known);
    let outward = Outward {
        workspaces: Workspaces::new(repository.clone(), config.data.join("workspaces"), workspace::Limits::default()),
        caller: caller.clone(),
        known_secrets: known.clone(),
        published: published.clone(),
        ledger: ledger.clone(),
        clock: clock.clone(),
    };
    let desk =
        Desk { changes: changes.clone(), ledger: ledger.clone(), outward: outward.clone(), clock: clock.clone() };
    let tools = crate::http::tools::filter("runs", desk, grants.clone(), metrics.clone(), &limits);
    spawn(&mut tasks, "runs", server("runs", runs_socket).serve(tools, stop.clone()));

    let nodes = nodes::Nodes {
        ledger: ledger.clone(),
        access: access.clone(),
        activator: activator.clone(),
        bell: bell.clone(),
        published: published.clone(),
        metrics: metrics.clone(),
        stopped,
        stops: config.settings.ledger.stop_when_differing,
    };
    spawn(&mut tasks, "nodes", nodes.run(stop.clone()));
    spawn(&mut tasks, "tokens", access.keep_uses(stop.clone()));

    let secrets_again = routes::keep_secrets(publisher.secrets.clone(), secrets.clone(), reader, stop.clone());
    spawn(&mut tasks, "secrets", secrets_again);
    let publish = move |published: &Published| {
        catalogue_sender.send_replace(Arc::clone(&published.catalogue));
        publisher.publish(&published.state, published.served.digest, &published.catalogue);
    };
    activator.activate(Scope::Everything, "start");
    spawn(&mut tasks, "reconciler", reconciler.run(stop.clone(), pause.clone(), metrics.clone(), publish));
    spawn(&mut tasks, "watch", watcher::watch(config.root.clone(), activator.clone(), stop.clone()));
    spawn(&mut tasks, "timer", background::timer(activator.clone(), config.poll(), stop.clone()));
    spawn(
        &mut tasks,
        "requests",
        background::requests(requests, activator.clone(), bell.clone(), published.clone(), stop.clone()),
    );
    spawn(
        &mut tasks,
        "view",
        view::keep(
            current,
            view::News { published: published.clone(), progress: progress.clone(), copies: copies.progress.clone() },
            secrets.clone(),
            clock.clone(),
            stop.clone(),
        ),
    );
    let reconciles = config.has_role("reconciler");
    // Whoever may change files through this service records them too.
    let records = ["reconciler", "api", "worker"].iter().any(|role| config.has_role(role));
    for copier in copies.copiers.into_iter().filter(|_| reconciles) {
        spawn(&mut tasks, "copier", copier.run(progress.clone(), stop.clone()));
    }
    let recorder = Recorder {
        repository: repository.clone(),
        ledger: ledger.clone(),
        contents,
        origins,
        clock: clock.clone(),
        progress: progress_sender.clone(),
        activator: activator.clone(),
        committed: committed_sender,
        pause: pause.clone(),
        commits: config.settings.git.commit && records,
        poll: config.poll(),
    };
    spawn(&mut tasks, "recorder", recorder.run(published.clone(), stop.clone()));
    let source = Source {
        repository: repository.clone(),
        ledger: ledger.clone(),
        activator: activator.clone(),
        clock: clock.clone(),
        bell: bell.clone(),
        progress: progress_sender,
        published: published.clone(),
        pause,
        pulls: config.settings.git.pull,
        pushes: config.settings.git.commit && config.settings.git.push && records,
        network: Duration::from_secs(config.settings.git.network_seconds),
        poll: config.poll(),
    };
    spawn(&mut tasks, "source", source.run(committed, stop.clone()));
    let reviews = Reviews {
        repository: repository.clone(),
        reviewer: reviewer(&config, &repository, &caller, &clock)?,
        provider: config.settings.git.provider.as_ref().and_then(|name| ProviderName::parse(name).ok()),
        rules: rules(&config),
        ledger: ledger.clone(),
        bell: bell.clone(),
        published: published.clone(),
        progress: progress_for_reviews,
        clock: clock.clone(),
        network: Duration::from_secs(config.settings.git.network_seconds),
        poll: config.poll(),
        proposed,
    };
    spawn(&mut tasks, "reviews", reviews.run(stop.clone()));
    let sender = Sender {
        ledger: ledger.clone(),
        caller: caller.clone(),
        forward: Forward { targets: targets(&config), secrets: forward_secrets(&config, &secrets) },
        pacing: Pacing::default(),
        clock: clock.clone(),
        metrics: metrics.clone(),
    };
    let works = config.has_role("worker");
    if works {
        spawn(&mut tasks, "sender", sender.run(stop.clone()));
    }
    let checker = Checker { ledger: ledger.clone(), caller, clock: clock.clone() };
    if works {
        spawn(&mut tasks, "checker", checker.run(stop.clone()));
    }
    let recorded = progress.clone();
    let knowing = runs::Knowing { secrets: known, newest_revision: Arc::new(move || recorded.borrow().served) };
    let worker = runs::worker(&config, &ledger, outward, grants, knowing, &clock, &metrics)?;
    let housekeeping = background::housekeeping(worker.workspaces.clone(), clock.clone(), stop.clone());
    spawn(&mut tasks, "housekeeping", housekeeping);
    if works {
        spawn(&mut tasks, "worker", worker.run(stop.clone()));
    }
    spawn(&mut tasks, "expiry", background::expiry(ledger.clone(), clock.clone(), stop.clone()));
    spawn(&mut tasks, "maintenance", background::maintenance(ledger.clone(), clock.clone(), stop.clone()));
    spawn(&mut tasks, "sampler", background::sampler(ledger.clone(), metrics, clock, stop.clone()));

    let drain = Duration::from_secs(config.settings.server.drain_seconds);
    Ok(Service {
        receiver: receiver_address,
        admin: admin_address,
        ledger,
        activator,
        changes,
        bell,
        published,
        progress,
        copies: copies.progress,
        stop,
        tasks,
        drain,
    })
}

/// What providers call: the public address where there is one.
fn receiver_url(config: &Config, receiver: std::net::SocketAddr) -> String {
    let public = config.settings.server.public_url.as_deref().map(|url| url.trim_end_matches('/').to_owned());
    public.unwrap_or_else(|| format!("http://{receiver}"))
}

fn spawn<T>(tasks: &mut JoinSet<&'static str>, name: &'static str, part: impl Future<Output = T> + Send + 'static) {
    tasks.spawn(async move {
        part.await;
        name
    });
}

/// Where nobody needs a token, nobody of another machine may come in.
fn admin_listener(config: &Config, access: &Access) -> Result<Listener> {
    if !config.has_role("api") {
        return Listener::loopback(NOWHERE);
    }
    let address = &config.settings.server.admin_listen;
    if access.any_holds() { Listener::tcp(address) } else { Listener::loopback(address) }
}

/// The data directory is private, and git never sees it.
fn prepare_data(config: &Config) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = "the data directory cannot be prepared";
    std::fs::create_dir_all(&config.data).context(Code::SettingInvalid, failed)?;
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(&config.data, private).context(Code::SettingInvalid, failed)?;
    std::fs::write(config.data.join(".gitignore"), "*\n").context(Code::SettingInvalid, failed)
}

fn secrets(config: &Config) -> Result<Secrets> {
    let settings = &config.settings;
    let directory = config.data.join(&settings.secrets.directory);
    // Without a key what is sealed stays closed; everything else is found.
    let sealer = Sealer::open_or_create(&directory)
        .inspect_err(|error| tracing::error!(error = error.internal(), "sealed secrets cannot be opened"))
        .ok();
    Secrets::new(config.environment.clone(), &settings.secrets.env_allow, directory, settings.providers.clone(), sealer)
}
