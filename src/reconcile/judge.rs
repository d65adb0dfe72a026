//! Each file on its own: bytes in, facts or diagnostics out, under the operator's rules and the catalogue in force.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Code, Error, Result};
use crate::model::check::{Checked, Rules, check_agent, check_skill};
use crate::model::diagnostic::Diagnostic;
use crate::model::frontmatter::split;
use crate::model::ids::{AgentName, SkillName};
use crate::model::provider::{Catalogue, Definition, Operated, catalog, check_destinations};
use crate::model::snapshot::{AgentFacts, Judged, SkillFacts};

/// Judges files. The catalogue changes with the repository's own definitions.
#[derive(Clone, Debug)]
pub struct Judge {
    rules: Rules,
    builtin: Catalogue,
    catalogue: Arc<Catalogue>,
    /// The last good definitions of the repository, by path.
    own: BTreeMap<String, Definition>,
    problems: Vec<Diagnostic>,
}

impl Judge {
    /// # Errors
    /// SH0999 when a shipped definition is not valid, which a test rules out.
    pub fn new(rules: Rules) -> Result<Self> {
        let builtin = catalog::builtin().map_err(|faults| {
            let detail = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            Error::new(Code::Bug, "a shipped provider definition is not valid").detail(detail)
        })?;
        let catalogue = Arc::new(builtin.clone());
        Ok(Self { rules, builtin, catalogue, own: BTreeMap::new(), problems: Vec::new() })
    }

    pub fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.catalogue)
    }

    /// What is wrong with the repository's own definitions.
    pub fn provider_problems(&self) -> &[Diagnostic] {
        &self.problems
    }

    /// Takes the repository's definitions, by path; a broken one keeps its last good version.
    pub fn use_providers(&mut self, files: &BTreeMap<String, Arc<[u8]>>) {
        self.problems.clear();
        let mut own = BTreeMap::new();
        for (path, bytes) in files {
            match self.definition(path, bytes) {
                Ok(definition) => drop(own.insert(path.clone(), definition)),
                Err(faults) => {
                    self.problems.extend(faults);
                    own.extend(self.own.remove(path).map(|last_good| (path.clone(), last_good)));
                }
            }
        }
        self.own = own;
        self.catalogue = Arc::new(self.builtin.clone().with(self.own.values().cloned()));
    }

    /// A SKILL.md; `template` answers the text of another file of the skill.
    pub fn skill(
        &self,
        path: &str,
        name: &SkillName,
        bytes: &[u8],
        template: &dyn Fn(&str) -> Option<String>,
    ) -> Judged<SkillFacts> {
        let document = match split(path, bytes) {
            Ok(document) => document,
            Err(diagnostics) => return Judged::Invalid(diagnostics),
        };
        match check_skill(path, name, &document, &self.rules, &self.catalogue, template) {
            Checked::NoWebhook { description } => Judged::Valid(SkillFacts { description, config: None }, Vec::new()),
            Checked::Spec(config, description, warnings) => {
                Judged::Valid(SkillFacts { description, config: Some(*config) }, warnings)
            }
            Checked::Invalid(diagnostics) => Judged::Invalid(diagnostics),
        }
    }

    pub fn agent(&self, path: &str, name: &AgentName, bytes: &[u8]) -> Judged<AgentFacts> {
        let checked = split(path, bytes).and_then(|document| check_agent(path, name, &document));
        match checked {
            Ok(file) => Judged::Valid(
                AgentFacts {
                    description: file.description,
                    model: file.model,
                    tools: file.tools,
                    skills: file.skills.iter().map(ToString::to_string).collect(),
                },
                Vec::new(),
            ),
            Err(diagnostics) => Judged::Invalid(diagnostics),
        }
    }

    /// A definition of the repository, which takes credentials only where the operator or the shipped one of its name
    /// does.
    fn definition(&self, path: &str, bytes: &[u8]) -> Result<Definition, Vec<Diagnostic>> {
        let parsed = definition(path, bytes)?;
        let name = parsed.name().as_str();
        let shipped = self.builtin.get(name).map(|definition| &**definition);
        let nothing = Operated::default();
        let operated = self.rules.providers.get(name).unwrap_or(&nothing);
        let findings = check_destinations(&parsed, shipped, operated);
        if findings.is_empty() { Ok(parsed) } else { Err(findings) }
    }
}

fn definition(path: &str, bytes: &[u8]) -> Result<Definition, Vec<Diagnostic>> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| vec![Diagnostic::error(path, Code::DefinitionInvalid, "the file is not UTF-8 text")])?;
    let parsed = Definition::parse(path, text)?;
    let stem = path.rsplit('/').next().and_then(|name| name.strip_suffix(".yaml"));
    if stem != Some(parsed.name().as_str()) {
        let message = format!("the definition is called `{}` here, but its path says otherwise", parsed.name());
        return Err(vec![Diagnostic::error(path, Code::DefinitionInvalid, message).hint("rename one of the two")]);
    }
    Ok(parsed)
}
