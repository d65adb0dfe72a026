//! Edits of a frontmatter that keep its comments and its form. After each edit the text is read again and compared
//! with what was meant: an edit that would say anything else is refused.

mod intended;
#[cfg(test)]
mod tests;

use std::str::FromStr as _;

use serde_json::Value;
use yaml_edit::{Document as Yaml, Mapping, Sequence, YamlNode};

use super::frontmatter::split;
use crate::error::{Code, Error, Result};

/// One edit. Keys lead from the top of the frontmatter through mappings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change<'a> {
    /// Sets a key, with the mappings on the way to it.
    Set(&'a [&'a str], &'a Value),
    /// Removes a key; its absence is fine.
    Remove(&'a [&'a str]),
    /// Puts an item into the list at the keys, in place of the one with the same `name`, else at the end.
    PutNamed(&'a [&'a str], &'a Value),
    /// Removes the item with this `name` from the list at the keys.
    RemoveNamed(&'a [&'a str], &'a str),
}

/// The file with the edit made. `path` is for messages.
///
/// # Errors
/// SH0101 and following where the file has no readable frontmatter, SH0723 where the edit cannot be made safely.
pub fn edit(path: &str, bytes: &[u8], change: &Change<'_>) -> Result<Vec<u8>> {
    let document = split(path, bytes).map_err(|found| {
        let message = found.first().map(ToString::to_string).unwrap_or_default();
        Error::new(Code::FrontmatterUnreadable, message)
    })?;
    let unusual = || {
        let message = format!("`{path}` cannot be edited by parts: its frontmatter is written in an unusual form");
        Error::new(Code::EditUnsafe, message).hint("send the whole file instead, or write one key a line")
    };
    let block = document.frontmatter.ok_or_else(|| {
        Error::new(Code::FrontmatterUnreadable, format!("`{path}` has no frontmatter"))
            .hint("begin it with a line `---`, then `name:` and `description:`")
    })?;
    let mut meant: Value = serde_yaml::from_str(block.text).map_err(|error| unusual().detail(error))?;
    intended::apply(&mut meant, change).ok_or_else(unusual)?;
    let edited = edited(block.text, change).ok_or_else(unusual)?;
    let said: Value = serde_yaml::from_str(&edited).map_err(|error| unusual().detail(error))?;
    if said != meant {
        return Err(unusual().detail("read again, it says something else"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| unusual().detail(error))?;
    let before = block.text.as_ptr() as usize - text.as_ptr() as usize;
    let whole = [&text[..before], &edited, &text[before + block.text.len()..]].concat();
    let again = split(path, whole.as_bytes()).map_err(|_| unusual())?;
    if again.body != document.body || again.frontmatter.is_none_or(|block| block.text != edited) {
        return Err(unusual().detail("the rest of the file would be another one"));
    }
    Ok(whole.into_bytes())
}

/// `None` where the form of the text does not allow it.
fn edited(text: &str, change: &Change<'_>) -> Option<String> {
    let document = Yaml::from_str(text).ok()?;
    let top = document.as_mapping()?;
    match change {
        Change::Set(keys, value) => {
            let (last, way) = keys.split_last()?;
            let (at, missing) = descend(&top, way);
            // The mappings that are missing on the way are set together with the value.
            match missing.split_first() {
                None => at.set(*last, node(value)?),
                Some((first, rest)) => {
                    let inner = intended::wrapped(rest, last, value);
                    at.set(*first, node(&inner)?);
                }
            }
        }
        Change::Remove(keys) => {
            let (last, way) = keys.split_last()?;
            let (at, missing) = descend(&top, way);
            if missing.is_empty() {
                at.remove(*last);
            }
        }
        Change::PutNamed(keys, item) => {
            let list = list(&top, keys)?;
            match position(&list, item.get("name")?.as_str()?) {
                Some(index) => drop(list.set(index, node(item)?).then_some(())?),
                None => list.push(node(item)?),
            }
        }
        Change::RemoveNamed(keys, name) => {
            let list = list(&top, keys)?;
            list.remove(position(&list, name)?)?;
        }
    }
    let mut edited = document.to_string();
    if !edited.is_empty() && !edited.ends_with('\n') {
        edited.push('\n');
    }
    Some(edited)
}

/// As far as mappings lead, and the keys that are missing.
fn descend<'k>(top: &Mapping, keys: &'k [&'k str]) -> (Mapping, &'k [&'k str]) {
    let mut at = top.clone();
    for (n, key) in keys.iter().enumerate() {
        match at.get_mapping(*key) {
            Some(inner) => at = inner,
            None => return (at, &keys[n..]),
        }
    }
    (at, &[])
}

fn list(top: &Mapping, keys: &[&str]) -> Option<Sequence> {
    let (last, way) = keys.split_last()?;
    let (at, missing) = descend(top, way);
    if missing.is_empty() { at.get_sequence(*last) } else { None }
}

fn position(list: &Sequence, name: &str) -> Option<usize> {
    let named =
        |node: YamlNode| node.as_mapping().and_then(|item| item.get("name")?.as_scalar().map(|it| it.as_string()));
    list.values().position(|node| named(node).as_deref() == Some(name))
}

/// A value in block form.
fn node(value: &Value) -> Option<YamlNode> {
    let text = serde_yaml::to_string(value).ok()?;
    let document = Yaml::from_str(&text).ok()?;
    let mapping = document.as_mapping().map(YamlNode::Mapping);
    let sequence = || document.as_sequence().map(YamlNode::Sequence);
    let scalar = || document.as_scalar().map(YamlNode::Scalar);
    mapping.or_else(sequence).or_else(scalar)
}
