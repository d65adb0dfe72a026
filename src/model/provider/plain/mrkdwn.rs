//! Slack's mrkdwn (<https://docs.slack.dev/messaging/formatting-message-text>).

/// The text with its escapes undone: links as their addresses, channels and groups by name. Mentions of people stay
/// as `<@U…>`, because that is how a message says whom it calls.
pub fn text(mrkdwn: &str) -> String {
    let mut text = String::with_capacity(mrkdwn.len());
    let mut rest = mrkdwn;
    while let Some(at) = rest.find('<') {
        push_text(&rest[..at], &mut text);
        rest = &rest[at..];
        let Some(end) = rest.find('>') else { break };
        let inner = &rest[1..end];
        let (target, label) = inner.split_once('|').map_or((inner, None), |(target, label)| (target, Some(label)));
        match (target.chars().next(), label) {
            (Some('@'), _) => {
                text.push('<');
                text.push_str(target);
                text.push('>');
            }
            (Some(kind @ ('#' | '!')), Some(label)) => {
                // `<!subteam^S1|@team>` has its sign in the label already.
                if kind == '#' {
                    text.push('#');
                }
                push_text(label, &mut text);
            }
            (Some('!'), None) => {
                text.push('@');
                push_text(&target[1..], &mut text);
            }
            _ => push_text(target, &mut text),
        }
        rest = &rest[end + 1..];
    }
    push_text(rest, &mut text);
    text
}

fn push_text(piece: &str, text: &mut String) {
    text.push_str(&piece.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_and_mentions_stay() {
        let said = "hey <@U0000BOT|agent>  fix &lt;main.rs&gt; &amp;amp; see <https://x.example/a?b&amp;c|this> in \
                    <#C1|general>, <!here>, <!subteam^S1|@team>";
        let wanted = "hey <@U0000BOT>  fix <main.rs> &amp; see https://x.example/a?b&c in #general, @here, @team";
        assert_eq!(text(said), wanted);
        assert_eq!(text("a < b"), "a < b");
    }
}
