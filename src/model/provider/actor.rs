//! Who caused an event, and what the payload says about that actor's rights.

use super::condition::all_hold;
use super::schema::{ActorRule, PermissionRule, PermissionSource};
use super::template::first_text;
use super::view::View;
use crate::model::event::{Actor, Permission};

/// The actor; `None` when the payload names none. One that is recognised as a bot or as ourselves without being
/// named has an empty id.
pub fn actor(rule: &ActorRule, view: &View<'_>) -> Option<Actor> {
    let any = |conditions: &Option<super::schema::AnyOf>| {
        conditions.as_ref().is_some_and(|conditions| conditions.any.iter().any(|condition| condition.holds(view)))
    };
    let (bot, own) = (any(&rule.bot), any(&rule.own));
    let id = first_text(&rule.id, view);
    if id.is_none() && !bot && !own {
        return None;
    }
    let association = rule.permission.as_ref().and_then(|permission| association(permission, view));
    let permission = permission(rule.permission.as_ref(), association.as_deref());
    Some(Actor { id: id.unwrap_or_default(), bot, own, permission, association })
}

/// The first association that stands in the payload and speaks of this actor.
fn association(rule: &PermissionRule, view: &View<'_>) -> Option<String> {
    if !all_hold(&rule.valid_when, view) {
        return None;
    }
    let text = |selector| view.find(selector)?.into_text().filter(|text| !text.is_empty());
    let found = rule.from.iter().find_map(|source| match source {
        PermissionSource::Bare(selector) => text(selector),
        PermissionSource::Guarded(source) => text(&source.sel).filter(|_| all_hold(&source.when, view)),
    });
    found.map(|text| text.into_owned())
}

/// An association that is not trusted denies nothing while the API can still be asked: senders show less than they
/// know (a private member of an organisation looks like a stranger).
fn permission(rule: Option<&PermissionRule>, association: Option<&str>) -> Permission {
    let Some(rule) = rule else { return Permission::Untold };
    let trusted = association.map(|association| {
        if rule.bitmask {
            association.parse::<u64>().is_ok_and(|bits| bits & rule.trusted_bits != 0)
        } else {
            rule.trusted.iter().any(|trusted| trusted == association)
        }
    });
    match (trusted, &rule.lookup) {
        (Some(true), _) => Permission::Trusted,
        (_, Some(_)) => Permission::Ask,
        (Some(false), None) => Permission::Untrusted,
        (None, None) => Permission::Untold,
    }
}
