//! The YAML of one file: checked once, then read as types and asked for positions.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use super::key_path::{KeyPath, Step};
use super::refused::{self, Refusal};
use super::split::{Block, FRONTMATTER_BYTES_MAX};
use super::{seek, trouble};
use crate::error::Code;
use crate::model::diagnostic::{Diagnostic, Position};

/// The fields of a frontmatter, or of a file that is YAML altogether.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    path: &'a str,
    text: Cow<'a, str>,
    origin: Origin,
    value: serde_yaml::Value,
}

/// Where the first character of the text stands in the file.
#[derive(Clone, Copy, Debug)]
struct Origin {
    line: usize,
    /// Columns that every line of the file has before the text's own first column.
    indentation: usize,
}

impl<'a> Fields<'a> {
    /// The fields of a frontmatter.
    ///
    /// # Errors
    /// Not YAML, not a mapping, or something that is refused here (see the module).
    pub fn of(path: &'a str, block: &Block<'a>) -> Result<Self, Diagnostic> {
        Self::parse(path, Cow::Borrowed(block.text), Origin { line: block.first_line, indentation: 0 })
    }

    /// The fields of a file that has no Markdown after it.
    ///
    /// # Errors
    /// As [`Fields::of`], and the limits of [`super::split`].
    pub fn of_file(path: &'a str, text: &'a str) -> Result<Self, Diagnostic> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self::parse(path, Cow::Borrowed(text), Origin { line: 1, indentation: 0 })
    }

    /// The fields that stand as a text of their own at `at` (`metadata.webhook_config: |`); `None` if no text is there.
    ///
    /// # Errors
    /// As [`Fields::of`].
    pub fn embedded(&self, at: &KeyPath) -> Option<Result<Fields<'a>, Diagnostic>> {
        let text = self.find(at)?.as_str()?.to_owned();
        let origin = self.origin_of_text(at);
        Some(Self::parse(self.path, Cow::Owned(text), origin))
    }

    /// Whether a value (`null` counts as none) stands there.
    pub fn contains(&self, at: &KeyPath) -> bool {
        self.find(at).is_some_and(|value| !value.is_null())
    }

    /// Whether that value is text; see [`Fields::embedded`].
    pub fn is_text(&self, at: &KeyPath) -> bool {
        self.find(at).is_some_and(serde_yaml::Value::is_string)
    }

    /// Top-level keys, in the order of the file.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.value.as_mapping().into_iter().flat_map(|fields| fields.keys()).filter_map(serde_yaml::Value::as_str)
    }

    /// Everything as `T`.
    ///
    /// # Errors
    /// With the path of the field, its position in the file and, for unknown fields, what was probably meant.
    pub fn typed<T: DeserializeOwned>(&self) -> Result<T, Diagnostic> {
        let text = if self.value.is_null() { "{}" } else { &*self.text };
        serde_yaml::from_str(text).map_err(|error| self.typed_trouble(&error))
    }

    /// The value at `at` as `T`; `None` where nothing stands.
    ///
    /// # Errors
    /// As [`Fields::typed`].
    pub fn typed_at<T: DeserializeOwned>(&self, at: &KeyPath) -> Result<Option<T>, Diagnostic> {
        if !self.contains(at) {
            return Ok(None);
        }
        seek::read(&self.text, at.steps()).map_err(|error| self.typed_trouble(&error))
    }

    /// The same with blanks in the place of the field that stands at `at` in the file, so that one look can tell what
    /// comes after it. `None` where it does not stand on lines of its own.
    pub fn without_field(&self, at: Position) -> Option<Fields<'a>> {
        let line = at.line.checked_sub(self.origin.line)?;
        let column = at.column.checked_sub(self.origin.indentation + 1)?;
        let text = seek::without_field(&self.text, line, column)?;
        Self::parse(self.path, Cow::Owned(text), self.origin).ok()
    }

    /// The same as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::to_value(&self.value).unwrap_or_default()
    }

    /// Where the key or item stands in the file, else its nearest ancestor, else the first line.
    pub fn position(&self, at: &KeyPath) -> Position {
        match seek::key_position(&self.text, at.steps()) {
            Some(position) => self.in_file(position),
            None => Position { line: self.origin.line, column: self.origin.indentation + 1 },
        }
    }

    /// Where line and column of the text at `at` (counted from 1) stand in the file: exact for block texts (`|`) and
    /// texts on one line, the beginning of the value for folded ones.
    pub fn position_in_text(&self, at: &KeyPath, line: usize, column: usize) -> Position {
        let origin = self.origin_of_text(at);
        let is_block = self.block_text_start(at).is_some();
        if is_block || line == 1 {
            return Position { line: origin.line + line.max(1) - 1, column: origin.indentation + column.max(1) };
        }
        Position { line: origin.line, column: origin.indentation + 1 }
    }

    /// An error at `at`, for the checks that come after parsing.
    pub fn error(&self, at: &KeyPath, code: Code, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.path, code, message).at_position(Some(self.position(at)))
    }

    pub fn warning(&self, at: &KeyPath, code: Code, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(self.path, code, message).at_position(Some(self.position(at)))
    }

    fn parse(path: &'a str, text: Cow<'a, str>, origin: Origin) -> Result<Self, Diagnostic> {
        let mut fields = Self { path, text, origin, value: serde_yaml::Value::Null };
        if fields.text.len() > FRONTMATTER_BYTES_MAX {
            let message = format!("the YAML has {} bytes, allowed are {FRONTMATTER_BYTES_MAX}", fields.text.len());
            return Err(Diagnostic::error(path, Code::FrontmatterLimit, message).at(origin.line, 1));
        }
        if let Err(at) = refused::check_brackets(&fields.text) {
            let diagnostic = Diagnostic::error(path, Code::FrontmatterLimit, "too many brackets are open");
            return Err(diagnostic.at_position(Some(fields.in_file(at))));
        }
        if is_empty(&fields.text) {
            return Ok(fields);
        }
        refused::check(&fields.text).map_err(|refusal| fields.refusal(&refusal))?;
        fields.value = serde_yaml::from_str(&fields.text).map_err(|error| fields.trouble(&error, false))?;
        if !fields.value.is_mapping() && !fields.value.is_null() {
            return Err(Diagnostic::error(path, Code::FrontmatterYaml, "expected fields (`key: value`)")
                .at_position(Some(fields.position(&KeyPath::root()))));
        }
        Ok(fields)
    }

    fn find(&self, at: &KeyPath) -> Option<&serde_yaml::Value> {
        at.steps().iter().try_fold(&self.value, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        })
    }

    fn typed_trouble(&self, error: &serde_yaml::Error) -> Diagnostic {
        self.trouble(error, true)
    }

    fn trouble(&self, error: &serde_yaml::Error, typed: bool) -> Diagnostic {
        let position = refused::position(error).map(|position| self.in_file(position));
        let first = Position { line: self.origin.line, column: self.origin.indentation + 1 };
        let diagnostic = trouble::explain(error, typed).at_position(Some(position.unwrap_or(first)));
        Diagnostic { path: self.path.to_owned(), ..diagnostic }
    }

    fn refusal(&self, refusal: &Refusal) -> Diagnostic {
        match refusal {
            Refusal::Yaml(error) => self.trouble(error, false),
            Refusal::Anchor(position) => Diagnostic::error(self.path, Code::FrontmatterYaml, refused::ANCHOR)
                .at_position(position.map(|position| self.in_file(position)))
                .hint("write the values out"),
        }
    }

    fn in_file(&self, position: Position) -> Position {
        Position { line: self.origin.line + position.line - 1, column: self.origin.indentation + position.column }
    }

    fn origin_of_text(&self, at: &KeyPath) -> Origin {
        if let Some((line, indentation)) = self.block_text_start(at) {
            return Origin { line: self.origin.line + line - 1, indentation: self.origin.indentation + indentation };
        }
        let Some(start) = seek::value_position(&self.text, at.steps()) else {
            return self.origin;
        };
        let quotes =
            usize::from(self.line(start.line).chars().nth(start.column - 1).is_some_and(|c| matches!(c, '"' | '\'')));
        let start = self.in_file(start);
        Origin { line: start.line, indentation: start.column - 1 + quotes }
    }

    /// For a text written with `|`: the line of this YAML on which it begins and how far it is indented.
    fn block_text_start(&self, at: &KeyPath) -> Option<(usize, usize)> {
        let header = seek::value_position(&self.text, at.steps())?;
        let indicator: String = self.line(header.line).chars().skip(header.column - 1).collect();
        if !indicator.starts_with('|') {
            return None;
        }
        let first =
            (header.line + 1..).map_while(|line| self.text.lines().nth(line - 1)).find(|line| !line.trim().is_empty());
        let written = first.map_or(0, |line| line.len() - line.trim_start_matches(' ').len());
        Some((header.line + 1, written))
    }

    fn line(&self, number: usize) -> &str {
        self.text.lines().nth(number - 1).unwrap_or_default()
    }
}

/// Nothing but blanks and comments.
fn is_empty(text: &str) -> bool {
    text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::model::frontmatter::split;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Front {
        name: String,
        webhook_config: Option<Config>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Config {
        provider: String,
        #[serde(default)]
        enabled: bool,
        #[serde(default)]
        commands: Vec<Command>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Command {
        name: String,
        priority: Option<u8>,
        #[serde(default)]
        action: Action,
        #[serde(default)]
        conditions: BTreeMap<String, String>,
        prompt_template: Option<String>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Action {
        #[default]
        CreateTask,
        Comment,
    }

    const SKILL: &str = "---
name: triage
license: MIT
webhook_config:
  provider: github
  commands:
    - name: review
      priority: 5
    # a comment
    - name: fix
      conditions: {\"label.name\": bug}
      prompt_template: |

        Fix {{ issue.title }}
        & be *quick* !important
---
body
";

    fn fields(text: &str) -> Result<Fields<'_>, Diagnostic> {
        let document = split("SKILL.md", text.as_bytes()).map_err(|mut found| found.remove(0))?;
        Fields::of("SKILL.md", &document.frontmatter.expect("it has a frontmatter"))
    }

    fn at(path: &str) -> KeyPath {
        KeyPath::parse(path)
    }

    #[test]
    fn a_skill_is_read_as_types_and_other_keys_pass() {
        let fields = fields(SKILL).expect("it is valid");
        let front: Front = fields.typed().expect("it fits");
        assert_eq!(front.webhook_config.expect("it has one").commands[1].conditions["label.name"], "bug");
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["name", "license", "webhook_config"]);
        let commands: Option<Vec<Command>> = fields.typed_at(&at("webhook_config.commands")).expect("it fits");
        assert_eq!(commands.expect("they are there").len(), 2);
        assert!(
            fields.contains(&at("webhook_config.commands[1]")) && !fields.contains(&at("webhook_config.commands[2]"))
        );
        assert_eq!(fields.json()["webhook_config"]["commands"][0]["priority"], 5);
    }

    #[test]
    fn positions_of_key_paths() {
        let fields = fields(SKILL).expect("it is valid");
        let cases = [
            ("name", (2, 1)),
            ("webhook_config", (4, 1)),
            ("webhook_config.commands[1]", (10, 7)),
            ("webhook_config.commands[1].conditions", (11, 7)),
            ("webhook_config.commands[1].nothing.here", (10, 7)),
            ("webhook_config.commands[7].name", (6, 3)),
            ("nowhere", (2, 1)),
            ("", (2, 1)),
        ];
        for (path, (line, column)) in cases {
            assert_eq!(fields.position(&at(path)), Position { line, column }, "{path}");
        }
        let dotted = at("webhook_config.commands[1].conditions").key("label.name");
        assert_eq!(fields.position(&dotted), Position { line: 11, column: 20 });
        let prompt = at("webhook_config.commands[1].prompt_template");
        assert_eq!(fields.position_in_text(&prompt, 2, 8), Position { line: 14, column: 16 });
        assert_eq!(fields.position_in_text(&at("name"), 1, 3), Position { line: 2, column: 9 });
    }

    /// Text with a number in front of it that must not appear in what is refused.
    fn refusal(yaml: &str) -> String {
        let text = format!("---\n{yaml}\n---\n");
        let found = fields(&text).and_then(|fields| fields.typed::<Front>()).expect_err(yaml);
        let hint = found.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{found}{hint}")
    }

    #[test]
    fn trouble_says_where_and_what_was_meant() {
        let cases = [
            (
                "name: x\nwebhook_config:\n  provider: github\n  comands: []",
                "SKILL.md:5:3: error[SH0105]: unknown field `comands` in `webhook_config` (did you mean `commands`?)",
            ),
            (
                "name: x\nwebhook_config:\n  provider: github\n  zebra: []",
                "SKILL.md:5:3: error[SH0105]: unknown field `zebra` in `webhook_config` (the fields here are: `provider`, `enabled`, `commands`)",
            ),
            (
                "name: x\nwebhook_config:\n  provider: a\n  commands:\n  - name: b\n    priority: 300",
                "SKILL.md:7:15: error[SH0105]: `webhook_config.commands[0].priority`: expected a whole number that is not negative and not too large, found integer `300`",
            ),
            (
                "name: x\nwebhook_config:\n  provider: a\n  commands:\n  - name: b\n    action: coment",
                "SKILL.md:7:13: error[SH0105]: `webhook_config.commands[0].action`: `coment` is no value for it (did you mean `comment`?)",
            ),
            (
                "name: x\nwebhook_config:\n  enabled: true",
                "SKILL.md:4:3: error[SH0105]: `provider` is missing in `webhook_config`",
            ),
            (
                "name: x\nwebhook_config: [a]",
                "SKILL.md:3:17: error[SH0105]: `webhook_config`: expected a mapping, found a list",
            ),
            ("", "SKILL.md:2:1: error[SH0105]: `name` is missing"),
            ("# only this", "SKILL.md:2:1: error[SH0105]: `name` is missing"),
            (
                "name: x: y",
                "SKILL.md:2:8: error[SH0102]: mapping values are not allowed in this context (put a value that holds `: ` in quotes, or write it as a block (`|`))",
            ),
            ("- a\n- b", "SKILL.md:2:1: error[SH0102]: expected fields (`key: value`)"),
        ];
        for (yaml, expected) in cases {
            assert_eq!(refusal(yaml), expected, "{yaml}");
        }
    }

    #[test]
    fn dangerous_yaml_is_refused_where_it_stands() {
        let anchors = "anchors and aliases are not used here (write the values out)";
        let tags = "tags are not used here (write the value without `!…`; put it in quotes if it is text)";
        let cases = [
            ("a: &x 1\nb: *x".to_owned(), format!("SKILL.md:2:4: error[SH0102]: {anchors}")),
            ("a: &x\n  b: 1".to_owned(), format!("SKILL.md:2:4: error[SH0102]: {anchors}")),
            ("a: [1, &x 2]".to_owned(), format!("SKILL.md:2:8: error[SH0102]: {anchors}")),
            ("a: *x".to_owned(), format!("SKILL.md:2:4: error[SH0102]: {anchors}")),
            ("a:\n  b: !thing 1".to_owned(), format!("SKILL.md:3:6: error[SH0102]: `a.b`: {tags}")),
            ("a: !!str 1".to_owned(), format!("SKILL.md:2:4: error[SH0102]: `a`: {tags}")),
            ("a: !<tag:yaml.org,2002:str> 1".to_owned(), format!("SKILL.md:2:4: error[SH0102]: `a`: {tags}")),
            (
                "a:\n  <<: {b: 1}".to_owned(),
                "SKILL.md:3:3: error[SH0102]: `a`: merge keys are not used here (write the fields out)".to_owned(),
            ),
            (
                "a: 1\nb:\n  c: 1\n  d: 2\n  c: 3".to_owned(),
                "SKILL.md:6:3: error[SH0102]: `b`: the key `c` stands here twice (keep one of them)".to_owned(),
            ),
        ];
        for (yaml, expected) in cases {
            assert_eq!(refusal(&yaml), expected, "{yaml}");
        }
        for yaml in ["? [a, b]\n: 1", "a: 1\n...\nb: 2", "a: 1\n--- b", "%YAML 1.1\na: 1"] {
            assert!(refusal(yaml).contains("error[SH0102]"), "{yaml}");
        }
    }

    #[test]
    fn text_that_only_looks_dangerous_is_fine() {
        for yaml in [
            "name: |\n  * a list\n  &x is text\n  !!str too\n  <<: and this\n  *x",
            "name: \"&x *x !!str\"",
            "name: R&D & *more*\nurl: https://a/?b=1&c=2",
            "name: x # &anchor *alias !tag\nother: 'it''s &x'",
            "name: >-\n  &x\n  folded",
        ] {
            let text = format!("---\n{yaml}\n---\n");
            fields(&text).unwrap_or_else(|found| panic!("{yaml}: {found}")).typed::<Front>().expect(yaml);
        }
    }

    #[test]
    fn bombs_and_deep_nesting_end_soon() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let aliases = vec![format!("*a{}", level - 1); 9].join(",");
            bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(refusal(&bomb).contains(refused::ANCHOR));
        let deep_list: String = (0..180).map(|depth| format!("{}-\n", " ".repeat(depth))).collect();
        assert!(refusal(&format!("a:\n{deep_list}")).contains("recursion limit exceeded"));
        assert!(refusal(&format!("a: {}{}", "[".repeat(100), "]".repeat(100))).contains("`name` is missing"));
    }

    #[test]
    fn a_block_text_holds_fields_of_its_own() {
        let text = "---\nname: x\nmetadata:\n  webhook_config: |\n    provider: github\n    comands: []\n---\n";
        let fields = fields(text).expect("it is valid");
        let place = at("metadata.webhook_config");
        assert!(fields.is_text(&place));
        let embedded = fields.embedded(&place).expect("it is text").expect("it is valid");
        let found = embedded.typed::<Config>().expect_err("it has a slip");
        assert_eq!(found.to_string(), "SKILL.md:6:5: error[SH0105]: unknown field `comands`");
        assert!(fields.embedded(&at("metadata")).is_none());
    }

    fn yaml_text() -> impl Strategy<Value = String> {
        let piece = proptest::sample::select(vec![
            "a", "b: ", "- ", "\n", "  ", "&x ", "*x ", "!t ", "!!str ", "<<: ", "|", ">", "\"", "'", "[", "]", "{",
            "}", ",", "? ", ": ", "#", "\\", "é", "---", "\t", "\u{0}", "~",
        ]);
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in yaml_text()) {
            if let Ok(fields) = Fields::of_file("x.yaml", &text) {
                let _ = fields.typed::<Front>();
                let _ = fields.position(&at("b.a[0]"));
                let _ = fields.position_in_text(&at("b"), 2, 2);
            }
        }

        #[test]
        fn what_is_written_is_what_is_read(values in proptest::collection::btree_map("[a-z]{1,6}", "[ -~\n]{0,30}", 0..6)) {
            let text = serde_yaml::to_string(&values).expect("a map of texts can be written");
            let fields = Fields::of_file("x.yaml", &text).map_err(|found| TestCaseError::fail(format!("{text}\n{found}")))?;
            prop_assert_eq!(fields.typed::<BTreeMap<String, String>>().expect("it fits"), values.clone());
            for key in values.keys() {
                let position = fields.position(&KeyPath::root().key(key.as_str()));
                let line = text.lines().nth(position.line - 1).unwrap_or_default();
                prop_assert!(line.trim_start_matches(['"', '\'']).starts_with(key.as_str()), "{text} {key} {position:?}");
            }
        }
    }
}
