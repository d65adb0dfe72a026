//! Blocks of Markdown: what stands on lines of its own.

use super::inline::{self, Inline};

/// Deepest nesting of quotes.
const QUOTES_MAX: usize = 4;
/// Deepest nesting of lists.
const LISTS_MAX: usize = 6;

#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    Heading(usize, Vec<Inline>),
    Paragraph(Vec<Inline>),
    Code {
        language: String,
        text: String,
    },
    List(Vec<ListItem>),
    Quote(Vec<Block>),
    /// Rows of cells; the first row is the heading.
    Table(Vec<Vec<Vec<Inline>>>),
    Rule,
}

/// One item of a list, flat with its depth from 0.
#[derive(Clone, Debug, PartialEq)]
pub struct ListItem {
    pub depth: usize,
    /// The number, in a numbered list.
    pub number: Option<usize>,
    pub text: Vec<Inline>,
}

pub fn parse(markdown: &str) -> Vec<Block> {
    let visible = without_comments(markdown);
    let lines: Vec<&str> = visible.lines().collect();
    blocks(&lines, 0)
}

fn blocks(lines: &[&str], quotes: usize) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        let trimmed = line.trim();
        let (block, used) = if trimmed.is_empty() {
            (None, 1)
        } else if let Some(language) = trimmed.strip_prefix("```") {
            let (block, used) = code(language, &lines[at + 1..]);
            (Some(block), used + 1)
        } else if let Some((level, text)) = heading(trimmed) {
            (Some(Block::Heading(level, inline::parse(text))), 1)
        } else if is_rule(trimmed) {
            (Some(Block::Rule), 1)
        } else if trimmed.starts_with('>') && quotes < QUOTES_MAX {
            let used = lines[at..].iter().take_while(|line| line.trim_start().starts_with('>')).count();
            let inner: Vec<&str> = lines[at..at + used].iter().map(|line| unquoted(line)).collect();
            (Some(Block::Quote(self::blocks(&inner, quotes + 1))), used)
        } else if item(line).is_some() {
            let (block, used) = list(&lines[at..]);
            (Some(block), used)
        } else if is_table(&lines[at..]) {
            let used = lines[at..].iter().take_while(|line| line.contains('|')).count();
            let rows = lines[at..at + used].iter().enumerate().filter(|(n, _)| *n != 1).map(|(_, line)| cells(line));
            (Some(Block::Table(rows.collect())), used)
        } else {
            let used = 1 + lines[at + 1..].iter().take_while(|line| continues(line)).count();
            (Some(Block::Paragraph(inline::parse(&lines[at..at + used].join("\n")))), used)
        };
        blocks.extend(block);
        at += used;
    }
    blocks
}

/// Whether a line still belongs to the paragraph before it.
fn continues(line: &str) -> bool {
    let trimmed = line.trim();
    !(trimmed.is_empty()
        || trimmed.starts_with("```")
        || trimmed.starts_with('>')
        || heading(trimmed).is_some()
        || is_rule(trimmed)
        || item(line).is_some())
}

fn code(language: &str, after: &[&str]) -> (Block, usize) {
    let inside = after.iter().take_while(|line| !line.trim().starts_with("```")).count();
    let text = after[..inside].join("\n");
    let language: String = language.chars().take_while(|c| c.is_ascii_alphanumeric() || "+-#".contains(*c)).collect();
    (Block::Code { language, text }, (inside + 1).min(after.len()))
}

fn heading(line: &str) -> Option<(usize, &str)> {
    let level = line.bytes().take_while(|byte| *byte == b'#').count();
    let text = line[level..].strip_prefix(' ')?;
    (1..=6).contains(&level).then(|| (level, text.trim().trim_end_matches('#').trim_end()))
}

fn is_rule(line: &str) -> bool {
    let marks =
        |mark: char| line.chars().filter(|c| *c == mark).count() >= 3 && line.chars().all(|c| c == mark || c == ' ');
    marks('-') || marks('*') || marks('_')
}

fn unquoted(line: &str) -> &str {
    let inner = line.trim_start().trim_start_matches('>');
    let cut = line.trim_start().strip_prefix('>').unwrap_or(inner);
    cut.strip_prefix(' ').unwrap_or(cut)
}

/// Indentation, number and text of a list item.
fn item(line: &str) -> Option<(usize, Option<usize>, &str)> {
    let text = line.trim_start();
    let indent = line.len() - text.len();
    if let Some(rest) = ["- ", "* ", "+ "].iter().find_map(|mark| text.strip_prefix(mark)) {
        return Some((indent, None, rest));
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text[digits..].strip_prefix(". ").or_else(|| text[digits..].strip_prefix(") "))?;
    let number = text[..digits].parse().ok().filter(|_| digits <= 6)?;
    Some((indent, Some(number), rest))
}

fn list(lines: &[&str]) -> (Block, usize) {
    let mut items: Vec<ListItem> = Vec::new();
    let mut indents: Vec<usize> = Vec::new();
    let mut text = String::new();
    let mut used = 0;
    let finish = |items: &mut Vec<ListItem>, text: &mut String| {
        if let Some(last) = items.last_mut() {
            last.text = inline::parse(&std::mem::take(text));
        }
    };
    for line in lines {
        match item(line) {
            Some((indent, number, rest)) => {
                finish(&mut items, &mut text);
                while indents.last().is_some_and(|last| *last > indent) {
                    indents.pop();
                }
                if indents.last().is_none_or(|last| *last < indent) {
                    indents.push(indent);
                }
                let depth = (indents.len() - 1).min(LISTS_MAX);
                items.push(ListItem { depth, number, text: Vec::new() });
                rest.clone_into(&mut text);
            }
            // A continued line is indented; anything else ends the list.
            None if line.starts_with("  ") && !line.trim().is_empty() && !line.trim().starts_with("```") => {
                text.push('\n');
                text.push_str(line.trim());
            }
            None => break,
        }
        used += 1;
    }
    finish(&mut items, &mut text);
    (Block::List(items), used)
}

fn is_table(lines: &[&str]) -> bool {
    let separates = |line: &&str| {
        line.contains('-') && line.contains('|') && line.chars().all(|c| matches!(c, '|' | '-' | ':' | ' '))
    };
    lines[0].contains('|') && lines.get(1).is_some_and(separates)
}

fn cells(line: &str) -> Vec<Vec<Inline>> {
    let inner = line.trim().trim_start_matches('|');
    let inner = inner.strip_suffix('|').unwrap_or(inner);
    inner.split('|').map(|cell| inline::parse(cell.trim())).collect()
}

/// HTML comments are invisible in Markdown, and stay so.
fn without_comments(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("<!--") {
        let Some(end) = rest[at..].find("-->") else { break };
        visible.push_str(&rest[..at]);
        rest = &rest[at + end + 3..];
    }
    visible.push_str(rest);
    visible
}
