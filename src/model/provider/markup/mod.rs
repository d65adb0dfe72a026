//! What agents write (GitHub-flavoured Markdown) in the dialect of the place where it is to stand.
//!
//! Only what agents really write is understood: headings, paragraphs, lists, quotes, code, tables, emphasis, links.
//! Everything else stays literal text, escaped for the dialect, so that nothing an agent quotes becomes a mention, a
//! macro or a tag there.

mod adf;
mod block;
mod dialect;
mod inline;

pub use adf::document as adf;

use super::schema::Format;

/// The text in a dialect. Markdown dialects take it as it is; of the Atlassian Document Format this is the JSON text.
pub fn render(format: Format, markdown: &str) -> String {
    match format {
        Format::DiscordMd | Format::Gfm | Format::Markdown => markdown.to_owned(),
        Format::Adf => adf::document(markdown).to_string(),
        Format::AdfOrWiki | Format::JiraWiki => dialect::write(&dialect::WIKI, &block::parse(markdown)),
        Format::Html => dialect::write(&dialect::HTML, &block::parse(markdown)),
        Format::TelegramHtml => dialect::write(&dialect::TELEGRAM, &block::parse(markdown)),
        Format::Mrkdwn => dialect::write(&dialect::MRKDWN, &block::parse(markdown)),
        Format::Plain => dialect::write(&dialect::PLAIN, &block::parse(markdown)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "# Found it\n\nThe **total** is *wrong* in `cart.rs`, see [issue 7](https://x.example/7?a&b).\n\
                        Ping <@U1> & {code} [x].\n\n- one\n  - inner\n- two\n\n1. first\n2. second\n\n> quoted\n> text\n\n\
                        ```rust\nlet a = 1 < 2;\n```\n\n| a | b |\n|---|---|\n| 1 | ~~2~~ |\n";

    #[test]
    fn slack_gets_its_own_marks_and_no_mentions() {
        assert_eq!(
            render(Format::Mrkdwn, SAID),
            "*Found it*\n\nThe *total* is _wrong_ in `cart.rs`, see <https://x.example/7?a&amp;b|issue 7>.\n\
             Ping &lt;@U1&gt; &amp; {code} [x].\n\n• one\n    • inner\n• two\n\n1. first\n2. second\n\n> quoted\n> text\n\n\
             ```\nlet a = 1 &lt; 2;\n```\n\n*a* | *b*\n1 | ~2~"
        );
    }

    #[test]
    fn jira_gets_wiki_markup_and_no_macros() {
        assert_eq!(
            render(Format::JiraWiki, SAID),
            "h1. Found it\n\nThe *total* is _wrong_ in {{cart.rs}}, see [issue 7|https://x.example/7?a&b].\n\
             Ping <@U1> & \\{code\\} \\[x\\].\n\n* one\n** inner\n* two\n\n# first\n# second\n\n\
             {quote}\nquoted\ntext\n{quote}\n\n{code:rust}\nlet a = 1 < 2;\n{code}\n\n||a||b||\n|1|-2-|"
        );
    }

    #[test]
    fn html_is_escaped_and_closed() {
        let html = render(Format::Html, SAID);
        assert!(
            html.starts_with("<h1>Found it</h1>\n\n<p>The <b>total</b> is <i>wrong</i> in <code>cart.rs</code>"),
            "{html}"
        );
        assert!(html.contains("<a href=\"https://x.example/7?a&amp;b\">issue 7</a>"));
        assert!(html.contains("Ping &lt;@U1&gt; &amp; {code} [x].</p>"));
        assert!(html.contains("<ul><li>one</li><ul><li>inner</li></ul><li>two</li></ul>"));
        assert!(html.contains("<pre>let a = 1 &lt; 2;</pre>"));
        assert!(html.ends_with("<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td><s>2</s></td></tr></table>"));
    }

    #[test]
    fn plain_text_has_no_marks() {
        let plain = render(Format::Plain, SAID);
        assert!(plain.starts_with("Found it\n\nThe total is wrong in cart.rs, see issue 7 (https://x.example/7?a&b)."));
        assert!(!plain.contains("**") && !plain.contains("```"));
    }

    #[test]
    fn unbalanced_marks_are_text() {
        for odd in
            ["2 * 3 * 4", "a_b_c", "**open", "`open", "[a](b", "snake_case_name and x*y", "***", "<!-- hidden -->x"]
        {
            let plain = render(Format::Plain, odd);
            let wanted = odd.replace("<!-- hidden -->", "");
            assert!(plain == wanted || (odd == "***" && plain == "---"), "{odd} became {plain}");
        }
    }

    #[test]
    fn addresses_that_run_code_are_no_links() {
        assert_eq!(render(Format::Html, "[x](javascript:alert(1))"), "<p>[x](javascript:alert(1))</p>");
    }

    #[test]
    fn hostile_text_takes_little_time() {
        let begun = std::time::Instant::now();
        for piece in ["*", "_a", "*a ", "**a", "[a](", "`", "~~b ", "<!--", "> ", "| a ", "- *a\n"] {
            let text = piece.repeat(65_536 / piece.len());
            assert!(!render(Format::Html, &text).is_empty());
        }
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    }

    #[test]
    fn deep_nesting_ends() {
        for c in ["*", "_", "**", "> ", "[", "~~", "- "] {
            for format in [Format::Html, Format::Adf, Format::JiraWiki] {
                assert!(!render(format, &format!("{}x{}", c.repeat(5_000), c.repeat(5_000))).is_empty());
            }
        }
    }
}
