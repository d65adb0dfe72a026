//! `version`, `completion`, `schema` and `error`: what the program knows about itself.

use clap::Args;
use clap_complete::Shell;
use serde_json::{Value, json};

use super::context::Context;
use super::exit::Exit;
use super::output;
use super::sheet::{Form, Sheet, column, wide};
use crate::config::Settings;
use crate::error::{Code, Error, Result};
use crate::model::provider::{catalog, facts, schema};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skillhook version
  skillhook version -o json")]
pub struct Version {}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skillhook completion bash > /etc/bash_completion.d/skillhook
  skillhook completion zsh > \"${fpath[1]}/_skillhook\"
  skillhook completion fish > ~/.config/fish/completions/skillhook.fish")]
pub struct Completion {
    shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skillhook schema webhook > webhook.schema.json
  skillhook schema provider > provider.schema.json
  skillhook schema settings > settings.schema.json")]
pub struct Schema {
    /// What to describe
    subject: Subject,
}

/// What has a JSON Schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Subject {
    /// `webhook_config` of a SKILL.md
    Webhook,
    /// `skillhook.toml`
    Settings,
    /// A provider definition, `.claude/providers/NAME.yaml`
    Provider,
    /// Every provider of the catalogue, as a page in Markdown
    Catalogue,
    /// Problem documents that the servers answer with
    Error,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skillhook error SH0105
  skillhook error -o wide")]
pub struct Explained {
    /// A code such as SH0105; without it, all of them are listed
    code: Option<String>,
}

const CODES: Sheet = Sheet {
    singular: "error",
    plural: "errors",
    name: &["/code"],
    columns: &[
        column("CODE", Form::Text, &["/code"]),
        column("TITLE", Form::Text, &["/title"]),
        wide("STATUS", Form::Text, &["/status"]),
        wide("RETRY", Form::Text, &["/retry"]),
    ],
};

impl Version {
    pub fn run(self, context: &Context) -> Result<Exit> {
        let version = json!({
            "name": env!("CARGO_PKG_NAME"),
            "version": env!("CARGO_PKG_VERSION"),
            "os": std::env::consts::OS,
            "arch": std::env::consts::ARCH,
        });
        context.output.value(&version, |_| format!("{} {}\n", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")));
        Ok(Exit::Done)
    }
}

impl Completion {
    pub fn run(self, context: &Context) -> Result<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), env!("CARGO_PKG_NAME"), &mut script);
        context.output.text(&String::from_utf8_lossy(&script));
        Ok(Exit::Done)
    }
}

impl Schema {
    pub fn run(self, context: &Context) -> Result<Exit> {
        if self.subject == Subject::Catalogue {
            let catalogue = catalog::builtin().map_err(|_| Error::new(Code::Bug, "the catalogue is not valid"))?;
            context.output.text(&facts::page(&catalogue));
            return Ok(Exit::Done);
        }
        let schema = match self.subject {
            Subject::Webhook => crate::model::raw::schema().to_value(),
            Subject::Settings => schemars::schema_for!(Settings).to_value(),
            Subject::Provider | Subject::Catalogue => schema::json_schema().to_value(),
            Subject::Error => problem_schema(),
        };
        context.output.value(&schema, output::json);
        Ok(Exit::Done)
    }
}

impl Explained {
    pub fn run(self, context: &Context) -> Result<Exit> {
        let Some(written) = self.code else {
            let all: Vec<Value> = Code::ALL.iter().map(|code| summary(*code)).collect();
            context.output.list(&CODES, &all);
            return Ok(Exit::Done);
        };
        let code = named(&written)?;
        let mut page = summary(code);
        page["page"] = code.page().into();
        context.output.value(&page, |_| code.page().to_owned());
        Ok(Exit::Done)
    }
}

/// `SH0105`, `sh0105`, `0105` and `105` are the same code.
fn named(written: &str) -> Result<Code> {
    let digits = written.trim_start_matches(['s', 'S', 'h', 'H']);
    let full = format!("SH{digits:0>4}");
    Code::ALL.iter().copied().find(|code| code.as_str() == full).ok_or_else(|| {
        let hint = "`skillhook error` lists them all";
        Error::new(Code::NotFound, format!("there is no code `{written}`")).hint(hint)
    })
}

fn summary(code: Code) -> Value {
    json!({"code": code, "title": code.title(), "status": code.status(), "retry": code.retry()})
}

/// Problem details (RFC 9457) with our code and hint.
fn problem_schema() -> Value {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Problem",
        "type": "object",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": {"type": "string", "description": "urn:skillhook:error:CODE"},
            "title": {"type": "string", "description": "The heading of the code"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "code": {"enum": codes, "description": "Stable; `skillhook error CODE` explains it"},
            "detail": {"type": "string", "description": "What is wrong this time"},
            "hint": {"type": "string", "description": "What to do about it"},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_however_they_are_written() {
        for written in ["SH0105", "sh0105", "0105", "105"] {
            assert_eq!(named(written).unwrap(), Code::ConfigField);
        }
        assert_eq!(named("SH9999").unwrap_err().code(), Code::NotFound);
    }

    #[test]
    fn the_schema_of_problems_fits_its_own_examples() {
        let schema = jsonschema::validator_for(&problem_schema()).unwrap();
        let problem = json!({"type": "t", "title": "t", "status": 404, "code": "SH0901", "detail": "d", "hint": "h"});
        assert!(schema.is_valid(&problem));
        assert!(!schema.is_valid(&json!({"code": "SH0001"})));
    }

    #[test]
    fn the_defaults_fit_the_schema_of_settings() {
        let schema = schemars::schema_for!(Settings).to_value();
        let schema = jsonschema::validator_for(&schema).unwrap();
        assert!(schema.is_valid(&serde_json::to_value(Settings::default()).unwrap()));
        assert!(!schema.is_valid(&json!({"server": {"listn": "x"}})));
    }
}
