//! The read model of the admin API: what is in force, with the conditions that only the whole service knows.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::copies::Copied;
use crate::http::api::state::{
    AgentView, Condition, CurrentIndex, IndexView, ProviderView, SkillView, Standing, WebhookView,
};
use crate::model::entry::{self, WebhookEntry};
use crate::model::ids::SkillName;
use crate::model::provider::Definition;
use crate::model::provider::facts::Facts;
use crate::model::snapshot::skill_path;
use crate::reconcile::pass::Published;
use crate::reconcile::record::Progress;
use crate::reconcile::source::Distance;
use crate::seam::Clock;
use crate::secrets::Secrets;

/// Why a webhook refuses that nobody has given a secret to. Of one that was added it is said in the log, of the built-in
/// ones not: who needs only one of them sets only that secret.
const SECRET_MISSING: &str = "SecretMissing";

/// Where news come from.
pub(super) struct News {
    pub(super) published: watch::Receiver<Option<Published>>,
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) copies: watch::Receiver<BTreeMap<String, Copied>>,
}

/// Publishes a new view whenever a pass or the recorder has news.
pub(super) async fn keep(
    current: CurrentIndex,
    mut news: News,
    secrets: Secrets,
    clock: Clock,
    stop: CancellationToken,
) {
    let mut since: BTreeMap<String, (bool, String, Timestamp)> = BTreeMap::new();
    loop {
        let newest = news.published.borrow_and_update().clone();
        let recorded = news.progress.borrow_and_update().clone();
        let copies = news.copies.borrow_and_update().clone();
        if let Some(newest) = newest {
            let (now, since) = (clock.now(), &mut since);
            let mut look =
                Look { newest: &newest, recorded: &recorded, copies: &copies, secrets: &secrets, now, since };
            current.publish(look.view());
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = news.published.changed() => if changed.is_err() { return },
            changed = news.progress.changed() => if changed.is_err() { return },
            // Where there are no copies nobody tells of them.
            Ok(()) = news.copies.changed() => {}
        }
    }
}

struct Look<'a> {
    newest: &'a Published,
    recorded: &'a Progress,
    copies: &'a BTreeMap<String, Copied>,
    secrets: &'a Secrets,
    now: Timestamp,
    /// When each condition took its value.
    since: &'a mut BTreeMap<String, (bool, String, Timestamp)>,
}

impl Look<'_> {
    fn view(&mut self) -> IndexView {
        let observed = &self.newest.state.observed;
        let webhooks = observed.webhooks.values().map(|entry| self.webhook(entry)).collect();
        let skills = observed.skills.iter().map(|(name, entry)| self.skill(name, entry)).collect();
        let agents = observed
            .agents
            .iter()
            .map(|(name, entry)| AgentView {
                name: name.clone(),
                description: entry.facts.as_ref().map(|facts| facts.description.clone()).unwrap_or_default(),
                path: entry.path.clone(),
                model: entry.facts.as_ref().and_then(|facts| facts.model.clone()),
                diagnostics: entry.diagnostics.clone(),
            })
            .collect();
        let providers = self.newest.catalogue.iter().map(|definition| self.provider(definition)).collect();
        IndexView {
            digest: self.newest.state.digest,
            revision: self.newest.served.digest,
            applied_at: self.newest.report.at,
            recorded: self.recorded.clone(),
            webhooks,
            skills,
            agents,
            providers,
        }
    }

    fn webhook(&mut self, entry: &WebhookEntry) -> WebhookView {
        let observed = &self.newest.state.observed;
        let name = format!("webhook/{}", entry.spec.id);
        let held: Vec<_> = entry
            .sources
            .iter()
            .filter_map(|skill| observed.skills.get(skill))
            .filter(|skill| skill.standing != entry::Standing::Current)
            .flat_map(|skill| skill.diagnostics.clone())
            .collect();
        let (ready, reason, message) = self.readiness(entry);
        let condition = self.condition(&name, Standing::Ready, ready, reason, message, entry.generation);
        if reason == SECRET_MISSING && !entry.spec.builtin && condition.last_transition == self.now {
            tracing::warn!("{name} is not served: {}", condition.message);
        }
        let mut conditions = vec![condition];
        if let Some(first) = held.first() {
            let message = format!("{first}; generation {} stays live", entry.generation);
            conditions.push(self.condition(&name, Standing::Stalled, true, "FileInvalid", message, entry.generation));
        }
        conditions.extend(self.recording(&name, entry.generation));
        conditions.extend(self.copying(&name, entry.generation));
        WebhookView { spec: entry.spec.clone(), generation: entry.generation, conditions, diagnostics: held }
    }

    fn provider(&self, definition: &Definition) -> ProviderView {
        let name = definition.name();
        let (settings, held) = (self.secrets.settings(name), self.secrets.for_calls(name));
        let unfinished = definition.unfinished(&settings, &held).into_iter();
        ProviderView {
            name: name.clone(),
            title: definition.title().to_owned(),
            source: definition.path().to_owned(),
            secret_slots: definition.slots().map(|(slot, _)| slot.to_owned()).collect(),
            credential: definition.in_force(&settings, &held).describe(),
            unfinished_credentials: unfinished.map(|way| way.to_string()).collect(),
            facts: Facts::of(definition),
        }
    }

    fn readiness(&self, entry: &WebhookEntry) -> (bool, &'static str, String) {
        if !entry.spec.enabled {
            return (false, "Disabled", "the webhook is disabled in its file".to_owned());
        }
        if entry.spec.requires_signature && self.secrets.for_webhook(&entry.spec).slots().next().is_none() {
            let named: Vec<_> = entry.spec.secrets.values().flatten().map(ToString::to_string).collect();
            return (false, SECRET_MISSING, format!("no secret is set: {}", named.join(", ")));
        }
        (true, "Serving", format!("generation {} is live", entry.generation))
    }

    fn skill(&mut self, name: &SkillName, entry: &entry::SkillEntry) -> SkillView {
        let resource = format!("skill/{name}");
        let (ready, reason, message) = match entry.standing {
            entry::Standing::Current => (true, "Current", "the file is in force".to_owned()),
            entry::Standing::Held => (true, "Held", "the last good version stays in force".to_owned()),
            entry::Standing::Rejected => (false, "Invalid", "nothing of the file is in force".to_owned()),
        };
        let mut conditions = vec![self.condition(&resource, Standing::Ready, ready, reason, message, 0)];
        if entry.standing != entry::Standing::Current {
            let message = entry.diagnostics.first().map(ToString::to_string).unwrap_or_default();
            conditions.push(self.condition(&resource, Standing::Stalled, true, "FileInvalid", message, 0));
        }
        let webhooks = &self.newest.state.observed.webhooks;
        SkillView {
            name: name.clone(),
            description: entry.facts.as_ref().map(|facts| facts.description.clone()).unwrap_or_default(),
            path: skill_path(name.as_str()),
            webhooks: webhooks.values().filter(|w| w.sources.contains(name)).map(|w| w.spec.id.clone()).collect(),
            conditions,
            diagnostics: entry.diagnostics.clone(),
        }
    }

    /// One condition for each cloud copy; they hold for the whole tree.
    fn copying(&mut self, name: &str, generation: u64) -> Vec<Condition> {
        let committed = self.recorded.committed.commit.as_ref();
        let copies = self.copies.iter().map(|(copy, copied)| {
            let done = copied.commit.is_some() && copied.commit.as_ref() == committed;
            let held = copied.commit.clone().unwrap_or_else(|| "nothing yet".to_owned());
            let message = match &copied.trouble {
                Some(trouble) => format!("{copy} ({}): {trouble}", copied.place),
                None => format!("{copy} ({}): {held}", copied.place),
            };
            (format!("{name} {copy}"), done, message)
        });
        let copies: Vec<_> = copies.collect();
        copies
            .into_iter()
            .map(|(key, done, message)| {
                let reason = if done { "Recorded" } else { "Waiting" };
                self.condition(&key, Standing::Copied, done, reason, message, generation)
            })
            .collect()
    }

    /// Committed and Pushed hold for the whole tree.
    fn recording(&mut self, name: &str, generation: u64) -> Vec<Condition> {
        let recorded = self.recorded;
        let steps = [(Standing::Committed, &recorded.committed), (Standing::Pushed, &recorded.pushed)];
        steps
            .into_iter()
            .map(|(kind, step)| {
                let apart = kind == Standing::Pushed && !matches!(recorded.remote.distance, Distance::Level);
                let done = step.trouble.is_none() && step.commit.is_some() && !apart;
                let reason = match recorded.remote.distance {
                    _ if done => "Recorded",
                    Distance::Ahead if apart => "Ahead",
                    Distance::Behind if apart => "Behind",
                    Distance::Diverged if apart => "Diverged",
                    Distance::Deleted if apart => "BranchDeleted",
                    Distance::NoRemote if apart => "NoRemote",
                    _ => "Waiting",
                };
                let message = step.trouble.clone().or(step.commit.clone()).unwrap_or_else(|| "not yet".to_owned());
                self.condition(name, kind, done, reason, message, generation)
            })
            .collect()
    }

    fn condition(
        &mut self,
        resource: &str,
        kind: Standing,
        status: bool,
        reason: &str,
        message: String,
        observed_generation: u64,
    ) -> Condition {
        let key = format!("{resource} {kind:?}");
        let now = self.now;
        let known = self.since.entry(key).or_insert_with(|| (status, reason.to_owned(), now));
        if (known.0, known.1.as_str()) != (status, reason) {
            *known = (status, reason.to_owned(), now);
        }
        let last_transition = known.2;
        Condition { kind, status, reason: reason.to_owned(), message, observed_generation, last_transition }
    }
}
