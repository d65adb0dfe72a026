//! Lenient prompt templates on Tera: what the payload lacks renders as empty and is listed.
//!
//! [`Template::compile`] parses the source itself (`parser`), refuses what prompts may not use, and writes it anew
//! (`emit`) so that every look-up, filter, comparison and loop goes through functions of ours (`run`); Tera then
//! executes that. So leniency has no holes, work is metered by fuel instead of hoped to be small, and a template can
//! reach nothing but the context that it is given: no environment, no files, no other template.
//!
//! Invariants: a lenient template renders for every context or fails for a limit (`SH0203`), never for the shape of a
//! payload. The same template and context give the same text, lists and maps in the order of the payload.
//!
//! It deliberately does not escape HTML, and knows no provider's markup.

mod convert;
mod emit;
mod expression;
mod filters;
mod lexer;
mod operators;
mod parser;
mod run;
mod syntax;

use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::error::{Code, Error, Result};
use convert::Texts;
use emit::Emitted;
use run::Engine;

/// Longest template in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 16 * 1024;
/// Longest rendered text in bytes.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Longest value that is printed whole, in characters; longer ones are cut at a sentence, with a marker.
pub const VALUE_CHARS_MAX: usize = 8_000;
/// Most rounds of one loop, and most items of a `range`.
pub const ITERATIONS_MAX: usize = 200;
/// Most loops inside one another.
pub const LOOP_DEPTH_MAX: usize = 2;
/// Most work of one rendering, in steps; a look-up, filter or comparison of a short value is one.
pub const STEPS_MAX: u64 = 100_000;

/// A template that compiles.
///
/// What one costs, measured for a prompt of eight values: compiling 60 µs; kept 3 KB (its rewritten source and its
/// paths). Rendering needs a Tera engine of 24 KB, which is built on the first rendering (40 µs) and kept for the next
/// ones (17 µs each); [`Template::release`] gives it back. Renderings side by side build engines of their own.
pub struct Template {
    name: String,
    strict: bool,
    emitted: Emitted,
    idle: Mutex<Option<Box<Engine>>>,
}

/// Why a template is refused, and where in its own text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFault {
    /// `SH0201` syntax, `SH0202` not allowed in prompts, `SH0203` a limit.
    pub code: Code,
    pub message: String,
    pub hint: Option<String>,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    pub text: String,
    /// Paths that were looked up and not there (`issue.labels[].name` for items of a list), each once, in the order
    /// of their first use. Values that the template itself provides for (`default`, `or`, `is defined`) are not listed.
    pub missing: Vec<String>,
    /// Paths of values and lists that were too long and appear shortened.
    pub cut: Vec<String>,
}

impl Template {
    /// `name` is for messages. A strict template refuses to render where a value is missing that it does not provide
    /// for; testing for it with `if` is providing.
    ///
    /// # Errors
    /// Every fault that was found; after a fault of syntax the search ends.
    pub fn compile(name: &str, source: &str, strict: bool) -> Result<Self, Vec<TemplateFault>> {
        if source.len() > TEMPLATE_BYTES_MAX {
            let message = format!("the template has {} bytes, allowed are {TEMPLATE_BYTES_MAX}", source.len());
            let hint = Some("let the agent read long instructions from files of the skill".to_owned());
            return Err(vec![TemplateFault { code: Code::TemplateLimit, message, hint, line: 1, column: 1 }]);
        }
        let faults =
            |faults: Vec<syntax::Fault>| faults.into_iter().map(|fault| fault.placed(source)).collect::<Vec<_>>();
        let nodes = parser::parse(source).map_err(faults)?;
        let emitted = emit::emit(source, &nodes).map_err(|fault| faults(vec![fault]))?;
        let engine = Engine::build(&emitted).map_err(|reason| vec![engine_fault(&reason)])?;
        drop(engine);
        Ok(Self { name: name.to_owned(), strict, emitted, idle: Mutex::new(None) })
    }

    /// Renders for one context, which is a JSON object, with its texts as they were sent.
    ///
    /// # Errors
    /// `SH0203` for a limit; `SH0204` where the template is strict and something is missing.
    pub fn render(&self, context: &Value) -> Result<Rendered> {
        self.render_texts(context, Texts::AsSent)
    }

    /// The same for a prompt: each text of the context appears as [`untrusted::visible`] leaves it, so that what a
    /// reader of the source cannot see does not reach the agent. Text of the template itself stays as it is written.
    ///
    /// # Errors
    /// As [`Template::render`].
    ///
    /// [`untrusted::visible`]: crate::model::untrusted::visible
    pub fn render_visible(&self, context: &Value) -> Result<Rendered> {
        self.render_texts(context, Texts::Visible)
    }

    /// The paths of the context that it reads, for whoever extracts only those: `issue.labels`, `comment.body`,
    /// `commits[0].id`. Of a loop it is the list.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.emitted.paths()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives back the engine that is kept for the next rendering.
    pub fn release(&self) {
        self.idle().take();
    }

    fn render_texts(&self, context: &Value, texts: Texts) -> Result<Rendered> {
        let idle = self.idle().take();
        let mut engine = match idle {
            Some(engine) => engine,
            None => Engine::build(&self.emitted).map(Box::new).map_err(|reason| {
                Error::new(Code::Bug, format!("the template `{}` compiled and cannot be built", self.name))
                    .detail(reason)
            })?,
        };
        let outcome = engine.render(&self.emitted, context, texts);
        *self.idle() = Some(engine);
        let outcome = outcome.map_err(|stop| stop.error(&self.name))?;
        if self.strict && !outcome.unprovided.is_empty() {
            let paths = outcome.unprovided.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
            return Err(Error::new(Code::TemplateRender, format!("the template `{}` lacks {paths}", self.name))
                .hint("provide for it with `default` or `if`, or set `strict_templates: false`"));
        }
        Ok(outcome.rendered)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Option<Box<Engine>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("name", &self.name).field("strict", &self.strict).finish_non_exhaustive()
    }
}

/// Our grammar is Tera's, so what Tera still refuses is a matter of size.
fn engine_fault(reason: &str) -> TemplateFault {
    TemplateFault {
        code: Code::TemplateLimit,
        message: format!(
            "the template is too complex: {}",
            reason.lines().next().unwrap_or_default().trim_end_matches('.')
        ),
        hint: Some("split long expressions".to_owned()),
        line: 1,
        column: 1,
    }
}

#[cfg(test)]
mod tests;
