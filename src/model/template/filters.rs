//! The filters of prompts. Those that could multiply text or depend on the order of a hash map are our own; the
//! others are Tera's.

use tera::value::Key;
use tera::{Kwargs, Map, State, TeraResult, Value};

use super::convert::{json, printed};

/// Longest text that a filter may yield, in bytes.
pub(super) const TEXT_BYTES_MAX: usize = 256 * 1024;
/// Widest indentation in characters.
const INDENT_MAX: usize = 40;

/// Name, arguments in their natural order, how many of them are needed.
const FILTERS: [(&str, &[&str], usize); 38] = [
    ("abs", &[], 0),
    ("capitalize", &[], 0),
    ("date", &["format"], 0),
    ("default", &["value", "boolean"], 1),
    ("escape_html", &[], 0),
    ("escape_xml", &[], 0),
    ("filter", &["attribute", "value"], 1),
    ("first", &[], 0),
    ("float", &[], 0),
    ("get", &["key", "default"], 1),
    ("group_by", &["attribute"], 1),
    ("indent", &["width", "first", "blank"], 0),
    ("int", &["base"], 0),
    ("join", &["sep"], 0),
    ("json_encode", &["pretty"], 0),
    ("keys", &[], 0),
    ("last", &[], 0),
    ("length", &[], 0),
    ("lower", &[], 0),
    ("map", &["attribute"], 1),
    ("newlines_to_br", &[], 0),
    ("nth", &["n"], 1),
    ("pairs", &[], 0),
    ("pluralize", &["singular", "plural"], 0),
    ("replace", &["from", "to"], 2),
    ("reverse", &[], 0),
    ("round", &["precision", "method"], 0),
    ("safe", &[], 0),
    ("sort", &["attribute"], 0),
    ("split", &["pat"], 1),
    ("str", &[], 0),
    ("title", &[], 0),
    ("trim", &["pat"], 0),
    ("truncate", &["length", "end"], 1),
    ("unique", &[], 0),
    ("upper", &[], 0),
    ("values", &[], 0),
    ("wordcount", &[], 0),
];

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FILTERS.iter().map(|(name, _, _)| *name)
}

/// The arguments in their natural order; `None` for an unknown filter.
pub(super) fn positions(filter: &str) -> Option<&'static [&'static str]> {
    FILTERS.iter().find(|(name, _, _)| *name == filter).map(|(_, positions, _)| *positions)
}

/// The first needed argument that is not among those given.
pub(super) fn lacks<T>(filter: &str, given: &[(String, T)]) -> Option<&'static str> {
    let (_, positions, needed) = FILTERS.iter().find(|(name, _, _)| *name == filter)?;
    positions.iter().take(*needed).copied().find(|needed| given.iter().all(|(name, _)| name != needed))
}

/// Applies one. Nothing stays nothing, whatever the filter, except for those that are about nothing.
pub(super) fn apply(name: &str, value: &Value, arguments: Kwargs, state: &State) -> TeraResult<Value> {
    let nothing = value.is_undefined() || value.is_none();
    match name {
        "default" => default(value, &arguments),
        "json_encode" => Ok(Value::from(json(value, arguments.get("pretty")?.unwrap_or(false)))),
        _ if nothing => Ok(Value::undefined()),
        "str" => Ok(Value::from(printed(value))),
        "safe" => Ok(value.clone()),
        "date" => date(value, &arguments),
        "filter" => filter(value, &arguments),
        "map" => map(value, &arguments),
        "get" => get(value, &arguments),
        "group_by" => group_by(value, &arguments),
        "indent" => indent(&printed(value), &arguments),
        "join" => join(value, &arguments),
        "replace" => replace(&printed(value), &arguments),
        "first" | "last" | "reverse" | "sort" | "unique" | "nth" | "keys" | "values" | "pairs" | "length"
        | "pluralize" | "abs" | "int" | "float" | "round" => state.call_filter(name, value, arguments),
        // The others are about text, and a number is as good as its text.
        _ if value.is_number() || value.is_bool() => state.call_filter(name, &Value::from(printed(value)), arguments),
        _ => state.call_filter(name, value, arguments),
    }
}

fn too_long() -> tera::Error {
    tera::Error::message(format!("the result has more than {TEXT_BYTES_MAX} bytes"))
}

fn text(out: String) -> TeraResult<Value> {
    if out.len() > TEXT_BYTES_MAX { Err(too_long()) } else { Ok(Value::from(out)) }
}

fn default(value: &Value, arguments: &Kwargs) -> TeraResult<Value> {
    let or_empty = arguments.get::<bool>("boolean")?.unwrap_or(false);
    let absent = value.is_undefined() || value.is_none() || (or_empty && !value.is_truthy());
    if absent { arguments.must_get("value") } else { Ok(value.clone()) }
}

fn replace(value: &str, arguments: &Kwargs) -> TeraResult<Value> {
    let (from, to) = (arguments.must_get::<&str>("from")?, arguments.must_get::<String>("to")?);
    if from.is_empty() {
        return Err(tera::Error::message("`from` is empty"));
    }
    let grown = value.matches(from).count().saturating_mul(to.len().saturating_sub(from.len()));
    if value.len().saturating_add(grown) > TEXT_BYTES_MAX {
        return Err(too_long());
    }
    text(value.replace(from, &to))
}

fn indent(value: &str, arguments: &Kwargs) -> TeraResult<Value> {
    let width = arguments.get::<usize>("width")?.unwrap_or(4).min(INDENT_MAX);
    let first = arguments.get::<bool>("first")?.unwrap_or(false);
    let blank = arguments.get::<bool>("blank")?.unwrap_or(false);
    if value.len().saturating_add(value.matches('\n').count() * width) > TEXT_BYTES_MAX {
        return Err(too_long());
    }
    let lines = value.split('\n').enumerate().map(|(number, line)| {
        let indented = if number == 0 { first } else { !line.is_empty() || blank };
        format!("{:1$}{line}", "", if indented { width } else { 0 })
    });
    text(lines.collect::<Vec<_>>().join("\n"))
}

fn join(value: &Value, arguments: &Kwargs) -> TeraResult<Value> {
    let items = list(value)?;
    let separator = arguments.get::<String>("sep")?.unwrap_or_default();
    let mut out = String::new();
    for (number, item) in items.iter().enumerate() {
        if number > 0 {
            out.push_str(&separator);
        }
        out.push_str(&printed(item));
        if out.len() > TEXT_BYTES_MAX {
            return Err(too_long());
        }
    }
    text(out)
}

fn list(value: &Value) -> TeraResult<&[Value]> {
    value.as_array().ok_or_else(|| tera::Error::message(format!("it needs a list, this is a {}", value.name())))
}

/// Each item's value at `attribute`; items that lack it are left out.
fn map(value: &Value, arguments: &Kwargs) -> TeraResult<Value> {
    let attribute = arguments.must_get::<&str>("attribute")?;
    let found = list(value)?.iter().filter_map(|item| item.get_from_path(attribute)).cloned();
    Ok(Value::from(found.collect::<Vec<_>>()))
}

/// The items whose value at `attribute` is `value`; without `value`, those that have one.
fn filter(value: &Value, arguments: &Kwargs) -> TeraResult<Value> {
    let attribute = arguments.must_get::<&str>("attribute")?;
    let wanted = arguments.get::<Value>("value")?;
    let matches = |item: &&Value| match (item.get_from_path(attribute), &wanted) {
        (Some(found), Some(wanted)) => found == wanted,
        (Some(found), None) => !found.is_none(),
        (None, _) => false,
    };
    Ok(Value::from(list(value)?.iter().filter(matches).cloned().collect::<Vec<_>>()))
}

fn get(value: &Value, arguments: &Kwargs) -> TeraResult<Value> {
    let key = arguments.must_get::<&str>("key")?;
    let found = value.as_map().and_then(|map| map.get(&Key::Str(key))).cloned();
    Ok(found.or(arguments.get("default")?).unwrap_or_else(Value::undefined))
}

/// A map from the values at `attribute` to the items that have them, in the order of the list.
fn group_by(value: &Value, arguments: &Kwargs) -> TeraResult<Value> {
    let attribute = arguments.must_get::<&str>("attribute")?;
    let mut groups: Vec<(String, Vec<Value>)> = Vec::new();
    for item in list(value)? {
        let Some(key) = item.get_from_path(attribute).map(printed) else { continue };
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, items)) => items.push(item.clone()),
            None => groups.push((key, vec![item.clone()])),
        }
    }
    let mut map = Map::with_capacity(groups.len());
    map.extend(groups.into_iter().map(|(key, items)| (key.into(), Value::from(items))));
    Ok(Value::from(map))
}

/// A timestamp (RFC 3339, or seconds since 1970) in UTC, by a strftime format.
fn date(value: &Value, arguments: &Kwargs) -> TeraResult<Value> {
    let format = arguments.get::<&str>("format")?.unwrap_or("%Y-%m-%d");
    let instant = match value.as_str() {
        Some(written) => written.parse::<jiff::Timestamp>().ok(),
        None => value.as_i64().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()),
    };
    let instant = instant.ok_or_else(|| tera::Error::message("it needs a time, for example `2024-05-01T12:00:00Z`"))?;
    jiff::fmt::strtime::format(format, instant).map(Value::from).map_err(tera::Error::message)
}
