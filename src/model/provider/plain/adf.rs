//! Atlassian Document Format (<https://developer.atlassian.com/cloud/jira/platform/apis/document/structure/>).

use serde_json::Value;

/// The text of a document. Blocks end with a line break, list items begin with a dash.
pub fn text(document: &Value) -> String {
    let mut text = String::new();
    write(document, &mut text);
    text.trim_end().to_owned()
}

/// Depth is bounded: no payload is nested deeper than the decoder lets in.
fn write(node: &Value, text: &mut String) {
    let attribute = |name: &str| node["attrs"][name].as_str().unwrap_or_default();
    match node["type"].as_str().unwrap_or_default() {
        "text" => text.push_str(node["text"].as_str().unwrap_or_default()),
        "hardBreak" => text.push('\n'),
        "mention" => text.push_str(attribute("text")),
        "emoji" => {
            let shown = attribute("text");
            text.push_str(if shown.is_empty() { attribute("shortName") } else { shown });
        }
        "status" => text.push_str(attribute("text")),
        "date" => text.push_str(attribute("timestamp")),
        "inlineCard" | "blockCard" | "embedCard" => text.push_str(attribute("url")),
        "listItem" | "taskItem" | "decisionItem" => {
            text.push_str("- ");
            children(node, text);
            end_line(text);
        }
        "paragraph" | "heading" | "codeBlock" | "tableRow" | "rule" | "blockquote" | "panel" => {
            children(node, text);
            end_line(text);
        }
        "tableCell" | "tableHeader" => {
            children(node, text);
            while text.ends_with('\n') {
                text.pop();
            }
            text.push('\t');
        }
        _ => children(node, text),
    }
}

fn children(node: &Value, text: &mut String) {
    for child in node["content"].as_array().into_iter().flatten() {
        write(child, text);
    }
}

fn end_line(text: &mut String) {
    if !text.ends_with('\n') {
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn blocks_become_lines() {
        let paragraph = |content: Value| json!({"type": "paragraph", "content": content});
        let said = |text: &str| json!({"type": "text", "text": text});
        let document = json!({"type": "doc", "version": 1, "content": [
            paragraph(json!([{"type": "mention", "attrs": {"id": "1", "text": "@agent"}}, said(" fix "),
                             {"type": "inlineCard", "attrs": {"url": "https://x.example/1"}},
                             {"type": "hardBreak"}, {"type": "emoji", "attrs": {"shortName": ":smile:", "text": "😄"}}])),
            {"type": "bulletList", "content": [
                {"type": "listItem", "content": [paragraph(json!([said("one")]))]},
                {"type": "listItem", "content": [paragraph(json!([said("two")]))]}]}]});
        assert_eq!(text(&document), "@agent fix https://x.example/1\n😄\n- one\n- two");
    }
}
