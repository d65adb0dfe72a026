//! Tables as data: which values of an item are shown, under which heading and in which form.

use comfy_table::Table;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::output::{BAD, CARE, GOOD, STRONG, harmless};
use crate::seam::Clock;

/// How a list of one kind is shown.
#[derive(Debug)]
pub struct Sheet {
    pub singular: &'static str,
    pub plural: &'static str,
    /// Where the name stands: JSON pointers, the first that leads somewhere counts.
    pub name: &'static [&'static str],
    pub columns: &'static [Column],
}

/// One column.
#[derive(Debug)]
pub struct Column {
    pub heading: &'static str,
    /// JSON pointers; the first that leads to something counts.
    pub at: &'static [&'static str],
    pub form: Form,
    /// Only in wide tables.
    pub wide: bool,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    /// Text of which the beginning is enough.
    Prose,
    /// A word that says how things stand.
    State,
    /// The time since an instant.
    Age,
    /// Whether a condition of this type holds, else its reason.
    Condition(&'static str),
    /// The number of elements.
    Count,
    /// US dollars.
    Cost,
}

pub const fn column(heading: &'static str, form: Form, at: &'static [&'static str]) -> Column {
    Column { heading, at, form, wide: false }
}

pub const fn wide(heading: &'static str, form: Form, at: &'static [&'static str]) -> Column {
    Column { heading, at, form, wide: true }
}

/// Longest prose in a table, in characters.
const PROSE_CHARS_MAX: usize = 60;

/// Characters of no width that stand for colours while the columns are measured. Data cannot contain them:
/// [`harmless`] takes them out.
const MARKS: [(char, anstyle::Style); 4] =
    [('\u{2061}', GOOD), ('\u{2062}', CARE), ('\u{2063}', BAD), ('\u{2064}', STRONG)];
const MARK_END: char = '\u{2060}';

/// The items as aligned columns with a heading.
pub fn table(sheet: &Sheet, items: &[Value], wide: bool) -> String {
    aligned(sheet, items, wide)
}

/// As [`table`], without the heading, for items that come later.
pub fn rows(sheet: &Sheet, items: &[Value], wide: bool) -> String {
    aligned(sheet, items, wide).split_once('\n').map_or_else(String::new, |(_, rows)| rows.to_owned())
}

fn aligned(sheet: &Sheet, items: &[Value], wide: bool) -> String {
    let now = Clock::System.now();
    let columns: Vec<&Column> = sheet.columns.iter().filter(|column| wide || !column.wide).collect();
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(columns.iter().map(|column| format!("{}{}{MARK_END}", MARKS[3].0, column.heading)));
    for item in items {
        table.add_row(columns.iter().map(|column| cell(column, item, now, wide)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    let mut text: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    for (mark, style) in MARKS {
        text = text.replace(mark, &style.render().to_string());
    }
    text.replace(MARK_END, &anstyle::Reset.render().to_string())
}

/// `kind/name`, one a line.
pub fn names(sheet: &Sheet, items: &[Value]) -> String {
    items.iter().map(|item| format!("{}/{}\n", sheet.singular, harmless(&text(find(item, sheet.name))))).collect()
}

/// The first pointer that leads to something.
pub fn find<'a>(item: &'a Value, at: &[&str]) -> &'a Value {
    at.iter().find_map(|pointer| item.pointer(pointer).filter(|found| !found.is_null())).unwrap_or(&Value::Null)
}

fn cell(column: &Column, item: &Value, now: Timestamp, wide: bool) -> String {
    let found = find(item, column.at);
    let shown = match column.form {
        Form::Text | Form::State => text(found),
        Form::Prose if wide => text(found),
        Form::Prose => clipped(&text(found), PROSE_CHARS_MAX),
        Form::Age => age_of(found, now),
        Form::Condition(kind) => condition(found, kind),
        Form::Count => found.as_array().map_or_else(|| text(found), |items| items.len().to_string()),
        Form::Cost => found.as_f64().map_or_else(|| text(found), |dollars| format!("${dollars:.2}")),
    };
    let shown = if shown.is_empty() { "-".to_owned() } else { harmless(&shown) };
    let mark = match column.form {
        Form::State => mark_of(&shown),
        Form::Condition(_) if shown != "-" => mark_of(if shown == "yes" { "yes" } else { "no" }),
        _ => None,
    };
    match mark {
        Some(mark) => format!("{mark}{shown}{MARK_END}"),
        None => shown,
    }
}

/// `yes`, or in one word why not.
fn condition(conditions: &Value, kind: &str) -> String {
    let all = conditions.as_array().map_or(&[][..], Vec::as_slice);
    match all.iter().find(|condition| condition["type"] == kind) {
        Some(condition) if condition["status"] == true => "yes".to_owned(),
        Some(condition) => text(&condition["reason"]),
        None => String::new(),
    }
}

/// A scalar as itself, a list with commas.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| text(item.get("name").unwrap_or(item))).collect();
            items.join(",")
        }
        Value::Object(_) => value.to_string(),
    }
}

fn age_of(value: &Value, now: Timestamp) -> String {
    let instant = value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    instant.map_or_else(|| text(value), |instant| age(now.duration_since(instant)))
}

/// A duration in its largest unit: `45s`, `12m`, `7h`, `3d`.
pub fn age(since: SignedDuration) -> String {
    let seconds = since.as_secs();
    match seconds.abs() {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn clipped(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    text.chars().take(chars_max - 1).chain(['…']).collect()
}

fn mark_of(state: &str) -> Option<char> {
    let style = match state {
        "yes" | "True" | "current" | "ready" | "succeeded" | "accepted" | "sent" | "set" => GOOD,
        "warning" | "held" | "checking" | "queued" | "running" | "waiting" | "sending" => CARE,
        "no" | "False" | "rejected" | "stalled" | "dead" | "failed" | "refused" | "missing" => BAD,
        _ => return None,
    };
    MARKS.iter().find(|(_, known)| *known == style).map(|(mark, _)| *mark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SHEET: Sheet = Sheet {
        singular: "task",
        plural: "tasks",
        name: &["/spec/id"],
        columns: &[
            column("ID", Form::Text, &["/spec/id"]),
            column("STATE", Form::State, &["/state"]),
            column("TEXT", Form::Prose, &["/none", "/text"]),
            wide("READY", Form::Condition("Ready"), &["/conditions"]),
        ],
    };

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn columns_are_aligned_under_their_headings_whatever_the_width_of_letters() {
        let items = [
            json!({"spec": {"id": "日本"}, "state": "queued", "text": "x"}),
            json!({"spec": {"id": "a"}, "state": "succeeded"}),
        ];
        let expected = "ID     STATE       TEXT\n日本   queued      x\na      succeeded   -\n";
        assert_eq!(plain(&table(&SHEET, &items, false)), expected);
    }

    #[test]
    fn state_words_are_coloured_and_foreign_escapes_are_not_sent() {
        let not_ready = json!({"type": "Ready", "status": false, "reason": "SecretMissing"});
        let items = [json!({
            "spec": {"id": "a"},
            "state": "dead",
            "text": "\u{1b}]0;x\u{7}\u{2063}y\nz",
            "conditions": [{"type": "Stalled", "status": true}, not_ready],
        })];
        let shown = table(&SHEET, &items, true);
        assert!(shown.contains("\u{1b}[31mdead\u{1b}[0m"), "{shown:?}");
        assert!(shown.contains(" ]0;x  y z"), "{shown:?}");
        assert!(shown.ends_with("\u{1b}[31mSecretMissing\u{1b}[0m\n"), "{shown:?}");
    }

    #[test]
    fn names_carry_their_kind() {
        assert_eq!(names(&SHEET, &[json!({"spec": {"id": "a"}})]), "task/a\n");
    }

    #[test]
    fn ages_are_in_their_largest_unit() {
        let shown = |seconds| age(SignedDuration::from_secs(seconds));
        assert_eq!([shown(5), shown(119), shown(600), shown(7200), shown(400_000)], ["5s", "119s", "10m", "2h", "4d"]);
    }
}
