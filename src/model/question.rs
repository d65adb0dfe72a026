//! How an agent puts a question to the people of a conversation, where its command lets it (`action: ask`).

/// Alone in the first line of an answer, it makes the rest a question.
const MARK: &str = "[question]";

/// What an agent is told that may ask.
pub const INSTRUCTION: &str = "\n\nIf you cannot do the task without something that only the people there can tell \
you, you may put one question to them: make your last message the question alone, with `[question]` alone in its \
first line. Say in it what you found so far, what you need to know, and between what there is to choose. Your task \
then waits, and goes on with their answer. Ask only what you cannot find out yourself.";

/// The question, where the answer is one.
pub fn of(answer: &str) -> Option<&str> {
    let answer = answer.trim_start();
    let (first, rest) = answer.split_once('\n')?;
    let marked = first.trim().trim_matches(['*', '`']).eq_ignore_ascii_case(MARK);
    Some(rest.trim()).filter(|question| marked && !question.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_marked_answer_is_a_question() {
        for (answer, expect) in [
            ("[question]\nWhich branch?", Some("Which branch?")),
            ("\n  `[Question]`  \n\nMain or next?\nI found both.\n", Some("Main or next?\nI found both.")),
            ("[question]", None),
            ("[question]\n \n", None),
            ("[question] Which branch?", None),
            ("Done.\n[question]\nWhich branch?", None),
            ("Is this a question?\nNo.", None),
        ] {
            assert_eq!(of(answer), expect, "{answer:?}");
        }
        assert!(INSTRUCTION.contains(MARK));
    }
}
