//! Tokens that were got, until shortly before they end. In memory alone: after a restart they are got again.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use crate::error::{Code, Error, Result};
use crate::model::secret::SecretValue;
use crate::seam::Clock;

/// Kinds of tokens that are kept at one time: one for each provider and address.
const KEPT_MAX: usize = 256;
/// So long before its end a token is used no more.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);
/// For how long a token is used whose end nobody told.
const WITHOUT_END: SignedDuration = SignedDuration::from_mins(10);
/// After a refusal the provider is left alone for so long.
const REFUSED: SignedDuration = SignedDuration::from_secs(3);

/// All of them; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Arc<Mutex<HashMap<String, Kept>>>);

/// The place of one of them. Whoever needs it while it is being got waits for that.
#[derive(Clone, Debug, Default)]
pub struct Kept(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    token: Option<(SecretValue, Timestamp)>,
    /// Counts tokens: what is forgotten is the one that did not work.
    number: u64,
    refused: Option<(Error, Timestamp)>,
}

/// A token to be used now.
#[derive(Clone, Debug)]
pub struct Token {
    pub value: SecretValue,
    number: u64,
    kept: Kept,
}

impl Tokens {
    pub async fn of(&self, key: String) -> Kept {
        let mut kept = self.0.lock().await;
        if kept.len() >= KEPT_MAX && !kept.contains_key(&key) {
            kept.clear();
        }
        kept.entry(key).or_default().clone()
    }
}

impl Kept {
    /// The token that is there, else what `fetch` brings, with the time when it ends.
    ///
    /// # Errors
    /// Those of `fetch`; a refusal is remembered for a while.
    pub async fn get(
        &self,
        clock: &Clock,
        fetch: impl Future<Output = Result<(String, Option<Timestamp>)>>,
    ) -> Result<Token> {
        let mut state = self.0.lock().await;
        let now = clock.now();
        if let Some((value, until)) = &state.token
            && now < *until
        {
            return Ok(Token { value: value.clone(), number: state.number, kept: self.clone() });
        }
        if let Some((error, until)) = &state.refused
            && now < *until
        {
            return Err(error.clone());
        }
        state.token = None;
        match fetch.await {
            Ok((text, ends)) => {
                let value = SecretValue::new(text);
                let until = match ends {
                    Some(ends) => ends.checked_sub(MARGIN).unwrap_or(now),
                    None => now.checked_add(WITHOUT_END).unwrap_or(now),
                };
                let number = state.number + 1;
                *state = State { token: Some((value.clone(), until)), number, refused: None };
                Ok(Token { value, number, kept: self.clone() })
            }
            Err(error) => {
                if error.code() == Code::CredentialRefused {
                    let until = now.checked_add(REFUSED).unwrap_or(now);
                    state.refused = Some((error.clone(), until));
                }
                Err(error)
            }
        }
    }
}

impl Token {
    /// It does not work any more. Nothing happens when it was replaced meanwhile.
    pub async fn forget(&self) {
        let mut state = self.kept.0.lock().await;
        if state.number == self.number {
            state.token = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[tokio::test]
    async fn token_is_kept_until_shortly_before_its_end() {
        let clock = Clock::manual(at(0));
        let kept = Tokens::default().of("a".to_owned()).await;
        let fetched = AtomicU32::new(0);
        let get = async || {
            let fetch = async {
                let n = fetched.fetch_add(1, Ordering::Relaxed);
                Ok((format!("t{n}"), clock.now().checked_add(SignedDuration::from_secs(600)).ok()))
            };
            kept.get(&clock, fetch).await.unwrap()
        };
        get().await;
        clock.advance(SignedDuration::from_secs(539));
        assert_eq!(get().await.value.expose(), b"t0");
        clock.advance(SignedDuration::from_secs(1));
        let second = get().await;
        assert_eq!(second.value.expose(), b"t1");
        second.forget().await;
        assert_eq!(get().await.value.expose(), b"t2");
        second.forget().await;
        assert_eq!(get().await.value.expose(), b"t2", "only what did not work is forgotten");
    }

    #[tokio::test]
    async fn refusal_is_remembered_for_a_while_and_trouble_is_not() {
        let clock = Clock::manual(at(0));
        let kept = Tokens::default().of("a".to_owned()).await;
        let fetched = AtomicU32::new(0);
        let fail = async |code: Code| {
            let fetch = async {
                fetched.fetch_add(1, Ordering::Relaxed);
                Err(Error::new(code, "no"))
            };
            kept.get(&clock, fetch).await.unwrap_err().code()
        };
        for _ in 0..2 {
            assert_eq!(fail(Code::ReplyUnavailable).await, Code::ReplyUnavailable);
        }
        assert_eq!(fail(Code::CredentialRefused).await, Code::CredentialRefused);
        assert_eq!(fail(Code::ReplyUnavailable).await, Code::CredentialRefused);
        assert_eq!(fetched.load(Ordering::Relaxed), 3);
        clock.advance(REFUSED);
        assert_eq!(fail(Code::ReplyUnavailable).await, Code::ReplyUnavailable);
    }
}
