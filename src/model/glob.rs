//! Globs over names: `*` stands for any characters, dots and slashes included, and every other character for itself.
//!
//! There is deliberately nothing more: what a person reads in a file is what matches, and no name of an event or
//! of a repository needs escaping.

/// Whether the whole of `name` is covered by `pattern`. Takes at most `pattern` × `name` steps and no memory.
pub fn covers(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where the last star stood, and up to where in the name it reaches.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p, n));
            p += 1;
        } else if p < pattern.len() && pattern[p] == name[n] {
            (p, n) = (p + 1, n + 1);
        } else if let Some((at, reach)) = star {
            star = Some((at, reach + 1));
            (p, n) = (at + 1, reach + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// The same, whatever the letters' case (ASCII): repositories and logins are known in any.
pub fn covers_ignoring_case(pattern: &str, name: &str) -> bool {
    covers(&pattern.to_ascii_lowercase(), &name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_covers_any_characters_and_nothing_is_implied() {
        for (pattern, name) in [
            ("issues.opened", "issues.opened"),
            ("issues.*", "issues.opened"),
            ("event_alert.*", "event_alert.triggered"),
            ("message.*", "message.im.message_changed"),
            ("*", ""),
            ("*.created", "issue_comment.created"),
            ("a*b*c", "a-b-b-c"),
            ("**", "x"),
        ] {
            assert!(covers(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("message.im", "message.im.message_changed"),
            ("issues.*", "issues"),
            ("a*b", "a-b-c"),
            ("", "x"),
            ("issues.?pened", "issues.opened"),
            ("Issues.*", "issues.opened"),
        ] {
            assert!(!covers(pattern, name), "{pattern} {name}");
        }
        assert!(covers_ignoring_case("Octo/*", "octo/Repo"));
    }

    #[test]
    fn many_stars_do_not_explode() {
        assert!(!covers(&format!("{}c", "a*".repeat(40)), &format!("{}b", "a".repeat(4_000))));
    }
}
