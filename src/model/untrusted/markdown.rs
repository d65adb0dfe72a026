//! What Markdown hides: alternative texts of images, titles of links, and link definitions.

use std::ops::Range;

use super::begins_a_line;

/// Most parentheses inside one another in a link's destination; renderers have the same limit.
const PARENTHESES_MAX: usize = 32;

/// Drops them; `![words](url "more")` becomes `![](url)`.
pub(super) fn strip(text: &str) -> String {
    let mut cuts: Vec<Range<usize>> = Vec::new();
    for (open, close) in brackets(text) {
        if let Some(end) = definition(text, open, close) {
            cuts.push(open..end);
            continue;
        }
        let after = &text[close + 1..];
        let title = after.strip_prefix('(').and_then(title);
        if text[..open].ends_with('!') && (title.is_some() || after.starts_with('[')) {
            cuts.push(open + 1..close);
        }
        cuts.extend(title.map(|title| close + 2 + title.start..close + 2 + title.end));
    }
    cuts.sort_unstable_by_key(|cut| cut.start);
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for cut in cuts {
        out.push_str(text.get(at..cut.start).unwrap_or_default());
        at = at.max(cut.end);
    }
    out.push_str(&text[at..]);
    out
}

/// Pairs of `[` and `]`, in the order of their beginnings. Escaped ones do not count.
fn brackets(text: &str) -> Vec<(usize, usize)> {
    let (mut pairs, mut open, mut escaped) = (Vec::new(), Vec::new(), false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'[' => open.push(at),
            b']' => pairs.extend(open.pop().map(|start| (start, at))),
            _ => {}
        }
    }
    pairs.sort_unstable();
    pairs
}

/// After the `(` of a link: where its title stands, if only as a blank; `None` where this is no link.
fn title(text: &str) -> Option<Range<usize>> {
    let (_, rest) = destination(after_blanks(text)?)?;
    let end = after_blanks(after_title(rest).unwrap_or(rest))?;
    end.starts_with(')').then(|| text.len() - rest.len()..text.len() - end.len())
}

/// Markdown allows one line break here.
fn after_blanks(text: &str) -> Option<&str> {
    let rest = text.trim_ascii_start();
    (text[..text.len() - rest.len()].matches('\n').count() <= 1).then_some(rest)
}

fn destination(text: &str) -> Option<(&str, &str)> {
    if let Some(inside) = text.strip_prefix('<') {
        let end = inside.find(['<', '>', '\n'])?;
        return inside[end..].starts_with('>').then(|| text.split_at(end + 2));
    }
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' if depth == PARENTHESES_MAX => return None,
            '(' => depth += 1,
            ')' if depth == 0 => return Some(text.split_at(at)),
            ')' => depth -= 1,
            _ if c.is_ascii_whitespace() => return Some(text.split_at(at)),
            _ => {}
        }
    }
    Some((text, ""))
}

/// What follows a title in quotes or parentheses, which begins after a blank and holds no blank line.
fn after_title(text: &str) -> Option<&str> {
    let start = after_blanks(text)?;
    let quote = start.chars().next().filter(|_| start.len() < text.len())?;
    let closing = match quote {
        '"' | '\'' => quote,
        '(' => ')',
        _ => return None,
    };
    let mut escaped = false;
    let mut last = quote;
    for (at, c) in start.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\n' if last == '\n' => return None,
            '(' if quote == '(' => return None,
            _ if c == closing => return Some(&start[at + c.len_utf8()..]),
            _ => {}
        }
        last = c;
    }
    None
}

/// The end of a link definition (`[label]: url "title"`) that begins its line at `open`: nothing of it is shown.
fn definition(text: &str, open: usize, close: usize) -> Option<usize> {
    if !begins_a_line(text, open) {
        return None;
    }
    let (destination, rest) = destination(after_blanks(text[close + 1..].strip_prefix(':')?)?)?;
    if destination.is_empty() {
        return None;
    }
    let line_ends = |rest: &str| {
        let line = rest.split('\n').next().unwrap_or_default();
        line.trim().is_empty().then(|| text.len() - rest.len() + line.len())
    };
    after_title(rest).and_then(line_ends).or_else(|| line_ends(rest))
}
