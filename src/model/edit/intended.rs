//! The same edits of a plain value: what the text has to say afterwards.

use serde_json::{Map, Value};

use super::Change;

/// `None` where the value has another shape than the edit needs.
pub(super) fn apply(top: &mut Value, change: &Change<'_>) -> Option<()> {
    match change {
        Change::Set(keys, value) => {
            let (last, way) = keys.split_last()?;
            let at = way.iter().try_fold(top, |at, key| Some(object(at)?.entry(*key).or_insert(Value::Null)))?;
            object(at)?.insert((*last).to_owned(), (*value).clone());
        }
        Change::Remove(keys) => {
            let (last, way) = keys.split_last()?;
            let at = way.iter().try_fold(top, |at, key| at.get_mut(*key));
            if let Some(Value::Object(fields)) = at {
                fields.remove(*last);
            }
        }
        Change::PutNamed(keys, item) => {
            let name = item.get("name")?;
            let list = list(top, keys)?;
            match list.iter_mut().find(|old| old.get("name") == Some(name)) {
                Some(old) => *old = (*item).clone(),
                None => list.push((*item).clone()),
            }
        }
        Change::RemoveNamed(keys, name) => {
            let list = list(top, keys)?;
            let at = list.iter().position(|item| item.get("name").and_then(Value::as_str) == Some(*name))?;
            list.remove(at);
        }
    }
    Some(())
}

/// The value below the keys, as one value.
pub(super) fn wrapped(way: &[&str], last: &str, value: &Value) -> Value {
    let inner = Value::Object(Map::from_iter([(last.to_owned(), value.clone())]));
    way.iter().rev().fold(inner, |inner, key| Value::Object(Map::from_iter([((*key).to_owned(), inner)])))
}

/// Nothing becomes an empty object.
fn object(value: &mut Value) -> Option<&mut Map<String, Value>> {
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

fn list<'v>(top: &'v mut Value, keys: &[&str]) -> Option<&'v mut Vec<Value>> {
    keys.iter().try_fold(top, |at, key| at.get_mut(*key))?.as_array_mut()
}
