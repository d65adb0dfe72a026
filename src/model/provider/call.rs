//! From a definition and a delivery to prepared calls.

use serde_json::{Map, Value};

use super::address;
use super::challenge::{Response, respond};
use super::condition::all_hold;
use super::extract::Delivered;
use super::filter::Filter;
use super::json_template::JsonTemplate;
use super::pointer::join as join_pointer;
use super::prepared::{
    Expected, Hole, Piece, Place, PreparedAgain, PreparedBody, PreparedCall, PreparedLookup, PreparedSuccess, Spaced,
};
use super::reply::{self, PreparedFind};
use super::schema::calls::{Api, Call, Reply, ReplyRule, Success};
use super::schema::verify::Fetch;
use super::selector::Selector;
use super::settings::split_list;
use super::template::{Expression, Part, Template};
use super::view::View;

/// The call that shows at the source that a delivery was seen.
pub fn ack_call(delivered: &Delivered<'_>) -> Option<PreparedCall> {
    let view = delivered.view();
    let document = delivered.definition.document();
    let rules = document.ack.iter().filter(|ack| all_hold(&ack.when, &view));
    rules.filter_map(|ack| ack.call.as_ref()).find_map(|call| prepare(call, &document.api, &view))
}

/// The sign of having seen it that goes into the HTTP response itself; `ack_text` is what it may say.
pub fn ack_response(delivered: &Delivered<'_>, ack_text: &str) -> Option<Response> {
    let context = [("ack_text".to_owned(), ack_text.to_owned())].into();
    let view = View { context: Some(&context), ..delivered.view() };
    let rules = delivered.definition.document().ack.iter().filter(|ack| all_hold(&ack.when, &view));
    rules.filter_map(|ack| ack.sync.as_ref()).find_map(|answer| respond(answer, &view))
}

/// An answer that goes into the HTTP response itself, where the sender shows it to people.
pub fn spoken_response(delivered: &Delivered<'_>, text: &str) -> Option<Response> {
    let document = delivered.definition.document();
    let context = [("reply".to_owned(), text.to_owned())].into();
    let view = View { context: Some(&context), ..delivered.view() };
    let rules = document.respond.iter().filter(|rule| all_hold(&rule.when, &view));
    rules.into_iter().find_map(|rule| respond(&rule.answer, &view))
}

/// The call that carries an answer to the source, with how to write, split and find it.
pub fn reply_call(delivered: &Delivered<'_>) -> Option<PreparedCall> {
    let view = delivered.view();
    let document = delivered.definition.document();
    let rules = document.reply.rules.iter().filter(|rule| all_hold(&rule.when, &view));
    rules.into_iter().find_map(|rule| {
        let mut call = prepare(&rule.call, &document.api, &view)?;
        let traits = reply::traits(&document.reply, rule, find(rule, &document.api, &view));
        let edit = rule.edit.as_ref().and_then(|edit| prepare(edit, &document.api, &view)).map(Box::new);
        let approval = question(rule, &document.reply, &document.api, &view).map(Box::new);
        let decided = rule.decided.as_ref().and_then(|call| prepare(call, &document.api, &view)).map(Box::new);
        call.reply = Some(Box::new(reply::ReplyTraits { edit, approval, decided, ..traits }));
        call.spacing = spacing(&document.api, &view);
        Some(call)
    })
}

/// The call of a rule with the buttons of the definition in its body.
fn question(rule: &ReplyRule, reply: &Reply, api: &Api, view: &View<'_>) -> Option<PreparedCall> {
    let Some(JsonTemplate::Object(fields)) = rule.call.json.as_ref().filter(|_| !reply.approval.is_empty()) else {
        return None;
    };
    // A field that is null is left out.
    let said = reply.approval.iter().filter(|(_, field)| **field != JsonTemplate::Fixed(Value::Null));
    let added = said.map(|(name, field)| (name.clone(), field.clone()));
    let kept = fields.iter().filter(|(name, _)| !reply.approval.contains_key(name)).cloned();
    let json = Some(JsonTemplate::Object(kept.chain(added).collect()));
    prepare(&Call { json, next: None, ..rule.call.clone() }, api, view)
}

fn find(rule: &ReplyRule, api: &Api, view: &View<'_>) -> Option<PreparedFind> {
    let find = rule.find.as_ref()?;
    let call = prepare(&find.call, api, view)?;
    let (list, text) = (find.list.clone(), find.text.clone());
    Some(PreparedFind { call, list, text, id: find.id.clone(), url: find.url.clone() })
}

/// The question whether the actor may start work.
pub fn lookup_call(delivered: &Delivered<'_>) -> Option<PreparedLookup> {
    let view = delivered.view();
    let document = delivered.definition.document();
    let lookup = document.actor.permission.as_ref()?.lookup.as_ref()?;
    let call = PreparedCall {
        method: lookup.method.as_str().to_owned(),
        url: url(&lookup.url, &view)?,
        headers: headers(document.api.headers.iter(), &view)?,
        ..bare(&document.api, None)
    };
    let (trusted, trusted_min) = (lookup.trusted.clone(), lookup.trusted_min);
    Some(PreparedLookup { call, take: lookup.take.to_string(), trusted, trusted_min })
}

/// The calls that fetch what the delivery only names, with the fields of the event that they fill.
pub fn enrich_calls(delivered: &Delivered<'_>) -> Vec<(PreparedCall, Vec<(String, String)>)> {
    let view = delivered.view();
    let document = delivered.definition.document();
    let rules = document.enrich.iter().filter(|rule| all_hold(&rule.when, &view));
    rules
        .filter_map(|rule| {
            let take = rule.take.iter().map(|(field, pointer)| (field.clone(), pointer.to_string()));
            Some((prepare(&rule.call, &document.api, &view)?, take.collect()))
        })
        .collect()
}

/// The request for a sender's public key.
pub(super) fn prepare_fetch(fetch: &Fetch, view: &View<'_>) -> Option<PreparedCall> {
    let api = Api::default();
    let body = match &fetch.json {
        Some(json) => json_body(json, view)?,
        None => PreparedBody::None,
    };
    Some(PreparedCall {
        method: fetch.method.as_str().to_owned(),
        url: url(&fetch.url, view)?,
        body,
        ..bare(&api, None)
    })
}

pub(super) fn prepare(call: &Call, api: &Api, view: &View<'_>) -> Option<PreparedCall> {
    let auth = if call.no_auth { None } else { Some(api.headers.iter()) };
    let body = match (&call.json, &call.form) {
        (Some(json), _) => json_body(json, view)?,
        (None, Some(form)) => PreparedBody::Form(
            form.iter()
                .map(|(name, value)| Some((name.clone(), pieces(value, Place::Plain, view)?)))
                .collect::<Option<_>>()?,
        ),
        (None, None) => PreparedBody::None,
    };
    let allow_hosts: Vec<String> = call.allow_hosts.iter().filter_map(|host| host.text(view)).collect();
    let allow_hosts: Vec<String> = allow_hosts.iter().flat_map(|hosts| split_list(hosts)).map(str::to_owned).collect();
    if allow_hosts.is_empty() && !call.allow_hosts.is_empty() {
        // The operator allows none: an empty list would allow all.
        return None;
    }
    let prepared = PreparedCall {
        method: call.method.as_str().to_owned(),
        url: url(&call.url, view)?,
        headers: headers(auth.into_iter().flatten().chain(call.headers.iter()), view)?,
        body,
        allow_hosts,
        ttl_seconds: call.ttl,
        max_uses: call.max_uses,
        ..bare(api, call.success.as_ref())
    };
    let next = match &call.next {
        Some(next) => {
            let no_auth = call.no_auth || next.no_auth;
            let success = next.success.clone().or_else(|| call.success.clone());
            let mut inherited = prepare(&Call { no_auth, success, ..(**next).clone() }, api, view)?;
            if inherited.body == PreparedBody::None {
                inherited.body = prepared.body.clone();
            }
            inherited.ttl_seconds = inherited.ttl_seconds.or(call.ttl);
            Some(Box::new(inherited))
        }
        None => None,
    };
    Some(PreparedCall { next, ..prepared })
}

fn bare(api: &Api, success: Option<&Success>) -> PreparedCall {
    let again = api.rate.again.as_ref().and_then(|again| match &again.sel {
        Selector::Answer(pointer) => Some(PreparedAgain { at: pointer.to_string(), one_of: again.r#in.clone() }),
        _ => None,
    });
    PreparedCall {
        method: String::new(),
        url: Vec::new(),
        headers: Vec::new(),
        body: PreparedBody::None,
        allow_hosts: Vec::new(),
        ttl_seconds: None,
        max_uses: None,
        next: None,
        success: success.or(api.success.as_ref()).and_then(prepared_success),
        retry_headers: api.rate.retry_headers.clone(),
        retry_body: api.rate.retry_body.as_ref().map(ToString::to_string),
        again,
        spacing: Vec::new(),
        reply: None,
    }
}

fn prepared_success(success: &Success) -> Option<PreparedSuccess> {
    let Selector::Answer(pointer) = &success.sel else { return None };
    let is = match (&success.eq, success.exists) {
        (Some(value), _) => Expected::Equal(value.clone()),
        (None, Some(false)) => Expected::Nothing,
        (None, Some(true) | None) => Expected::Something,
    };
    let (plain, says) = (success.plain, success.says.as_ref().map(ToString::to_string));
    Some(PreparedSuccess { at: pointer.to_string(), is, plain, says })
}

/// The distances that messages to the places of this delivery keep.
fn spacing(api: &Api, view: &View<'_>) -> Vec<Spaced> {
    let kept = api.rate.spacing.iter().filter(|spacing| all_hold(&spacing.when, view));
    let spaced = kept.filter_map(|it| Some(Spaced { of: it.of.text(view)?, milliseconds: it.pace.milliseconds }));
    spaced.collect()
}

/// A header whose template says that it may be empty, and is, is left out. Later ones replace earlier ones.
fn headers<'t>(
    templates: impl Iterator<Item = (&'t String, &'t Template)>,
    view: &View<'_>,
) -> Option<Vec<(String, Vec<Piece>)>> {
    let mut headers: Vec<(String, Vec<Piece>)> = Vec::new();
    for (name, template) in templates {
        let value = pieces(template, Place::Plain, view)?;
        headers.retain(|(have, _)| !have.eq_ignore_ascii_case(name));
        if !is_empty(&value) {
            headers.push((name.clone(), value));
        }
    }
    Some(headers)
}

fn is_empty(pieces: &[Piece]) -> bool {
    pieces.iter().all(|piece| matches!(piece, Piece::Text(text) if text.is_empty()))
}

/// Text with what is known filled in; nothing when something that is needed is missing.
fn pieces(template: &Template, place: Place, view: &View<'_>) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    for part in &template.parts {
        match part {
            Part::Literal(text) => push_text(&mut pieces, text),
            Part::Hole(hole) if hole.is_late() => {
                pieces.push(Piece::Late { expression: late(hole, view)?, place });
            }
            Part::Hole(hole) => push_text(&mut pieces, &hole.text(view)?),
        }
    }
    Some(pieces)
}

/// What is filled when the call is made knows no settings: one that goes with a secret is put in now.
fn late(hole: &Expression, view: &View<'_>) -> Option<String> {
    match (&hole.selector, hole.source.split_once('|')) {
        (Selector::Config(_), Some((_, filters))) => {
            let value = view.find(&hole.selector)?.into_text()?;
            // It would be read as a filter.
            (!value.contains('|')).then(|| format!("const:{value}|{filters}"))
        }
        _ => Some(hole.source.clone()),
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        Some(Piece::Text(last)) => last.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

/// An address. What stands before its path is taken as it is (the definition's checks see to where that may come
/// from); every other value is escaped.
pub(super) fn url(template: &Template, view: &View<'_>) -> Option<Vec<Piece>> {
    let mut pieces: Vec<Piece> = Vec::new();
    // What was written so far, to know whether the path or the query has begun.
    let mut written = String::new();
    let base = Selector::Config("api_base".to_owned());
    let spliced = template.parts.iter().flat_map(|part| match (part, view.api_base) {
        (Part::Hole(hole), Some(api_base)) if hole.selector == base && hole.filters.is_empty() => {
            let set = view.settings.is_some_and(|settings| settings.get("api_base").is_some());
            if set { std::slice::from_ref(part) } else { api_base.parts.as_slice() }
        }
        _ => std::slice::from_ref(part),
    });
    for part in spliced {
        match part {
            Part::Literal(text) => {
                written.push_str(text);
                push_text(&mut pieces, text);
            }
            Part::Hole(hole) if hole.is_late() => {
                let place = match place_after(&written) {
                    Some(place) => place_of(hole, place),
                    // The machine of the repository's own remote, for a page that a person opens; calls have no host.
                    None if hole.selector == Selector::Context("host".to_owned()) => Place::Plain,
                    None => return None,
                };
                written.push('x');
                pieces.push(Piece::Late { expression: hole.source.clone(), place });
            }
            Part::Hole(hole) => {
                let value = hole.text(view)?;
                let value = match place_after(&written) {
                    Some(place) => address::escape(&value, place_of(hole, place))?,
                    None => value.into_owned(),
                };
                written.push_str(&value);
                push_text(&mut pieces, &value);
            }
        }
    }
    Some(pieces)
}

fn place_of(hole: &Expression, place: Place) -> Place {
    if place == Place::Path && hole.filters.contains(&Filter::Segment) { Place::Segment } else { place }
}

/// Where in an address the next text stands; nothing before the path has begun.
fn place_after(written: &str) -> Option<Place> {
    let (_, rest) = written.split_once("://")?;
    if rest.contains('?') {
        return Some(Place::Query);
    }
    rest.contains('/').then_some(Place::Path)
}

fn json_body(json: &JsonTemplate, view: &View<'_>) -> Option<PreparedBody> {
    let mut holes = Vec::new();
    let value = fill_json(json, view, "", &mut holes)?;
    Some(PreparedBody::Json { value: value.unwrap_or(Value::Null), holes })
}

/// JSON with everything filled in at once; nothing when something is missing.
pub(super) fn render_json(json: &JsonTemplate, view: &View<'_>) -> Option<Value> {
    let mut holes = Vec::new();
    let context = View { context: view.context, secrets: view.secrets, ..View::default() };
    let mut value = fill_json(json, view, "", &mut holes)?.unwrap_or(Value::Null);
    for hole in holes {
        let late =
            View { settings: view.settings, incoming: view.incoming, body: view.body, item: view.item, ..context };
        let filled = super::prepared::hole_value(&hole.pieces, &late).ok()?;
        super::pointer::Pointer::parse(&hole.at).ok()?.put(&mut value, filled);
    }
    Some(value)
}

/// The outer `None`: something that is needed is missing. The inner one: the definition says that it may be.
#[expect(clippy::option_option, reason = "the two absences mean different things")]
fn fill_json(json: &JsonTemplate, view: &View<'_>, at: &str, holes: &mut Vec<Hole>) -> Option<Option<Value>> {
    Some(match json {
        JsonTemplate::Fixed(value) => Some(value.clone()),
        JsonTemplate::Text(template) => match template.only_hole() {
            Some(hole) if !hole.is_late() => {
                let found = hole.found(view)?;
                let value = match hole.filters.iter().any(|filter| filter.makes_json()) {
                    true => found.into_json()?,
                    false => Value::String(found.into_text()?.into_owned()),
                };
                (value != "" || !hole.has_default()).then_some(value)
            }
            _ => {
                let pieces = pieces(template, Place::Plain, view)?;
                match pieces.as_slice() {
                    [] => Some(Value::String(String::new())),
                    [Piece::Text(text)] => Some(Value::String(text.clone())),
                    _ => {
                        holes.push(Hole { at: at.to_owned(), pieces });
                        Some(Value::Null)
                    }
                }
            }
        },
        JsonTemplate::Array(items) => {
            let mut values = Vec::with_capacity(items.len());
            for item in items {
                let place = join_pointer(at, &values.len().to_string());
                values.extend(fill_json(item, view, &place, holes)?);
            }
            Some(Value::Array(values))
        }
        JsonTemplate::Object(fields) => {
            let mut object = Map::new();
            for (name, field) in fields {
                if let Some(value) = fill_json(field, view, &join_pointer(at, name), holes)? {
                    object.insert(name.clone(), value);
                }
            }
            Some(Value::Object(object))
        }
    })
}
