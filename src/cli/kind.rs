//! The kinds of things that `get` and `describe` know, under all the names that people use for them, and how each
//! is shown.

use std::ffi::OsStr;

use clap::builder::{EnumValueParser, PossibleValue, TypedValueParser};

use super::sheet::Form::{Age, Condition, Cost, Count, Prose, State, Text};
use super::sheet::{Sheet, column, wide};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    #[value(aliases = ["webhook", "wh", "hook", "hooks"])]
    Webhooks,
    #[value(aliases = ["skill", "sk"])]
    Skills,
    #[value(aliases = ["agent", "ag"])]
    Agents,
    #[value(aliases = ["provider", "pv"])]
    Providers,
    #[value(aliases = ["task", "tsk", "t"])]
    Tasks,
    #[value(aliases = ["approval", "ap"])]
    Approvals,
    #[value(aliases = ["dead-letter", "dl", "dead"])]
    DeadLetters,
    #[value(aliases = ["delivery", "dlv", "d"])]
    Deliveries,
    /// Who changed, approved, replayed what
    Audit,
}

impl Kind {
    pub fn sheet(self) -> &'static Sheet {
        match self {
            Kind::Webhooks => &WEBHOOKS,
            Kind::Skills => &SKILLS,
            Kind::Agents => &AGENTS,
            Kind::Providers => &PROVIDERS,
            Kind::Tasks => &TASKS,
            Kind::Approvals => &APPROVALS,
            Kind::DeadLetters => &DEAD_LETTERS,
            Kind::Deliveries => &DELIVERIES,
            Kind::Audit => &AUDIT,
        }
    }

    /// Whether the server answers for one of them by its name; else it is found in the list.
    pub fn has_address(self) -> bool {
        match self {
            Kind::Webhooks | Kind::Tasks | Kind::Deliveries => true,
            Kind::Skills | Kind::Agents | Kind::Providers | Kind::Approvals | Kind::DeadLetters | Kind::Audit => false,
        }
    }

    /// Whether there may be so many that they come in pages, the newest first.
    pub fn has_pages(self) -> bool {
        match self {
            Kind::Tasks | Kind::Approvals | Kind::DeadLetters | Kind::Deliveries | Kind::Audit => true,
            Kind::Webhooks | Kind::Skills | Kind::Agents | Kind::Providers => false,
        }
    }
}

/// `KIND`, or `KIND/NAME` as `-o name` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub kind: Kind,
    pub name: Option<String>,
}

/// Parses a [`Target`]; completes and corrects as the list of kinds would.
#[derive(Clone, Copy, Debug)]
pub struct TargetParser;

impl TypedValueParser for TargetParser {
    type Value = Target;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Target, clap::Error> {
        let (kind, name) = match value.to_str().and_then(|text| text.split_once('/')) {
            Some((kind, name)) => (OsStr::new(kind), Some(name.to_owned())),
            None => (value, None),
        };
        let kind = EnumValueParser::<Kind>::new().parse_ref(command, argument, kind)?;
        Ok(Target { kind, name })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(
            <Kind as clap::ValueEnum>::value_variants().iter().filter_map(clap::ValueEnum::to_possible_value),
        ))
    }
}

const WEBHOOKS: Sheet = Sheet {
    singular: "webhook",
    plural: "webhooks",
    name: &["/id", "/spec/id"],
    columns: &[
        column("NAME", Text, &["/id", "/spec/id"]),
        column("PROVIDER", Text, &["/provider", "/spec/provider"]),
        column("READY", Condition("Ready"), &["/conditions"]),
        column("ENDPOINT", Text, &["/endpoint", "/spec/endpoint"]),
        column("COMMANDS", Count, &["/commands", "/spec/commands"]),
        column("GENERATION", Text, &["/generation"]),
        wide("BUILT-IN", Text, &["/is_builtin", "/spec/builtin"]),
        wide("ENABLED", Text, &["/enabled", "/spec/enabled"]),
        wide("TITLE", Prose, &["/name", "/spec/name"]),
    ],
};

const SKILLS: Sheet = Sheet {
    singular: "skill",
    plural: "skills",
    name: &["/name"],
    columns: &[
        column("NAME", Text, &["/name"]),
        column("READY", Condition("Ready"), &["/conditions"]),
        column("WEBHOOKS", Text, &["/webhooks"]),
        column("PROBLEMS", Count, &["/diagnostics"]),
        wide("PATH", Text, &["/path"]),
        wide("DESCRIPTION", Prose, &["/description"]),
    ],
};

const AGENTS: Sheet = Sheet {
    singular: "agent",
    plural: "agents",
    name: &["/name"],
    columns: &[
        column("NAME", Text, &["/name"]),
        column("MODEL", Text, &["/model"]),
        column("PROBLEMS", Count, &["/diagnostics"]),
        wide("PATH", Text, &["/path"]),
        wide("DESCRIPTION", Prose, &["/description"]),
    ],
};

const PROVIDERS: Sheet = Sheet {
    singular: "provider",
    plural: "providers",
    name: &["/name"],
    columns: &[
        column("NAME", Text, &["/name"]),
        column("TITLE", Prose, &["/title"]),
        column("SOURCE", Text, &["/source"]),
        wide("SECRETS", Text, &["/secret_slots"]),
    ],
};

const TASKS: Sheet = Sheet {
    singular: "task",
    plural: "tasks",
    name: &["/id", "/spec/id"],
    columns: &[
        column("ID", Text, &["/id", "/spec/id"]),
        column("STATE", State, &["/state"]),
        column("WEBHOOK", Text, &["/webhook", "/spec/webhook"]),
        column("COMMAND", Text, &["/command", "/spec/command"]),
        column("ATTEMPT", Text, &["/attempt"]),
        column("AGE", Age, &["/created_at", "/spec/created_at"]),
        column("REASON", Prose, &["/reason/message"]),
        wide("AGENT", Text, &["/agent", "/spec/agent"]),
        wide("EVENT", Text, &["/event", "/spec/source/event"]),
        wide("ACTOR", Text, &["/actor", "/spec/source/actor"]),
        wide("COST", Cost, &["/cost_usd", "/result/cost_usd"]),
        wide("URL", Text, &["/url", "/spec/source/url"]),
    ],
};

const APPROVALS: Sheet = Sheet {
    singular: "approval",
    plural: "approvals",
    name: &["/id"],
    columns: &[
        column("ID", Text, &["/id"]),
        column("WEBHOOK", Text, &["/webhook"]),
        column("COMMAND", Text, &["/command"]),
        column("ACTOR", Text, &["/actor"]),
        column("AGE", Age, &["/created_at"]),
        column("EXPIRES", Text, &["/not_before"]),
        column("URL", Text, &["/url"]),
        wide("PROMPT", Text, &["/prompt_digest"]),
        wide("AGENT", Text, &["/agent"]),
    ],
};

const DEAD_LETTERS: Sheet = Sheet {
    singular: "dead-letter",
    plural: "dead-letters",
    name: &["/id"],
    columns: &[
        column("ID", Text, &["/id"]),
        column("WEBHOOK", Text, &["/webhook"]),
        column("COMMAND", Text, &["/command"]),
        column("ATTEMPT", Text, &["/attempt"]),
        column("AGE", Age, &["/created_at"]),
        column("REASON", Prose, &["/reason/message"]),
        wide("CODE", Text, &["/reason/code"]),
        wide("URL", Text, &["/url"]),
    ],
};

const DELIVERIES: Sheet = Sheet {
    singular: "delivery",
    plural: "deliveries",
    name: &["/id"],
    columns: &[
        column("ID", Text, &["/id"]),
        column("OUTCOME", State, &["/outcome"]),
        column("WEBHOOK", Text, &["/webhook"]),
        column("EVENT", Text, &["/events", "/items/0/event/name"]),
        column("TASKS", Count, &["/tasks"]),
        column("AGE", Age, &["/received_at"]),
        wide("ACTOR", Text, &["/actor", "/items/0/event/actor/id"]),
        wide("GENERATION", Text, &["/generation"]),
    ],
};

const AUDIT: Sheet = Sheet {
    singular: "audit",
    plural: "audit",
    name: &["/seq"],
    columns: &[
        column("NUMBER", Text, &["/seq"]),
        column("AGE", Age, &["/at"]),
        column("ACTOR", Text, &["/actor"]),
        column("DEED", Text, &["/kind"]),
        column("WEBHOOK", Text, &["/webhook"]),
        column("MESSAGE", Prose, &["/message"]),
        wide("TASK", Text, &["/task"]),
        wide("DELIVERY", Text, &["/delivery"]),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Target, clap::Error> {
        TargetParser.parse_ref(&clap::Command::new("x"), None, OsStr::new(text))
    }

    #[test]
    fn kinds_have_plural_singular_and_short_names() {
        for (text, kind) in
            [("webhooks", Kind::Webhooks), ("wh", Kind::Webhooks), ("delivery", Kind::Deliveries), ("tsk", Kind::Tasks)]
        {
            assert_eq!(parse(text).unwrap(), Target { kind, name: None });
        }
        assert_eq!(parse("task/tsk_1").unwrap(), Target { kind: Kind::Tasks, name: Some("tsk_1".into()) });
        assert!(parse("webhoks").is_err());
    }

    #[test]
    fn every_kind_can_be_named_as_its_table_says() {
        for kind in <Kind as clap::ValueEnum>::value_variants() {
            let sheet = kind.sheet();
            assert_eq!(parse(sheet.singular).unwrap().kind, *kind);
            assert_eq!(parse(sheet.plural).unwrap().kind, *kind);
        }
    }
}
