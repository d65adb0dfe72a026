use proptest::prelude::*;
use serde_json::json;

use super::*;

const SKILL: &str = "\
---
name: triage      # as the directory
description: Sorts new issues.

# Who may use it is decided elsewhere.
webhook_config:
  provider: github   # the built-in one
  enabled: true
  commands:
    # Asks for a look.
    - name: look
      aliases: [see, peek]
      prompt_template: |
        Look at {{ issue.title }}.

        Then say what you saw.
    - name: sort   # last
      prompt_template: 'Sort: {{ issue.title }}'
license: MIT
---
# Triage

Body with --- in it.
";

const COMMANDS: &[&str] = &["webhook_config", "commands"];

fn made(change: &Change<'_>) -> String {
    let bytes = edit("SKILL.md", SKILL.as_bytes(), change).unwrap_or_else(|error| panic!("{change:?}: {error:?}"));
    String::from_utf8(bytes).unwrap()
}

fn comments(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.split_once(" # ").map(|(_, comment)| comment)).collect()
}

#[test]
fn one_value_changes_and_nothing_else() {
    let text = made(&Change::Set(&["webhook_config", "enabled"], &json!(false)));
    assert_eq!(text, SKILL.replace("enabled: true", "enabled: false"));
}

#[test]
fn a_command_is_added_at_the_end_and_comments_stay() {
    let command = json!({
        "name": "explain",
        "description": "Says what: \"it\" is",
        "prompt_template": "Explain {{ issue.title }}.\n\nIn two lines.\n",
        "tools": ["Read", "Grep"],
        "conditions": {"label.name": "bug"},
    });
    let text = made(&Change::PutNamed(COMMANDS, &command));
    assert_eq!(comments(&text), comments(SKILL));
    assert!(
        text.contains("- name: sort   # last\n") && text.ends_with("---\n# Triage\n\nBody with --- in it.\n"),
        "{text}"
    );
    let replaced = made(&Change::PutNamed(COMMANDS, &json!({"name": "look", "prompt_template": "Other."})));
    assert!(replaced.contains("Other.") && !replaced.contains("peek") && replaced.contains("# last"), "{replaced}");
    let removed = made(&Change::RemoveNamed(COMMANDS, "look"));
    assert!(!removed.contains("peek") && removed.contains("- name: sort   # last"), "{removed}");
}

#[test]
fn the_block_is_removed_and_put_with_the_rest_untouched() {
    let removed = made(&Change::Remove(&["webhook_config"]));
    assert!(removed.contains("name: triage      # as the directory") && removed.contains("license: MIT"), "{removed}");
    assert!(!removed.contains("provider"), "{removed}");
    let block = json!({"provider": "jira", "commands": [{"name": "a", "prompt_template": "b\nc\n"}]});
    let put = edit("SKILL.md", removed.as_bytes(), &Change::Set(&["webhook_config"], &block)).unwrap();
    let put = String::from_utf8(put).unwrap();
    assert!(put.contains("webhook_config:\n  provider: jira") || put.contains("provider: jira"), "{put}");
    let nested = edit("SKILL.md", removed.as_bytes(), &Change::Set(&["metadata", "x", "y"], &json!(1))).unwrap();
    assert!(String::from_utf8(nested).unwrap().contains("metadata:"));
}

#[test]
fn what_cannot_be_edited_is_refused() {
    let change = Change::PutNamed(COMMANDS, &Value::Null);
    assert_eq!(edit("SKILL.md", SKILL.as_bytes(), &change).unwrap_err().code(), Code::EditUnsafe);
    let set = Change::Set(&["a"], &Value::Null);
    assert_eq!(edit("SKILL.md", b"no frontmatter\n", &set).unwrap_err().code(), Code::FrontmatterUnreadable);
    let missing = Change::RemoveNamed(COMMANDS, "nobody");
    assert_eq!(edit("SKILL.md", SKILL.as_bytes(), &missing).unwrap_err().code(), Code::EditUnsafe);
}

fn text() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "a", " ", "\n", ":", "# ", "- ", "'", "\"", "{{ x }}", "é", "yes", "1", "|", "\\", "@", "%", "*", "&", "!",
        "\t",
    ]);
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn an_edit_says_what_was_meant_or_is_refused(
        name in "[a-z]{1,6}", prompt in text(), description in text(), number in any::<i32>(),
    ) {
        let item = json!({"name": name, "prompt_template": prompt, "description": description, "priority": number});
        let Ok(bytes) = edit("SKILL.md", SKILL.as_bytes(), &Change::PutNamed(COMMANDS, &item)) else { return Ok(()) };
        let document = split("SKILL.md", &bytes).unwrap();
        let said: Value = serde_yaml::from_str(document.frontmatter.unwrap().text).unwrap();
        prop_assert!(said["webhook_config"]["commands"].as_array().unwrap().contains(&item));
        prop_assert_eq!(&said["license"], "MIT");
        prop_assert_eq!(document.body, "# Triage\n\nBody with --- in it.\n");
    }

    #[test]
    fn ordinary_text_is_never_refused(prompt in "[A-Za-z,.:'\" \n{}é-]{0,60}") {
        let item = json!({"name": "new", "prompt_template": prompt});
        prop_assert!(edit("SKILL.md", SKILL.as_bytes(), &Change::PutNamed(COMMANDS, &item)).is_ok(), "{:?}", prompt);
    }
}
