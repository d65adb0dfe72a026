//! `explain`: why a delivery did what it did, rule by rule.

use clap::Args;
use serde_json::Value;

use super::client::{DEADLINE, Route};
use super::context::Context;
use super::exit::Exit;
use super::output::harmless;
use super::record;
use super::sheet::{self, Form, Sheet, column};
use crate::error::Result;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skillhook explain dlv_0197a3c0de7d7f0b8a5d3c2b1a098765
  skillhook get deliveries -o name | head -1 | xargs skillhook explain")]
pub struct Explain {
    /// The delivery's id, as the answer to the sender and `skillhook get deliveries` show it
    delivery: String,
}

const RULES: Sheet = Sheet {
    singular: "rule",
    plural: "rules",
    name: &["/command"],
    columns: &[
        column("COMMAND", Form::Text, &["/command"]),
        column("MATCHED", Form::State, &["/matched"]),
        column("WHY", Form::Text, &["/why"]),
    ],
};

impl Explain {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let id = self.delivery.strip_prefix("delivery/").unwrap_or(&self.delivery);
        let told = context.client()?.get(Route::api(&["deliveries", id, "explain"]), DEADLINE).await?;
        context.output.value(&told, shown);
        Ok(Exit::Done)
    }
}

/// What is said of the whole delivery, then each of its events with the rules that were asked.
fn shown(told: &Value) -> String {
    let mut head = told.clone();
    let items = match head.as_object_mut().and_then(|fields| fields.shift_remove("items")) {
        Some(Value::Array(items)) => items,
        _ => return record::shown(told),
    };
    let mut text = record::shown(&head);
    for item in &items {
        let event = sheet::text(sheet::find(item, &["/event/name", "/event"]));
        let decision = item.get("decision").unwrap_or(item);
        text.push_str(&format!("\nEvent {}", harmless(&event)));
        match decision["ignored"].as_str() {
            Some(why) => text.push_str(&format!(": nothing runs, {}\n", harmless(why))),
            None => text.push_str(&format!(": {} selected\n", decision["selected"].as_array().map_or(0, Vec::len))),
        }
        if let Some(rules) = decision["rules"].as_array().filter(|rules| !rules.is_empty()) {
            text.push_str(&sheet::table(&RULES, rules, true));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_rule_says_why() {
        let told = json!({
            "id": "dlv_1",
            "items": [{
                "event": {"name": "issues.opened"},
                "decision": {
                    "selected": [{"command": "review", "args": ""}],
                    "ignored": null,
                    "rules": [
                        {"command": "review", "matched": true, "why": "its trigger covers the event"},
                        {"command": "fix", "matched": false, "why": "its word was not said"},
                    ],
                },
            }],
        });
        let shown = anstream::adapter::strip_str(&shown(&told)).to_string();
        let expected = "\
Id:  dlv_1

Event issues.opened: 1 selected
COMMAND   MATCHED   WHY
review    yes       its trigger covers the event
fix       no        its word was not said
";
        assert_eq!(shown, expected);
    }
}
