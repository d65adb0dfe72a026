//! Which commands of a webhook a delivery calls, and for every other one why not.
//!
//! A text command (no trigger) runs when the text calls it by name or alias; an event command runs when a trigger
//! covers the event and its conditions hold, and one that needs no prefix for that can also be called like a text command. Who may call is decided elsewhere (`admission`), and what a delivery
//! costs is bounded by the limits of the webhook: this reads the text once and each command's conditions once.

mod call;
mod prose;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::call::{Address, Found, Prefix};
use super::condition::{Compiled, clip};
use super::event::{Event, Pressed};
use super::glob;
use super::ids::CommandName;
use super::spec::{CommandSpec, MatchMode, WebhookSpec};
use crate::error::{Code, Error, Result};

/// Events whose whole text is a call: the person chose the command's name in the provider's own interface.
const DIRECT_EVENTS: [&str; 2] = ["slash_command", "interaction.application_command"];
/// The event that a chat sends because the gateway's account was mentioned.
const MENTION_EVENT: &str = "app_mention";

/// What a webhook does with one event. Stored with the delivery, shown by `explain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// In the order in which they run.
    pub selected: Vec<Selected>,
    /// One for every command of the webhook, in the order of the webhook's commands.
    pub rules: Vec<RuleOutcome>,
    /// Why nothing runs, when nothing does.
    pub ignored: Option<String>,
}

/// A command that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selected {
    pub command: CommandName,
    /// What stood behind the command's word.
    pub args: String,
    /// The text called nothing that exists: this is the default.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_default: bool,
}

/// Whether one command matched, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleOutcome {
    pub command: CommandName,
    pub matched: bool,
    /// For example "its trigger `issues.*` does not cover `push`".
    pub why: String,
}

/// The commands of a webhook, ready to be matched. Made once a webhook, used once a delivery.
#[derive(Clone, Debug)]
pub struct Matcher {
    enabled: bool,
    prefixes: Vec<Prefix>,
    /// The first prefix as written, for sentences.
    prefix: Option<String>,
    /// Index of the default command.
    default: Option<usize>,
    mode: MatchMode,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    name: CommandName,
    /// Name and aliases in lower case.
    words: Vec<String>,
    triggers: Vec<String>,
    conditions: Option<Compiled>,
    priority: i32,
    requires_prefix: bool,
    /// Whether it approves or rejects.
    decides: Option<bool>,
}

/// Whom the text calls.
enum Called<'t> {
    Rule {
        index: usize,
        args: &'t str,
        why: String,
        by_default: bool,
    },
    /// There is a call, but no command that it is for.
    Nobody {
        rest: &'t str,
        why: String,
    },
    /// There is no call.
    Silence {
        why: String,
    },
}

/// How one rule came out: with its args, or why not.
type Outcome = std::result::Result<(String, String), String>;

/// Whether texts of this event can call a command where the webhook has no prefix.
pub fn needs_no_prefix(event: &str) -> bool {
    event == MENTION_EVENT || DIRECT_EVENTS.contains(&event)
}

impl Matcher {
    /// Fails only for a condition that checking the file would have refused.
    pub fn new(spec: &WebhookSpec) -> Result<Self> {
        let rules = spec.commands.iter().map(Rule::new).collect::<Result<Vec<_>>>()?;
        let default = spec.default_command.as_ref();
        Ok(Self {
            enabled: spec.enabled,
            prefixes: spec.prefixes.iter().map(|prefix| Prefix::new(prefix)).collect(),
            prefix: spec.prefixes.first().cloned(),
            default: default.and_then(|name| rules.iter().position(|rule| rule.name == *name)),
            mode: spec.match_mode,
            rules,
        })
    }

    /// What the webhook does with this event.
    pub fn decide(&self, event: &Event, payload: &Value) -> Decision {
        if !self.enabled {
            return self.nothing("the webhook is disabled".to_owned());
        }
        if event.noop {
            return self.nothing(format!("`{}` asks for nothing", event.name));
        }
        if let Some(pressed) = &event.pressed {
            return self.press(pressed, event, payload);
        }
        let called = self.called(event);
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(self.rules.len());
        for (index, rule) in self.rules.iter().enumerate() {
            outcomes.push(match rule.triggers.is_empty() {
                true => self.text_rule(index, event, payload, &called),
                // What runs by itself can also be asked for.
                false => self.event_rule(index, event, payload, &called).or_else(|why| match &called {
                    Called::Rule { index: other, .. } if *other == index && !rule.requires_prefix => {
                        self.text_rule(index, event, payload, &called)
                    }
                    _ => Err(why),
                }),
            });
        }
        self.conclude(event, &called, outcomes)
    }

    /// A button runs the one command that does what it says, whatever that is called here.
    fn press(&self, pressed: &Pressed, event: &Event, payload: &Value) -> Decision {
        let word = if pressed.approve { "approves" } else { "rejects" };
        let mut found = false;
        let outcomes = self.rules.iter().map(|rule| {
            if rule.decides != Some(pressed.approve) {
                return Err(format!("a button was pressed that {word}"));
            }
            if found {
                return Err(format!("another command {word} already"));
            }
            let why = rule.and_conditions(format!("a button was pressed that {word}"), payload)?;
            found = true;
            Ok((String::new(), why))
        });
        let outcomes = outcomes.collect();
        self.conclude(event, &Called::Silence { why: format!("no command {word} here") }, outcomes)
    }

    fn called<'t>(&self, event: &'t Event) -> Called<'t> {
        let Some(text) = event.text.as_deref().filter(|text| !text.trim().is_empty()) else {
            return Called::Silence { why: "the event has no text".to_owned() };
        };
        let call = match call::find(text, &self.prefixes, address(event)) {
            Found::Call(call) => call,
            Found::Silent => {
                return Called::Silence {
                    why: "the text has a call only in a quotation, in code or hidden".to_owned(),
                };
            }
            Found::Nothing => {
                let why = match &self.prefix {
                    Some(prefix) => format!("the text does not call `{prefix}`"),
                    None => "the webhook has no `command_prefix`".to_owned(),
                };
                return Called::Silence { why };
            }
        };
        let word = call.word.map(str::to_lowercase);
        let named = word.as_ref().and_then(|word| self.rules.iter().position(|rule| rule.words.contains(word)));
        let what = match call.word {
            Some(word) => format!("`{}` names no command", clip(word)),
            None if call.rest.is_empty() => "nothing follows the prefix".to_owned(),
            None => "no command's name follows the prefix".to_owned(),
        };
        match (named, self.default) {
            (Some(index), _) => {
                let name = &self.rules[index].name;
                let why = match word {
                    Some(word) if word != name.as_str() => format!("called by its alias `{}`", clip(&word)),
                    _ => "called by its name".to_owned(),
                };
                Called::Rule { index, args: call.args, why, by_default: false }
            }
            (None, Some(index)) => {
                let why = format!("{what}, and it is the default");
                Called::Rule { index, args: call.rest, why, by_default: true }
            }
            (None, None) => Called::Nobody { rest: call.rest, why: format!("{what}, and there is no default command") },
        }
    }

    fn text_rule(&self, index: usize, event: &Event, payload: &Value, called: &Called<'_>) -> Outcome {
        if !event.carries_commands {
            return Err(format!("it is called by text, and `{}` carries no calls", event.name));
        }
        match called {
            Called::Rule { index: other, args, why, .. } if *other == index => {
                let why = self.rules[index].and_conditions(why.clone(), payload)?;
                Ok(((*args).to_owned(), why))
            }
            Called::Rule { index: other, .. } => Err(format!("the text calls `{}`", self.rules[*other].name)),
            Called::Nobody { why, .. } | Called::Silence { why } => Err(why.clone()),
        }
    }

    fn event_rule(&self, index: usize, event: &Event, payload: &Value, called: &Called<'_>) -> Outcome {
        let rule = &self.rules[index];
        let why = rule.trigger_of(event)?;
        if rule.requires_prefix && !event.carries_commands && !rule.triggers.contains(&event.name) {
            return Err(format!("{why}, but it needs a call, and `{}` repeats what was said before", event.name));
        }
        let args = match called {
            Called::Rule { index: other, args, .. } if *other == index => *args,
            Called::Rule { index: other, .. } if rule.requires_prefix => {
                return Err(format!("{why}, but the text calls `{}`", self.rules[*other].name));
            }
            Called::Nobody { rest, .. } if rule.requires_prefix => *rest,
            Called::Silence { why: silence } if rule.requires_prefix => {
                return Err(format!("{why}, but it needs a call, and {silence}"));
            }
            _ => "",
        };
        rule.and_conditions(why, payload).map(|why| (args.to_owned(), why))
    }

    /// Puts the matching rules in order, stops at the first where so set, and says why nothing runs.
    fn conclude(&self, event: &Event, called: &Called<'_>, outcomes: Vec<Outcome>) -> Decision {
        let mut order: Vec<usize> = (0..outcomes.len()).filter(|index| outcomes[*index].is_ok()).collect();
        order.sort_by_key(|index| (self.rules[*index].priority, &self.rules[*index].name));
        let first = order.first().copied();
        if self.mode == MatchMode::First {
            order.truncate(1);
        }
        let selected = order.iter().filter_map(|index| {
            let (args, _) = outcomes[*index].as_ref().ok()?;
            let rule = &self.rules[*index];
            let by_default = matches!(called, Called::Rule { index: called, by_default: true, .. } if called == index)
                && rule.triggers.is_empty();
            Some(Selected { command: rule.name.clone(), args: args.clone(), by_default })
        });
        let selected: Vec<Selected> = selected.collect();
        let ignored = selected.is_empty().then(|| match called {
            Called::Nobody { why, .. } | Called::Silence { why } if event.carries_commands => {
                format!("no command matches `{}`: {why}", event.name)
            }
            _ => format!("no command matches `{}`", event.name),
        });
        let rules = outcomes.into_iter().enumerate().map(|(index, outcome)| {
            let (matched, why) = match (outcome, first) {
                (Ok((_, why)), Some(first)) if self.mode == MatchMode::First && index != first => {
                    (false, format!("{why}, but `{}` comes first (`match: first`)", self.rules[first].name))
                }
                (Ok((_, why)), _) => (true, why),
                (Err(why), _) => (false, why),
            };
            RuleOutcome { command: self.rules[index].name.clone(), matched, why }
        });
        Decision { selected, rules: rules.collect(), ignored }
    }

    fn nothing(&self, why: String) -> Decision {
        let rules = self.rules.iter();
        let rules = rules.map(|rule| RuleOutcome { command: rule.name.clone(), matched: false, why: why.clone() });
        Decision { selected: Vec::new(), rules: rules.collect(), ignored: Some(why) }
    }
}

impl Rule {
    fn new(command: &CommandSpec) -> Result<Self> {
        let conditions = command.conditions.as_ref().map(Compiled::new).transpose().map_err(|message| {
            Error::new(Code::ConfigValue, format!("the conditions of command `{}` do not compile", command.name))
                .detail(message)
        })?;
        let words = std::iter::once(command.name.as_str()).chain(command.aliases.iter().map(String::as_str));
        Ok(Self {
            name: command.name.clone(),
            words: words.map(str::to_lowercase).collect(),
            triggers: command.triggers.clone(),
            conditions,
            priority: command.priority,
            requires_prefix: command.requires_prefix,
            decides: command.action.decides(),
        })
    }

    /// Which trigger covers the event, or that none does.
    fn trigger_of(&self, event: &Event) -> std::result::Result<String, String> {
        let names = || std::iter::once(&event.name).chain(&event.aliases);
        for trigger in &self.triggers {
            if let Some(name) = names().find(|name| glob::covers(trigger, name)) {
                return Ok(match name == &event.name {
                    true => format!("its trigger `{trigger}` covers `{name}`"),
                    false => format!("its trigger `{trigger}` covers `{name}`, as `{}` is also called", event.name),
                });
            }
        }
        Err(match self.triggers.as_slice() {
            [one] => format!("its trigger `{one}` does not cover `{}`", event.name),
            several => format!("none of its triggers `{}` covers `{}`", several.join("`, `"), event.name),
        })
    }

    fn and_conditions(&self, why: String, payload: &Value) -> std::result::Result<String, String> {
        let Some(conditions) = &self.conditions else { return Ok(why) };
        let verdict = conditions.evaluate(payload);
        if verdict.holds {
            Ok(format!("{why}, and {}", verdict.why))
        } else {
            Err(format!("{why}, but {}", verdict.why))
        }
    }
}

fn address(event: &Event) -> Address {
    match event.name.as_str() {
        name if DIRECT_EVENTS.contains(&name) => Address::Direct,
        MENTION_EVENT => Address::Mention,
        _ => Address::Prefix,
    }
}
