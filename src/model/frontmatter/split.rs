//! Finds the fences of the frontmatter without touching what stands between them.

use gray_matter::{Matter, Pod, engine::Engine};

use crate::error::Code;
use crate::model::diagnostic::Diagnostic;

/// Longest file that is read at all, in bytes.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Longest frontmatter in bytes: the YAML parser's time is quadratic in places.
pub const FRONTMATTER_BYTES_MAX: usize = 32 * 1024;
/// Most brackets that may stand open at once in a frontmatter, wherever they stand.
pub const BRACKETS_OPEN_MAX: usize = 128;

const FENCE: &str = "---";

/// A file in its two parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    /// `None` where the file does not begin with a fence.
    pub frontmatter: Option<Block<'a>>,
    /// Everything after the closing fence, or the whole file.
    pub body: &'a str,
    /// The line of the file on which `body` begins, counted from 1.
    pub body_first_line: usize,
}

/// The lines between the fences, byte for byte as they stand in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    pub text: &'a str,
    /// The line of the file on which `text` begins, counted from 1.
    pub first_line: usize,
}

/// Splits a file. `path` is only for the diagnostics.
///
/// A byte order mark and blank lines before the opening fence are passed over; fences may be followed by blanks; an
/// indented `---` is content. Both LF and CRLF end a line.
///
/// # Errors
/// Too large, not UTF-8, an unclosed fence, line breaks that YAML counts and editors do not, too many open brackets,
/// or gray_matter disagrees.
pub fn split<'a>(path: &str, bytes: &'a [u8]) -> Result<Document<'a>, Vec<Diagnostic>> {
    locate(path, bytes).map_err(|diagnostic| vec![diagnostic])
}

fn locate<'a>(path: &str, bytes: &'a [u8]) -> Result<Document<'a>, Diagnostic> {
    if bytes.len() > FILE_BYTES_MAX {
        let message = format!("the file has {} bytes, allowed are {FILE_BYTES_MAX}", bytes.len());
        return Err(Diagnostic::error(path, Code::FrontmatterLimit, message));
    }
    let text = utf8(path, bytes)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (blank_lines, fenced) = skip_blank_lines(text);
    let Some(rest) = after_opening_fence(fenced) else {
        return refuse_odd_fence(path, fenced, blank_lines).map(|()| Document {
            frontmatter: None,
            body: text,
            body_first_line: 1,
        });
    };
    let first_line = blank_lines + 2;
    let Some((length, lines, body)) = until_closing_fence(rest) else {
        return Err(Diagnostic::error(path, Code::FrontmatterUnreadable, "the frontmatter is not closed")
            .at(first_line - 1, 1)
            .hint("end it with a line that is exactly `---`"));
    };
    let block = Block { text: &rest[..length], first_line };
    check_block(path, &block)?;
    let document = Document { frontmatter: Some(block), body: &rest[body..], body_first_line: first_line + lines + 1 };
    if !gray_matter_agrees(fenced, block.text, document.body) {
        return Err(Diagnostic::error(
            path,
            Code::FrontmatterUnreadable,
            "other tools would split this file elsewhere",
        )
        .at(first_line - 1, 1)
        .hint("keep the fences free of unusual white space, and `---` out of the frontmatter's lines"));
    }
    Ok(document)
}

fn utf8<'a>(path: &str, bytes: &'a [u8]) -> Result<&'a str, Diagnostic> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
        Diagnostic::error(path, Code::FrontmatterUnreadable, "the file is not UTF-8")
            .at(line, column)
            .hint("save it with the encoding UTF-8")
    })
}

/// How many blank lines come first, and the text after them.
fn skip_blank_lines(mut text: &str) -> (usize, &str) {
    let mut count = 0;
    while let Some((line, rest)) = text.split_once('\n') {
        if !line.trim_ascii().is_empty() {
            break;
        }
        (count, text) = (count + 1, rest);
    }
    (count, text)
}

fn is_fence(line: &str) -> bool {
    line.strip_prefix(FENCE).is_some_and(|rest| rest.trim_ascii_end().is_empty())
}

fn after_opening_fence(text: &str) -> Option<&str> {
    match text.split_once('\n') {
        Some((first, rest)) => is_fence(first).then_some(rest),
        None => is_fence(text).then_some(""),
    }
}

/// A file that begins with something close to a fence is a slip, not a file without frontmatter.
fn refuse_odd_fence(path: &str, text: &str, blank_lines: usize) -> Result<(), Diagnostic> {
    let first = text.split(['\n', '\r']).next().unwrap_or_default();
    let indented = is_fence(first.trim_start()) && !is_fence(first);
    let old_line_ends = is_fence(first);
    if indented || old_line_ends {
        return Err(Diagnostic::error(path, Code::FrontmatterUnreadable, "the opening fence is not a line of its own")
            .at(blank_lines + 1, 1)
            .hint("begin the file with a line that is exactly `---`, and end lines with LF or CRLF"));
    }
    Ok(())
}

/// Byte length and line count of what stands before the closing fence, and where the body begins.
fn until_closing_fence(text: &str) -> Option<(usize, usize, usize)> {
    let mut at = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if is_fence(line) {
            return Some((at, number, at + line.len()));
        }
        at += line.len();
    }
    None
}

fn check_block(path: &str, block: &Block<'_>) -> Result<(), Diagnostic> {
    if block.text.len() > FRONTMATTER_BYTES_MAX {
        let message = format!("the frontmatter has {} bytes, allowed are {FRONTMATTER_BYTES_MAX}", block.text.len());
        return Err(Diagnostic::error(path, Code::FrontmatterLimit, message)
            .at(block.first_line, 1)
            .hint("move long prompts into files of their own (`template_file`)"));
    }
    for (number, line) in block.text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        // The YAML parser counts these as ends of lines and editors do not: every position after them would be wrong.
        if let Some(column) = line.chars().position(|c| matches!(c, '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')) {
            return Err(Diagnostic::error(
                path,
                Code::FrontmatterUnreadable,
                "an unusual line break in the frontmatter",
            )
            .at(block.first_line + number, column + 1)
            .hint("end lines with LF or CRLF"));
        }
    }
    super::refused::check_brackets(block.text).map_err(|position| {
        Diagnostic::error(path, Code::FrontmatterLimit, format!("more than {BRACKETS_OPEN_MAX} brackets are open"))
            .at(block.first_line + position.line - 1, position.column)
    })
}

/// An engine that parses nothing: gray_matter's own YAML engine falls to alias bombs.
struct PassThrough;

impl Engine for PassThrough {
    fn parse(_: &str) -> gray_matter::Result<Pod> {
        Ok(Pod::Null)
    }
}

fn gray_matter_agrees(text: &str, frontmatter: &str, body: &str) -> bool {
    let Ok(entity) = Matter::<PassThrough>::new().parse::<serde::de::IgnoredAny>(text) else {
        return false;
    };
    // It trims the frontmatter and forgets how lines ended, so the comparison does the same to ours.
    let lines = |text: &str| text.lines().collect::<Vec<_>>().join("\n");
    entity.matter == lines(frontmatter).trim() && entity.content == lines(body).trim_start_matches('\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(text: &str) -> (String, usize, String, usize) {
        let document = split("SKILL.md", text.as_bytes()).unwrap_or_else(|found| panic!("{text:?}: {found:?}"));
        let block = document.frontmatter.unwrap_or_else(|| panic!("{text:?}: no frontmatter"));
        (block.text.into(), block.first_line, document.body.into(), document.body_first_line)
    }

    fn refusal(bytes: &[u8]) -> String {
        split("SKILL.md", bytes).expect_err("it must be refused")[0].to_string()
    }

    #[test]
    fn the_block_is_found_as_it_stands() {
        let cases = [
            ("---\nname: x\n---\nbody\n", ("name: x\n", 2, "body\n", 4)),
            ("---\r\nname: x\r\n---\r\nbody\r\n", ("name: x\r\n", 2, "body\r\n", 4)),
            ("\u{feff}---\nname: x\n---", ("name: x\n", 2, "", 4)),
            ("\n \n---\nname: x\n---\n", ("name: x\n", 4, "", 6)),
            ("---  \nname: x\n--- \t\nbody", ("name: x\n", 2, "body", 4)),
            ("---\n---\n", ("", 2, "", 3)),
            ("---\n  indented: first\n---\nb", ("  indented: first\n", 2, "b", 4)),
            ("---\na: |\n  one\n  ---\n  two\n\n---\nb", ("a: |\n  one\n  ---\n  two\n\n", 2, "b", 8)),
            ("---\na: 1\n---\nx\n---\ny\n", ("a: 1\n", 2, "x\n---\ny\n", 4)),
        ];
        for (text, (frontmatter, first_line, body, body_first_line)) in cases {
            assert_eq!(block(text), (frontmatter.into(), first_line, body.into(), body_first_line), "{text:?}");
        }
    }

    #[test]
    fn a_file_without_a_fence_has_no_frontmatter() {
        for text in ["", "# title\n\n---\nx", "----\na: 1\n----\n", "--- a\nb\n---\n", "\n\n"] {
            let document = split("SKILL.md", text.as_bytes()).expect("it is fine");
            assert_eq!((document.frontmatter, document.body), (None, text), "{text:?}");
        }
    }

    #[test]
    fn what_is_refused_says_where() {
        let cases: [(&[u8], &str); 9] = [
            (b"---\nname: x\n", "SKILL.md:1:1: error[SH0101]: the frontmatter is not closed"),
            (b"---", "SKILL.md:1:1: error[SH0101]: the frontmatter is not closed"),
            (b"\n---\nname: x\n ---\n", "SKILL.md:2:1: error[SH0101]: the frontmatter is not closed"),
            (b"---\nna\xffme: x\n---\n", "SKILL.md:2:3: error[SH0101]: the file is not UTF-8"),
            (b" ---\nname: x\n---\n", "SKILL.md:1:1: error[SH0101]: the opening fence is not a line of its own"),
            (b"---\rname: x\r---\r", "SKILL.md:1:1: error[SH0101]: the opening fence is not a line of its own"),
            (b"---\na: x\ry\n---\n", "SKILL.md:2:5: error[SH0101]: an unusual line break in the frontmatter"),
            (
                "---\na: \u{2028}\n---\n".as_bytes(),
                "SKILL.md:2:4: error[SH0101]: an unusual line break in the frontmatter",
            ),
            (
                "---\na: 1\n---\u{a0}\nb: 1\n---\n".as_bytes(),
                "SKILL.md:1:1: error[SH0101]: other tools would split this file elsewhere",
            ),
        ];
        for (bytes, expected) in cases {
            assert_eq!(refusal(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn limits_hold_before_anything_is_parsed() {
        let long = format!("---\na: {}\n---\n", "x".repeat(FRONTMATTER_BYTES_MAX));
        assert!(refusal(long.as_bytes()).starts_with("SKILL.md:2:1: error[SH0103]: the frontmatter has 32772 bytes"));
        let huge = vec![b' '; FILE_BYTES_MAX + 1];
        assert!(refusal(&huge).contains("error[SH0103]"));
        let deep = format!("---\na:\n  {}\n---\n", "[".repeat(BRACKETS_OPEN_MAX + 1));
        assert_eq!(refusal(deep.as_bytes()), "SKILL.md:3:131: error[SH0103]: more than 128 brackets are open");
        let wide = format!("---\na: |\n{}---\n", "  - [ ] {{ x[0] }}\n".repeat(1_500));
        assert!(split("SKILL.md", wide.as_bytes()).is_ok());
    }

    fn pieces() -> impl Strategy<Value = String> {
        let piece = proptest::sample::select(vec![
            "---", "\n", "\r\n", "\r", " ", "\t", "\u{feff}", "\u{a0}", "a: 1", "- b", "|", "x", "\u{85}", "é", "[",
            "}",
        ]);
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = split("SKILL.md", &bytes);
        }

        #[test]
        fn the_split_is_faithful(text in pieces()) {
            let Ok(document) = split("SKILL.md", text.as_bytes()) else { return Ok(()) };
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            let from_line = |line: usize| lines.iter().skip(line - 1).copied().collect::<String>();
            let Some(block) = document.frontmatter else {
                prop_assert_eq!(document.body, text.strip_prefix('\u{feff}').unwrap_or(&text));
                return Ok(());
            };
            prop_assert!(from_line(block.first_line).starts_with(block.text));
            prop_assert_eq!(from_line(document.body_first_line), document.body);
            prop_assert!(is_fence(lines[document.body_first_line - 2]));
            let opening = lines[block.first_line - 2].trim_start_matches('\u{feff}');
            prop_assert!(is_fence(opening));
        }
    }
}
