//! The only code that finds plaintext secrets: environment variables on the operator's allow-list, files below the
//! operator's directory, sealed values in files of the tree, and reply tokens named in `skillhook.toml`. What it finds goes to verification and to
//! outgoing calls; it never goes into the index, the ledger, a log or a run.

pub mod seal;

use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Write as _};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::error::{Code, Context as _, Error, Result};
use crate::model::ids::{ProviderName, WebhookId};
use crate::model::provider::Settings;
use crate::model::secret::{SecretSet, SecretValue};
use crate::model::spec::{SecretRef, WebhookSpec};
use crate::seam::Clock;
use seal::Sealer;

/// Below the directory of secret files: what senders gave in handshakes, by webhook and slot.
const HANDSHAKES: &str = "handshakes";
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

/// When a file was read (or a sealed text opened), and what it held.
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
            SecretRef::Sealed(text) => self.sealed(text),
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
        for (slot, value) in self.of_handshakes(&spec.id) {
            if set.get(&slot).is_empty() {
                set.insert(slot, value);
            }
        }
        set
    }

    /// Keeps a secret that a sender gave in a handshake; the first one stays.
    ///
    /// # Errors
    /// When there is one already, or it cannot be written.
    pub fn keep_of_handshake(&self, webhook: &WebhookId, slot: &str, value: &SecretValue) -> Result<()> {
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        let failed = "the secret of the handshake cannot be kept";
        let (Some(directory), true) = (self.handshakes(webhook), is_plain(slot)) else {
            return Err(Error::new(Code::NotReady, failed));
        };
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&directory).context(Code::NotReady, failed)?;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(directory.join(slot))
            .context(Code::NotReady, failed)?;
        file.write_all(value.expose()).and_then(|()| file.sync_all()).context(Code::NotReady, failed)
    }

    fn of_handshakes(&self, webhook: &WebhookId) -> Vec<(String, SecretValue)> {
        let entries = self.handshakes(webhook).and_then(|directory| std::fs::read_dir(directory).ok());
        let files = entries.into_iter().flatten().flatten();
        files.filter_map(|entry| Some((entry.file_name().into_string().ok()?, self.file(&entry.path())?))).collect()
    }

    fn handshakes(&self, webhook: &WebhookId) -> Option<PathBuf> {
        beneath(&self.sources.directory, &format!("{HANDSHAKES}/{webhook}"))
    }

    /// What authenticates calls to a provider: `SLOT_env`, `SLOT_file` and `SLOT_sealed` of its table.
    pub fn for_calls(&self, provider: &ProviderName) -> SecretSet {
        let mut set = SecretSet::new();
        let Some(table) = self.sources.providers.get(provider.as_str()) else { return set };
        for (key, value) in table {
            if let Some((slot, place)) = Place::of(key)
                && let Some(found) = self.at(place, value)
            {
                set.insert(slot, found);
            }
        }
        set
    }

    fn at(&self, place: Place, named: &str) -> Option<SecretValue> {
        match place {
            Place::Variable => self.variable(named),
            Place::File => self.file(Path::new(named)),
            Place::Sealed => self.sealed(named),
        }
    }

    /// Every value that is known here, so that none of them is ever said: what variables of the allow-list and the
    /// operator's tables hold, what was read from files, and what was sealed and has been opened.
    pub fn known(&self) -> Vec<SecretValue> {
        let allowed = self.sources.environment.iter().filter(|(name, _)| self.sources.allowed.is_match(name));
        let mut values: Vec<SecretValue> = allowed.map(|(_, value)| SecretValue::new(value.as_bytes())).collect();
        for table in self.sources.providers.values() {
            let named = table.iter().filter_map(|(key, named)| Some((Place::of(key)?.1, named)));
            values.extend(named.filter_map(|(place, named)| self.at(place, named)));
        }
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        values.extend(read.values().filter_map(|(_, value)| value.clone()));
        values.retain(|value| !value.is_blank());
        values
    }

    /// The operator's settings for a provider, without those that name secrets.
    pub fn settings(&self, provider: &ProviderName) -> Settings {
        let table = self.sources.providers.get(provider.as_str()).cloned().unwrap_or_default();
        let plain = table.into_iter().filter(|(key, _)| Place::of(key).is_none());
        Settings::new(plain.collect())
    }

    /// A secret that the operator's own settings name: a variable, else a file.
    pub fn of_operator(&self, variable: Option<&str>, file: Option<&Path>) -> Option<SecretValue> {
        variable.and_then(|name| self.variable(name)).or_else(|| self.file(file?))
    }

    fn variable(&self, name: &str) -> Option<SecretValue> {
        let value = self.sources.environment.get(name)?;
        Some(SecretValue::new(value.as_bytes())).filter(|value| !value.is_blank())
    }

    /// Opened once: it never changes, and whatever was opened must be known for good.
    fn sealed(&self, text: &str) -> Option<SecretValue> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, value)) = read.get(text) {
            return value.clone();
        }
        let value = self.sources.sealer.as_ref()?.open_sealed(text).filter(|value| !value.is_blank())?;
        read.insert(text.to_owned(), (Instant::now(), Some(value.clone())));
        Some(value)
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

/// Where a key of an operator's table says that a secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Variable,
    File,
    Sealed,
}

impl Place {
    /// The slot and the place, where the key names a secret.
    fn of(key: &str) -> Option<(&str, Self)> {
        let places = [("_env", Place::Variable), ("_file", Place::File), ("_sealed", Place::Sealed)];
        places.into_iter().find_map(|(end, place)| Some((key.strip_suffix(end)?, place)))
    }
}

/// Whether a key of a provider's table names where a secret is.
pub fn names_secret(key: &str) -> bool {
    Place::of(key).is_some()
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
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
    use std::collections::BTreeSet;

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
    fn first_secret_of_a_handshake_stays_and_is_found_by_its_webhook_alone() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = secrets(&dir.path().join("keys"));
        let webhook = |id: &str| WebhookId::parse(id).unwrap();
        let value = |text: &str| SecretValue::new(text.as_bytes());
        secrets.keep_of_handshake(&webhook("a"), "hook_secret", &value("one")).unwrap();
        assert!(secrets.keep_of_handshake(&webhook("a"), "hook_secret", &value("two")).is_err());
        assert!(secrets.keep_of_handshake(&webhook("a"), "../b", &value("two")).is_err());
        let found = secrets.of_handshakes(&webhook("a"));
        assert_eq!((found.len(), found[0].0.as_str()), (1, "hook_secret"));
        assert_eq!(shown(Some(found[0].1.clone())).as_deref(), Some("one"));
        assert!(secrets.of_handshakes(&webhook("b")).is_empty());
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
    fn secrets_for_calls_are_named_by_variable_file_or_sealed_and_are_no_settings() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::open_or_create(dir.path()).unwrap();
        let file = dir.path().join("key.pem");
        std::fs::write(&file, "pem\n").unwrap();
        let table = [
            ("api_token_env", "A_TOKEN".to_owned()),
            ("app_private_key_file", file.display().to_string()),
            ("client_secret_sealed", sealer.seal(b"sealed").unwrap()),
            ("app_id", "12".to_owned()),
        ];
        let table = table.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let environment = BTreeMap::from([("A_TOKEN".to_owned(), "one".to_owned())]);
        let providers = BTreeMap::from([("github".to_owned(), table)]);
        let secrets = Secrets::new(environment, &[], dir.path().to_owned(), providers, Some(sealer)).unwrap();
        let github = ProviderName::parse("github").unwrap();
        let held = secrets.for_calls(&github);
        let of = |slot: &str| held.first(slot).map(|value| String::from_utf8_lossy(value.expose()).into_owned());
        assert_eq!(of("api_token").as_deref(), Some("one"));
        assert_eq!(of("app_private_key").as_deref(), Some("pem"));
        assert_eq!(of("client_secret").as_deref(), Some("sealed"));
        assert_eq!(secrets.settings(&github).iter().collect::<Vec<_>>(), [("app_id", "12")]);
        let known: BTreeSet<Vec<u8>> = secrets.known().iter().map(|value| value.expose().to_vec()).collect();
        assert_eq!(known, [b"one".to_vec(), b"pem".to_vec(), b"sealed".to_vec()].into(), "none of them is ever said");
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
