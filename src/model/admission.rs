//! Whether an event may start work at all: where it happened, who caused it, and what that person may do there.
//!
//! Nothing is looked up in here: where only the provider knows the answer, the outcome is [`Admission::Ask`].
//! What the gateway itself wrote is recognised by its marker, which `allow` cannot open; and by the account that the
//! operator or the payload says is the gateway's own, unless `allow` lists that account because a person shares it.

use super::event::{Actor, Event, Permission};
use super::glob::covers_ignoring_case;
use super::spec::{Allow, PermissionRule};

/// Stands, with more behind it, in everything that the gateway posts.
pub const MARKER: &str = "<!-- skillhook:";

/// What is to be done with an event before its commands run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    Admit,
    /// The provider must be asked whether the actor may do this; nothing runs before it says yes.
    Ask,
    /// Not allowed, and the person may be told so.
    Refuse(String),
    /// Not allowed, and nobody must be told: the gateway's own words, a bot, a place that is not ours.
    /// An answer could start a loop.
    Ignore(String),
}

/// Decides by the webhook's rules alone.
pub fn admit(allow: &Allow, event: &Event) -> Admission {
    if event.text.as_deref().is_some_and(is_own) {
        return Admission::Ignore("the gateway wrote this itself".to_owned());
    }
    if let Some(why) = outside(allow, event) {
        return Admission::Ignore(why);
    }
    let Some(actor) = &event.actor else {
        return nobody(allow);
    };
    if actor.own {
        return match listed(&allow.actors, &actor.id) || listed(&allow.bots, &actor.id) {
            true => Admission::Admit,
            false => Admission::Ignore(format!("`{}` is the gateway's own account", actor.id)),
        };
    }
    if actor.bot {
        return match listed(&allow.bots, &actor.id) {
            true => Admission::Admit,
            false => Admission::Ignore(format!("`{}` is a bot that `allow.bots` does not list", actor.id)),
        };
    }
    if !allow.actors.is_empty() && !listed(&allow.actors, &actor.id) {
        return Admission::Refuse(format!("`{}` is not among `allow.actors`", actor.id));
    }
    if !allow.associations.is_empty() {
        return by_association(allow, actor);
    }
    by_permission(allow.permission, actor)
}

/// A person may quote the marker; the gateway never does.
fn is_own(text: &str) -> bool {
    text.lines().any(|line| line.contains(MARKER) && !line.trim_start().starts_with('>'))
}

fn outside(allow: &Allow, event: &Event) -> Option<String> {
    if allow.resources.is_empty() {
        return None;
    }
    let Some(resource) = &event.resource else {
        return Some("the event does not say where it happened, and `allow` names places".to_owned());
    };
    let within = |place: &str| allow.resources.iter().any(|pattern| covers_ignoring_case(pattern, place));
    let covered = places(resource).any(within);
    (!covered).then(|| format!("`{resource}` is not below a place that `allow` names"))
}

/// The resource itself and what it lies in: `octo/repo#7` in `octo/repo`, `group/app!3` in `group/app`, `OPS-7` in `OPS`.
fn places(resource: &str) -> impl Iterator<Item = &str> {
    let container = resource.split(['#', '!']).next();
    let project = resource.rsplit_once('-').and_then(|(project, number)| {
        let is_project = project.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        let is_number = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
        (is_project && is_number).then_some(project)
    });
    std::iter::once(resource).chain(container).chain(project)
}

/// An event without an actor: monitoring and schedules, mostly.
fn nobody(allow: &Allow) -> Admission {
    let wants_actor = !allow.actors.is_empty() || !allow.associations.is_empty();
    match allow.permission {
        _ if wants_actor => {
            Admission::Refuse("the event does not say who caused it, and `allow` names people".to_owned())
        }
        Some(PermissionRule::Write) => {
            Admission::Refuse("the event does not say who caused it, and `allow.permission` is `write`".to_owned())
        }
        Some(PermissionRule::Any) | None => Admission::Admit,
    }
}

/// A list of associations is an answer of its own to "who"; a permission that is set besides must hold too.
fn by_association(allow: &Allow, actor: &Actor) -> Admission {
    let Some(association) = actor.association.as_deref() else {
        return Admission::Refuse(format!("the event does not say what `{}` is to this place", actor.id));
    };
    if !listed(&allow.associations, association) {
        let (id, list) = (&actor.id, allow.associations.join("`, `"));
        return Admission::Refuse(format!("`{id}` is `{association}` here, which is none of `{list}`"));
    }
    match allow.permission {
        Some(rule) => by_permission(Some(rule), actor),
        None => Admission::Admit,
    }
}

fn by_permission(rule: Option<PermissionRule>, actor: &Actor) -> Admission {
    if rule == Some(PermissionRule::Any) {
        return Admission::Admit;
    }
    match (actor.permission, rule) {
        (Permission::Trusted, _) => Admission::Admit,
        (Permission::Ask, _) => Admission::Ask,
        (Permission::Untrusted, _) => Admission::Refuse(format!("`{}` may not write here", actor.id)),
        (Permission::Untold, None) => Admission::Admit,
        (Permission::Untold, Some(_)) => Admission::Refuse(format!(
            "nothing tells whether `{}` may write here, and `allow.permission` is `write`",
            actor.id
        )),
    }
}

/// Logins and associations are known in any case of letters.
fn listed(list: &[String], name: &str) -> bool {
    list.iter().any(|item| item.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: Option<PermissionRule> = Some(PermissionRule::Write);
    const ANY: Option<PermissionRule> = Some(PermissionRule::Any);

    fn person(permission: Permission) -> Option<Actor> {
        Some(Actor { id: "octocat".to_owned(), bot: false, own: false, permission, association: None })
    }

    fn event(actor: Option<Actor>) -> Event {
        Event {
            name: "issue_comment.created".to_owned(),
            aliases: Vec::new(),
            noop: false,
            carries_commands: true,
            text: Some("@agent review".to_owned()),
            title: None,
            actor,
            resource: Some("octo/repo#7".to_owned()),
            thread: None,
            url: None,
            delivery_id: None,
            delivery_id_signed: false,
            pressed: None,
        }
    }

    fn shown(admission: Admission) -> String {
        match admission {
            Admission::Admit => "admit".to_owned(),
            Admission::Ask => "ask".to_owned(),
            Admission::Refuse(why) => format!("refuse: {why}"),
            Admission::Ignore(why) => format!("ignore: {why}"),
        }
    }

    #[track_caller]
    fn check(allow: Allow, event: Event, expect: &str) {
        let shown = shown(admit(&allow, &event));
        assert!(shown.starts_with(expect), "{shown}");
    }

    #[test]
    fn permissions_fail_closed() {
        for (rule, permission, expect) in [
            (None, Permission::Trusted, "admit"),
            (None, Permission::Untrusted, "refuse: `octocat` may not write here"),
            (None, Permission::Ask, "ask"),
            (None, Permission::Untold, "admit"),
            (WRITE, Permission::Trusted, "admit"),
            (WRITE, Permission::Untrusted, "refuse"),
            (WRITE, Permission::Ask, "ask"),
            (WRITE, Permission::Untold, "refuse: nothing tells whether `octocat` may write here"),
            (ANY, Permission::Untrusted, "admit"),
            (ANY, Permission::Ask, "admit"),
            (ANY, Permission::Untold, "admit"),
        ] {
            check(Allow { permission: rule, ..Allow::default() }, event(person(permission)), expect);
        }
    }

    #[test]
    fn events_without_an_actor_are_let_in_unless_people_are_named() {
        check(Allow::default(), event(None), "admit");
        check(Allow { permission: WRITE, ..Allow::default() }, event(None), "refuse");
        check(Allow { actors: vec!["octocat".into()], ..Allow::default() }, event(None), "refuse");
    }

    #[test]
    fn bots_are_ignored_unless_listed() {
        let bot = |id: &str| Some(Actor { id: id.into(), bot: true, ..person(Permission::Untrusted).unwrap() });
        check(Allow::default(), event(bot("renovate[bot]")), "ignore: `renovate[bot]` is a bot");
        let allow = Allow { bots: vec!["Renovate[bot]".into()], ..Allow::default() };
        check(allow.clone(), event(bot("renovate[bot]")), "admit");
        check(allow, event(bot("dependabot[bot]")), "ignore");
        check(Allow { permission: ANY, ..Allow::default() }, event(bot("x[bot]")), "ignore");
    }

    #[test]
    fn our_own_words_are_known_by_their_marker_and_by_the_account() {
        let own = Some(Actor { own: true, ..person(Permission::Trusted).unwrap() });
        check(Allow::default(), event(own.clone()), "ignore: `octocat` is the gateway's own account");
        let shared = Allow { actors: vec!["octocat".into()], ..Allow::default() };
        check(shared.clone(), event(own.clone()), "admit");
        let with = |text: &str| Event { text: Some(text.to_owned()), ..event(own.clone()) };
        check(shared.clone(), with("done\n<!-- skillhook:tsk_1 -->"), "ignore: the gateway wrote this itself");
        check(shared, with("> done <!-- skillhook:tsk_1 -->\n@agent fix"), "admit");
    }

    #[test]
    fn actors_and_associations_are_lists_of_their_own() {
        let actors = Allow { actors: vec!["OctoCat".into()], ..Allow::default() };
        check(actors.clone(), event(person(Permission::Trusted)), "admit");
        check(actors.clone(), event(person(Permission::Untrusted)), "refuse: `octocat` may not write");
        let other = Some(Actor { id: "mallory".into(), ..person(Permission::Trusted).unwrap() });
        check(actors, event(other), "refuse: `mallory` is not among `allow.actors`");

        let is = |association: &str| {
            Some(Actor { association: Some(association.into()), ..person(Permission::Untrusted).unwrap() })
        };
        let allow = Allow { associations: vec!["CONTRIBUTOR".into()], ..Allow::default() };
        check(allow.clone(), event(is("CONTRIBUTOR")), "admit");
        check(allow.clone(), event(is("NONE")), "refuse: `octocat` is `NONE` here, which is none of `CONTRIBUTOR`");
        check(allow.clone(), event(person(Permission::Trusted)), "refuse: the event does not say what");
        check(Allow { permission: WRITE, ..allow }, event(is("CONTRIBUTOR")), "refuse: `octocat` may not write here");
    }

    #[test]
    fn places_are_globs_over_what_the_resource_lies_in() {
        for (pattern, resource, expect) in [
            ("octo/repo", "octo/repo#7", "admit"),
            ("Octo/*", "octo/repo#7", "admit"),
            ("octo/repo", "octo/repo-7#1", "ignore"),
            ("octo/repo", "octo/repo-7", "ignore"),
            ("group/app", "group/app!3", "admit"),
            ("OPS", "OPS-7", "admit"),
            ("OPS", "DEVOPS-7", "ignore"),
            ("C0123", "C0123", "admit"),
            ("octo/other", "octo/repo#7", "ignore: `octo/repo#7` is not below"),
        ] {
            let allow = Allow { resources: vec![pattern.to_owned()], ..Allow::default() };
            let event = Event { resource: Some(resource.to_owned()), ..event(person(Permission::Trusted)) };
            check(allow, event, expect);
        }
        let nowhere = Event { resource: None, ..event(person(Permission::Trusted)) };
        check(Allow { resources: vec!["octo/*".into()], ..Allow::default() }, nowhere, "ignore");
    }
}
