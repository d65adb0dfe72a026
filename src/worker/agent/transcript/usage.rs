//! Counts tokens and cost.
//!
//! Versions count differently: up to 2.1.197 the total is of the process, later it is of the session and grows over
//! resumed runs, and then `model_usage_since_last_result` holds what was added. Without a result only the usage of
//! the single messages is known, and no cost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Of single messages at most this many are told apart.
const MESSAGES_MAX: usize = 10_000;
/// The last version whose total is known to be that of one process.
const LAST_PER_PROCESS: [u64; 3] = [2, 1, 197];

/// What a run used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_creation: u64,
}

#[derive(Debug, Default)]
pub(super) struct Meter {
    messages: BTreeMap<String, Tokens>,
    /// Of the last result: all models together.
    total: Option<Tokens>,
    total_usd: Option<f64>,
    /// Summed over all results, where they say it.
    added: Option<(Tokens, f64)>,
}

impl Meter {
    pub(super) fn message(&mut self, message: &Value) {
        let (Some(id), Some(usage)) = (message.get("id").and_then(Value::as_str), message.get("usage")) else { return };
        if self.messages.len() < MESSAGES_MAX || self.messages.contains_key(id) {
            self.messages.insert(id.to_owned(), tokens_of(usage, MESSAGE_KEYS));
        }
    }

    pub(super) fn result(&mut self, line: &Value) {
        self.total_usd = line.get("total_cost_usd").and_then(Value::as_f64).or(self.total_usd);
        if let Some(models) = line.get("modelUsage").and_then(Value::as_object) {
            self.total = Some(models.values().map(|usage| tokens_of(usage, MODEL_KEYS)).fold(Tokens::default(), sum));
        }
        if let Some(models) = line.get("model_usage_since_last_result").and_then(Value::as_object) {
            let (tokens, usd) = self.added.unwrap_or_default();
            let usd_of = |usage: &Value| usage.get("costUSD").and_then(Value::as_f64).unwrap_or(0.0);
            self.added = Some((
                models.values().map(|usage| tokens_of(usage, MODEL_KEYS)).fold(tokens, sum),
                usd + models.values().map(usd_of).sum::<f64>(),
            ));
        }
    }

    pub(super) fn tokens(&self) -> Tokens {
        let of_messages = || self.messages.values().copied().fold(Tokens::default(), sum);
        self.added.map(|(tokens, _)| tokens).or(self.total).unwrap_or_else(of_messages)
    }

    pub(super) fn total_usd(&self) -> Option<f64> {
        self.total_usd
    }

    pub(super) fn run_usd(&self, before_usd: f64, version: Option<&str>) -> Option<f64> {
        if let Some((_, usd)) = self.added {
            return Some(usd);
        }
        let total = self.total_usd?;
        let counts_anew = version.and_then(numbers).is_some_and(|version| version <= LAST_PER_PROCESS);
        // A total below the former one means that the counter began anew.
        Some(if counts_anew || total < before_usd { total } else { total - before_usd })
    }
}

type Keys = [&'static str; 4];
const MESSAGE_KEYS: Keys = ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"];
const MODEL_KEYS: Keys = ["inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens"];

fn tokens_of(usage: &Value, keys: Keys) -> Tokens {
    let [input, output, cache_read, cache_creation] =
        keys.map(|key| usage.get(key).and_then(Value::as_u64).unwrap_or(0));
    Tokens { input, output, cache_read, cache_creation }
}

fn sum(a: Tokens, b: Tokens) -> Tokens {
    Tokens {
        input: a.input.saturating_add(b.input),
        output: a.output.saturating_add(b.output),
        cache_read: a.cache_read.saturating_add(b.cache_read),
        cache_creation: a.cache_creation.saturating_add(b.cache_creation),
    }
}

fn numbers(version: &str) -> Option<[u64; 3]> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some([parts.next()??, parts.next()??, parts.next()??])
}
