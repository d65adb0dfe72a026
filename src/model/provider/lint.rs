//! What a definition must not do, whatever its fields allow.
//!
//! The rule behind most of this: credentials go only to addresses that the catalogue or the operator names. A body, a
//! header or a query is chosen by whoever sends it (<https://cwe.mitre.org/data/definitions/918.html>).

use std::collections::BTreeSet;

use super::credential;
use super::operations;
use super::schema::calls::{Call, CallMethod};
use super::schema::verify::JwtKey;
use super::schema::{Document, Scheme};
use super::selector::Selector;
use super::template::{Expression, Part, Template};
use crate::error::Code;
use crate::model::diagnostic::Diagnostic;

/// Who wrote the definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Catalogue,
    /// Sections of it come from a skill, which may not use secrets for anything but verification.
    Skill,
}

/// Everything that is wrong with a document.
pub fn check(path: &str, document: &Document, origin: Origin) -> Vec<Diagnostic> {
    let mut linter = Linter { path, document, findings: Vec::new() };
    linter.schemes();
    linter.challenges();
    linter.base();
    linter.answers();
    linter.lookup();
    linter.credentials();
    for (place, call) in calls(document) {
        linter.call(&place, call);
        if origin == Origin::Skill && call.expressions().iter().any(|hole| hole.secret_slots().next().is_some()) {
            linter.error(format!("`{place}` uses a secret, which inline definitions may not"));
        }
    }
    linter.repository();
    linter.operations();
    linter.buttons();
    linter.extraction();
    linter.declared_slots();
    linter.findings
}

struct Linter<'a> {
    path: &'a str,
    document: &'a Document,
    findings: Vec<Diagnostic>,
}

impl Linter<'_> {
    fn error(&mut self, message: String) {
        self.findings.push(Diagnostic::error(self.path, Code::DefinitionInvalid, message));
    }

    fn schemes(&mut self) {
        let mut seen = BTreeSet::new();
        if self.document.verify.schemes.is_empty() {
            self.error("`verify.schemes` is empty: nothing could ever be verified".to_owned());
        }
        for scheme in &self.document.verify.schemes {
            let id = scheme.id();
            if !seen.insert(id) {
                self.error(format!("two schemes are called `{id}`"));
            }
            let signature = match scheme {
                Scheme::Hmac(it) | Scheme::Digest(it) => Some((&it.signature, &it.signed, Some(it.hash))),
                Scheme::Ed25519(it) => Some((&it.signature, &it.signed, None)),
                Scheme::Token(_) | Scheme::Basic(_) => None,
                Scheme::Jwt(it) => {
                    if let JwtKey::Fetched(key) = &it.key
                        && !authority_is_fixed(&key.fetch.url)
                    {
                        self.error(format!("scheme `{id}` fetches its key from a host that the request names"));
                    }
                    None
                }
            };
            let Some((signature, signed, _)) = signature else { continue };
            if signature.kv_sep.is_some() != signature.key.is_some() {
                self.error(format!("scheme `{id}` needs both `kv_sep` and `key`, or neither"));
            }
            let covers_something = signed.selectors().any(|selector| selector.is_foreign());
            if !covers_something {
                self.error(format!("scheme `{id}` signs nothing of the request"));
            }
            if matches!(scheme, Scheme::Digest(_)) && !signed.selectors().any(|it| *it == Selector::Key) {
                self.error(format!("scheme `{id}` is a plain digest without the key in it: anyone could make it"));
            }
        }
    }

    fn challenges(&mut self) {
        for challenge in &self.document.challenge {
            let answer = &challenge.respond;
            let mut holes: Vec<&Expression> = answer.headers.values().flat_map(Template::holes).collect();
            holes.extend(answer.json.iter().flat_map(|json| json.holes()));
            holes.extend(answer.text.iter().flat_map(Template::holes));
            if !challenge.verified && holes.iter().any(|hole| hole.secret_slots().next().is_some()) {
                self.error(format!("challenge `{}` would compute with a secret for anyone who asks", challenge.id));
            }
            if holes.iter().any(|hole| hole.selectors().any(|it| matches!(it, Selector::Secret(_)))) {
                self.error(format!("challenge `{}` would give a secret away", challenge.id));
            }
            if !challenge.persist.is_empty() && !challenge.verified && challenge.only_when_unset.is_none() {
                self.error(format!("challenge `{}` would let anyone replace a secret", challenge.id));
            }
        }
    }

    fn base(&mut self) {
        let Some(base) = &self.document.api.base else { return };
        if base.selectors().any(|selector| selector.is_foreign()) {
            self.error("`api.base` may be made of constants and settings only".to_owned());
        }
        if base.selectors().any(|selector| *selector == Selector::Config("api_base".to_owned())) {
            self.error("`api.base` is made of itself".to_owned());
        }
    }

    /// What an answer must say is said in the answer.
    fn answers(&mut self) {
        let api = &self.document.api;
        let of_calls =
            calls(self.document).into_iter().filter_map(|(place, call)| Some((place, call.success.as_ref()?)));
        let all = of_calls.chain(api.success.as_ref().map(|success| ("api".to_owned(), success)));
        let mut faults: Vec<String> = Vec::new();
        for (place, success) in all {
            if !matches!(success.sel, Selector::Answer(_)) {
                faults.push(format!("`{place}.success.sel` must be a place in the answer, such as `/ok`"));
            }
            if success.eq.is_some() == success.exists.is_some() {
                faults.push(format!("`{place}.success` needs either `eq` or `exists`"));
            }
        }
        if api.rate.again.as_ref().is_some_and(|again| !matches!(again.sel, Selector::Answer(_))) {
            faults.push("`api.rate.again.sel` must be a place in the answer, such as `/error`".to_owned());
        }
        faults.into_iter().for_each(|fault| self.error(fault));
    }

    /// Credentials of the API go with a look-up as with every other call.
    fn lookup(&mut self) {
        let lookup = self.document.actor.permission.as_ref().and_then(|permission| permission.lookup.as_ref());
        if lookup.is_some_and(|lookup| !authority_is_fixed(&lookup.url)) {
            self.error("`actor.permission.lookup` asks a host that the payload names".to_owned());
        }
    }

    /// What keys and secrets are given for is asked of hosts that nobody but the definition and the operator names.
    fn credentials(&mut self) {
        for (n, credential) in self.document.api.credentials.iter().enumerate() {
            for (name, call) in credential.calls() {
                let place = format!("api.credentials[{n}].{name}");
                if !authority_is_fixed(&call.url) {
                    self.error(format!("`{place}` goes to a host that is neither a constant nor a setting"));
                }
                let of_delivery =
                    |selector: &Selector| selector.is_foreign() && !matches!(selector, Selector::Context(_));
                if call.expressions().into_iter().flat_map(Expression::selectors).any(of_delivery) {
                    self.error(format!("`{place}` is made of a delivery: there is none when it is called"));
                }
            }
        }
    }

    fn call(&mut self, place: &str, call: &Call) {
        if call.allow_hosts.iter().flat_map(Template::selectors).any(Selector::is_foreign) {
            self.error(format!("`{place}.allow_hosts` may be made of constants and settings only"));
        }
        if authority_is_fixed(&call.url) {
            return;
        }
        if call.allow_hosts.is_empty() {
            self.error(format!("`{place}` goes to a host that the payload names: it needs `allow_hosts`"));
        }
        let open = |host: &Template| host.source.contains('*');
        let credentials = !call.no_auth && !self.document.api.headers.is_empty();
        let secrets = call.expressions().iter().any(|hole| hole.secret_slots().next().is_some());
        if (credentials || secrets) && call.allow_hosts.iter().any(open) {
            let message = "takes credentials to any host of a domain: it needs `no_auth` or exact `allow_hosts`";
            self.error(format!("`{place}` {message}"));
        }
    }

    /// Git gets the token, so the machine is a constant that nobody listens in on the way to.
    fn repository(&mut self) {
        let Some(rule) = &self.document.repository else { return };
        let base = url::Url::parse(&rule.base).ok();
        if !base.is_some_and(|base| base.scheme() == "https" && base.has_host() && base.username().is_empty()) {
            self.error("`repository.base` must be an address that begins with `https://`".to_owned());
        }
        let named = rule.references.iter().map(|reference| &reference.name);
        let mut templates = rule.name.iter().chain(&rule.branch).chain(named);
        if templates.any(|template| template.holes().any(Expression::is_late)) {
            self.error("`repository` may be made of the delivery, constants and settings only".to_owned());
        }
    }

    /// A run comes later than its delivery: it knows what the delivery was about, and what it says itself.
    fn operations(&mut self) {
        let operations = &self.document.operations;
        if operations.bound.values().flatten().any(|template| template.holes().any(Expression::is_late)) {
            self.error("`operations.bound` may be made of the delivery, constants and settings only".to_owned());
        }
        for (name, operation) in &operations.calls {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if name.is_empty() || !name.chars().all(plain) {
                self.error(format!("the operation `{name}` may have small letters, digits and `_` in its name"));
            }
            if let Some(both) = operation.takes.keys().find(|name| operations.bound.contains_key(*name)) {
                self.error(format!("`operations.calls.{name}` takes `{both}`, which the delivery binds"));
            }
            if operation.reads && operation.call.method != CallMethod::Get {
                self.error(format!("`operations.calls.{name}` says that it changes nothing, and does not get"));
            }
            for hole in operations::holes(operation) {
                let known = |name: &str| operation.takes.contains_key(name) || operations.bound.contains_key(name);
                if let Some(unknown) = operations::context_names(hole).find(|name| !known(name)) {
                    self.error(format!("`operations.calls.{name}` neither takes nor binds `{unknown}`"));
                }
                let of_delivery =
                    |selector: &Selector| selector.is_foreign() && !matches!(selector, Selector::Context(_));
                if hole.selectors().any(of_delivery) {
                    self.error(format!("`operations.calls.{name}` looks at the delivery, which is gone by then"));
                }
            }
        }
    }

    /// Buttons are shown, and decide what nobody but the definition says that they decide.
    fn buttons(&mut self) {
        let document = self.document;
        let holes: Vec<&Expression> = document.reply.approval.values().flat_map(|field| field.holes()).collect();
        if holes.iter().any(|hole| hole.secret_slots().next().is_some()) {
            self.error("`reply.approval` may not contain secrets".to_owned());
        }
        if document.pressed.iter().any(|rule| rule.when.is_empty()) {
            self.error("`pressed` needs `when`: not every delivery is a button".to_owned());
        }
    }

    /// What is extracted is stored and shown, so no secret may stand in it.
    fn extraction(&mut self) {
        let document = self.document;
        let mut templates: Vec<&Template> = Vec::new();
        for rule in &document.event {
            templates.push(&rule.name);
            templates.extend(&rule.aliases);
        }
        templates.extend(document.delivery.id.iter().chain(&document.delivery.item_id).chain(&document.delivery.alt));
        templates.extend(&document.actor.id);
        templates.extend(document.pressed.iter().map(|rule| &rule.about));
        templates.extend(document.resource.id.iter().chain(&document.resource.thread).chain(&document.resource.url));
        let leaks =
            templates.iter().flat_map(|template| template.holes()).any(|hole| hole.secret_slots().next().is_some());
        let read = document.text.iter().flat_map(|rule| std::iter::once(&rule.from).chain(&rule.title));
        if leaks || read.into_iter().any(|selector| matches!(selector, Selector::Secret(_))) {
            self.error("what is extracted from a delivery may not contain secrets".to_owned());
        }
        for (n, ack) in document.ack.iter().enumerate() {
            if ack.sync.is_some() == ack.call.is_some() {
                self.error(format!("`ack[{n}]` needs either `sync` or `call`"));
            }
        }
    }

    fn declared_slots(&mut self) {
        let document = self.document;
        let mut used: BTreeSet<String> = BTreeSet::new();
        for scheme in &document.verify.schemes {
            used.extend(scheme.slots().into_iter().map(str::to_owned));
        }
        let mut expressions: Vec<&Expression> = document.api.headers.values().flat_map(Template::holes).collect();
        expressions.extend(document.api.base.iter().flat_map(Template::holes));
        for (_, call) in calls(document) {
            expressions.extend(call.expressions());
        }
        for challenge in &document.challenge {
            expressions.extend(challenge.respond.json.iter().flat_map(|json| json.holes()));
            used.extend(challenge.only_when_unset.clone());
            used.extend(challenge.persist.keys().cloned());
            let checks = challenge.check.iter().chain(&challenge.when);
            used.extend(checks.flat_map(|check| check.secret_slots()).map(str::to_owned));
        }
        used.extend(document.repository.iter().map(|rule| rule.secret.clone()));
        for credential in &document.api.credentials {
            used.insert(credential.fills().to_owned());
            used.extend(credential::secret_slots(credential).into_iter().map(str::to_owned));
        }
        used.extend(expressions.iter().flat_map(|hole| hole.secret_slots()).map(str::to_owned));
        for slot in used {
            if !document.secrets.contains_key(&slot) {
                self.error(format!("the secret `{slot}` is used and not declared under `secrets`"));
            }
        }
    }
}

/// Every call of a document with its place.
pub(super) fn calls(document: &Document) -> Vec<(String, &Call)> {
    let mut calls = Vec::new();
    for (n, rule) in document.reply.rules.iter().enumerate() {
        calls.push((format!("reply.rules[{n}].call"), &rule.call));
        calls.extend(rule.call.next.as_deref().map(|next| (format!("reply.rules[{n}].call.next"), next)));
        calls.extend(rule.find.as_ref().map(|find| (format!("reply.rules[{n}].find.call"), &find.call)));
        calls.extend(rule.edit.as_ref().map(|edit| (format!("reply.rules[{n}].edit"), edit)));
        calls.extend(rule.decided.as_ref().map(|call| (format!("reply.rules[{n}].decided"), call)));
    }
    for (n, ack) in document.ack.iter().enumerate() {
        calls.extend(ack.call.as_ref().map(|call| (format!("ack[{n}].call"), call)));
    }
    if let Some(proposals) = &document.proposals {
        calls.push(("proposals.find.call".to_owned(), &proposals.find.call));
        calls.push(("proposals.open".to_owned(), &proposals.open));
        calls.push(("proposals.update".to_owned(), &proposals.update));
        calls.extend(proposals.mark.as_ref().map(|mark| ("proposals.mark.call".to_owned(), &mark.call)));
    }
    for (name, operation) in &document.operations.calls {
        calls.push((format!("operations.calls.{name}.call"), &operation.call));
    }
    for (n, enrich) in document.enrich.iter().enumerate() {
        calls.push((format!("enrich[{n}].call"), &enrich.call));
    }
    for (n, credential) in document.api.credentials.iter().enumerate() {
        let of_credential = credential.calls().into_iter();
        calls.extend(of_credential.map(|(name, call)| (format!("api.credentials[{n}].{name}"), call)));
    }
    calls
}

/// Whether the part of an address up to the path is made of constants and settings only.
fn authority_is_fixed(url: &Template) -> bool {
    let mut seen = String::new();
    for part in &url.parts {
        let in_authority = match seen.split_once("://") {
            Some((_, rest)) => !rest.contains(['/', '?', '#']),
            None => true,
        };
        if !in_authority {
            return true;
        }
        match part {
            Part::Literal(text) => seen.push_str(text),
            Part::Hole(hole) if hole.selectors().any(Selector::is_foreign) => return false,
            // A base is a whole address up to some path.
            Part::Hole(hole) if hole.selector == Selector::Config("api_base".to_owned()) => return true,
            Part::Hole(_) => seen.push('x'),
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::provider::definition::Definition;

    fn custom_with(from: &str, to: &str) -> String {
        let yaml = include_str!("catalog/custom.yaml");
        assert!(yaml.contains(from), "{from}");
        let findings = Definition::parse("custom.yaml", &yaml.replace(from, to)).unwrap_err();
        findings.iter().map(|finding| finding.message.clone()).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn credentials_never_go_where_the_payload_says() {
        let message = custom_with("allow_hosts: [\"{cfg:reply_hosts}\"], ", "");
        assert!(message.contains("needs `allow_hosts`"), "{message}");
        let message = custom_with("api: {}", "api: {base: \"{body:/url}\"}");
        assert!(message.contains("constants and settings"), "{message}");
        let message = custom_with("\"{cfg:reply_hosts}\"", "\"{body:/host}\"");
        assert!(message.contains("constants and settings"), "{message}");
        let message = custom_with(
            "allow_hosts: [\"{cfg:reply_hosts}\"]",
            "allow_hosts: [\"*.example.com\"], headers: {A: \"{secret:webhook_secret}\"}",
        );
        assert!(message.contains("takes credentials to any host of a domain"), "{message}");
    }

    #[test]
    fn undeclared_secret_is_refused() {
        let message = custom_with("secrets: {webhook_secret:", "secrets: {other:");
        assert!(message.contains("`webhook_secret` is used and not declared"), "{message}");
    }

    #[test]
    fn authority_ends_where_the_path_begins() {
        let fixed = |url: &str| authority_is_fixed(&Template::parse(url).unwrap());
        assert!(fixed("https://a.example/{body:/x}"));
        assert!(fixed("{cfg:api_base}/{body:/x}"));
        assert!(fixed("https://{cfg:shop}/x/{body:/y}"));
        assert!(!fixed("https://{body:/host}/x"));
        assert!(!fixed("https://a.example{body:/x}/y"));
        assert!(!fixed("{body:/url}"));
        assert!(!fixed("{cfg:host}{body:/x}"));
    }
}
