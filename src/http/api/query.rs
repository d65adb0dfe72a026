//! The query of a request: known parameters once each, with checked values.

use std::time::Duration;

use super::table::{Form, LIMIT_MAX, Parameter, WAIT_SECONDS_MAX};
use crate::error::{Code, Error, Result};
use crate::model::diagnostic::did_you_mean;

const LIMIT_DEFAULT: u64 = 50;

#[derive(Debug, Default)]
pub struct Query {
    values: Vec<(&'static str, String)>,
}

impl Query {
    pub fn parse(text: Option<&str>, known: &'static [Parameter]) -> Result<Self> {
        let mut query = Query::default();
        for (name, value) in url::form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
            let Some(parameter) = known.iter().find(|parameter| parameter.name == name) else {
                return Err(unknown(&name, known));
            };
            if query.text(parameter.name).is_some() {
                return Err(Error::new(Code::Usage, format!("`{}` stands there twice", parameter.name)));
            }
            check(parameter, &value)?;
            query.values.push((parameter.name, value.into_owned()));
        }
        Ok(query)
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The value of `name`, parsed; `None` when it does not stand there.
    pub fn parsed<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>> {
        self.text(name).map(parse).transpose().map_err(|message| Error::new(Code::Usage, message))
    }

    pub fn number(&self, name: &str) -> Result<Option<u64>> {
        self.parsed(name, |text| {
            text.parse().map_err(|_| format!("`{}` is no number, as `{name}` must be", text.escape_default()))
        })
    }

    pub fn flag(&self, name: &str) -> Result<bool> {
        let parse = |text: &str| match text {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(format!("`{name}` must be `true` or `false`")),
        };
        Ok(self.parsed(name, parse)?.unwrap_or(false))
    }

    pub fn limit(&self) -> Result<usize> {
        self.limit_or(LIMIT_DEFAULT)
    }

    /// How many items, or so many where nothing is said.
    pub fn limit_or(&self, default: u64) -> Result<usize> {
        self.count_or("limit", default)
    }

    /// As [`Query::limit_or`], of another parameter.
    pub fn count_or(&self, name: &str, default: u64) -> Result<usize> {
        let limit = self.number(name)?.unwrap_or(default);
        if (1..=LIMIT_MAX).contains(&limit) {
            return Ok(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        Err(Error::new(Code::Usage, format!("`{name}` must be from 1 to {LIMIT_MAX}")))
    }

    /// How long to wait for news.
    pub fn wait(&self) -> Result<Duration> {
        let seconds = self.number("wait")?.unwrap_or(0);
        if seconds <= WAIT_SECONDS_MAX {
            return Ok(Duration::from_secs(seconds));
        }
        Err(Error::new(Code::Usage, format!("`wait` must be at most {WAIT_SECONDS_MAX} seconds")))
    }
}

fn unknown(name: &str, known: &[Parameter]) -> Error {
    let error = Error::new(Code::Usage, format!("there is no parameter `{}` here", name.escape_default()));
    match did_you_mean(name, known.iter().map(|parameter| parameter.name)) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error,
    }
}

fn check(parameter: &Parameter, value: &str) -> Result<()> {
    let name = parameter.name;
    match parameter.form {
        Form::OneOf(words) if !words.contains(&value) => Err(none_of(name, value, words)),
        Form::Number { least, most } => match value.parse::<u64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(()),
            Ok(_) => Err(Error::new(Code::Usage, format!("`{name}` must be from {least} to {most}"))),
            Err(_) => {
                let message = format!("`{}` is no number, as `{name}` must be", value.escape_default());
                Err(Error::new(Code::Usage, message))
            }
        },
        Form::OneOf(_) | Form::Text | Form::Flag => Ok(()),
    }
}

fn none_of(name: &str, value: &str, words: &[&str]) -> Error {
    let error = Error::new(Code::Usage, format!("`{name}` cannot be `{}`", value.escape_default()));
    match did_you_mean(value, words.iter().copied()) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!("it is one of `{}`", words.join("`, `"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::api::table::Operation;

    fn parse(text: &str) -> Result<Query> {
        Query::parse(Some(text), Operation::Tasks.parameters())
    }

    #[test]
    fn unknown_and_repeated_parameters_are_refused() {
        assert_eq!(parse("limt=3").unwrap_err().hint_text(), Some("did you mean `limit`?"));
        assert!(parse("limit=3&limit=4").is_err());
        assert!(Query::parse(None, &[]).is_ok());
        assert!(parse("sort=-created_at").is_ok());
        assert_eq!(parse("sort=created_ad").unwrap_err().hint_text(), Some("did you mean `created_at`?"));
        assert!(parse("sort=cost").unwrap_err().hint_text().unwrap().contains("`created_at`"));
    }

    #[test]
    fn values_are_checked() {
        assert_eq!(parse("").unwrap().limit().unwrap(), 50);
        assert_eq!(parse("limit=1000").unwrap().limit().unwrap(), 1_000);
        for bad in ["limit=0", "limit=1001", "limit=-1", "limit=x", "limit=99999999999999999999999"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse("webhook=a%2Fb").unwrap().text("webhook"), Some("a/b"));
    }
}
