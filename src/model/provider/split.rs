//! Cuts a text into messages that a provider takes: at paragraphs, else at lines, else at words.

use super::reply::Limits;

/// Most messages that a text becomes; what is beyond is cut.
pub const MESSAGES_MAX: usize = 20;
/// How much of a message may be given up for a nicer cut.
const SLACK: usize = 4;
/// What stands where a text was cut.
const CUT: &str = "\n\n…";

/// The parts of a text. A fenced code block that is cut is closed in one part and opened again in the next.
pub fn split(text: &str, limits: Limits) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = text.to_owned();
    while !fits(&rest, limits) {
        if parts.len() + 1 == MESSAGES_MAX {
            parts.push(truncate(&rest, limits));
            return parts;
        }
        // Room for a fence that must be closed.
        let room = Limits { chars: limits.chars.map(|it| shrink(it, 4)), bytes: limits.bytes.map(|it| shrink(it, 4)) };
        let cut = nice_cut(&rest, longest(&rest, room));
        let (head, tail) = rest.split_at(cut);
        let (head, tail) = (head.trim_end_matches('\n'), tail.trim_start_matches('\n'));
        let (head, tail) = match open_fence(head) {
            // Only when the opening line is short, so that every part still gets somewhere.
            Some(fence) if fence.len() <= cut / 4 => (format!("{head}\n```"), format!("{fence}\n{tail}")),
            _ => (head.to_owned(), tail.to_owned()),
        };
        parts.push(head);
        rest = tail;
    }
    parts.push(rest);
    parts
}

/// The text, cut with a mark when it is too long.
pub fn truncate(text: &str, limits: Limits) -> String {
    if fits(text, limits) {
        return text.to_owned();
    }
    let room = Limits {
        chars: limits.chars.map(|it| shrink(it, CUT.chars().count())),
        bytes: limits.bytes.map(|it| shrink(it, CUT.len())),
    };
    let cut = nice_cut(text, longest(text, room));
    let cut = format!("{}{CUT}", text[..cut].trim_end());
    if fits(&cut, limits) { cut } else { text[..longest(text, limits)].to_owned() }
}

fn shrink(limit: usize, by: usize) -> usize {
    if limit > 4 * by { limit - by } else { limit }
}

/// Whether a text is within the limits.
pub fn fits(text: &str, limits: Limits) -> bool {
    // Bytes first: most texts have fewer bytes than they may have characters.
    let chars = limits.chars.is_none_or(|most| text.len() <= most || text.chars().count() <= most);
    chars && limits.bytes.is_none_or(|most| text.len() <= most)
}

/// The longest beginning within the limits, in bytes; at least one character.
fn longest(text: &str, limits: Limits) -> usize {
    let mut end = 0;
    for (n, (at, c)) in text.char_indices().enumerate() {
        let next = at + c.len_utf8();
        let over = limits.chars.is_some_and(|most| n + 1 > most) || limits.bytes.is_some_and(|most| next > most);
        if over && n > 0 {
            break;
        }
        end = next;
    }
    end
}

/// A place at or a little before `end` where a reader would pause.
fn nice_cut(text: &str, end: usize) -> usize {
    let head = &text[..end];
    let earliest = end - end / SLACK;
    let after = |pattern: &str| head.rfind(pattern).map(|at| at + pattern.len()).filter(|at| *at >= earliest);
    after("\n\n").or_else(|| after("\n")).or_else(|| after(" ")).unwrap_or(end)
}

/// The line that opened a fenced code block which is still open at the end.
fn open_fence(text: &str) -> Option<&str> {
    let mut open = None;
    for line in text.lines().filter(|line| line.trim_start().starts_with("```")) {
        open = match open {
            Some(_) => None,
            None => Some(line),
        };
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chars(most: usize) -> Limits {
        Limits { chars: Some(most), bytes: None }
    }

    #[test]
    fn short_text_is_one_part() {
        assert_eq!(split("hello", chars(5)), ["hello"]);
        assert_eq!(split("", chars(5)), [""]);
        assert_eq!(split("any", Limits::default()), ["any"]);
    }

    #[test]
    fn cuts_fall_between_paragraphs_and_nothing_is_lost() {
        let text = "one two three\n\nfour five six\n\nseven eight nine";
        let parts = split(text, chars(20));
        assert_eq!(parts, ["one two three", "four five six", "seven eight nine"]);
        let long = "wörd ".repeat(50);
        let joined: String = split(&long, chars(40)).join("");
        assert_eq!(joined.matches("wörd").count(), 50);
    }

    #[test]
    fn bytes_count_too_and_characters_stay_whole() {
        let text = "ä".repeat(100);
        for part in split(&text, Limits { chars: Some(50), bytes: Some(31) }) {
            assert!(part.len() <= 31);
        }
    }

    #[test]
    fn code_block_is_closed_and_opened_again() {
        let text = format!("intro\n```rust\n{}```\nend", "let x = 1;\n".repeat(30));
        let parts = split(&text, chars(120));
        assert!(parts.len() > 2);
        for part in &parts {
            assert_eq!(part.matches("```").count() % 2, 0, "{part}");
            assert!(part.chars().count() <= 120);
        }
        assert!(parts[1].starts_with("```rust\n"));
    }

    #[test]
    fn even_endless_text_ends() {
        let parts = split(&"x".repeat(100_000), chars(100));
        assert_eq!(parts.len(), MESSAGES_MAX);
        assert!(parts[MESSAGES_MAX - 1].ends_with('…'));
        assert!(!split("ääää", chars(1)).is_empty());
    }
}
