//! Connections to PostgreSQL: a pool, encrypted unless the server is on this machine, and schemas that the program
//! makes and upgrades itself.
//!
//! Invariants: a password comes from the environment or a URL that does, never from a file of the repository; nothing
//! leaves this machine unencrypted unless the URL says `sslmode=disable`; two programs that begin at once make a schema
//! once. It deliberately knows no table: those belong to the rooms that use it.

mod tls;

use std::fmt;
use std::str::FromStr as _;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};

use crate::error::{Code, Error, Result};

/// Longest wait for a connection, in seconds.
const CONNECT_SECONDS: u64 = 10;
/// Longest run of one statement, in seconds.
const STATEMENT_SECONDS: u64 = 60;

/// One step of a schema, in the order in which they were invented; never changed once released.
pub type Step = &'static str;

/// Opens a pool. Nothing is sent before the first use.
///
/// # Errors
/// SH0301 when the URL is none; it is never shown.
pub fn pool(url: &str, connections: usize) -> Result<Pool> {
    pool_of(config(url)?, connections)
}

fn pool_of(config: Config, connections: usize) -> Result<Pool> {
    let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = match config.get_ssl_mode() {
        SslMode::Disable => Manager::from_config(config, NoTls, manager_config),
        _ => Manager::from_config(config, tls::connector()?, manager_config),
    };
    let wait = Some(Duration::from_secs(CONNECT_SECONDS));
    Pool::builder(manager)
        .max_size(connections)
        .wait_timeout(wait)
        .create_timeout(wait)
        .recycle_timeout(wait)
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| Error::new(Code::Bug, "no pool of connections can be made").detail(error))
}

/// A schema of a database, which its connections look into alone.
#[derive(Clone)]
pub struct Database {
    config: Config,
    schema: String,
}

impl Database {
    /// Reads a URL, which may name another schema than the usual one: `?schema=NAME`.
    ///
    /// # Errors
    /// SH0301; the URL is never shown.
    pub fn parse(text: &str, usual: &str) -> Result<Self> {
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let (own, others): (Vec<&str>, Vec<&str>) =
            query.split('&').filter(|part| !part.is_empty()).partition(|part| part.starts_with("schema="));
        let schema = own.last().and_then(|part| part.strip_prefix("schema=")).unwrap_or(usual).to_owned();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if schema.is_empty()
            || schema.len() > 40
            || !schema.chars().all(plain)
            || schema.starts_with("pg_")
            || schema.starts_with(|c: char| c.is_ascii_digit())
        {
            let message = "the schema of the PostgreSQL database has 1 to 40 of the characters a-z, 0-9 and `_`, and begins with none of the digits";
            return Err(Error::new(Code::SettingInvalid, message).hint("write it as `?schema=NAME` behind the URL"));
        }
        let mut config = config(&format!("{address}?{}", others.join("&")))?;
        let options = config.get_options().unwrap_or_default().to_owned();
        config.options(format!("{options} -c search_path={schema}"));
        config.keepalives_idle(Duration::from_secs(CONNECT_SECONDS));
        config.tcp_user_timeout(Duration::from_secs(3 * CONNECT_SECONDS));
        Ok(Self { config, schema })
    }

    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// # Errors
    /// SH0301 when the system's certificates cannot be read.
    pub fn pool(&self, connections: usize) -> Result<Pool> {
        pool_of(self.config.clone(), connections)
    }

    /// A connection of its own, and what it is notified of, which ends with it.
    ///
    /// # Errors
    /// SH0601 when the database does not answer.
    pub async fn connect(&self) -> Result<(Client, watch::Receiver<Heard>)> {
        let (words, heard) = watch::channel(Heard::default());
        let client = match self.config.get_ssl_mode() {
            SslMode::Disable => {
                let (client, connection) = self.config.connect(NoTls).await.map_err(failed)?;
                tokio::spawn(drive(connection, words));
                client
            }
            _ => {
                let (client, connection) = self.config.connect(tls::connector()?).await.map_err(failed)?;
                tokio::spawn(drive(connection, words));
                client
            }
        };
        Ok((client, heard))
    }
}

/// How many notifications a connection got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub words: u64,
    /// Those that said something.
    pub payloads: u64,
}

/// Shows no password.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(_) => "local".to_owned(),
        });
        let hosts: Vec<String> = hosts.collect();
        let database = self.config.get_dbname().unwrap_or_default();
        write!(f, "postgres://{}/{database}?schema={}", hosts.join(","), self.schema)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

async fn drive<S, T>(mut connection: Connection<S, T>, words: watch::Sender<Heard>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = std::future::poll_fn(|context| connection.poll_message(context)).await {
        match message {
            Ok(AsyncMessage::Notification(word)) => words.send_modify(|heard| {
                heard.words += 1;
                heard.payloads += u64::from(!word.payload().is_empty());
            }),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(error = said(&error), "a connection to PostgreSQL ended");
                return;
            }
        }
    }
}

/// The database does not answer, or not as it should.
pub fn failed(error: tokio_postgres::Error) -> Error {
    Error::new(Code::LedgerUnavailable, "the ledger's database does not answer as it should").detail(said(&error))
}

/// The URL as settings of a connection, with encryption decided.
///
/// # Errors
/// SH0301.
pub fn config(url: &str) -> Result<Config> {
    let mut config = Config::from_str(url).map_err(|error| {
        Error::new(Code::SettingInvalid, "the URL of the PostgreSQL database is not valid")
            .hint("write it as `postgres://USER@HOST/DATABASE`; the password may be in the environment as PGPASSWORD")
            .detail(error)
    })?;
    config.connect_timeout(Duration::from_secs(CONNECT_SECONDS)).application_name("skillhook");
    let options = config.get_options().unwrap_or_default().to_owned();
    config.options(format!("{options} -c statement_timeout={}", STATEMENT_SECONDS * 1000).trim_start());
    if config.get_ssl_mode() == SslMode::Prefer {
        // Prefer can be talked out of encryption by whoever stands in between.
        config.ssl_mode(if is_local(&config) { SslMode::Disable } else { SslMode::Require });
    }
    Ok(config)
}

fn is_local(config: &Config) -> bool {
    config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    })
}

/// Brings a schema to the newest step, once, however many programs begin at the same time.
///
/// # Errors
/// What `failed` makes of the database's trouble; SH0921 when the schema was made by a newer version.
pub async fn upgrade(
    client: &mut deadpool_postgres::Client,
    schema: &str,
    steps: &[Step],
    failed: &(dyn Fn(tokio_postgres::Error) -> Error + Sync),
) -> Result<()> {
    let transaction = client.transaction().await.map_err(failed)?;
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('skillhook schema ' || $1, 0))";
    transaction.execute(lock, &[&schema]).await.map_err(failed)?;
    let begin = format!(
        "CREATE SCHEMA IF NOT EXISTS {schema};
         CREATE TABLE IF NOT EXISTS {schema}.schema_step (step bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());"
    );
    transaction.batch_execute(&begin).await.map_err(failed)?;
    let newest = format!("SELECT coalesce(max(step), 0) FROM {schema}.schema_step");
    let done: i64 = transaction.query_one(&newest, &[]).await.map_err(failed)?.get(0);
    let done = usize::try_from(done).unwrap_or(usize::MAX);
    if done > steps.len() {
        return Err(Error::new(Code::EngineNewer, format!("the schema `{schema}` was made by a newer version"))
            .hint("update this skillhook, or give it a database of its own"));
    }
    for (number, step) in steps.iter().enumerate().skip(done) {
        transaction.batch_execute(step).await.map_err(failed)?;
        let insert = format!("INSERT INTO {schema}.schema_step (step) VALUES ($1)");
        let number = i64::try_from(number + 1).unwrap_or(i64::MAX);
        transaction.execute(&insert, &[&number]).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)
}

/// What the database said, without values of rows.
pub fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(told) => format!("{}: {}", told.code().code(), told.message()),
        None => {
            let source = std::error::Error::source(error).map(ToString::to_string);
            source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_the_machine_unencrypted_unless_that_is_asked_for() {
        for (url, mode) in [
            ("postgres://u@127.0.0.1/d", SslMode::Disable),
            ("postgres://u@localhost/d", SslMode::Disable),
            ("postgres:///d?host=/run/postgresql", SslMode::Disable),
            ("postgres://u@db.example.com/d", SslMode::Require),
            ("postgres://u@127.0.0.1/d?sslmode=require", SslMode::Require),
            ("postgres://u@db.example.com/d?sslmode=disable", SslMode::Disable),
        ] {
            assert_eq!(config(url).unwrap().get_ssl_mode(), mode, "{url}");
        }
    }

    #[test]
    fn a_url_that_is_none_is_refused_and_not_shown() {
        let error = config("postgres://u:hunter2@h:port/d").unwrap_err();
        assert_eq!(error.code(), Code::SettingInvalid);
        assert!(!format!("{error}{error:?}").contains("hunter2"), "{error:?}");
    }
}
