//! Finds the call in a text: the prefix at a word boundary, the word after it, and what follows.

use super::prose::silent;

/// How many bytes of a text are looked through for a call.
const SEARCHED_BYTES_MAX: usize = 64 * 1024;
/// Punctuation that may stand directly behind a prefix or a command's word.
const PUNCTUATION: [char; 6] = [',', ':', ';', '.', '!', '?'];
/// Marks with which people dress up a word; also the slash of those used to slash commands.
const DRESS: [char; 5] = ['*', '`', '"', '\'', '/'];

/// How an event speaks to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// By a prefix somewhere in the text, or by a mention at its beginning.
    Prefix,
    /// The event itself says that a mention in the text is ours.
    Mention,
    /// The event is a call: its text begins where the prefix would end.
    Direct,
}

/// A call in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call<'t> {
    /// The word after the prefix, where there is one that could be a name.
    pub(super) word: Option<&'t str>,
    /// What follows the word.
    pub(super) args: &'t str,
    /// What follows the prefix, the word included.
    pub(super) rest: &'t str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found<'t> {
    Call(Call<'t>),
    /// Only within a quotation, code or a comment.
    Silent,
    Nothing,
}

/// The first call in the text.
pub(super) fn find<'t>(text: &'t str, prefixes: &[Prefix], address: Address) -> Found<'t> {
    let text = &text[..text.floor_char_boundary(SEARCHED_BYTES_MAX)];
    if address == Address::Direct {
        let trimmed = text.trim_start();
        let begins = prefixes.iter().find_map(|prefix| prefix.end_in(trimmed)).or_else(|| mention_end(trimmed));
        return Found::Call(call(&trimmed[begins.unwrap_or(0)..]));
    }
    let silent = silent(text);
    let counts = |at: usize| {
        let next = silent.partition_point(|range| range.end <= at);
        !silent.get(next).is_some_and(|range| range.contains(&at))
    };
    let mut only_silent = false;
    for (at, end) in calls(text, prefixes) {
        if counts(at) {
            return Found::Call(call(&text[end..]));
        }
        only_silent = true;
    }
    let begins = text.len() - text.trim_start().len();
    let mentions = text.match_indices("<@").map(|(at, _)| at);
    for at in mentions.filter(|at| *at == begins || address == Address::Mention) {
        if let Some(length) = mention_end(&text[at..]).filter(|_| counts(at)) {
            return Found::Call(call(&text[at + length..]));
        }
    }
    if only_silent { Found::Silent } else { Found::Nothing }
}

/// Where a prefix stands at a word boundary, and where it ends.
fn calls<'a>(text: &'a str, prefixes: &'a [Prefix]) -> impl Iterator<Item = (usize, usize)> + 'a {
    let mut before = None;
    text.char_indices().filter_map(move |(at, c)| {
        let begins =
            !before.replace(c).is_some_and(|c: char| c.is_alphanumeric() || matches!(c, '_' | '@' | '/' | '\\'));
        let end = begins.then(|| prefixes.iter().find_map(|prefix| prefix.end_in(&text[at..])))??;
        Some((at, at + end))
    })
}

/// A prefix, ready to be compared in any case of letters.
#[derive(Clone, Debug)]
pub(super) struct Prefix {
    lower: Box<[char]>,
}

impl Prefix {
    pub(super) fn new(written: &str) -> Self {
        Self { lower: written.chars().flat_map(char::to_lowercase).collect() }
    }

    /// How many bytes the prefix takes at the beginning of the text, if it stands there as a word of its own.
    fn end_in(&self, text: &str) -> Option<usize> {
        let mut wanted = self.lower.iter();
        let mut end = 0;
        for c in text.chars() {
            if wanted.as_slice().is_empty() {
                break;
            }
            for lower in c.to_lowercase() {
                if wanted.next() != Some(&lower) {
                    return None;
                }
            }
            end += c.len_utf8();
        }
        let complete = wanted.as_slice().is_empty() && end > 0;
        // After a prefix like `!` the command's word may follow at once.
        let is_word = self.lower.last().is_some_and(|c| c.is_alphanumeric());
        (complete && (!is_word || ends_word(&text[end..]))).then_some(end)
    }
}

/// Whether a word can end where `rest` begins: `@agents`, `@agent-smith`, `@agent/team` and `@agent.com` go on.
fn ends_word(rest: &str) -> bool {
    let mut chars = rest.chars();
    match chars.next() {
        None => true,
        Some(c) if c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | '@') => false,
        Some('.' | '\'' | '’') => !chars.next().is_some_and(char::is_alphanumeric),
        Some(_) => true,
    }
}

/// The length of a chat's mention (`<@U0AAA>`, `<@U0AAA|name>`) at the beginning of the text.
fn mention_end(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("<@")?;
    let end = inner.char_indices().take(120).find(|(_, c)| matches!(c, '>' | '<' | '\n'))?.0;
    let id = inner[..end].split('|').next().unwrap_or_default().trim_start_matches('!');
    let is_id = !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric());
    (is_id && inner[end..].starts_with('>')).then_some(end + 3)
}

/// Takes what stands behind a prefix apart.
fn call(behind: &str) -> Call<'_> {
    let rest = behind.strip_prefix(PUNCTUATION).unwrap_or(behind).trim();
    let dressed = rest.trim_start_matches(DRESS);
    let dress = &rest[..rest.len() - dressed.len()];
    let length = dressed.find(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_'))).unwrap_or(dressed.len());
    let (word, after) = dressed.split_at(length);
    if word.is_empty() || !(dress.is_empty() || after.starts_with(dress) || dress == "/") || !ends_name(after) {
        return Call { word: None, args: rest, rest };
    }
    let after = after.strip_prefix(dress).unwrap_or(after);
    Call { word: Some(word), args: after.trim_start_matches(PUNCTUATION).trim(), rest }
}

/// A name may be followed by anything but what would make it part of a longer word.
fn ends_name(after: &str) -> bool {
    let mut chars = after.chars();
    !matches!(chars.next(), Some('.' | '\'' | '’' | '/' | '@' | ':'))
        || !chars.next().is_some_and(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str, address: Address) -> Found<'_> {
        find(text, &[Prefix::new("@agent"), Prefix::new("/Bot")], address)
    }

    #[track_caller]
    fn check(text: &str, word: Option<&str>, args: &str) {
        match found(text, Address::Prefix) {
            Found::Call(call) => assert_eq!((call.word, call.args), (word, args), "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn the_word_and_what_follows_are_told_apart() {
        check("@agent review please look at X", Some("review"), "please look at X");
        check("hello @AGENT Review", Some("Review"), "");
        check("@agent, review: this", Some("review"), "this");
        check("@agent: **review** this", Some("review"), "this");
        check("@agent /review this", Some("review"), "this");
        check("@agent\n\nreview\n\nthis\n", Some("review"), "this");
        check("(@agent fix it)", Some("fix"), "it)");
        check("/bot ship-it.", Some("ship-it"), "");
        check("@agent überprüfe das", Some("überprüfe"), "das");
        check("<@U0AAA|agent> review", Some("review"), "");
        check("  <@U0AAA> review", Some("review"), "");
        check("<@U0BOB> hi, @agent review", Some("review"), "");
    }

    #[test]
    fn what_is_no_word_is_left_in_the_rest() {
        check("@agent", None, "");
        check("@agent!", None, "");
        check("@agent > quoted", None, "> quoted");
        check("@agent review.rs is broken", None, "review.rs is broken");
        check("@agent 'tis", None, "'tis");
        check("@agent 🎉", None, "🎉");
    }

    #[test]
    fn a_prefix_inside_a_longer_word_is_none() {
        for text in
            ["foo@agent x", "@agents x", "@agent-smith x", "@agent/team", "a@agent.com", "@@agent x", "x/@agent"]
        {
            assert_eq!(found(text, Address::Prefix), Found::Nothing, "{text}");
        }
    }

    #[test]
    fn mentions_within_a_text_count_only_where_the_event_says_so() {
        let text = "could <@U0AAA> review this";
        assert_eq!(found(text, Address::Prefix), Found::Nothing);
        let Found::Call(call) = found(text, Address::Mention) else { panic!() };
        assert_eq!((call.word, call.args), (Some("review"), "this"));
        for odd in ["<@> review", "<@U0 AAA> review", "<@U0AAA review", "<#C0AAA> review"] {
            assert_eq!(found(odd, Address::Prefix), Found::Nothing, "{odd}");
        }
    }

    #[test]
    fn a_direct_call_needs_no_prefix() {
        for text in ["review this", "@agent review this", " <@U0AAA> review this"] {
            let Found::Call(call) = found(text, Address::Direct) else { panic!() };
            assert_eq!((call.word, call.args), (Some("review"), "this"), "{text}");
        }
    }

    #[test]
    fn a_prefix_of_marks_may_touch_its_word() {
        let Found::Call(call) = find("please !fix it", &[Prefix::new("!")], Address::Prefix) else { panic!() };
        assert_eq!((call.word, call.args), (Some("fix"), "it"));
        assert_eq!(find("wow!fix", &[Prefix::new("!")], Address::Prefix), Found::Nothing);
    }

    #[test]
    fn silent_text_holds_no_call() {
        assert_eq!(found("> @agent review", Address::Prefix), Found::Silent);
        check("> @agent review\n@agent fix", Some("fix"), "");
    }

    fn text() -> impl Strategy<Value = String> {
        let piece = proptest::sample::select(vec![
            "@agent", "@AGENT", " ", "\n", "> ", "```", "`", "~~~", "<!--", "-->", "<@U1>", "<@", ">", "fix", ":", ",",
            "**", "/", "é", "ß", "\u{130}", "🎉", "\u{0}", ".", "-",
        ]);
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_calls_are_parts_of_it(text in text()) {
            for address in [Address::Prefix, Address::Mention, Address::Direct] {
                if let Found::Call(call) = found(&text, address) {
                    prop_assert!(text.contains(call.rest) && call.rest.contains(call.args));
                    prop_assert!(call.word.is_none_or(|word| call.rest.contains(word)));
                }
            }
        }

        #[test]
        fn nothing_silent_is_ever_a_call(text in text()) {
            let ranges = silent(&text);
            prop_assert!(ranges.is_sorted_by(|a, b| a.end <= b.start));
            let mut rest = text.clone();
            for range in ranges.iter().rev() {
                rest.replace_range(range.clone(), &"\u{1}".repeat(range.len()));
            }
            let visible = calls(&rest, &[Prefix::new("@agent")]).next().is_some();
            let called = matches!(find(&text, &[Prefix::new("@agent")], Address::Prefix), Found::Call(_));
            prop_assert!(!visible || called, "{text:?}");
        }
    }
}
