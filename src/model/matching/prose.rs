//! Which parts of a text are a person's own words: a call in a quotation, in code or in a hidden comment is none.
//!
//! Follows what Markdown and its dialects in chats have in common, line by line; it is no Markdown parser.

use std::ops::Range;

/// The byte ranges in which nothing counts as a call, in order: quoted lines, fenced blocks, code spans, comments.
pub(super) fn silent(text: &str) -> Vec<Range<usize>> {
    let mut scan = Scan { silent: Vec::new(), fence: None, comment: false };
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        scan.line(at, line);
        at += line.len();
    }
    scan.silent
}

struct Scan {
    silent: Vec<Range<usize>>,
    /// The open fence: its character and how many of them.
    fence: Option<(char, usize)>,
    /// Within a comment that a former line opened.
    comment: bool,
}

impl Scan {
    fn line(&mut self, at: usize, line: &str) {
        let all = at..at + line.len();
        let trimmed = line.trim();
        if let Some((mark, count)) = self.fence {
            // Chats close a block at the end of its last line, Markdown on a line of its own.
            let closing = trimmed.len() - trimmed.trim_end_matches(mark).len();
            if closing >= count {
                self.fence = None;
            }
            return self.silent.push(all);
        }
        if !self.comment {
            if let Some(fence) = opening(trimmed) {
                self.fence = Some(fence);
                return self.silent.push(all);
            }
            if trimmed.starts_with('>') || trimmed.starts_with("&gt;") {
                return self.silent.push(all);
            }
        }
        self.spans(at, line);
    }

    /// Code spans and comments within a line.
    fn spans(&mut self, at: usize, line: &str) {
        let mut here = 0;
        while here < line.len() {
            let rest = &line[here..];
            if self.comment {
                let end = rest.find("-->").map(|end| end + 3);
                self.comment = end.is_none();
                let end = here + end.unwrap_or(rest.len());
                self.silent.push(at + here..at + end);
                here = end;
            } else if rest.starts_with("<!--") {
                self.comment = true;
            } else if rest.starts_with('`') {
                let ticks = rest.len() - rest.trim_start_matches('`').len();
                let end = here + closing_ticks(&rest[ticks..], ticks).map_or(ticks, |end| ticks + end);
                if end > here + ticks {
                    self.silent.push(at + here..at + end);
                }
                here = end;
            } else {
                let next = rest.char_indices().skip(1).find(|(_, c)| matches!(c, '`' | '<'));
                here += next.map_or(rest.len(), |(next, _)| next);
            }
        }
    }
}

/// A fence has at least three marks; after backticks there may be no further backtick on the line.
fn opening(trimmed: &str) -> Option<(char, usize)> {
    let mark = trimmed.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let rest = trimmed.trim_start_matches(mark);
    let count = trimmed.len() - rest.len();
    (count >= 3 && !(mark == '`' && rest.contains('`'))).then_some((mark, count))
}

/// Where the run of exactly `ticks` backticks ends that closes a span.
fn closing_ticks(text: &str, ticks: usize) -> Option<usize> {
    let mut here = 0;
    while let Some(start) = text[here..].find('`').map(|start| here + start) {
        let run = text[start..].len() - text[start..].trim_start_matches('`').len();
        if run == ticks {
            return Some(start + run);
        }
        here = start + run;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text with everything silent shown as dots.
    #[track_caller]
    fn check(text: &str, expect: &str) {
        let mut shown = text.to_owned();
        for range in silent(text) {
            shown.replace_range(range.clone(), &".".repeat(range.len()));
        }
        assert_eq!(shown, expect);
    }

    #[test]
    fn quotations_code_and_comments_are_silent() {
        check("a\n> b\nc", "a\n....c");
        check("a\n  &gt; b\nc", "a\n.........c");
        check("```rs\ncode\n```\nafter", "...............after");
        check("~~~\n```\n~~~\nafter", "............after");
        check("```log one\ntwo```\nafter", "..................after");
        check("open\n```\nfor ever", "open\n............");
        check("use `x` and ``a`b`` now", "use ... and ....... now");
        check("a lone ` tick", "a lone ` tick");
        check("a <!-- hidden --> b", "a ............... b");
        check("a <!-- one\ntwo --> b", "a ................ b");
        check("a < b <- c", "a < b <- c");
    }

    #[test]
    fn every_text_is_scanned_to_its_end() {
        for text in ["", "`", "``` ` ```", "<!--", "ü`ä`ö", "<", "`<!--`-->", "\u{1f600}```"] {
            for range in silent(text) {
                assert!(text.get(range).is_some(), "{text}");
            }
        }
    }
}
