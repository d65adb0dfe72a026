//! Settings of the ledger: where deliveries, tasks and answers are kept.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Config, invalid, one_of};
use crate::error::Result;
use crate::model::secret::SecretValue;

/// Where deliveries, tasks and answers are kept. SKILLHOOK_LEDGER names another place than this table: `redb`,
/// `postgres://…` or `env:NAME`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    /// `redb`: a file of this service alone. `postgres`: a database that several nodes work on.
    pub engine: String,
    /// `postgres://USER@HOST/DATABASE` (with PGPASSWORD), or `env:NAME` for a URL that stands in the environment;
    /// `?schema=NAME` tells several ledgers of one database apart.
    pub url: String,
    /// A node that was not heard of for so many seconds is gone: others take over what it ran.
    pub lease_seconds: u64,
    /// A node whose index is not that of most nodes refuses deliveries (503) until it is.
    pub stop_when_differing: bool,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { engine: "redb".to_owned(), url: String::new(), lease_seconds: 60, stop_when_differing: false }
    }
}

/// Where a ledger is.
#[derive(Clone, Debug)]
pub enum LedgerPlace {
    /// In the data directory.
    File,
    /// The URL of a PostgreSQL database.
    Postgres(SecretValue),
}

/// # Errors
/// SH0301 names the setting.
pub(super) fn check(ledger: &Ledger) -> Result<()> {
    one_of("ledger.engine", &ledger.engine, &["redb", "postgres"])?;
    if !(3..=3_600).contains(&ledger.lease_seconds) {
        return Err(invalid("ledger.lease_seconds", "from 3 to 3600"));
    }
    if tells_a_password(&ledger.url) {
        return Err(invalid("ledger.url", "a password does not belong into a file")
            .hint("write `url = \"env:NAME\"` and put the URL into that variable, or set PGPASSWORD"));
    }
    Ok(())
}

impl Config {
    /// Where the settings and the environment say that the ledger is.
    ///
    /// # Errors
    /// SH0301.
    pub fn ledger(&self) -> Result<LedgerPlace> {
        match self.environment.get("SKILLHOOK_LEDGER") {
            Some(line) => self.ledger_at(line),
            None if self.settings.ledger.engine == "redb" => Ok(LedgerPlace::File),
            None => self.ledger_at(&self.settings.ledger.url),
        }
    }

    /// Reads a line: `redb`, `postgres://…` or `env:NAME`.
    ///
    /// # Errors
    /// SH0301; the line is never shown.
    pub fn ledger_at(&self, line: &str) -> Result<LedgerPlace> {
        place(line, &self.environment)
    }

    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.settings.ledger.lease_seconds)
    }
}

fn place(line: &str, environment: &BTreeMap<String, String>) -> Result<LedgerPlace> {
    if line == "redb" {
        return Ok(LedgerPlace::File);
    }
    if let Some(name) = line.strip_prefix("env:") {
        let named = environment.get(name).filter(|line| !line.starts_with("env:"));
        let missing = || invalid("ledger.url", &format!("the environment has no variable `{name}` with a URL"));
        return place(named.ok_or_else(missing)?, environment);
    }
    if !line.starts_with("postgres://") && !line.starts_with("postgresql://") {
        return Err(invalid("ledger.url", "a ledger is named by `redb`, `postgres://…` or `env:NAME`"));
    }
    let mut text = line.to_owned();
    if let (Ok(mut url), Some(password)) = (url::Url::parse(line), environment.get("PGPASSWORD"))
        && url.has_host()
        && !tells_a_password(line)
        && url.set_password(Some(password)).is_ok()
    {
        text = url.into();
    }
    Ok(LedgerPlace::Postgres(SecretValue::new(text)))
}

/// Whether a URL has a password in it.
pub fn tells_a_password(line: &str) -> bool {
    url::Url::parse(line)
        .is_ok_and(|url| url.password().is_some() || url.query_pairs().any(|(key, _)| key == "password"))
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::super::tests::read_text;
    use super::*;

    fn config(text: &str, environment: &[(&str, &str)]) -> Result<Config> {
        let settings: Settings = read_text(text, environment)?;
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::checked("/r".into(), "/d".into(), settings, environment)
    }

    fn url(place: LedgerPlace) -> String {
        match place {
            LedgerPlace::File => "a file".to_owned(),
            LedgerPlace::Postgres(url) => url.expose_text().unwrap().to_owned(),
        }
    }

    #[test]
    fn one_line_in_the_environment_or_two_in_the_file_choose_the_engine() {
        let of = |text, environment: &[_]| config(text, environment).and_then(|config| config.ledger()).map(url);
        assert_eq!(of("", &[]).unwrap(), "a file");
        assert_eq!(of("", &[("SKILLHOOK_LEDGER", "postgres://u:p@h/d")]).unwrap(), "postgres://u:p@h/d");
        let file = "[ledger]\nengine = \"postgres\"\nurl = \"postgres://u@h/d\"\n";
        assert_eq!(of(file, &[]).unwrap(), "postgres://u@h/d");
        assert_eq!(of(file, &[("PGPASSWORD", "x")]).unwrap(), "postgres://u:x@h/d");
        assert_eq!(of(file, &[("SKILLHOOK_LEDGER", "redb")]).unwrap(), "a file");
        let named = "[ledger]\nengine = \"postgres\"\nurl = \"env:DB\"\n";
        assert_eq!(of(named, &[("DB", "postgres://u:q@h/d")]).unwrap(), "postgres://u:q@h/d");
        assert!(of(named, &[]).unwrap_err().message().contains("`DB`"));
        assert!(of("[ledger]\nengine = \"postgres\"\n", &[]).is_err(), "an engine without a place");
        assert!(of("[ledger]\nengine = \"sqlite\"\n", &[]).is_err());
    }

    #[test]
    fn a_password_stays_out_of_the_file_and_out_of_what_is_shown() {
        let told = config("[ledger]\nengine = \"postgres\"\nurl = \"postgres://u:hunter2@h/d\"\n", &[]).unwrap_err();
        assert!(!format!("{told:?} {}", told.internal()).contains("hunter2"));
        let place = config("", &[("SKILLHOOK_LEDGER", "postgres://u:hunter2@h/d")]).unwrap().ledger().unwrap();
        assert!(!format!("{place:?}").contains("hunter2"));
    }
}
