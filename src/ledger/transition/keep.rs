//! What is only kept: conversations, generations, tokens, answers, and what a person holds back.

use super::{Ledgers, Step};
use crate::error::{Code, Error};
use crate::ledger::rows::{Conversation, Deed, Generation, KeptAnswer, Suspension, Token};
use crate::ledger::store::Failure;
use crate::ledger::store::kept::ConversationRow;
use crate::model::digest::Digest;
use crate::model::ids::WebhookId;

/// Longest id of a conversation in bytes.
const CONVERSATION_BYTES_MAX: usize = 1_000;

impl Ledgers<'_, '_> {
    pub(super) fn put_conversation(&mut self, id: &str, conversation: &Conversation) -> Step<()> {
        if id.len() > CONVERSATION_BYTES_MAX {
            return Err(Error::new(Code::Usage, "the id of the conversation is too long").into());
        }
        let row = ConversationRow { conversation: conversation.clone(), updated_at: self.now };
        self.tables.conversations.put(id.as_bytes(), &row)
    }

    pub(super) fn put_generations(&mut self, generations: &[(WebhookId, Generation)]) -> Step<()> {
        for (webhook, generation) in generations {
            let key = webhook.as_str().as_bytes();
            // Another node may be further: numbers never count down.
            let is_further = match self.tables.generations.get(key) {
                Ok(known) => known.is_some_and(|known| known.number > generation.number),
                Err(Failure::Refused(_)) => false,
                Err(storage) => return Err(storage),
            };
            if !is_further {
                self.tables.generations.put(key, generation)?;
            }
        }
        Ok(())
    }

    /// The row of the reconciler has an empty key. What is held back already keeps its time.
    pub(super) fn suspend(&mut self, webhook: Option<&WebhookId>, on: bool) -> Step<()> {
        let name = webhook.map(WebhookId::as_str).unwrap_or_default();
        let key = name.as_bytes();
        if self.tables.suspended.has(key)? == on {
            return Ok(());
        }
        if on {
            self.tables.suspended.put(key, &Suspension { since: self.now })?;
        } else {
            self.tables.suspended.remove(key)?;
        }
        let kind = match (webhook, on) {
            (Some(_), true) => "webhook.suspended",
            (Some(_), false) => "webhook.resumed",
            (None, true) => "reconcile.suspended",
            (None, false) => "reconcile.resumed",
        };
        self.note(kind, webhook, "by a person");
        if webhook.is_some() {
            self.memory.queue.suspend(name, on);
            *self.work = true;
        }
        Ok(())
    }

    pub(super) fn put_tokens(&mut self, tokens: &[Token], deed: Option<&Deed>) -> Step<()> {
        for token in tokens {
            let key = token.id.as_str().as_bytes();
            // A node that has not heard of a revocation does not undo it.
            let revoked_at = match self.tables.tokens.get(key) {
                Ok(known) => known.and_then(|known| known.revoked_at),
                Err(Failure::Refused(_)) => None,
                Err(storage) => return Err(storage),
            };
            let token = Token { revoked_at: revoked_at.or(token.revoked_at), ..token.clone() };
            self.tables.tokens.put(key, &token)?;
        }
        if let Some(deed) = deed {
            self.record(deed);
        }
        Ok(())
    }

    pub(super) fn keep_answer(&mut self, id: &Digest, answer: &KeptAnswer) -> Step<()> {
        self.tables.answers.put(id.as_bytes(), answer)
    }
}
