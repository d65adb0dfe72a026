//! Sealed secrets: encrypted with age (X25519) for the operator's key, so that they can stand in files and in git. Only a
//! service with that key, which never leaves the data directory, opens them.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::str::FromStr as _;

use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::error::{Code, Error, Result};
use crate::model::secret::SecretValue;

/// What a sealed secret begins with.
pub const PREFIX: &str = "age:";
/// The key's file in the secret directory; files cannot name it, since it begins with a dot.
pub const KEY_FILE: &str = ".operator.age-key";
/// Longest secret that is sealed, in bytes.
pub const SECRET_BYTES_MAX: usize = 4 * 1024;
const KEY_BYTES_MAX: usize = 4 * 1024;

/// The operator's key: seals and opens.
#[derive(Clone)]
pub struct Sealer {
    identity: Identity,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealer {
    /// The key of a secret directory; a new one where there is none.
    ///
    /// # Errors
    /// SH0814 when the key is there and is none, SH0301 when it cannot be kept.
    pub fn open_or_create(directory: &Path) -> Result<Self> {
        if let Some(sealer) = Self::open(directory)? {
            return Ok(sealer);
        }
        let unwritable = |error: io::Error| {
            Error::new(Code::SettingInvalid, "the operator's key cannot be written to the secret directory")
                .detail(error)
        };
        fs::create_dir_all(directory).map_err(unwritable)?;
        let identity = Identity::generate();
        let path = directory.join(KEY_FILE);
        let text = format!(
            "# Opens the sealed secrets of this service. Keep it, and never commit it.\n{}\n",
            identity.to_string().expose_secret()
        );
        match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(unwritable)?;
                Ok(Self { identity })
            }
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Self::open(directory)?.ok_or_else(|| unwritable(error))
            }
            Err(error) => Err(unwritable(error)),
        }
    }

    /// The key of a secret directory; `None` where there is none.
    ///
    /// # Errors
    /// SH0814 when it is there and is none.
    pub fn open(directory: &Path) -> Result<Option<Self>> {
        let unreadable = || {
            Error::new(Code::SealUnreadable, format!("`{KEY_FILE}` in the secret directory is no key"))
                .hint("restore it from a copy of the data directory; without it, seal every secret anew")
        };
        let text = match fs::read_to_string(directory.join(KEY_FILE)) {
            Ok(text) => zeroize::Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable().detail(error)),
        };
        if text.len() > KEY_BYTES_MAX {
            return Err(unreadable());
        }
        let line = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#')).unwrap_or_default();
        let identity = Identity::from_str(line.trim()).map_err(|_| unreadable())?;
        Ok(Some(Self { identity }))
    }

    /// The secret as it may stand in a file.
    ///
    /// # Errors
    /// SH0902 when it is empty or too long.
    pub fn seal(&self, secret: &[u8]) -> Result<String> {
        if secret.is_empty() || secret.len() > SECRET_BYTES_MAX {
            return Err(Error::new(Code::Usage, format!("a secret has 1 to {SECRET_BYTES_MAX} bytes")));
        }
        let sealed = age::encrypt(&self.identity.to_public(), secret)
            .map_err(|error| Error::new(Code::Bug, "the secret cannot be sealed").detail(error))?;
        Ok(format!("{PREFIX}{}", BASE64.encode(sealed)))
    }

    /// The secret that was sealed; `None` when it was sealed for another key, or is not whole.
    pub fn open_sealed(&self, text: &str) -> Option<SecretValue> {
        let bytes = BASE64.decode(text.trim().strip_prefix(PREFIX)?).ok()?;
        age::decrypt(&self.identity, &bytes).ok().map(SecretValue::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_sealed_opens_with_the_same_key_and_with_no_other() {
        let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let sealed = Sealer::open_or_create(here.path()).unwrap().seal(b"hunter2").unwrap();
        assert!(sealed.starts_with(PREFIX) && !sealed.contains("hunter2"), "{sealed}");
        let again = Sealer::open(here.path()).unwrap().unwrap();
        assert_eq!(again.open_sealed(&sealed).unwrap().expose(), b"hunter2");
        assert!(Sealer::open_or_create(elsewhere.path()).unwrap().open_sealed(&sealed).is_none());
        for broken in ["", "age:", "age:!", &sealed[..sealed.len() - 8], "hunter2"] {
            assert!(again.open_sealed(broken).is_none(), "{broken}");
        }
        let mode = fs::metadata(here.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_broken_key_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(KEY_FILE), "nothing\n").unwrap();
        assert_eq!(Sealer::open_or_create(dir.path()).unwrap_err().code(), Code::SealUnreadable);
        assert_eq!(fs::read_to_string(dir.path().join(KEY_FILE)).unwrap(), "nothing\n");
    }
}
