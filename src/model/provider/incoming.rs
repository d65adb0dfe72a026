//! A request as it came, before anything is believed about it.

use std::fmt;

use bytes::Bytes;

/// One request: the exact bytes of the body, the headers with their duplicates, the address as the sender used it.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// In capitals.
    pub method: String,
    /// Absolute, as the sender called it: some senders sign it.
    pub url: String,
    /// Path of that address, undecoded.
    pub path: String,
    /// Query of that address, undecoded, without the question mark.
    pub query: String,
    pub headers: Headers,
    pub body: Bytes,
}

impl Incoming {
    /// Path and query are taken from `url`.
    pub fn new(method: &str, url: impl Into<String>, headers: Headers, body: impl Into<Bytes>) -> Self {
        let url = url.into();
        let after_scheme = url.find("://").map_or(0, |at| at + 3);
        let rest = url[after_scheme..].split('#').next().unwrap_or_default();
        let target = rest.find(['/', '?']).map_or("", |at| &rest[at..]);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = if path.is_empty() { "/" } else { path };
        let (path, query) = (path.to_owned(), query.to_owned());
        Self { method: method.to_ascii_uppercase(), url, path, query, headers, body: body.into() }
    }

    /// The media type without its parameters, in lower case; `None` when the header is missing or stands twice.
    pub fn media_type(&self) -> Option<String> {
        let text = std::str::from_utf8(self.headers.single("content-type")?).ok()?;
        let media = text.split(';').next().unwrap_or_default().trim();
        (!media.is_empty()).then(|| media.to_ascii_lowercase())
    }
}

/// Header fields: names in any case, values as bytes, repeated fields kept apart.
#[derive(Clone, Default)]
pub struct Headers(Vec<(String, Vec<u8>)>);

impl Headers {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.push((name.to_ascii_lowercase(), value.into()));
    }

    /// Replaces every field of that name.
    pub fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.retain(|(have, _)| !have.eq_ignore_ascii_case(name));
        self.push(name, value);
    }

    pub fn all<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s [u8]> {
        self.0.iter().filter(move |(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
    }

    /// The value of a field that stands exactly once. Of a repeated one nobody can say which the sender meant.
    pub fn single(&self, name: &str) -> Option<&[u8]> {
        let mut values = self.all(name);
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }

    pub fn is_repeated(&self, name: &str) -> bool {
        self.all(name).nth(1).is_some()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// Names (in lower case) and values in the order of their arrival.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }
}

impl<N: AsRef<str>, V: Into<Vec<u8>>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut headers = Headers::new();
        for (name, value) in fields {
            headers.push(name.as_ref(), value);
        }
        headers
    }
}

/// Names only: values may be credentials.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_case_and_repeated_fields_no_single_value() {
        let headers: Headers = [("X-A", "1"), ("x-a", "1"), ("X-B", "2")].into_iter().collect();
        assert_eq!(headers.single("x-A"), None);
        assert!(headers.is_repeated("X-A"));
        assert_eq!(headers.single("X-b"), Some(b"2".as_slice()));
    }

    #[test]
    fn path_and_query_come_from_the_address() {
        let of = |url: &str| {
            let incoming = Incoming::new("post", url, Headers::new(), Bytes::new());
            (incoming.path, incoming.query)
        };
        assert_eq!(of("https://h.example/a/b?c=d?e#f"), ("/a/b".to_owned(), "c=d?e".to_owned()));
        assert_eq!(of("https://h.example"), ("/".to_owned(), String::new()));
        assert_eq!(of("https://h.example?x=1"), ("/".to_owned(), "x=1".to_owned()));
    }
}
