//! A `skillhook.toml` in which every setting stands with its meaning and its default, commented out. It is made from
//! the settings themselves, so that it cannot say anything else than the program does.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::config::Settings;

const HEAD: &str = "\
# Settings of skillhook. Everything here has the default that is shown; remove the `#` to change it.
# A flag wins over the environment (SKILLHOOK_SERVER_LISTEN for listen below [server]), and that over this file.
# `skillhook schema settings` prints the schema of this file, for editors.
";

const PROVIDERS: &str = "
# Settings of providers: where their API is, how this service is called there, and where the token for answers is.
# A token itself never stands here.
# [providers.github]
# api_token_env = \"GITHUB_TOKEN\"
# bot_login = \"my-bot\"
# A GitHub App instead of a token: its tokens are got when they are needed.
# app_id = \"123456\"
# app_private_key_file = \"/etc/skillhook/github-app.pem\"
";

/// The text of the file.
pub fn commented() -> String {
    let schema = schemars::schema_for!(Settings).to_value();
    let defaults = serde_json::to_value(Settings::default()).unwrap_or_default();
    let mut text = HEAD.to_owned();
    let nothing = Map::new();
    for (table, values) in defaults.as_object().unwrap_or(&nothing) {
        let described = resolved(&schema, &schema["properties"][table]);
        let Some(values) = values.as_object().filter(|values| !values.is_empty()) else { continue };
        text.push('\n');
        comment(&mut text, &described["description"]);
        let _ = writeln!(text, "# [{table}]");
        for (key, value) in values {
            comment(&mut text, &described["properties"][key]["description"]);
            let _ = writeln!(text, "# {key} = {}", toml(value));
        }
    }
    text.push_str(PROVIDERS);
    text
}

/// What a `$ref` leads to.
fn resolved<'a>(schema: &'a Value, at: &'a Value) -> &'a Value {
    let reference = at["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.and_then(|pointer| schema.pointer(pointer)).unwrap_or(at)
}

fn comment(text: &mut String, description: &Value) {
    for line in description.as_str().unwrap_or_default().lines() {
        let _ = writeln!(text, "## {line}");
    }
}

fn toml(value: &Value) -> String {
    match value {
        // A setting without a default.
        Value::Null => "\"\"".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect();
            format!("{{ {} }}", fields.join(", ")).replace("{  }", "{}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides};

    fn load(text: &str) -> Settings {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(crate::config::FILE), text).unwrap();
        let overrides = Overrides { root: Some(dir.path().to_owned()), ..Overrides::default() };
        Config::load(&overrides).unwrap().settings
    }

    #[test]
    fn as_it_is_it_changes_nothing_and_without_its_comment_signs_it_says_the_defaults() {
        let text = commented();
        assert_eq!(load(&text), Settings::default());
        // These have no default that could be written down.
        let absent = |line: &str| {
            line.starts_with("# public_url = ") || line.starts_with("# repository = ") || line.ends_with("= \"\"")
        };
        let values =
            text.lines().filter(|line| !line.starts_with("##") && !line.contains("providers") && !absent(line));
        let values = values
            .filter_map(|line| line.strip_prefix("# "))
            .filter(|line| line.starts_with('[') || line.contains(" = "));
        let values: Vec<&str> = values
            .filter(|line| !["api_token_env", "bot_login", "app_"].iter().any(|it| line.starts_with(it)))
            .collect();
        assert!(values.len() > 20, "{text}");
        assert_eq!(load(&values.join("\n")), Settings::default());
    }

    #[test]
    fn every_setting_says_what_it_is_for() {
        let text = commented();
        assert!(text.contains("## The public receiver.\n# listen = \"127.0.0.1:8080\"\n"), "{text}");
        assert!(text.contains("# env_allow = [\"SKILLHOOK_SECRET_*\", "), "{text}");
    }
}
