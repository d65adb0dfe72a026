//! What stands within a line of Markdown: emphasis, code, links.

/// Deepest nesting of marks.
const DEPTH_MAX: usize = 6;
/// How far a mark's other half is looked for, in bytes, so that a text of marks takes no quadratic time.
const REACH: usize = 2_000;
/// How many marks are tried as the other half of one.
const HALVES_MAX: usize = 32;

#[derive(Clone, Debug, PartialEq)]
pub enum Inline {
    Text(String),
    Code(String),
    Strong(Vec<Inline>),
    Emphasis(Vec<Inline>),
    Strike(Vec<Inline>),
    Link { label: Vec<Inline>, address: String },
    LineBreak,
}

pub fn parse(text: &str) -> Vec<Inline> {
    nested(text, 0)
}

fn nested(text: &str, depth: usize) -> Vec<Inline> {
    let mut inlines = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let before = plain.chars().last().or_else(|| text[..text.len() - rest.len()].chars().last());
        let found = if depth < DEPTH_MAX { mark(rest, before, depth) } else { None };
        match found {
            Some((inline, used)) => {
                flush(&mut plain, &mut inlines);
                inlines.push(inline);
                rest = &rest[used..];
            }
            None if c == '\\' && rest[1..].starts_with(|c: char| c.is_ascii_punctuation()) => {
                plain.push_str(&rest[1..2]);
                rest = &rest[2..];
            }
            None => {
                plain.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    flush(&mut plain, &mut inlines);
    inlines
}

fn flush(plain: &mut String, inlines: &mut Vec<Inline>) {
    if !plain.is_empty() {
        inlines.push(Inline::Text(std::mem::take(plain)));
    }
}

/// What begins here, and its length in bytes.
fn mark(text: &str, before: Option<char>, depth: usize) -> Option<(Inline, usize)> {
    match text.as_bytes().first()? {
        b'\n' => Some((Inline::LineBreak, 1)),
        b'`' => code(text),
        b'*' => spanned(text, "**", Inline::Strong, before, depth)
            .or_else(|| spanned(text, "*", Inline::Emphasis, before, depth)),
        b'_' => spanned(text, "__", Inline::Strong, before, depth)
            .or_else(|| spanned(text, "_", Inline::Emphasis, before, depth)),
        b'~' => spanned(text, "~~", Inline::Strike, before, depth),
        b'!' if text.starts_with("![") => link(&text[1..], depth).map(|(inline, used)| (inline, used + 1)),
        b'[' => link(text, depth),
        b'h' if before.is_none_or(|c| !c.is_alphanumeric()) => bare_address(text),
        _ => None,
    }
}

fn code(text: &str) -> Option<(Inline, usize)> {
    let ticks = text.bytes().take_while(|byte| *byte == b'`').count();
    let fence = &text[..ticks];
    let inner = &text[ticks..];
    let end = reach(inner).find(fence)?;
    (end > 0).then(|| (Inline::Code(inner[..end].trim_matches(' ').to_owned()), end + 2 * ticks))
}

fn spanned(
    text: &str,
    mark: &str,
    make: fn(Vec<Inline>) -> Inline,
    before: Option<char>,
    depth: usize,
) -> Option<(Inline, usize)> {
    let inner = text.strip_prefix(mark)?;
    let word = |c: char| c.is_alphanumeric();
    // Within words an underscore is a letter, and a mark before a space opens nothing.
    if inner.starts_with(char::is_whitespace) || (mark.starts_with('_') && before.is_some_and(word)) {
        return None;
    }
    let mut from = 0;
    for _ in 0..HALVES_MAX {
        let at = from + reach(inner).get(from..)?.find(mark)?;
        let (inside, after) = (&inner[..at], &inner[at + mark.len()..]);
        let in_word = mark.starts_with('_') && after.starts_with(word);
        let longer = mark.len() == 1 && (after.starts_with(mark) || inside.ends_with(mark));
        let ends_well = inside.chars().next_back().is_some_and(|c| !c.is_whitespace());
        let closes = ends_well && !in_word && !longer && !inside.contains("\n\n");
        if closes {
            return Some((make(nested(inside, depth + 1)), at + 2 * mark.len()));
        }
        from = at + mark.len();
    }
    None
}

fn link(text: &str, depth: usize) -> Option<(Inline, usize)> {
    let close = reach(text).find("](")?;
    let label = &text[1..close];
    if label.contains('\n') || label.contains('[') {
        return None;
    }
    let target = &text[close + 2..];
    let end = reach(target).find(')')?;
    let address = target[..end].split_whitespace().next()?;
    is_address(address).then(|| {
        let label = nested(label, depth + 1);
        (Inline::Link { label, address: address.to_owned() }, close + 2 + end + 1)
    })
}

fn bare_address(text: &str) -> Option<(Inline, usize)> {
    if !is_address(text) || text.starts_with("mailto:") {
        return None;
    }
    let end = text.find(|c: char| c.is_whitespace() || "<>\"'`*|".contains(c)).unwrap_or(text.len());
    let address = text[..end].trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']']);
    let label = vec![Inline::Text(address.to_owned())];
    (address.len() > "https://".len()).then(|| (Inline::Link { label, address: address.to_owned() }, address.len()))
}

fn is_address(text: &str) -> bool {
    ["https://", "http://", "mailto:"].iter().any(|scheme| text.starts_with(scheme))
}

fn reach(text: &str) -> &str {
    let mut end = text.len().min(REACH);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
