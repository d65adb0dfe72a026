//! The only code that finds plaintext secrets: environment variables on the operator's allow-list, files below the
//! operator's directory, sealed values in files of the tree, and reply tokens named in `skillhook.toml`. What it finds goes to verification and to
//! outgoing calls; it never goes into the index, the ledger, a log or a run.

pub mod seal;

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::error::{Code, Error, Result};
use crate::model::ids::ProviderName;
use crate::model::provider::Settings;
use crate::model::secret::{SecretSet, SecretValue};
use crate::model::spec::{SecretRef, WebhookSpec};
use crate::seam::Clock;
use seal::Sealer;

/// Largest secret file in bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;
/// For how long a value that was read from a file is used before the file is read again.
const FRESH: Duration = Duration::from_secs(2);

/// Finds secrets; clones share what was read.
#[derive(Clone)]
pub struct Secrets {
    sources: Arc<Sources>,
    read: Arc<Mutex<HashMap<String, Remembered>>>,
}

/// When a file was read, and what it held.
type Remembered = (Instant, Option<SecretValue>);

struct Sources {
    environment: BTreeMap<String, String>,
    allowed: GlobSet,
    directory: PathBuf,
    providers: BTreeMap<String, BTreeMap<String, String>>,
    sealer: Option<Sealer>,
    clock: Clock,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(…)")
    }
}

impl Secrets {
    /// `directory` holds secret files; `providers` are the operator's `[providers.NAME]` tables.
    ///
    /// # Errors
    /// SH0301 when a pattern of the allow-list is not one.
    pub fn new(
        environment: BTreeMap<String, String>,
        allow: &[String],
        directory: PathBuf,
        providers: BTreeMap<String, BTreeMap<String, String>>,
        sealer: Option<Sealer>,
    ) -> Result<Self> {
        let mut allowed = GlobSetBuilder::new();
        for pattern in allow {
            let glob = Glob::new(pattern).map_err(|error| {
                Error::new(Code::SettingInvalid, format!("`secrets.env_allow`: `{pattern}` is no pattern"))
                    .detail(error)
            })?;
            allowed.add(glob);
        }
        let allowed = allowed
            .build()
            .map_err(|error| Error::new(Code::SettingInvalid, "`secrets.env_allow` is too large").detail(error))?;
        let sources = Arc::new(Sources { environment, allowed, directory, providers, sealer, clock: Clock::System });
        Ok(Self { sources, read: Arc::default() })
    }

    /// The value behind a reference; `None` when it is missing, blank or not allowed.
    pub fn resolve(&self, reference: &SecretRef) -> Option<SecretValue> {
        match reference {
            SecretRef::Env(name) if self.sources.allowed.is_match(name) => self.variable(name),
            SecretRef::Env(_) => None,
            SecretRef::File(name) => self.file(&beneath(&self.sources.directory, name)?),
            SecretRef::Sealed(text) => {
                let opened = self.sources.sealer.as_ref()?.open_sealed(text);
                opened.filter(|value| !value.is_blank())
            }
            SecretRef::Until { not_after, secret } if self.sources.clock.now() < *not_after => self.resolve(secret),
            SecretRef::Until { .. } => None,
        }
    }

    /// What seals new secrets; `None` without a key.
    pub fn sealer(&self) -> Option<&Sealer> {
        self.sources.sealer.as_ref()
    }

    /// What verifies deliveries of a webhook, by slot.
    pub fn for_webhook(&self, spec: &WebhookSpec) -> SecretSet {
        let mut set = SecretSet::new();
        for (slot, references) in &spec.secrets {
            for value in references.iter().filter_map(|reference| self.resolve(reference)) {
                set.insert(slot.clone(), value);
            }
        }
        set
    }

    /// What authenticates calls to a provider: `SLOT_env` and `SLOT_file` of its table.
    pub fn for_calls(&self, provider: &ProviderName) -> SecretSet {
        let mut set = SecretSet::new();
        let Some(table) = self.sources.providers.get(provider.as_str()) else { return set };
        for (key, value) in table {
            let found = match (key.strip_suffix("_env"), key.strip_suffix("_file")) {
                (Some(slot), _) => self.variable(value).map(|found| (slot, found)),
                (None, Some(slot)) => self.file(Path::new(value)).map(|found| (slot, found)),
                (None, None) => None,
            };
            if let Some((slot, found)) = found {
                set.insert(slot, found);
            }
        }
        set
    }

    /// The operator's settings for a provider, without those that name secrets.
    pub fn settings(&self, provider: &ProviderName) -> Settings {
        let table = self.sources.providers.get(provider.as_str()).cloned().unwrap_or_default();
        let plain = table.into_iter().filter(|(key, _)| !key.ends_with("_env") && !key.ends_with("_file"));
        Settings::new(plain.collect())
    }

    fn variable(&self, name: &str) -> Option<SecretValue> {
        let value = self.sources.environment.get(name)?;
        Some(SecretValue::new(value.as_bytes())).filter(|value| !value.is_blank())
    }

    fn file(&self, path: &Path) -> Option<SecretValue> {
        let key = path.to_string_lossy().into_owned();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, value)) = read.get(&key)
            && at.elapsed() < FRESH
        {
            return value.clone();
        }
        let value = read_secret(path).filter(|value| !value.is_blank());
        read.insert(key, (Instant::now(), value.clone()));
        value
    }
}

/// A path below the directory; `None` when it would leave it.
fn beneath(directory: &Path, name: &str) -> Option<PathBuf> {
    let relative = Path::new(name);
    // Our own key is hidden there.
    let is_plain = |part| matches!(part, Component::Normal(name) if !name.as_encoded_bytes().starts_with(b"."));
    let plain = relative.components().all(is_plain);
    plain.then(|| directory.join(relative))
}

fn read_secret(path: &Path) -> Option<SecretValue> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(SECRET_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    Some(SecretValue::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(directory: &Path) -> Secrets {
        let environment = [("A_WEBHOOK_SECRET", "one"), ("HOME", "/root"), ("BLANK_WEBHOOK_SECRET", " ")];
        let environment = environment.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Secrets::new(environment, &["*_WEBHOOK_SECRET".to_owned()], directory.to_owned(), BTreeMap::new(), None)
            .unwrap()
    }

    fn shown(found: Option<SecretValue>) -> Option<String> {
        found.map(|value| String::from_utf8(value.expose().to_vec()).unwrap())
    }

    #[test]
    fn only_allowed_variables_are_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = secrets(dir.path());
        assert_eq!(shown(secrets.resolve(&SecretRef::Env("A_WEBHOOK_SECRET".into()))).as_deref(), Some("one"));
        assert_eq!(shown(secrets.resolve(&SecretRef::Env("HOME".into()))), None);
        assert_eq!(shown(secrets.resolve(&SecretRef::Env("BLANK_WEBHOOK_SECRET".into()))), None);
    }

    #[test]
    fn files_stay_below_the_directory_and_lose_their_line_end() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("keys")).unwrap();
        std::fs::write(dir.path().join("keys/a"), "two\r\n").unwrap();
        std::fs::write(dir.path().join("outside"), "no").unwrap();
        let secrets = secrets(&dir.path().join("keys"));
        assert_eq!(shown(secrets.resolve(&SecretRef::File("a".into()))).as_deref(), Some("two"));
        for escape in ["../outside", "/etc/hostname", "./../outside", ""] {
            assert_eq!(shown(secrets.resolve(&SecretRef::File(escape.into()))), None, "{escape}");
        }
    }

    #[test]
    fn sealed_ones_open_with_the_key_and_none_counts_after_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::open_or_create(dir.path()).unwrap();
        let sealed = SecretRef::Sealed(sealer.seal(b"three").unwrap());
        let until =
            |text: &str| SecretRef::Until { not_after: text.parse().unwrap(), secret: Box::new(sealed.clone()) };
        let environment = BTreeMap::new();
        let secrets = Secrets::new(environment, &[], dir.path().to_owned(), BTreeMap::new(), Some(sealer)).unwrap();
        assert_eq!(shown(secrets.resolve(&sealed)).as_deref(), Some("three"));
        assert_eq!(shown(secrets.resolve(&until("2100-01-01T00:00:00Z"))).as_deref(), Some("three"));
        assert_eq!(shown(secrets.resolve(&until("2000-01-01T00:00:00Z"))), None);
        let key = SecretRef::File(seal::KEY_FILE.into());
        assert!(secrets.resolve(&key).is_none());
    }
}
