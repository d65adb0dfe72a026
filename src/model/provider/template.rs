//! Text with holes: `{selector|filter|filter:argument}` between literal text.
//!
//! A hole is filled once and what fills it is never looked at again, so that a payload that says `{secret:token}`
//! stays a payload. Braces around anything that does not look like a selector (GraphQL, for example) are literal.

use std::borrow::Cow;

use serde::Deserialize;

use super::filter::Filter;
use super::selector::Selector;
use super::view::{Found, View};

/// Parsed text with holes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template {
    pub source: String,
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Literal(String),
    Hole(Expression),
}

/// A selector and what is done to its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    pub source: String,
    pub selector: Selector,
    pub filters: Vec<Filter>,
}

impl Template {
    pub fn parse(source: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = source;
        while let Some(open) = rest.find('{') {
            let inner = &rest[open + 1..];
            let hole = inner.find('}').and_then(|close| Some((close, Expression::recognise(&inner[..close])?)));
            match hole {
                Some((close, expression)) => {
                    literal.push_str(&rest[..open]);
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(Part::Hole(expression?));
                    rest = &inner[close + 1..];
                }
                None => {
                    literal.push_str(&rest[..=open]);
                    rest = inner;
                }
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { source: source.to_owned(), parts })
    }

    pub fn holes(&self) -> impl Iterator<Item = &Expression> {
        self.parts.iter().filter_map(|part| match part {
            Part::Hole(expression) => Some(expression),
            Part::Literal(_) => None,
        })
    }

    /// Every selector in it, those inside `or` too.
    pub fn selectors(&self) -> impl Iterator<Item = &Selector> {
        self.holes().flat_map(Expression::selectors)
    }

    /// The only hole of a template that is nothing but a hole.
    pub fn only_hole(&self) -> Option<&Expression> {
        match self.parts.as_slice() {
            [Part::Hole(expression)] => Some(expression),
            _ => None,
        }
    }

    /// The text, when every hole can be filled with something.
    pub fn text(&self, view: &View<'_>) -> Option<String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Hole(expression) => text.push_str(&expression.text(view)?),
            }
        }
        Some(text)
    }

    /// The bytes, when every hole can be filled with something: what a sender signed need not be text.
    pub fn bytes(&self, view: &View<'_>) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => bytes.extend_from_slice(literal.as_bytes()),
                Part::Hole(expression) => bytes.extend_from_slice(&expression.found(view)?.into_bytes()?),
            }
        }
        Some(bytes)
    }
}

impl Expression {
    pub fn parse(source: &str) -> Result<Self, String> {
        Self::recognise(source).unwrap_or_else(|| Selector::parse(source).map(|selector| Self::bare(source, selector)))
    }

    fn recognise(source: &str) -> Option<Result<Self, String>> {
        let mut pieces = source.split('|');
        let selector = match Selector::recognise(pieces.next()?)? {
            // In text, a slash after a brace is more likely text than a place in an answer.
            Ok(Selector::Answer(_)) => return None,
            Ok(selector) => selector,
            Err(error) => return Some(Err(error)),
        };
        let filters = pieces.map(Filter::parse).collect::<Result<Vec<_>, _>>();
        Some(filters.map(|filters| Self { source: source.to_owned(), selector, filters }))
    }

    fn bare(source: &str, selector: Selector) -> Self {
        Self { source: source.to_owned(), selector, filters: Vec::new() }
    }

    pub fn selectors(&self) -> impl Iterator<Item = &Selector> {
        let alternatives = self.filters.iter().filter_map(|filter| match filter {
            Filter::Or(selector) => Some(selector),
            _ => None,
        });
        std::iter::once(&self.selector).chain(alternatives)
    }

    /// The slots of secrets that it needs.
    pub fn secret_slots(&self) -> impl Iterator<Item = &str> {
        let selected = self.selectors().filter_map(|selector| match selector {
            Selector::Secret(slot) => Some(slot.as_str()),
            _ => None,
        });
        selected.chain(self.filters.iter().filter_map(Filter::secret_slot))
    }

    /// Whether it can only be filled when the call is made, because it needs the reply or a secret.
    pub fn is_late(&self) -> bool {
        self.selectors().any(|selector| matches!(selector, Selector::Context(_)))
            || self.secret_slots().next().is_some()
    }

    /// Whether it says itself what stands in for a missing value.
    pub fn has_default(&self) -> bool {
        self.filters.iter().any(|filter| matches!(filter, Filter::Default(_)))
    }

    /// What the selector found and the filters made of it; nothing where that is blank and no default was given.
    pub fn found<'a>(&self, view: &View<'a>) -> Option<Found<'a>> {
        // An empty constant is meant to be empty: half of some credentials is.
        let meant = matches!(self.selector, Selector::Const(_));
        let mut found = view.find(&self.selector).filter(|found| meant || !found.is_blank());
        for filter in &self.filters {
            found = filter.apply(found, view);
        }
        found.filter(|found| self.has_default() || !found.is_blank())
    }

    pub fn text<'a>(&self, view: &View<'a>) -> Option<Cow<'a, str>> {
        self.found(view)?.into_text()
    }
}

impl TryFrom<String> for Template {
    type Error = String;
    fn try_from(source: String) -> Result<Self, String> {
        Self::parse(&source)
    }
}

/// The first template that can be filled: how definitions say "this, else that".
pub fn first_text(templates: &[Template], view: &View<'_>) -> Option<String> {
    templates.iter().find_map(|template| template.text(view))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fill(source: &str, body: &serde_json::Value) -> Option<String> {
        Template::parse(source).unwrap().text(&View { body: Some(body), ..View::default() })
    }

    #[test]
    fn holes_are_filled_once_and_never_again() {
        let body = json!({"a": "{body:/b}", "b": "secret", "n": 7, "t": true, "o": {}, "z": null});
        assert_eq!(fill("x {body:/a} {body:/n}/{body:/t}", &body).as_deref(), Some("x {body:/b} 7/true"));
        for missing in ["{body:/none}", "{body:/z}", "{body:/o}"] {
            assert_eq!(fill(missing, &body), None, "{missing}");
        }
    }

    #[test]
    fn alternatives_and_defaults_stand_in() {
        let body = json!({"b": "B", "e": "", "z": null});
        assert_eq!(fill("{body:/a|or:body:/z|or:body:/b}", &body).as_deref(), Some("B"));
        assert_eq!(fill("{body:/e|default:none}", &body).as_deref(), Some("none"));
        assert_eq!(fill("{body:/e|default:}!", &body).as_deref(), Some("!"));
        assert_eq!(fill("{body:/e}", &body), None);
    }

    #[test]
    fn other_braces_are_literal_and_slips_are_errors() {
        let query = "mutation($d:ID!){add(input:{discussionId:$d,body:$b}){comment{id}}}";
        assert_eq!(fill(query, &json!({})).as_deref(), Some(query));
        assert!(Template::parse("{bdy:/x}").unwrap_err().contains("did you mean `body:`"));
        assert!(Template::parse("{body:/x|lowr}").unwrap_err().contains("did you mean `lower`"));
    }
}
