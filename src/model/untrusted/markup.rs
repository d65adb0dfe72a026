//! HTML inside of Markdown: comments, hidden elements, collapsed sections and attributes.

use std::collections::HashMap;
use std::ops::Range;

use super::begins_a_line;

/// What stands in for a collapsed section.
const COLLAPSED: &str = "[a collapsed section was left out]";

/// Elements whose content is never shown as text.
const UNSEEN: [&str; 10] =
    ["script", "style", "template", "noscript", "head", "title", "iframe", "object", "textarea", "math"];
/// Elements without content.
const VOID: [&str; 13] =
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"];
/// Attributes that are worth keeping.
const KEPT: [&str; 2] = ["href", "src"];

#[derive(Debug)]
enum Kind {
    /// A comment, declaration, instruction or CDATA section.
    Unseen,
    Open {
        name: String,
        hides: bool,
        kept: String,
        plain: bool,
    },
    Close {
        name: String,
    },
}

#[derive(Debug)]
struct Tag {
    kind: Kind,
    span: Range<usize>,
    /// For an opening tag, the closing one.
    partner: Option<usize>,
}

/// The text without what a browser would not show.
pub(super) fn strip(text: &str) -> String {
    let tags = tags(text);
    let mut out = String::with_capacity(text.len());
    let (mut at, mut number) = (0, 0);
    while let Some(tag) = tags.get(number) {
        out.push_str(&text[at..tag.span.start]);
        (at, number) = (tag.span.end, number + 1);
        let Kind::Open { name, hides, kept, plain } = &tag.kind else {
            if matches!(tag.kind, Kind::Close { .. }) {
                out.push_str(&text[tag.span.clone()]);
            }
            continue;
        };
        let end = match tag.partner {
            _ if !hides => None,
            Some(partner) => Some(partner + 1),
            // Unclosed at the beginning of a line it hides the rest; inside a line it is somebody talking about HTML.
            None => begins_a_line(text, tag.span.start).then_some(tags.len()),
        };
        let Some(end) = end else {
            out.push_str(if *plain { &text[tag.span.clone()] } else { kept });
            continue;
        };
        if name == "details" {
            push_summary(&mut out, text, &tags[number..end]);
            out.push_str(COLLAPSED);
        }
        at = if tag.partner.is_some() { tags[end - 1].span.end } else { text.len() };
        number = end;
    }
    out.push_str(&text[at..]);
    out
}

/// The line that is shown while a section is collapsed.
fn push_summary(out: &mut String, text: &str, inside: &[Tag]) {
    let opening = inside.iter().find(|tag| matches!(&tag.kind, Kind::Open { name, .. } if name == "summary"));
    let Some(start) = opening.map(|tag| tag.span.end) else { return };
    let mut at = start;
    for tag in inside.iter().filter(|tag| tag.span.start >= start) {
        out.push_str(&text[at..tag.span.start]);
        at = tag.span.end;
        if matches!(&tag.kind, Kind::Close { name } if name == "summary") {
            out.push(' ');
            return;
        }
    }
}

fn tags(text: &str) -> Vec<Tag> {
    let ends = Ends::of(text);
    let mut tags: Vec<Tag> = Vec::new();
    let mut open: HashMap<String, Vec<usize>> = HashMap::new();
    let mut at = 0;
    while let Some(found) = text[at..].find('<') {
        let start = at + found;
        let Some((kind, length)) = tag(text, start, &ends) else {
            at = start + 1;
            continue;
        };
        match &kind {
            Kind::Open { name, .. } => open.entry(name.clone()).or_default().push(tags.len()),
            Kind::Close { name } => {
                if let Some(opening) = open.get_mut(name).and_then(Vec::pop) {
                    tags[opening].partner = Some(tags.len());
                }
            }
            Kind::Unseen => {}
        }
        at = start + length;
        tags.push(Tag { kind, span: start..at, partner: None });
    }
    tags
}

/// Where the last of each end stands, so that looking for one that is not there costs nothing.
struct Ends {
    last: [Option<usize>; 4],
}

/// Beginning and end of what is not shown: comments, CDATA sections, instructions, declarations.
const SECTIONS: [(&str, &str); 4] = [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>"), ("<!", ">")];

impl Ends {
    fn of(text: &str) -> Self {
        Self { last: SECTIONS.map(|(_, end)| text.rfind(end)) }
    }
}

fn tag(text: &str, start: usize, ends: &Ends) -> Option<(Kind, usize)> {
    let rest = &text[start..];
    if let Some(length) = unseen(rest, start, ends) {
        let closed = length.or_else(|| begins_a_line(text, start).then_some(rest.len()))?;
        return Some((Kind::Unseen, closed));
    }
    match rest.strip_prefix("</") {
        Some(inside) => {
            let (name, after) = name(inside)?;
            let after = after.trim_ascii_start().strip_prefix('>')?;
            Some((Kind::Close { name }, rest.len() - after.len()))
        }
        None => opening(rest),
    }
}

/// For a comment and its kin its length, or `None` inside where it does not end.
fn unseen(rest: &str, start: usize, ends: &Ends) -> Option<Option<usize>> {
    if let Some(empty) = ["<!-->", "<!--->"].into_iter().find(|empty| rest.starts_with(empty)) {
        return Some(Some(empty.len()));
    }
    let section = SECTIONS.iter().position(|(opening, _)| rest.starts_with(opening))?;
    let (opening, end) = SECTIONS[section];
    if opening == "<!" && !rest[2..].starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let ends_later = ends.last[section].is_some_and(|last| last >= start + opening.len());
    let found = if ends_later { rest[opening.len()..].find(end) } else { None };
    Some(found.map(|at| opening.len() + at + end.len()))
}

fn name(text: &str) -> Option<(String, &str)> {
    let length = text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'-').count();
    let (name, rest) = text.split_at(length);
    name.starts_with(|c: char| c.is_ascii_alphabetic()).then(|| (name.to_ascii_lowercase(), rest))
}

/// An opening tag by the grammar of CommonMark (section 6.6).
fn opening(text: &str) -> Option<(Kind, usize)> {
    let (name, mut rest) = name(&text[1..])?;
    let mut kept = format!("<{name}");
    let (mut hides, mut plain) = (UNSEEN.contains(&name.as_str()) || name == "details", true);
    loop {
        let blank = rest.trim_ascii_start();
        if let Some(after) = blank.strip_prefix("/>").or_else(|| blank.strip_prefix('>')) {
            kept.push('>');
            let hides = hides && !VOID.contains(&name.as_str());
            return Some((Kind::Open { name, hides, kept, plain }, text.len() - after.len()));
        }
        if blank.len() == rest.len() {
            return None;
        }
        let (attribute, value, after) = attribute(blank)?;
        (rest, plain) = (after, false);
        hides |= is_hiding(&attribute, value);
        if KEPT.contains(&attribute.as_str()) {
            kept.push_str(&format!(" {attribute}=\"{}\"", value.replace('"', "")));
        }
    }
}

fn is_hiding(attribute: &str, value: &str) -> bool {
    let value: String = value.to_ascii_lowercase().chars().filter(|c| !c.is_whitespace()).collect();
    match attribute {
        "hidden" => true,
        "aria-hidden" => value == "true",
        "style" => [
            "display:none",
            "visibility:hidden",
            "font-size:0",
            "opacity:0",
            "color:transparent",
            "height:0",
            "width:0",
        ]
        .iter()
        .any(|hiding| value.contains(hiding)),
        _ => false,
    }
}

/// Name in lower case, value without quotes, and the rest.
fn attribute(text: &str) -> Option<(String, &str, &str)> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'.' | b'-');
    let length = text.bytes().take_while(is_part).count();
    let (name, rest) = text.split_at(length);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-')) {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let Some(value) = rest.trim_ascii_start().strip_prefix('=').map(str::trim_ascii_start) else {
        return Some((name, "", rest));
    };
    for quote in ['"', '\''] {
        if let Some(value) = value.strip_prefix(quote) {
            let (value, rest) = value.split_once(quote)?;
            return Some((name, value, rest));
        }
    }
    let length = value.find(|c: char| c.is_ascii_whitespace() || "\"'=<>`".contains(c)).unwrap_or(value.len());
    let (value, rest) = value.split_at(length);
    (length > 0).then_some((name, value, rest))
}
