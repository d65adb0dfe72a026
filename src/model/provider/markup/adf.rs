//! Markdown as an Atlassian document (<https://developer.atlassian.com/cloud/jira/platform/apis/document/structure/>).

use serde_json::{Value, json};

use super::block::{self, Block, ListItem};
use super::inline::Inline;

/// The document.
pub fn document(markdown: &str) -> Value {
    let content: Vec<Value> = block::parse(markdown).iter().map(node).collect();
    json!({"type": "doc", "version": 1, "content": content})
}

fn node(block: &Block) -> Value {
    match block {
        Block::Heading(level, text) => {
            json!({"type": "heading", "attrs": {"level": level}, "content": inlines(text, &[])})
        }
        Block::Paragraph(text) => paragraph(text),
        Block::Code { language, text } => {
            let attrs = if language.is_empty() { json!({}) } else { json!({"language": language}) };
            // A text node may not be empty.
            let content = if text.is_empty() { json!([]) } else { json!([{"type": "text", "text": text}]) };
            json!({"type": "codeBlock", "attrs": attrs, "content": content})
        }
        Block::List(items) => list(items, 0),
        Block::Quote(blocks) => {
            // A quote holds paragraphs only.
            let paragraphs: Vec<Value> = blocks
                .iter()
                .map(|block| match block {
                    Block::Paragraph(text) | Block::Heading(_, text) => paragraph(text),
                    other => json!({"type": "paragraph", "content": [{"type": "text", "text": flat(other)}]}),
                })
                .collect();
            json!({"type": "blockquote", "content": paragraphs})
        }
        Block::Table(rows) => {
            let rows: Vec<Value> = rows
                .iter()
                .enumerate()
                .map(|(n, cells)| {
                    let kind = if n == 0 { "tableHeader" } else { "tableCell" };
                    let cells: Vec<Value> = cells
                        .iter()
                        .map(|text| json!({"type": kind, "attrs": {}, "content": [paragraph(text)]}))
                        .collect();
                    json!({"type": "tableRow", "content": cells})
                })
                .collect();
            json!({"type": "table", "content": rows})
        }
        Block::Rule => json!({"type": "rule"}),
    }
}

fn flat(block: &Block) -> String {
    let text = super::dialect::write(&super::dialect::PLAIN, std::slice::from_ref(block));
    if text.is_empty() { " ".to_owned() } else { text }
}

fn paragraph(text: &[Inline]) -> Value {
    json!({"type": "paragraph", "content": inlines(text, &[])})
}

/// Items of one depth with what is nested below each; depth is bounded by the parser.
fn list(items: &[ListItem], depth: usize) -> Value {
    let kind = if items.first().is_some_and(|item| item.number.is_some()) { "orderedList" } else { "bulletList" };
    let mut nodes: Vec<Value> = Vec::new();
    let mut at = 0;
    while at < items.len() {
        let below = items[at + 1..].iter().take_while(|item| item.depth > depth).count();
        let mut content = vec![paragraph(&items[at].text)];
        if below > 0 {
            content.push(list(&items[at + 1..at + 1 + below], depth + 1));
        }
        nodes.push(json!({"type": "listItem", "content": content}));
        at += 1 + below;
    }
    json!({"type": kind, "content": nodes})
}

fn inlines(text: &[Inline], marks: &[Value]) -> Vec<Value> {
    let with = |mark: Value| marks.iter().cloned().chain([mark]).collect::<Vec<_>>();
    let leaf = |text: &str, marks: &[Value]| {
        if marks.is_empty() {
            json!({"type": "text", "text": text})
        } else {
            json!({"type": "text", "text": text, "marks": marks})
        }
    };
    text.iter()
        .flat_map(|inline| match inline {
            Inline::Text(text) if text.is_empty() => Vec::new(),
            Inline::Text(text) => vec![leaf(text, marks)],
            // Code takes no other mark.
            Inline::Code(code) => vec![leaf(code, &[json!({"type": "code"})])],
            Inline::Strong(inner) => inlines(inner, &with(json!({"type": "strong"}))),
            Inline::Emphasis(inner) => inlines(inner, &with(json!({"type": "em"}))),
            Inline::Strike(inner) => inlines(inner, &with(json!({"type": "strike"}))),
            Inline::Link { label, address } => {
                inlines(label, &with(json!({"type": "link", "attrs": {"href": address}})))
            }
            Inline::LineBreak => vec![json!({"type": "hardBreak"})],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_has_the_nodes_that_jira_knows() {
        let document = document("# Hi\n\na **b** [c](https://x.example)\n\n- 1\n  - 2\n\n```sh\nls\n```");
        assert_eq!(
            document["content"],
            json!([
                {"type": "heading", "attrs": {"level": 1}, "content": [{"type": "text", "text": "Hi"}]},
                {"type": "paragraph", "content": [
                    {"type": "text", "text": "a "},
                    {"type": "text", "text": "b", "marks": [{"type": "strong"}]},
                    {"type": "text", "text": " "},
                    {"type": "text", "text": "c", "marks": [{"type": "link", "attrs": {"href": "https://x.example"}}]}]},
                {"type": "bulletList", "content": [{"type": "listItem", "content": [
                    {"type": "paragraph", "content": [{"type": "text", "text": "1"}]},
                    {"type": "bulletList", "content": [{"type": "listItem", "content": [
                        {"type": "paragraph", "content": [{"type": "text", "text": "2"}]}]}]}]}]},
                {"type": "codeBlock", "attrs": {"language": "sh"}, "content": [{"type": "text", "text": "ls"}]}
            ])
        );
    }
}
