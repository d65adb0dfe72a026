//! Compiled prompt templates of the webhooks that were called lately. A compiled one costs tens of kilobytes, so there
//! is a bound on how many are kept, and the one that was used longest ago makes room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Code, Error, Result};
use crate::model::ids::{CommandName, WebhookId};
use crate::model::routes::Route;
use crate::model::spec::CommandSpec;
use crate::model::template::Template;

/// Templates kept at one time.
const KEPT_MAX: usize = 256;

/// A generation pins a webhook's spec, and so the sources of its templates.
type Key = (WebhookId, u64, CommandName);

#[derive(Debug, Default)]
pub struct Templates {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<Key, (Arc<Template>, u64)>,
    /// Counts uses, so that the oldest one can be told.
    uses: u64,
}

impl Templates {
    pub fn get(&self, route: &Route, command: &CommandSpec) -> Result<Arc<Template>> {
        let key = (route.spec.id.clone(), route.generation, command.name.clone());
        if let Some(template) = self.kept().touch(&key) {
            return Ok(template);
        }
        let name = format!("{}/{}", route.spec.id, command.name);
        let compiled = Template::compile(&name, &command.template, route.spec.strict_templates);
        let template = Arc::new(compiled.map_err(|faults| {
            let first = faults.first().map(|fault| fault.message.clone()).unwrap_or_default();
            Error::new(Code::TemplateRender, format!("the template of `{}` does not compile", command.name))
                .detail(first)
        })?);
        self.kept().insert(key, Arc::clone(&template));
        Ok(template)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn touch(&mut self, key: &Key) -> Option<Arc<Template>> {
        self.uses += 1;
        let (template, used) = self.entries.get_mut(key)?;
        *used = self.uses;
        Some(Arc::clone(template))
    }

    fn insert(&mut self, key: Key, template: Arc<Template>) {
        if self.entries.len() >= KEPT_MAX {
            let oldest = self.entries.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone());
            oldest.map(|key| self.entries.remove(&key));
        }
        self.entries.insert(key, (template, self.uses));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_used_longest_ago_makes_room() {
        let mut kept = Kept::default();
        let template = Arc::new(Template::compile("t", "x", false).unwrap());
        let key = |n: u64| (WebhookId::parse("w").unwrap(), n, CommandName::parse("c").unwrap());
        for n in 0..KEPT_MAX as u64 {
            assert!(kept.touch(&key(n)).is_none());
            kept.insert(key(n), Arc::clone(&template));
        }
        assert!(kept.touch(&key(0)).is_some());
        kept.insert(key(9999), template);
        assert_eq!(kept.entries.len(), KEPT_MAX);
        assert!(kept.touch(&key(0)).is_some() && kept.touch(&key(1)).is_none());
    }
}
