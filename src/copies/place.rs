//! Where a copy is, in one line: `dir:PATH`, `s3:BUCKET/PREFIX`, `postgres://…`, or `env:NAME` for a line that stands in
//! the environment because it holds a password.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::CloudCopy;
use super::directory::Directory;
use super::postgres::Postgres;
use super::s3::S3;
use crate::error::{Code, Error, Result};

/// The name under which a database holds a copy, where its URL names none.
const NAME: &str = "default";

/// A place that can hold a copy.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    Directory(PathBuf),
    S3 {
        bucket: String,
        /// Empty, or without a slash at either end.
        prefix: String,
    },
    Postgres {
        url: String,
        /// One database holds many copies, told apart by `?copy=NAME`.
        copy: String,
    },
}

impl Place {
    /// Reads a line; relative directories lie below `root`.
    ///
    /// # Errors
    /// SH0301. The line is shown only as far as it can hold no password.
    pub fn parse(text: &str, root: &Path, environment: &BTreeMap<String, String>) -> Result<Self> {
        if let Some(name) = text.strip_prefix("env:") {
            let value = environment.get(name).filter(|value| !value.starts_with("env:"));
            let missing = || invalid(&format!("the environment has no variable `{name}` that names a copy"));
            return Self::parse(value.ok_or_else(missing)?, root, environment);
        }
        if let Some(path) = text.strip_prefix("dir:").filter(|path| !path.is_empty()) {
            return Ok(Place::Directory(root.join(path)));
        }
        if let Some(rest) = text.strip_prefix("s3:") {
            let rest = rest.trim_matches('/');
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if !bucket.is_empty() {
                return Ok(Place::S3 { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() });
            }
        }
        if text.starts_with("postgres:") || text.starts_with("postgresql:") {
            return postgres(text);
        }
        Err(invalid("a copy is named by `dir:PATH`, `s3:BUCKET/PREFIX`, `postgres://…` or `env:NAME`"))
    }

    /// Whether the line itself says a password: such a line does not belong into a file or an argument.
    pub fn tells_a_password(text: &str) -> bool {
        url::Url::parse(text)
            .is_ok_and(|url| url.password().is_some() || url.query_pairs().any(|(k, _)| k == "password"))
    }
}

fn postgres(text: &str) -> Result<Place> {
    let short = text.strip_prefix("postgres:").filter(|rest| rest.starts_with("postgres"));
    let unreadable = |_| invalid("the URL of the PostgreSQL database is not valid");
    let mut url = url::Url::parse(short.unwrap_or(text)).map_err(unreadable)?;
    let named = url.query_pairs().find(|(key, _)| key == "copy").map(|(_, value)| value.into_owned());
    let others: Vec<(String, String)> =
        url.query_pairs().filter(|(key, _)| key != "copy").map(|(k, v)| (k.into_owned(), v.into_owned())).collect();
    url.set_query(None);
    if !others.is_empty() {
        url.query_pairs_mut().extend_pairs(others);
    }
    let url = url.to_string();
    crate::postgres::config(&url)?;
    Ok(Place::Postgres { url, copy: named.unwrap_or_else(|| NAME.to_owned()) })
}

fn invalid(message: &str) -> Error {
    Error::new(Code::SettingInvalid, message)
}

/// Without anything secret.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Directory(path) => write!(f, "dir:{}", path.display()),
            Place::S3 { bucket, prefix } => write!(f, "s3:{bucket}/{prefix}"),
            Place::Postgres { url, copy } => {
                let url = url::Url::parse(url).ok();
                let host = url.as_ref().and_then(url::Url::host_str).unwrap_or("local");
                let database = url.as_ref().map_or("", url::Url::path).trim_start_matches('/');
                write!(f, "postgres://{host}/{database}?copy={copy}")
            }
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Opens a place. Nothing is sent before the first use.
///
/// # Errors
/// SH0301 when the settings for it are not complete.
pub fn open(place: &Place, environment: &BTreeMap<String, String>) -> Result<Arc<dyn CloudCopy>> {
    Ok(match place {
        Place::Directory(path) => Arc::new(Directory::new(path.clone())),
        Place::S3 { bucket, prefix } => Arc::new(S3::new(bucket, prefix, environment)?),
        Place::Postgres { url, copy } => Arc::new(Postgres::new(&with_password(url, environment), copy)?),
    })
}

/// The URL with the password of the environment, where it says none itself.
fn with_password(text: &str, environment: &BTreeMap<String, String>) -> String {
    let (Ok(mut url), Some(password)) = (url::Url::parse(text), environment.get("PGPASSWORD")) else {
        return text.to_owned();
    };
    if !Place::tells_a_password(text) && url.has_host() {
        // Fails for URLs without a host alone.
        let _ = url.set_password(Some(password));
    }
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Place> {
        let environment = [("COPY", "postgres://u:hunter2@db/d?copy=x"), ("LOOP", "env:LOOP")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Place::parse(text, Path::new("/root"), &environment.into())
    }

    #[test]
    fn every_kind_of_place_is_read_and_none_shows_a_password() {
        for (text, shown) in [
            ("dir:/backup", "dir:/backup"),
            ("dir:backup", "dir:/root/backup"),
            ("s3:bucket/a/b/", "s3:bucket/a/b"),
            ("s3://bucket", "s3:bucket/"),
            ("postgres://u:hunter2@db:5433/d", "postgres://db/d?copy=default"),
            ("postgres:postgresql://db/d?copy=two&sslmode=disable", "postgres://db/d?copy=two"),
            ("env:COPY", "postgres://db/d?copy=x"),
        ] {
            let place = parse(text).unwrap();
            assert_eq!(place.to_string(), shown);
            assert!(!format!("{place:?}").contains("hunter2"));
        }
        for bad in ["", "dir:", "s3:", "gs:bucket", "env:NONE", "env:LOOP", "/backup", "postgres://db:port/d"] {
            assert_eq!(parse(bad).unwrap_err().code(), Code::SettingInvalid, "{bad}");
        }
    }

    #[test]
    fn passwords_come_from_the_environment() {
        let environment = BTreeMap::from([("PGPASSWORD".to_owned(), "p w".to_owned())]);
        assert_eq!(with_password("postgres://u@db/d", &environment), "postgres://u:p%20w@db/d");
        assert_eq!(with_password("postgres://u:own@db/d", &environment), "postgres://u:own@db/d");
        assert!(Place::tells_a_password("postgres://u:own@db/d") && !Place::tells_a_password("postgres://u@db/d"));
    }
}
