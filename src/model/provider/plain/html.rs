//! HTML of comments as text. Not a renderer: tags go, blocks and breaks become lines, entities become characters.

/// The text of a fragment. Scripts, styles and comments say nothing.
pub fn text(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        push_text(&rest[..at], &mut text);
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end + 3..]);
            continue;
        }
        let starts_tag = rest[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!');
        let Some(end) = rest.find('>').filter(|_| starts_tag) else {
            text.push('<');
            rest = &rest[1..];
            continue;
        };
        let tag = rest[1..end].trim_start_matches('/');
        let name: String = tag.chars().take_while(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
        let opens = !rest.starts_with("</");
        rest = &rest[end + 1..];
        match name.as_str() {
            "script" | "style" if opens => rest = after_close(rest, &name),
            "br" => text.push('\n'),
            "li" if opens => {
                end_line(&mut text);
                text.push_str("- ");
            }
            "p" | "div" | "li" | "ul" | "ol" | "tr" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "pre"
            | "blockquote" | "table" => end_line(&mut text),
            _ => {}
        }
    }
    push_text(rest, &mut text);
    text.trim().to_owned()
}

fn after_close<'t>(rest: &'t str, name: &str) -> &'t str {
    let lower = rest.to_ascii_lowercase();
    match lower.find(&format!("</{name}")) {
        Some(at) => rest[at..].find('>').map_or("", |end| &rest[at + end + 1..]),
        None => "",
    }
}

fn end_line(text: &mut String) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
}

fn push_text(piece: &str, text: &mut String) {
    let mut rest = piece;
    while let Some(at) = rest.find('&') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let entity = rest.find(';').filter(|end| *end <= 10).and_then(|end| Some((character(&rest[1..end])?, end + 1)));
        let (c, length) = entity.unwrap_or(('&', 1));
        text.push(c);
        rest = &rest[length..];
    }
    text.push_str(rest);
}

fn character(entity: &str) -> Option<char> {
    match entity {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        _ => {
            let number = entity.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code).filter(|c| !c.is_control() || *c == '\n' || *c == '\t')
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_go_and_text_stays() {
        assert_eq!(text("<p>Can&#39;t <b>you</b>&nbsp;see?</p><p>a &lt; b<br/>c</p>"), "Can't you see?\na < b\nc");
        assert_eq!(text("<ul><li>one</li><li>two</li></ul>"), "- one\n- two");
        assert_eq!(text("a<script>alert('<p>')</script>b<!-- @agent fix -->c"), "abc");
        assert_eq!(text("1 < 2 && 3 > 2 &bogus;"), "1 < 2 && 3 > 2 &bogus;");
        assert_eq!(text("<p unclosed"), "<p unclosed");
    }
}
