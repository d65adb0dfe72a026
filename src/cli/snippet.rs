//! A finding in a file, as compilers show it: a line that tools can take apart, then the source around it.

use std::io::Read as _;
use std::ops::Range;
use std::path::{Component, Path};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::output::{BAD, CARE, STRONG, harmless};
use crate::model::diagnostic::{Diagnostic, Position, Severity};

/// Largest file that is read to show a line of it, in bytes.
const SOURCE_BYTES_MAX: u64 = 1 << 20;

/// The finding, with colours; without its source where that cannot be read below `root`.
pub fn shown(finding: &Diagnostic, root: &Path) -> String {
    let (style, level) = match finding.severity {
        Severity::Error => (BAD, Level::ERROR),
        Severity::Warning => (CARE, Level::WARNING),
    };
    let place = match finding.position {
        Some(Position { line, column }) => format!("{}:{line}:{column}", finding.path),
        None => finding.path.clone(),
    };
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let place = harmless(&place);
    let message = harmless(&finding.message);
    let mut text = format!("{STRONG}{place}{STRONG:#}: {style}{severity}[{}]{style:#}: {message}", finding.code);
    if let Some(position) = finding.position
        && let Some(source) = source(finding, root)
        && let Some(span) = span(&source, position)
    {
        let snippet = Snippet::source(source.as_str()).annotation(AnnotationKind::Primary.span(span));
        text.push('\n');
        text.push_str(&Renderer::styled().render(&[Group::with_level(level).element(snippet)]));
    }
    if let Some(hint) = &finding.hint {
        text.push_str(&format!("\n  {STRONG}hint{STRONG:#}: {}", harmless(hint)));
    }
    text
}

fn source(finding: &Diagnostic, root: &Path) -> Option<String> {
    let relative = Path::new(&finding.path);
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let path = root.join(relative);
    if !std::fs::symlink_metadata(&path).ok()?.is_file() {
        return None;
    }
    let mut source = String::new();
    std::fs::File::open(path).ok()?.take(SOURCE_BYTES_MAX).read_to_string(&mut source).ok()?;
    Some(source)
}

/// The bytes of the word at a position: up to the next blank, colon or end of line, and at least one character.
fn span(source: &str, position: Position) -> Option<Range<usize>> {
    let line = source.split_inclusive('\n').nth(position.line.checked_sub(1)?)?;
    let line_start = line.as_ptr() as usize - source.as_ptr() as usize;
    let column = position.column.checked_sub(1)?;
    let content = line.trim_end_matches(['\n', '\r']);
    let offset = content.char_indices().map(|(at, _)| at).nth(column).unwrap_or(content.len());
    let rest = &content[offset..];
    let word = rest.find(|c: char| c.is_whitespace() || matches!(c, ':' | ',' | ']' | '}')).unwrap_or(rest.len());
    let length = word.max(rest.chars().next().map_or(0, char::len_utf8));
    Some(line_start + offset..line_start + offset + length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn plain(finding: &Diagnostic, root: &Path) -> String {
        anstream::adapter::strip_str(&shown(finding, root)).to_string()
    }

    #[test]
    fn the_line_stands_below_a_first_line_that_tools_can_take_apart() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("SKILL.md"), "---\r\nname: ä\r\nwebhook_config:\r\n  provder: x\r\n---\r\n")
            .unwrap();
        let finding = Diagnostic::error("SKILL.md", Code::ConfigField, "unknown field `provder`")
            .at(4, 3)
            .hint("did you mean `provider`?");
        let shown = plain(&finding, dir.path());
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "SKILL.md:4:3: error[SH0105]: unknown field `provder`");
        assert!(lines.iter().any(|line| line.ends_with("|   provder: x")), "{shown}");
        assert!(lines.iter().any(|line| line.ends_with("  ^^^^^^^")), "{shown}");
        assert_eq!(lines.last(), Some(&"  hint: did you mean `provider`?"));
    }

    #[test]
    fn places_beyond_the_file_and_files_beyond_the_root_show_no_source() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "x\n").unwrap();
        for path in ["a", "../a", "/etc/hostname", "missing"] {
            let shown = plain(&Diagnostic::warning(path, Code::OpenToAnyone, "m").at(9, 9), dir.path());
            assert_eq!(shown, format!("{path}:9:9: warning[SH0115]: m"));
        }
        let end_of_line = plain(&Diagnostic::error("a", Code::ConfigField, "m").at(1, 9), dir.path());
        assert!(end_of_line.contains("| x"), "{end_of_line}");
    }
}
