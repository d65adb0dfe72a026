//! Characters that nobody sees and programs read.

/// Drops them. Line breaks of every kind become `\n`; terminal sequences go as a whole.
pub(super) fn strip(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => out.push(c),
            '\r' => {
                chars.next_if_eq(&'\n');
                out.push('\n');
            }
            '\u{85}' | '\u{2028}' | '\u{2029}' => out.push('\n'),
            '\u{1b}' if chars.next_if_eq(&'[').is_some() => {
                while chars.next_if(|c| matches!(c, '\u{20}'..='\u{3f}')).is_some() {}
                chars.next_if(|c| matches!(c, '\u{40}'..='\u{7e}'));
            }
            // One of them after a symbol chooses how an emoji looks; more of them carry data.
            '\u{fe0e}' | '\u{fe0f}'
                if out.chars().next_back().is_some_and(|before| !before.is_ascii() && before != c) =>
            {
                if !out.ends_with(['\u{fe0e}', '\u{fe0f}']) {
                    out.push(c);
                }
            }
            _ if is_hidden(c) => {}
            _ => out.push(c),
        }
    }
    out
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' // zero width, left-to-right and right-to-left marks
            | '\u{202a}'..='\u{202e}' // bidirectional embedding and override
            | '\u{2060}'..='\u{206f}' // joiner, invisible operators, bidirectional isolates
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{fff0}'..='\u{fffb}' // unassigned and interlinear annotation
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}' // tags and variation selectors: whole texts can be smuggled in them
        )
}
