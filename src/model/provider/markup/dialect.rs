//! Dialects whose texts are made of marks around words.

use super::block::{Block, ListItem};
use super::inline::Inline;

type Pair = (&'static str, &'static str);

/// How a dialect writes things.
pub struct Dialect {
    escape: fn(&str) -> String,
    strong: Pair,
    emphasis: Pair,
    strike: Pair,
    code: Pair,
    link: fn(&str, &str) -> String,
    heading: fn(usize, &str) -> String,
    paragraph: Pair,
    code_block: fn(&str, &str) -> String,
    list: fn(&[(&ListItem, String)]) -> String,
    quote: fn(&str) -> String,
    /// Rows of cells; the first row is the heading.
    table: fn(&[Vec<String>]) -> String,
    rule: &'static str,
}

/// Slack's (<https://docs.slack.dev/messaging/formatting-message-text>).
pub const MRKDWN: Dialect = Dialect {
    escape: escape_angles,
    strong: ("*", "*"),
    emphasis: ("_", "_"),
    strike: ("~", "~"),
    code: ("`", "`"),
    link: |label, address| {
        let address = escape_angles(address).replace('|', "%7C");
        if label == address { format!("<{address}>") } else { format!("<{address}|{label}>") }
    },
    heading: |_, text| format!("*{text}*"),
    paragraph: ("", ""),
    code_block: |_, text| format!("```\n{}\n```", escape_angles(text)),
    list: |items| bullets(items, "•"),
    quote: quote_lines,
    table: |rows| piped(rows, ("*", "*")),
    rule: "---",
};

/// Jira's wiki markup (<https://jira.atlassian.com/secure/WikiRendererHelpAction.jspa?section=all>).
pub const WIKI: Dialect = Dialect {
    escape: |text| {
        let mut escaped = String::with_capacity(text.len());
        for c in text.chars() {
            if matches!(c, '{' | '}' | '[' | ']') {
                escaped.push('\\');
            }
            escaped.push(c);
        }
        escaped
    },
    strong: ("*", "*"),
    emphasis: ("_", "_"),
    strike: ("-", "-"),
    code: ("{{", "}}"),
    link: |label, address| {
        let address = address.replace('|', "%7C").replace(']', "%5D");
        if label == address { format!("[{address}]") } else { format!("[{label}|{address}]") }
    },
    heading: |level, text| format!("h{level}. {text}"),
    paragraph: ("", ""),
    code_block: |language, text| {
        let text = text.replace("{code}", "{ code}");
        if language.is_empty() {
            format!("{{code}}\n{text}\n{{code}}")
        } else {
            format!("{{code:{language}}}\n{text}\n{{code}}")
        }
    },
    list: |items| {
        let mark = |item: &ListItem| if item.number.is_some() { "#" } else { "*" }.repeat(item.depth + 1);
        lines(items.iter().map(|(item, text)| format!("{} {}", mark(item), text.replace('\n', " "))))
    },
    quote: |text| format!("{{quote}}\n{text}\n{{quote}}"),
    table: |rows| {
        let row = |(n, cells): (usize, &Vec<String>)| {
            let bar = if n == 0 { "||" } else { "|" };
            format!("{bar}{}{bar}", cells.join(bar))
        };
        lines(rows.iter().enumerate().map(row))
    },
    rule: "----",
};

pub const HTML: Dialect = Dialect {
    escape: escape_html,
    strong: ("<b>", "</b>"),
    emphasis: ("<i>", "</i>"),
    strike: ("<s>", "</s>"),
    code: ("<code>", "</code>"),
    link: |label, address| format!("<a href=\"{}\">{label}</a>", escape_html(address)),
    heading: |level, text| format!("<h{level}>{text}</h{level}>"),
    paragraph: ("<p>", "</p>"),
    code_block: |_, text| format!("<pre>{}</pre>", escape_html(text)),
    list: html_list,
    quote: |text| format!("<blockquote>{text}</blockquote>"),
    table: |rows| {
        let row = |(n, cells): (usize, &Vec<String>)| {
            let cell = if n == 0 { "th" } else { "td" };
            let cells: String = cells.iter().map(|text| format!("<{cell}>{text}</{cell}>")).collect();
            format!("<tr>{cells}</tr>")
        };
        format!("<table>{}</table>", rows.iter().enumerate().map(row).collect::<String>())
    },
    rule: "<hr>",
};

/// The few tags that Telegram takes (<https://core.telegram.org/bots/api#html-style>).
pub const TELEGRAM: Dialect = Dialect {
    heading: |_, text| format!("<b>{text}</b>"),
    paragraph: ("", ""),
    list: |items| bullets(items, "•"),
    table: |rows| piped(rows, ("<b>", "</b>")),
    rule: "———",
    ..HTML
};

pub const PLAIN: Dialect = Dialect {
    escape: str::to_owned,
    strong: ("", ""),
    emphasis: ("", ""),
    strike: ("", ""),
    code: ("", ""),
    link: |label, address| if label == address { address.to_owned() } else { format!("{label} ({address})") },
    heading: |_, text| text.to_owned(),
    paragraph: ("", ""),
    code_block: |_, text| lines(text.lines().map(|line| format!("    {line}"))),
    list: |items| bullets(items, "-"),
    quote: quote_lines,
    table: |rows| piped(rows, ("", "")),
    rule: "---",
};

pub fn write(dialect: &Dialect, blocks: &[Block]) -> String {
    let written: Vec<String> = blocks.iter().map(|block| write_block(dialect, block)).collect();
    written.join("\n\n")
}

fn write_block(dialect: &Dialect, block: &Block) -> String {
    let text = |inlines: &[Inline]| write_inlines(dialect, inlines);
    match block {
        Block::Heading(level, inlines) => (dialect.heading)(*level, &text(inlines)),
        Block::Paragraph(inlines) => wrapped(dialect.paragraph, &text(inlines)),
        Block::Code { language, text } => (dialect.code_block)(language, text),
        Block::List(items) => {
            let items: Vec<_> = items.iter().map(|item| (item, text(&item.text))).collect();
            (dialect.list)(&items)
        }
        Block::Quote(blocks) => (dialect.quote)(&write(dialect, blocks)),
        Block::Table(rows) => {
            let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| text(cell)).collect()).collect();
            (dialect.table)(&rows)
        }
        Block::Rule => dialect.rule.to_owned(),
    }
}

/// Depth is bounded by the parser.
fn write_inlines(dialect: &Dialect, inlines: &[Inline]) -> String {
    let mut text = String::new();
    for inline in inlines {
        match inline {
            Inline::Text(plain) => text.push_str(&(dialect.escape)(plain)),
            Inline::Code(code) => text.push_str(&wrapped(dialect.code, &(dialect.escape)(code))),
            Inline::Strong(inner) => text.push_str(&wrapped(dialect.strong, &write_inlines(dialect, inner))),
            Inline::Emphasis(inner) => text.push_str(&wrapped(dialect.emphasis, &write_inlines(dialect, inner))),
            Inline::Strike(inner) => text.push_str(&wrapped(dialect.strike, &write_inlines(dialect, inner))),
            Inline::Link { label, address } => {
                text.push_str(&(dialect.link)(&write_inlines(dialect, label), address));
            }
            Inline::LineBreak => text.push('\n'),
        }
    }
    text
}

fn wrapped(marks: Pair, text: &str) -> String {
    format!("{}{text}{}", marks.0, marks.1)
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().join("\n")
}

fn bullets(items: &[(&ListItem, String)], bullet: &str) -> String {
    lines(items.iter().map(|(item, text)| {
        let indent = "    ".repeat(item.depth);
        match item.number {
            Some(number) => format!("{indent}{number}. {text}"),
            None => format!("{indent}{bullet} {text}"),
        }
    }))
}

fn html_list(items: &[(&ListItem, String)]) -> String {
    let mut html = String::new();
    let mut open: Vec<&str> = Vec::new();
    for (item, text) in items {
        let tag = if item.number.is_some() { "ol" } else { "ul" };
        while open.len() > item.depth + 1 {
            html.push_str(&format!("</{}>", open.pop().unwrap_or_default()));
        }
        while open.len() <= item.depth {
            html.push_str(&format!("<{tag}>"));
            open.push(tag);
        }
        html.push_str(&format!("<li>{text}</li>"));
    }
    while let Some(tag) = open.pop() {
        html.push_str(&format!("</{tag}>"));
    }
    html
}

fn quote_lines(text: &str) -> String {
    lines(text.lines().map(|line| format!("> {line}")))
}

fn piped(rows: &[Vec<String>], heading: Pair) -> String {
    let row = |(n, cells): (usize, &Vec<String>)| {
        let heads = |cell: &String| if n == 0 { wrapped(heading, cell) } else { cell.clone() };
        cells.iter().map(heads).collect::<Vec<_>>().join(" | ")
    };
    lines(rows.iter().enumerate().map(row))
}

fn escape_angles(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn escape_html(text: &str) -> String {
    escape_angles(text).replace('"', "&quot;")
}
