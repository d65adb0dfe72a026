//! Where the remote is, as its address tells: the machine, and the path under which its provider knows the repository.

use super::Repository;
use crate::error::Result;

/// An address of a remote without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// `None` for a directory of this machine.
    pub host: Option<String>,
    /// For example `acme/hooks`.
    pub path: String,
}

impl Repository {
    /// Where our branch is pushed to; `None` without a remote.
    pub fn location(&self) -> Result<Option<Location>> {
        let repo = self.handle()?;
        let Some(target) = self.target(&repo)? else { return Ok(None) };
        let url = repo.find_remote(&target.remote).ok().and_then(|remote| remote.url().ok().map(str::to_owned));
        Ok(url.and_then(|url| parse(&url)))
    }

    /// The branch of the remote that ours is pushed to; `None` without a remote.
    pub fn remote_branch(&self) -> Result<Option<String>> {
        Ok(self.target(&self.handle()?)?.map(|target| target.branch))
    }
}

/// `https://user@host:1/a/b.git`, `git@host:a/b.git`, `ssh://git@host/a/b`, `/srv/git/a/b.git`.
fn parse(url: &str) -> Option<Location> {
    let (host, path) = match url.split_once("://") {
        Some(("file", path)) => (None, path),
        Some((_, rest)) => {
            let (authority, path) = rest.split_once('/')?;
            (Some(authority), path)
        }
        // A slash before the colon makes it a path, says git.
        None => match url.split_once(':') {
            Some((authority, path)) if !authority.contains('/') => (Some(authority), path),
            Some(_) | None => (None, url),
        },
    };
    let path = path.split(['?', '#']).next()?.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let host = host.map(|authority| authority.rsplit_once('@').map_or(authority, |(_, host)| host));
    let host = host.map(|host| host.split(':').next().unwrap_or(host).to_ascii_lowercase());
    let path = match &host {
        Some(_) => path.to_owned(),
        // Of a directory only the last two names mean anything to others.
        None => {
            let mut names: Vec<&str> =
                path.rsplit('/').filter(|name| !matches!(*name, "" | "." | "..")).take(2).collect();
            names.reverse();
            names.join("/")
        }
    };
    (!path.is_empty()).then_some(Location { host, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_address_tells_machine_and_path() {
        for (url, host, path) in [
            ("https://bot:secret@GitHub.com/acme/hooks.git", Some("github.com"), "acme/hooks"),
            ("https://gitlab.example.com:8443/group/sub/hooks", Some("gitlab.example.com"), "group/sub/hooks"),
            ("git@github.com:acme/hooks.git", Some("github.com"), "acme/hooks"),
            ("ssh://git@host:22/acme/hooks.git/", Some("host"), "acme/hooks"),
            ("git://127.0.0.1:9418/acme/hooks", Some("127.0.0.1"), "acme/hooks"),
            ("/srv/git/acme/hooks.git", None, "acme/hooks"),
            ("../remote.git", None, "remote"),
            ("file:///srv/acme/hooks.git", None, "acme/hooks"),
        ] {
            let expected = Location { host: host.map(str::to_owned), path: path.to_owned() };
            assert_eq!(parse(url), Some(expected), "{url}");
        }
        assert_eq!(parse("https://host"), None);
    }
}
