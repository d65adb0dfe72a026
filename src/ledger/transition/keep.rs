//! What is only kept: conversations, generations, tokens and answers.

use super::{Ledgers, Step};
use crate::error::{Code, Error};
use crate::ledger::rows::{Conversation, Deed, Generation, KeptAnswer, Token};
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
            self.tables.generations.put(webhook.as_str().as_bytes(), generation)?;
        }
        Ok(())
    }

    pub(super) fn put_tokens(&mut self, tokens: &[Token], deed: Option<&Deed>) -> Step<()> {
        for token in tokens {
            self.tables.tokens.put(token.id.as_str().as_bytes(), token)?;
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
