//! Text hygiene at the two borders of an agent: what strangers wrote on its way into a prompt, and what the agent
//! wrote on its way out.
//!
//! In: [`for_prompt`] keeps what a reader of the source sees and drops what only a program would read, makes `@`
//! inert, and [`Fence`] marks where the text begins and ends in a way that the text cannot imitate. Out:
//! [`Outgoing`] takes out what looks like a secret and breaks our own mention, so that an answer starts no run.
//!
//! Everything here takes time linear in the text. It deliberately does not judge what the text says, and code blocks
//! are treated like other text: what a renderer might hide is dropped there too. The raw delivery keeps everything.

mod characters;
mod entities;
mod markdown;
mod markup;
mod outgoing;

pub use outgoing::{Cleaned, Outgoing, outgoing};

/// WORD JOINER: invisible, and neither a blank nor part of a word.
const JOINER: char = '\u{2060}';
/// Shortest token of a fence, in characters.
const FENCE_TOKEN_CHARS_MIN: usize = 16;

/// Text for a prompt: visible and inert.
pub fn for_prompt(text: &str) -> String {
    inert(&visible(text))
}

/// Without what a reader of the source does not see: HTML comments and hidden elements, collapsed sections, attributes,
/// alternative texts and titles, link definitions, invisible, bidirectional and control characters. Entities are
/// decoded, once.
pub fn visible(text: &str) -> String {
    let text = characters::strip(text);
    let text = markup::strip(&text);
    let text = markdown::strip(&text);
    // What an entity stands for is text and not syntax, so it comes last; it may be an invisible character.
    characters::strip(&entities::decode(&text))
}

/// With a word joiner before every `@`: the agent program reads `@path` in a prompt as a file to attach.
pub fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c == '@' && !out.ends_with(JOINER) {
            out.push(JOINER);
        }
        out.push(c);
    }
    out
}

/// A pair of marks around untrusted text, named by a token that its writer could not know.
#[derive(Clone, Debug)]
pub struct Fence {
    token: String,
}

impl Fence {
    /// `token`: fresh and random for each run, at least 16 ASCII letters or digits.
    pub fn new(token: &str) -> Option<Self> {
        let fit = token.len() >= FENCE_TOKEN_CHARS_MIN && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
        fit.then(|| Self { token: token.to_ascii_lowercase() })
    }

    /// The text between the marks. `label` says what it is (`issue body`); it is reduced to plain words.
    pub fn wrap(&self, label: &str, text: &str) -> String {
        let label: String =
            label.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.')).collect();
        let name = format!("untrusted-{}", self.token);
        format!("<{name} what=\"{label}\">\n{}\n</{name}>", self.without_token(text))
    }

    /// The mark that ends the text, for instructions that refer to it.
    pub fn token(&self) -> &str {
        &self.token
    }

    fn without_token(&self, text: &str) -> String {
        let folded = text.to_ascii_lowercase();
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for (found, token) in folded.match_indices(&self.token) {
            out.push_str(&text[at..found]);
            out.push_str("[removed]");
            at = found + token.len();
        }
        out.push_str(&text[at..]);
        out
    }
}

/// Whether nothing but up to three blanks stands before it on its line, as Markdown wants it for blocks.
fn begins_a_line(text: &str, at: usize) -> bool {
    let before = text.as_bytes()[..at].iter().rev();
    let blanks = before.clone().take(4).take_while(|byte| **byte == b' ').count();
    blanks <= 3 && before.clone().nth(blanks).is_none_or(|byte| *byte == b'\n')
}

#[cfg(test)]
mod tests;
