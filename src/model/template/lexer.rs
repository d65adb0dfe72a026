//! Cuts a template into text, `{{ outputs }}` and `{% tags %}`, and those into tokens.
//!
//! White-space control (`{%- -%}`), comments and `raw` are settled here; the rules are Tera's.

use super::syntax::Fault;

#[derive(Debug)]
pub(super) enum Piece<'a> {
    Text(String),
    Output(Vec<Token<'a>>),
    Tag(Vec<Token<'a>>),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub kind: TokenKind<'a>,
    /// The bytes of the source from here …
    pub start: usize,
    /// … to here.
    pub end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum TokenKind<'a> {
    Name(&'a str),
    /// As written.
    Number(&'a str),
    /// As written, with its quotes.
    Text(&'a str),
    Symbol(&'static str),
    /// The end of the output or tag.
    End,
}

const SYMBOLS: [&str; 34] = [
    "...", "//", "**", "==", "!=", ">=", "<=", "</", "?.", "?[", "+", "-", "*", "/", "%", "!", ".", ",", ":", "~", "|",
    "=", ">", "<", "(", ")", "[", "]", "{", "}", "@", "&", ";", "?",
];

pub(super) fn lex(source: &str) -> Result<Vec<Piece<'_>>, Fault> {
    let mut lexer = Lexer { source, at: 0, pieces: Vec::new(), trim_next: false };
    while lexer.at < source.len() {
        lexer.piece()?;
    }
    Ok(lexer.pieces)
}

/// The text that a string token stands for.
pub(super) fn unescape(written: &str) -> Option<String> {
    let mut out = String::with_capacity(written.len());
    let mut chars = written.get(1..written.len().checked_sub(1)?)?.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(match chars.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                same @ ('"' | '\'' | '/' | '\\') => same,
                _ => return None,
            }),
            _ => out.push(c),
        }
    }
    Some(out)
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    pieces: Vec<Piece<'a>>,
    /// The last delimiter was a `-%}`, `-}}` or `-#}`.
    trim_next: bool,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn piece(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        let trims = rest.as_bytes().get(2) == Some(&b'-');
        let opening = 2 + usize::from(trims);
        match rest.get(..2) {
            Some("{{") => {
                let tokens = self.tokens(opening, "{{", "}}")?;
                self.pieces.push(Piece::Output(tokens));
            }
            Some("{%") if tag_end(&rest[2..], "raw").is_some() => self.raw()?,
            Some("{%") => {
                let tokens = self.tokens(opening, "{%", "%}")?;
                self.pieces.push(Piece::Tag(tokens));
            }
            Some("{#") => self.comment(opening)?,
            _ => self.text(),
        }
        Ok(())
    }

    fn text(&mut self) {
        let rest = self.rest();
        let end = ["{{", "{%", "{#"].iter().filter_map(|marker| rest.find(marker)).min().unwrap_or(rest.len());
        let trims_end = rest.as_bytes().get(end + 2) == Some(&b'-');
        self.push_text(&rest[..end], trims_end);
        self.at += end;
    }

    fn push_text(&mut self, text: &str, trims_end: bool) {
        let text = if std::mem::take(&mut self.trim_next) { text.trim_start() } else { text };
        let text = if trims_end { text.trim_end() } else { text };
        match self.pieces.last_mut() {
            Some(Piece::Text(last)) => last.push_str(text),
            _ if text.is_empty() => {}
            _ => self.pieces.push(Piece::Text(text.to_owned())),
        }
    }

    fn comment(&mut self, opening: usize) -> Result<(), Fault> {
        let rest = &self.rest()[opening..];
        let end = rest
            .find("#}")
            .ok_or_else(|| Fault::syntax(self.at, "the comment is not closed").hint("end it with `#}`"))?;
        // A comment does not end the trimming that a tag before it began.
        self.trim_next |= rest[..end].ends_with('-');
        self.at += opening + end + 2;
        Ok(())
    }

    fn raw(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        let unclosed = || Fault::syntax(self.at, "`raw` is not closed").hint("end it with `{% endraw %}`");
        let (opened, trims_start) = tag_end(&rest[2..], "raw").ok_or_else(unclosed)?;
        let body = &rest[2 + opened..];
        let (length, closing, trims_end, trims_after) = body
            .match_indices("{%")
            .find_map(|(at, _)| {
                let (closing, trims_after) = tag_end(&body[at + 2..], "endraw")?;
                Some((at, closing, body[at + 2..].starts_with('-'), trims_after))
            })
            .ok_or_else(unclosed)?;
        let text = &body[..length];
        let text = if trims_start { text.trim_start() } else { text };
        let text = if trims_end { text.trim_end() } else { text };
        self.at += 2 + opened + length + 2 + closing;
        let next_trims = ["{{-", "{%-", "{#-"].iter().any(|marker| self.rest().starts_with(marker));
        self.push_text(text, next_trims);
        self.trim_next = trims_after;
        Ok(())
    }

    fn tokens(&mut self, opening: usize, start: &str, end: &str) -> Result<Vec<Token<'a>>, Fault> {
        let opened_at = self.at;
        self.trim_next = false;
        self.at += opening;
        let mut tokens = Vec::new();
        loop {
            let rest = self.rest();
            let skipped = rest.len() - rest.trim_ascii_start().len();
            self.at += skipped;
            let rest = self.rest();
            let trims = rest.starts_with('-') && rest[1..].starts_with(end);
            if trims || rest.starts_with(end) {
                tokens.push(Token { kind: TokenKind::End, start: self.at, end: self.at });
                self.at += end.len() + usize::from(trims);
                self.trim_next = trims;
                return Ok(tokens);
            }
            if rest.is_empty() {
                return Err(
                    Fault::syntax(opened_at, format!("`{start}` is not closed")).hint(format!("end it with `{end}`"))
                );
            }
            let after_dot =
                tokens.last().is_some_and(|last: &Token<'_>| matches!(last.kind, TokenKind::Symbol("." | "?.")));
            let (kind, length) = self.token(rest, after_dot)?;
            tokens.push(Token { kind, start: self.at, end: self.at + length });
            self.at += length;
        }
    }

    fn token(&self, rest: &'a str, after_dot: bool) -> Result<(TokenKind<'a>, usize), Fault> {
        let first = rest.chars().next().unwrap_or_default();
        if first.is_ascii_digit() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let fraction =
                rest[digits..].strip_prefix('.').map(|rest| 1 + rest.bytes().take_while(u8::is_ascii_digit).count());
            // `a.0.b` is two steps and no fraction.
            let length = digits + fraction.filter(|_| !after_dot).unwrap_or(0);
            return Ok((TokenKind::Number(&rest[..length]), length));
        }
        if matches!(first, '"' | '\'' | '`') {
            let length = string_length(rest, first).ok_or_else(|| {
                Fault::syntax(self.at, "the string is not closed").hint(format!("end it with `{first}`"))
            })?;
            if unescape(&rest[..length]).is_none() {
                return Err(Fault::syntax(self.at, "the string has an escape that is not known")
                    .hint("known are `\\n`, `\\t`, `\\r`, `\\\\`, `\\/` and quotes"));
            }
            return Ok((TokenKind::Text(&rest[..length]), length));
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let length = rest.bytes().take_while(|c| c.is_ascii_alphanumeric() || *c == b'_').count();
            return Ok((TokenKind::Name(&rest[..length]), length));
        }
        match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            Some(symbol) => Ok((TokenKind::Symbol(symbol), symbol.len())),
            None => Err(Fault::syntax(self.at, format!("`{}` has no meaning here", first.escape_default()))),
        }
    }
}

/// Goes over `- name -%}` after a `{%`: its length, and whether it trims what follows.
fn tag_end(text: &str, name: &str) -> Option<(usize, bool)> {
    let rest = text.strip_prefix('-').unwrap_or(text).trim_ascii_start().strip_prefix(name)?.trim_ascii_start();
    let trimmed = rest.strip_prefix('-');
    let rest = trimmed.unwrap_or(rest).strip_prefix("%}")?;
    Some((text.len() - rest.len(), trimmed.is_some()))
}

/// The length of the string that begins the text, with its quotes.
fn string_length(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return Some(at + c.len_utf8()),
            _ => {}
        }
    }
    None
}
