//! Who asks, and what he may do.
//!
//! Whoever can use the socket in the data directory owns the service. Over TCP a token says who asks; as long as none was
//! ever made, programs of this machine may read, and change nothing. A token that does not hold opens nothing, not even
//! what is open without one. What was revoked or has expired is noticed by streams that are open already.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use warp::http::header;

use super::tickets::Tickets;
use crate::error::{Code, Error, Result};
use crate::http::exchange::{Head, Peer};
use crate::ledger::Ledger;
use crate::ledger::rows::{Deed, Token};
use crate::model::token::{self, NAME_CHARS_MAX, Scope, Scopes, TokenId};
use crate::seam::{Clock, fresh_bytes};

/// Most tokens that hold at one time.
const TOKENS_MAX: usize = 1_000;
/// How often the last use of tokens is written down.
const USES_EVERY: Duration = Duration::from_secs(30);

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Through the socket in the data directory.
    Local,
    /// A program of this machine, while there are no tokens.
    Anonymous,
    Token(Grant),
}

/// What a token gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub id: TokenId,
    pub name: String,
    pub scopes: Scopes,
}

impl Caller {
    pub fn may(&self, needed: Scope) -> bool {
        match self {
            Caller::Local => true,
            Caller::Anonymous => needed == Scope::Read,
            Caller::Token(grant) => grant.scopes.allow(needed),
        }
    }

    /// As the record of what happened names it.
    pub fn actor(&self) -> String {
        match self {
            Caller::Local => "local".to_owned(),
            Caller::Anonymous => "anonymous".to_owned(),
            Caller::Token(grant) => format!("token {} ({})", grant.name, grant.id),
        }
    }

    /// # Errors
    /// SH0811 when it may not.
    pub fn require(&self, needed: Scope) -> Result<()> {
        if self.may(needed) {
            return Ok(());
        }
        let error = Error::new(Code::ScopeMissing, format!("this needs the scope `{}`", needed.as_str()));
        Err(match self {
            Caller::Token(grant) => error.hint(format!("the token `{}` has {}", grant.name, grant.scopes)),
            Caller::Local | Caller::Anonymous => {
                error.hint("use the `skillhook` command, or make a token: `skillhook token create NAME`")
            }
        })
    }
}

/// What a token is to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub name: String,
    pub scopes: Scopes,
    pub expires_at: Option<Timestamp>,
}

/// The tokens in force. A cheap handle; the ledger keeps them.
#[derive(Clone, Debug)]
pub struct Access {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ledger: Ledger,
    clock: Clock,
    known: ArcSwap<Known>,
    /// Uses that are not written down yet.
    used: Mutex<BTreeMap<TokenId, Timestamp>>,
    /// One change of tokens at a time.
    changing: tokio::sync::Mutex<()>,
    changes: watch::Sender<u64>,
    tickets: Tickets,
}

#[derive(Clone, Debug, Default)]
struct Known {
    tokens: BTreeMap<TokenId, Token>,
    /// Rows that cannot be read: nobody comes in by them, and they count as tokens that were made.
    damaged: usize,
}

impl Access {
    /// Reads the tokens. Blocks for a read of the file.
    ///
    /// # Errors
    /// SH0601 and SH0602 when the ledger cannot be read.
    pub fn open(ledger: Ledger, clock: Clock) -> Result<Self> {
        let known = read(&ledger)?;
        let inner = Inner {
            ledger,
            clock,
            known: ArcSwap::from_pointee(known),
            used: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            changes: watch::Sender::new(0),
            tickets: Tickets::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Reads them again, where another node has changed them. Blocks.
    ///
    /// # Errors
    /// As [`Access::open`].
    pub fn read_again(&self) -> Result<()> {
        let _turn = self.inner.changing.blocking_lock();
        self.inner.known.store(Arc::new(read(&self.inner.ledger)?));
        self.inner.changes.send_modify(|version| *version += 1);
        Ok(())
    }

    /// Who sent this request.
    ///
    /// # Errors
    /// SH0810 when it shows no token that holds, and needs one.
    pub fn caller(&self, head: &Head) -> Result<Caller> {
        if head.headers.contains_key(header::AUTHORIZATION) {
            return self.bearer(head);
        }
        match head.arrival.peer {
            Peer::Local => Ok(Caller::Local),
            Peer::Run => Err(refuse("a run of this service has no part in its administration")),
            Peer::Address(_) if self.was_ever_made() => Err(refuse("the request has no token")
                .hint("send `Authorization: Bearer shk_…`; `skillhook token create NAME` makes one")),
            Peer::Address(_) => Ok(Caller::Anonymous),
        }
    }

    fn bearer(&self, head: &Head) -> Result<Caller> {
        let value = head.single_header(header::AUTHORIZATION).unwrap_or_default();
        let text = match value.split_once(' ') {
            Some((scheme, text)) if scheme.eq_ignore_ascii_case("bearer") => text.trim(),
            Some(_) | None => return Err(refuse("the `Authorization` header holds no bearer token")),
        };
        let Some(id) = token::claimed(text) else {
            return Err(refuse("what the `Authorization` header holds is no whole token")
                .hint("a token begins with `shk_` and is 73 characters long"));
        };
        let (known, now) = (self.inner.known.load(), self.inner.clock.now());
        // One answer for unknown, wrong, expired and revoked ones.
        let found = known.tokens.get(&id).filter(|token| same(token, text) && token.is_valid(now));
        let Some(found) = found else {
            return Err(refuse("the token does not hold").hint("`skillhook token list` shows those that do"));
        };
        self.used().insert(id.clone(), now);
        Ok(Caller::Token(Grant { id, name: found.name.clone(), scopes: found.scopes.clone() }))
    }

    /// Whether a token was ever made; then nothing but liveness is open without one.
    pub fn was_ever_made(&self) -> bool {
        let known = self.inner.known.load();
        known.damaged > 0 || !known.tokens.is_empty()
    }

    /// Whether anybody could come in by a token now.
    pub fn any_holds(&self) -> bool {
        let now = self.inner.clock.now();
        self.inner.known.load().tokens.values().any(|token| token.is_valid(now))
    }

    /// Whether this caller still is who he was: for what stays open.
    pub fn still_holds(&self, caller: &Caller) -> bool {
        match caller {
            Caller::Local => true,
            Caller::Anonymous => !self.was_ever_made(),
            Caller::Token(grant) => {
                let now = self.inner.clock.now();
                self.inner.known.load().tokens.get(&grant.id).is_some_and(|token| token.is_valid(now))
            }
        }
    }

    /// For how long this caller's token holds, if nothing else happens.
    pub fn holds_for(&self, caller: &Caller) -> Option<Duration> {
        let Caller::Token(grant) = caller else { return None };
        let expires_at = self.inner.known.load().tokens.get(&grant.id)?.expires_at?;
        Some(Duration::try_from(expires_at.duration_since(self.inner.clock.now())).unwrap_or_default())
    }

    /// Counts up with every change of tokens.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    pub fn tickets(&self) -> &Tickets {
        &self.inner.tickets
    }

    /// Every token there ever was, the newest first.
    pub fn tokens(&self) -> Vec<Token> {
        let used = self.used().clone();
        let mut tokens: Vec<Token> = self.inner.known.load().tokens.values().cloned().collect();
        for token in &mut tokens {
            token.last_used_at = token.last_used_at.max(used.get(&token.id).copied());
        }
        tokens.sort_by_key(|token| std::cmp::Reverse(token.created_at));
        tokens
    }

    /// Makes a token; its text is answered here and kept nowhere.
    ///
    /// # Errors
    /// SH0902 when it is not to be had in this form, SH0601 when it cannot be kept.
    pub async fn create(&self, wanted: Wanted, by: &Caller) -> Result<(Token, String)> {
        check(&wanted)?;
        let _turn = self.inner.changing.lock().await;
        let now = self.inner.clock.now();
        let known = self.inner.known.load_full();
        if known.tokens.values().filter(|token| token.is_valid(now)).count() >= TOKENS_MAX {
            return Err(Error::new(Code::Usage, format!("there are {TOKENS_MAX} tokens already"))
                .hint("revoke those that nobody uses"));
        }
        if wanted.expires_at.is_some_and(|expires_at| expires_at <= now) {
            return Err(Error::new(Code::Usage, "the token would have expired already"));
        }
        let (id, text) = token::compose(&fresh_bytes()?);
        let token = Token {
            id,
            name: wanted.name,
            scopes: wanted.scopes,
            digest: token::digest(&text),
            created_at: now,
            created_by: by.actor(),
            expires_at: wanted.expires_at,
            last_used_at: None,
            revoked_at: None,
        };
        let message = format!("token `{}` ({}) may {}", token.name, token.id, token.scopes);
        self.keep(token.clone(), "token.created", message, by).await?;
        Ok((token, text))
    }

    /// From here on it opens nothing, and what is open by it is closed.
    ///
    /// # Errors
    /// SH0901 when there is none, SH0601 when that cannot be kept.
    pub async fn revoke(&self, id: &TokenId, by: &Caller) -> Result<Token> {
        let _turn = self.inner.changing.lock().await;
        let known = self.inner.known.load_full();
        let Some(mut token) = known.tokens.get(id).cloned() else {
            return Err(Error::new(Code::NotFound, format!("there is no token `{id}`")));
        };
        if token.revoked_at.is_none() {
            token.revoked_at = Some(self.inner.clock.now());
            let message = format!("token `{}` ({id}) opens nothing any more", token.name);
            self.keep(token.clone(), "token.revoked", message, by).await?;
        }
        Ok(token)
    }

    async fn keep(&self, token: Token, kind: &str, message: String, by: &Caller) -> Result<()> {
        let deed = Deed { kind: kind.to_owned(), actor: by.actor(), message, ..Deed::default() };
        self.inner.ledger.put_tokens(vec![token.clone()], Some(deed)).await?;
        let mut known = Known::clone(&self.inner.known.load());
        known.tokens.insert(token.id.clone(), token);
        self.inner.known.store(Arc::new(known));
        self.inner.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Writes down when tokens were last used, now and then, until `stop`; then once more.
    pub async fn keep_uses(self, stop: tokio_util::sync::CancellationToken) {
        loop {
            let stopped = tokio::time::timeout(USES_EVERY, stop.cancelled()).await.is_ok();
            if let Err(error) = self.write_uses().await {
                tracing::debug!(error = error.internal(), "the last use of tokens is not written down");
            }
            if stopped {
                return;
            }
        }
    }

    async fn write_uses(&self) -> Result<()> {
        let used = std::mem::take(&mut *self.used());
        if used.is_empty() {
            return Ok(());
        }
        let _turn = self.inner.changing.lock().await;
        let mut known = Known::clone(&self.inner.known.load());
        let mut changed = Vec::new();
        for (id, at) in used {
            let Some(token) = known.tokens.get_mut(&id) else { continue };
            token.last_used_at = token.last_used_at.max(Some(at));
            changed.push(token.clone());
        }
        self.inner.known.store(Arc::new(known));
        self.inner.ledger.put_tokens(changed, None).await
    }

    fn used(&self) -> std::sync::MutexGuard<'_, BTreeMap<TokenId, Timestamp>> {
        self.inner.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(ledger: &Ledger) -> Result<Known> {
    let mut known = Known::default();
    for token in ledger.tokens()? {
        match token {
            Ok(token) => drop(known.tokens.insert(token.id.clone(), token)),
            Err(error) => {
                tracing::error!(error = error.internal(), "a token cannot be read: make a new one");
                known.damaged += 1;
            }
        }
    }
    Ok(known)
}

/// When a token that is to hold for so long expires.
pub fn expiry(now: Timestamp, holds: Duration) -> Timestamp {
    let holds = SignedDuration::try_from(holds).unwrap_or(SignedDuration::MAX);
    now.checked_add(holds).unwrap_or(Timestamp::MAX)
}

fn check(wanted: &Wanted) -> Result<()> {
    let name = &wanted.name;
    if name.trim().is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(Error::new(Code::Usage, "the token needs a name that people recognise")
            .hint(format!("at most {NAME_CHARS_MAX} characters on one line")));
    }
    if wanted.scopes.is_empty() {
        return Err(Error::new(Code::Usage, "the token needs a scope")
            .hint("the scopes are `read`, `write`, `approve` and `admin`"));
    }
    Ok(())
}

fn same(token: &Token, text: &str) -> bool {
    use subtle::ConstantTimeEq as _;
    token.digest.as_bytes().ct_eq(token::digest(text).as_bytes()).into()
}

fn refuse(message: &str) -> Error {
    Error::new(Code::TokenMissing, message)
}
