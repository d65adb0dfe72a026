//! Lists that are whole in memory: in the order that was asked for, a page at a time.
//!
//! A page ends with the name of its last item, and the next one begins behind it. In the list's own order that holds
//! although items come and go between two pages; in any other order an item that is gone cannot be gone on from, and that
//! is said.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::query::Query;
use super::table::LIMIT_MAX;
use crate::error::{Code, Error, Result};

/// How a list is kept apart and ordered: the field that names an item, and the order if none is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Listing {
    pub name: &'static str,
    /// A field, with `-` in front from its end.
    pub order: &'static str,
}

impl Listing {
    /// Named and ordered by one field.
    pub const fn by(name: &'static str) -> Self {
        Self { name, order: name }
    }

    /// A page: `items`, in `next` what `after` must be for the next one, and in `total` how many there are in all.
    ///
    /// # Errors
    /// SH0902 when the item is gone behind which the page begins.
    pub fn page(self, query: &Query, mut items: Vec<Value>) -> Result<Value> {
        let limit = query.limit_or(LIMIT_MAX)?;
        let order = query.text("sort").unwrap_or(self.order);
        let (field, backwards) = match order.strip_prefix('-') {
            Some(field) => (field, true),
            None => (order, false),
        };
        let in_order = |a: &Value, b: &Value| {
            let forwards = compared(&a[field], &b[field]).then_with(|| compared(&a[self.name], &b[self.name]));
            if backwards { forwards.reverse() } else { forwards }
        };
        items.sort_by(in_order);
        let begin = match query.text("after") {
            None => 0,
            Some(after) if field == self.name => {
                let last = json!({ (self.name): cursor_value(items.first(), self.name, after) });
                items.partition_point(|item| in_order(item, &last) != Ordering::Greater)
            }
            Some(after) => {
                1 + items.iter().position(|item| text(&item[self.name]) == after).ok_or_else(|| gone(after))?
            }
        };
        let total = items.len();
        let left = total.saturating_sub(begin);
        let shown: Vec<Value> = items.into_iter().skip(begin).take(limit).collect();
        let next = shown.last().filter(|_| left > limit).map(|item| text(&item[self.name]));
        Ok(json!({ "items": shown, "next": next, "total": total }))
    }
}

/// What stands in the query, in the form that the items have.
fn cursor_value(first: Option<&Value>, name: &str, after: &str) -> Value {
    match first.map(|item| &item[name]) {
        Some(Value::Number(_)) => after.parse::<u64>().map_or_else(|_| json!(after), Value::from),
        _ => json!(after),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What is not there comes first.
fn compared(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().unwrap_or(f64::NAN).total_cmp(&b.as_f64().unwrap_or(f64::NAN))
        }
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)).then_with(|| text(a).cmp(&text(b))),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) | Value::Object(_) => 4,
    }
}

fn gone(after: &str) -> Error {
    Error::new(Code::Usage, format!("there is no `{}` in this list any more", after.escape_default()))
        .hint("begin again without `after`, or without `sort`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::api::table::Operation;

    fn items() -> Vec<Value> {
        let item =
            |(n, provider): (usize, &str)| json!({ "id": format!("w{n}"), "provider": provider, "generation": n });
        ["b", "a", "b", "a", "c"].into_iter().enumerate().map(item).collect()
    }

    /// The names of all pages.
    fn pages(text: &str) -> Vec<Vec<String>> {
        let (mut pages, mut after) = (Vec::new(), String::new());
        loop {
            let query = Query::parse(Some(&format!("{text}{after}")), Operation::Webhooks.parameters()).unwrap();
            let page = Listing::by("id").page(&query, items()).unwrap();
            let names = page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned());
            pages.push(names.collect());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return pages,
            }
        }
    }

    #[test]
    fn every_item_stands_on_one_page_in_the_order_that_was_asked_for() {
        assert_eq!(pages("limit=2"), [vec!["w0", "w1"], vec!["w2", "w3"], vec!["w4"]]);
        assert_eq!(pages("limit=5&sort=-id"), [["w4", "w3", "w2", "w1", "w0"]]);
        assert_eq!(pages("limit=2&sort=provider"), [vec!["w1", "w3"], vec!["w0", "w2"], vec!["w4"]]);
        assert_eq!(pages("limit=3&sort=-generation"), [vec!["w4", "w3", "w2"], vec!["w1", "w0"]]);
    }

    #[test]
    fn a_list_in_its_own_order_goes_on_behind_what_is_gone_and_another_one_says_so() {
        let page = |text: &str| {
            let query = Query::parse(Some(text), Operation::Webhooks.parameters()).unwrap();
            Listing::by("id").page(&query, items())
        };
        assert_eq!(page("after=w2x").unwrap()["items"][0]["id"], "w3");
        assert_eq!(page("after=w2x&sort=-id").unwrap()["items"][0]["id"], "w2");
        assert_eq!(page("after=w9").unwrap()["items"].as_array().unwrap().len(), 0);
        assert_eq!(page("after=w2x&sort=provider").unwrap_err().code(), Code::Usage);
    }
}
