//! The bottom of the house: one error type, and the catalogue of codes that people meet.
//!
//! An [`Error`] carries a [`Code`] (what kind of trouble, which HTTP status, whether to retry), a sentence
//! that is safe to show to anyone, a hint that says what to do, and an internal detail for the log alone.
//! It deliberately does not carry backtraces, and it never carries secrets, headers, bodies or prompts.

mod catalogue;

pub use catalogue::{Code, Retry};

use std::fmt;

/// What most functions of this crate answer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Trouble with a code from the catalogue.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    code: Code,
    message: String,
    hint: Option<String>,
    detail: Option<String>,
}

impl Error {
    /// `message`: lower case, no final period, values in backticks, safe to send to a stranger.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { inner: Box::new(Inner { code, message: message.into(), hint: None, detail: None }) }
    }

    /// What the person can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint = Some(hint.into());
        self
    }

    /// What the log should know and the outside should not.
    #[must_use]
    pub fn detail(mut self, detail: impl fmt::Display) -> Self {
        self.inner.detail = Some(detail.to_string());
        self
    }

    pub fn code(&self) -> Code {
        self.inner.code
    }

    pub fn message(&self) -> &str {
        &self.inner.message
    }

    pub fn hint_text(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// The internal side: message and detail, for the log.
    pub fn internal(&self) -> String {
        match &self.inner.detail {
            Some(detail) => format!("{}: {detail}", self.inner.message),
            None => self.inner.message.clone(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.inner.code, self.inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.inner.code, self.internal())
    }
}

impl std::error::Error for Error {}

/// Attaches a code and a sentence to an error of another crate, whose own text becomes the detail.
pub trait Context<T> {
    fn context(self, code: Code, message: impl Into<String>) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn context(self, code: Code, message: impl Into<String>) -> Result<T> {
        self.map_err(|error| Error::new(code, message).detail(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detail_stays_inside() {
        let error = Error::new(Code::LedgerUnavailable, "the ledger cannot be written").detail("EIO at offset 7");
        assert_eq!(error.to_string(), "[SH0601] the ledger cannot be written");
        assert_eq!(error.internal(), "the ledger cannot be written: EIO at offset 7");
    }
}
