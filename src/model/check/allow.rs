//! Who may trigger.

use super::report::Report;
use crate::error::Code;
use crate::model::raw::{RawAllow, Several, Text};
use crate::model::spec::{Allow, PermissionRule};

/// How many people, bots or places may be listed, and how long one may be in characters.
const LISTED_MAX: usize = 256;
const LISTED_CHARS_MAX: usize = 200;
/// Associations that anyone has or can get.
const OPEN_ASSOCIATIONS: [&str; 4] = ["NONE", "FIRST_TIMER", "FIRST_TIME_CONTRIBUTOR", "MANNEQUIN"];

pub(super) fn check(report: &mut Report<'_>, raw: Option<&RawAllow>) -> Option<Allow> {
    let raw = raw?;
    let at = |report: &Report<'_>, key: &str| report.at("allow").key(key);
    let list = |report: &mut Report<'_>, key: &str, several: &Option<Several<Text>>| {
        let at = at(report, key);
        report.texts(&at, several.as_ref(), LISTED_MAX, LISTED_CHARS_MAX).unwrap_or_default()
    };
    if raw.permission == Some(PermissionRule::Any) {
        let message = "anyone who can cause the event may start runs";
        let hint = "leave `permission` out to ask for write access, or name `actors`";
        report.warning(&at(report, "permission"), Code::OpenToAnyone, message).hint(hint);
    }
    let associations = list(report, "associations", &raw.associations);
    let associations: Vec<String> = associations.iter().map(|name| name.to_ascii_uppercase()).collect();
    if let Some(open) = associations.iter().find(|name| OPEN_ASSOCIATIONS.contains(&name.as_str())) {
        let message = format!("anyone can be `{open}`, and so start runs");
        report.warning(&at(report, "associations"), Code::OpenToAnyone, message).hint("leave it out");
    }
    let mut resources = list(report, "repositories", &raw.repositories);
    resources.extend(list(report, "projects", &raw.projects));
    resources.extend(list(report, "channels", &raw.channels));
    Some(Allow {
        permission: raw.permission,
        actors: list(report, "actors", &raw.actors),
        associations,
        bots: list(report, "bots", &raw.bots),
        resources,
    })
}
