//! The file behind the index: rows of checksummed JSON in one redb table.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Found;
use crate::error::{Code, Context, Error, Result};
use crate::model::digest::Digest;
use crate::model::entry::Observed;

/// Rows of another format are not read: the index is rebuilt instead.
const FORMAT: &str = "skillhook.index/v1";
/// `webhook/ID`, `skill/NAME`, `agent/NAME`; `meta/format` and `meta/digest`.
const ROWS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("rows");

#[derive(Debug)]
pub(super) struct Store {
    database: Database,
}

impl Store {
    pub(super) fn open(path: &Path, cache_bytes: usize) -> Result<(Self, Observed, Found)> {
        match open_and_load(path, cache_bytes) {
            Ok((store, Some(observed))) => Ok((store, observed, Found::Whole)),
            Ok((store, None)) => Ok((store, Observed::default(), Found::Nothing("there was no index".to_owned()))),
            Err(error) if error.code() == Code::DataDirectoryBusy => Err(error),
            Err(error) => {
                let aside = path.with_extension("redb.damaged");
                std::fs::rename(path, &aside).context(Code::IndexWrite, "the damaged index cannot be set aside")?;
                let (store, _) = open_and_load(path, cache_bytes)?;
                Ok((store, Observed::default(), Found::Nothing(error.internal())))
            }
        }
    }

    /// Writes the difference of two states in one synced transaction.
    pub(super) fn write(&self, before: &Observed, next: &Observed) -> Result<()> {
        let write = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            {
                let mut rows = transaction.open_table(ROWS)?;
                let mut changes = Changes::default();
                changes.compare("webhook", &before.webhooks, &next.webhooks);
                changes.compare("skill", &before.skills, &next.skills);
                changes.compare("agent", &before.agents, &next.agents);
                for key in changes.removed {
                    rows.remove(key.as_str())?;
                }
                for (key, value) in changes.written {
                    rows.insert(key.as_str(), value.as_slice())?;
                }
                rows.insert("meta/format", FORMAT.as_bytes())?;
                rows.insert("meta/digest", next.digest().as_bytes().as_slice())?;
            }
            transaction.commit()?;
            Ok(())
        };
        write().context(Code::IndexWrite, "the index cannot be written")
    }
}

/// redb can panic on a file that is damaged in the wrong place; that is damage like any other.
fn open_and_load(path: &Path, cache_bytes: usize) -> Result<(Store, Option<Observed>)> {
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let database = redb::Builder::new().set_cache_size(cache_bytes).create(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => {
                Error::new(Code::DataDirectoryBusy, "another process uses the data directory")
                    .hint("stop the other `skillhook up`, or give this one a `--data` of its own")
            }
            other => Error::new(Code::IndexDamaged, "the index cannot be opened").detail(other),
        })?;
        let store = Store { database };
        let observed = load(&store.database)?;
        Ok((store, observed))
    }));
    opened.unwrap_or_else(|_| Err(Error::new(Code::IndexDamaged, "the index cannot be read")))
}

/// `None` when nothing was ever written.
fn load(database: &Database) -> Result<Option<Observed>> {
    let damaged = |what: &str| Error::new(Code::IndexDamaged, "the index is damaged").detail(what);
    let read = || -> Result<BTreeMap<String, Vec<u8>>, redb::Error> {
        let transaction = database.begin_read()?;
        let table = match transaction.open_table(ROWS) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
            Err(error) => return Err(error.into()),
        };
        let mut rows = BTreeMap::new();
        for row in table.iter()? {
            let (key, value) = row?;
            rows.insert(key.value().to_owned(), value.value().to_vec());
        }
        Ok(rows)
    };
    let rows = read().context(Code::IndexDamaged, "the index cannot be read")?;
    if rows.is_empty() {
        return Ok(None);
    }
    if rows.get("meta/format").map(Vec::as_slice) != Some(FORMAT.as_bytes()) {
        return Err(damaged("it has another format"));
    }
    let mut observed = Observed::default();
    for (key, value) in &rows {
        match key.split_once('/') {
            Some(("webhook", name)) => insert(&mut observed.webhooks, name, value)?,
            Some(("skill", name)) => insert(&mut observed.skills, name, value)?,
            Some(("agent", name)) => insert(&mut observed.agents, name, value)?,
            _ => {}
        }
    }
    let expected = rows.get("meta/digest").map(Vec::as_slice);
    if expected != Some(observed.digest().as_bytes().as_slice()) {
        return Err(damaged("its digest does not agree with its rows"));
    }
    Ok(Some(observed))
}

fn insert<K: TryFrom<String> + Ord, V: DeserializeOwned>(
    map: &mut BTreeMap<K, V>,
    name: &str,
    row: &[u8],
) -> Result<()> {
    let damaged = || Error::new(Code::IndexDamaged, "a row of the index is damaged");
    let (checksum, json) = row.split_at_checked(32).ok_or_else(damaged)?;
    if Digest::of(json).as_bytes().as_slice() != checksum {
        return Err(damaged());
    }
    let key = K::try_from(name.to_owned()).map_err(|_| damaged())?;
    map.insert(key, serde_json::from_slice(json).map_err(|error| damaged().detail(error))?);
    Ok(())
}

#[derive(Default)]
struct Changes {
    removed: Vec<String>,
    written: Vec<(String, Vec<u8>)>,
}

impl Changes {
    fn compare<K: Ord + AsRef<str>, V: PartialEq + Serialize>(
        &mut self,
        kind: &str,
        before: &BTreeMap<K, V>,
        next: &BTreeMap<K, V>,
    ) {
        let gone = before.keys().filter(|key| !next.contains_key(*key));
        self.removed.extend(gone.map(|key| format!("{kind}/{}", key.as_ref())));
        for (key, value) in next.iter().filter(|(key, value)| before.get(*key) != Some(*value)) {
            let json = serde_json::to_vec(value).unwrap_or_default();
            let mut row = Digest::of(&json).as_bytes().to_vec();
            row.extend_from_slice(&json);
            self.written.push((format!("{kind}/{}", key.as_ref()), row));
        }
    }
}
