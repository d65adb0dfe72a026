//! What the operator sets for a provider: addresses, the gateway's own account, allowed hosts.

use std::collections::BTreeMap;

/// The `cfg` values of one provider, for example `api_base`, `bot_login`, `reply_hosts`. Never secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    pub fn new(values: BTreeMap<String, String>) -> Self {
        values.into_iter().collect()
    }

    /// `None` also for a blank value: an emptied setting falls back to the definition's default.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A setting that lists several values, separated by commas.
    pub fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        split_list(self.get(name).unwrap_or_default())
    }
}

/// The values of a comma-separated list.
pub fn split_list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|value| !value.is_empty())
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Settings {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(values: I) -> Self {
        let trimmed = values.into_iter().map(|(name, value)| {
            let (name, value) = (name.into(), value.into());
            let value = value.trim().to_owned();
            // An address that ends with a slash would double the one that follows it.
            let value = if value.starts_with("http") { value.trim_end_matches('/').to_owned() } else { value };
            (name, value)
        });
        Self(trimmed.filter(|(_, value)| !value.is_empty()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_settings_are_absent_and_addresses_have_no_last_slash() {
        let settings: Settings = [("a", " "), ("b", "https://x.example/api/"), ("c", "u, v,,")].into_iter().collect();
        assert_eq!(settings.get("a"), None);
        assert_eq!(settings.get("b"), Some("https://x.example/api"));
        assert_eq!(settings.list("c").collect::<Vec<_>>(), ["u", "v"]);
    }
}
