//! What each address answers, as schemas: what its good answers hold, which refusals there are, and where one can go on
//! to from an answer.

use super::Operation;

/// The body of good answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Good {
    /// One of [`super::schemas`].
    One(&'static str),
    /// A page of one of [`super::schemas`].
    Page(&'static str),
    /// An object of no particular form.
    Object,
    Text(&'static str),
    /// It has no end.
    Stream,
}

/// A way on from an answer: what it calls itself, to which operation, and which value of the answer that takes.
pub type Link = (&'static str, Operation, &'static str, &'static str);

impl Operation {
    pub fn good(self) -> Good {
        match self {
            Operation::Live | Operation::Ready => Good::Text("text/plain"),
            Operation::Metrics => Good::Text("application/openmetrics-text"),
            Operation::Docs => Good::Text("text/html"),
            Operation::SkillContent | Operation::AgentContent => Good::Text("text/markdown"),
            Operation::Stream => Good::Stream,
            Operation::Health | Operation::Status => Good::One("Status"),
            Operation::Webhooks => Good::Page("WebhookSummary"),
            Operation::Webhook | Operation::BuiltinWebhook => Good::One("Webhook"),
            Operation::Skills | Operation::RegistrySkills => Good::Page("Skill"),
            Operation::Agents | Operation::RegistryAgents => Good::Page("Agent"),
            Operation::Providers => Good::Page("Provider"),
            Operation::Commands => Good::Page("Command"),
            Operation::Tasks | Operation::Approvals | Operation::DeadLetters => Good::Page("TaskSummary"),
            Operation::Task => Good::One("Task"),
            Operation::TaskLogs => Good::One("Log"),
            Operation::CancelTask | Operation::RetryTask => Good::One("TaskSummary"),
            Operation::ApproveTask | Operation::RejectTask => Good::One("TaskSummary"),
            Operation::Deliveries | Operation::WebhookEvents => Good::Page("DeliverySummary"),
            Operation::Delivery => Good::One("Delivery"),
            Operation::ExplainDelivery => Good::One("Explanation"),
            Operation::WebhookStats => Good::Page("WebhookStats"),
            Operation::Replay | Operation::ReplayOne => Good::One("Replayed"),
            Operation::TestWebhook => Good::One("Trial"),
            Operation::Events => Good::One("Happenings"),
            Operation::Audit => Good::Page("Deed"),
            Operation::Secrets => Good::Page("Secret"),
            Operation::Tokens => Good::Page("Token"),
            Operation::CreateToken => Good::One("MadeToken"),
            Operation::RevokeToken => Good::One("Token"),
            Operation::History => Good::Page("Commit"),
            Operation::Diff => Good::Page("FileDiff"),
            Operation::Plan => Good::One("Plan"),
            Operation::Rollback => Good::One("RolledBack"),
            Operation::Conversations => Good::Page("Conversation"),
            Operation::Conversation => Good::One("Conversation"),
            Operation::Messages => Good::Page("Message"),
            Operation::Validate => Good::One("Verdict"),
            Operation::Me => Good::One("Me"),
            of_a_file if of_a_file.changes_files() => Good::One("Applied"),
            _ => Good::Object,
        }
    }

    /// Whether it is an edit of files, whose answer says what became of it.
    fn changes_files(self) -> bool {
        self.parameters().iter().any(|parameter| parameter.name == "propose")
    }

    /// Whether `If-Match` and `If-None-Match` are looked at, and answers carry an `ETag`.
    pub fn has_versions(self) -> bool {
        matches!(
            self,
            Operation::UploadSkill
                | Operation::PutSkillContent
                | Operation::DeleteSkill
                | Operation::UploadAgent
                | Operation::PutAgentContent
                | Operation::DeleteAgent
        )
    }

    /// Statuses of its refusals.
    pub fn problems(self) -> Vec<u16> {
        let outdated = self.has_versions().then_some(412);
        let unknown = self.scope().map(|_| 401);
        let always = [400, 403, 404, 405, 408, 409, 413, 415, 422, 429, 500, 503, 504];
        let mut all: Vec<u16> = always.into_iter().chain(outdated).chain(unknown).collect();
        all.sort_unstable();
        all
    }

    /// Where one goes on to.
    pub fn links(self) -> &'static [Link] {
        const FIRST_ID: &str = "$response.body#/items/0/id";
        const FIRST_NAME: &str = "$response.body#/items/0/name";
        const MADE: &str = "$response.body#/webhook";
        match self {
            Operation::Webhooks => &[
                ("Webhook", Operation::Webhook, "id", FIRST_ID),
                ("EditWebhook", Operation::EditWebhook, "id", FIRST_ID),
                ("DisableWebhook", Operation::DisableWebhook, "id", FIRST_ID),
                ("DeleteWebhook", Operation::DeleteWebhook, "id", FIRST_ID),
                ("SuspendWebhook", Operation::SuspendWebhook, "id", FIRST_ID),
                ("AddCommand", Operation::AddCommand, "id", FIRST_ID),
                ("PutSecret", Operation::PutSecret, "id", FIRST_ID),
            ],
            Operation::CreateWebhook => &[
                ("Webhook", Operation::Webhook, "id", MADE),
                ("EditWebhook", Operation::EditWebhook, "id", MADE),
                ("DisableWebhook", Operation::DisableWebhook, "id", MADE),
                ("DeleteWebhook", Operation::DeleteWebhook, "id", MADE),
            ],
            Operation::Tasks => &[
                ("Task", Operation::Task, "id", FIRST_ID),
                ("TaskLogs", Operation::TaskLogs, "id", FIRST_ID),
                ("CancelTask", Operation::CancelTask, "id", FIRST_ID),
                ("RetryTask", Operation::RetryTask, "id", FIRST_ID),
                ("AnswerTask", Operation::AnswerTask, "id", FIRST_ID),
            ],
            Operation::Approvals => &[
                ("ApproveTask", Operation::ApproveTask, "id", FIRST_ID),
                ("RejectTask", Operation::RejectTask, "id", FIRST_ID),
            ],
            Operation::Deliveries => &[
                ("Delivery", Operation::Delivery, "id", FIRST_ID),
                ("ExplainDelivery", Operation::ExplainDelivery, "id", FIRST_ID),
                ("ReplayOne", Operation::ReplayOne, "id", FIRST_ID),
            ],
            Operation::RegistrySkills => &[
                ("SkillContent", Operation::SkillContent, "name", FIRST_NAME),
                ("PutSkillContent", Operation::PutSkillContent, "name", FIRST_NAME),
                ("DeleteSkill", Operation::DeleteSkill, "name", FIRST_NAME),
            ],
            Operation::RegistryAgents => &[
                ("AgentContent", Operation::AgentContent, "name", FIRST_NAME),
                ("PutAgentContent", Operation::PutAgentContent, "name", FIRST_NAME),
                ("DeleteAgent", Operation::DeleteAgent, "name", FIRST_NAME),
            ],
            Operation::Tokens => &[("RevokeToken", Operation::RevokeToken, "id", FIRST_ID)],
            Operation::CreateToken => &[("RevokeToken", Operation::RevokeToken, "id", "$response.body#/id")],
            Operation::Conversations => &[("Messages", Operation::Messages, "id", FIRST_ID)],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ROUTES, schemas};
    use super::*;

    #[test]
    fn every_form_that_an_answer_names_is_there_and_every_one_there_is_named() {
        let mut named: Vec<&str> = vec!["Condition", "Diagnostic", "LogLine", "Happening"];
        for route in ROUTES {
            match route.operation.good() {
                Good::One(name) | Good::Page(name) => named.push(name),
                Good::Object | Good::Text(_) | Good::Stream => {}
            }
        }
        let schemas = schemas();
        let there: Vec<&str> = schemas.iter().map(|(name, _)| *name).collect();
        assert!(named.iter().all(|name| there.contains(name)), "{named:?}");
        assert!(there.iter().all(|name| named.contains(name)), "{there:?}");
    }

    #[test]
    fn every_way_on_leads_to_an_address_that_takes_the_name() {
        for route in ROUTES {
            for (_, to, name, _) in route.operation.links() {
                let target = ROUTES.iter().find(|route| route.operation == *to).unwrap();
                assert!(target.path.contains(&format!("{{{name}}}")), "{to:?}");
            }
        }
    }
}
