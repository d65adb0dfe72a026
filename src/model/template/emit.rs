//! Writes a template anew so that everything goes through functions of [`super::run`].
//!
//! Each emitted expression is atomic (a call, a literal, or in parentheses), so precedence is settled here and never
//! in Tera. Chains are emitted flat, because Tera bounds nesting. Functions and their arguments begin with `_`, which
//! arguments in a template may not, and loop variables are renamed (`v0`, `v1`): nothing of a template's own is seen
//! by Tera but literals.

use std::fmt::Write as _;
use std::sync::Arc;

use super::syntax::{Expr, Fault, Kind, Node, Step};

/// A template as Tera gets it.
#[derive(Clone, Debug)]
pub(super) struct Emitted {
    pub source: String,
    pub table: Arc<Table>,
}

/// What the calls in the source refer to by number.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub paths: Vec<Path>,
    /// How people know a value: `issue.labels[].name`.
    pub labels: Vec<String>,
}

/// A way into the context, or from a value onwards.
#[derive(Debug, PartialEq)]
pub(super) struct Path {
    pub root: Option<String>,
    pub steps: Vec<PathStep>,
    pub label: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum PathStep {
    Name(String),
    Index(i64),
}

impl Emitted {
    /// The paths that begin in the context.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let global = self.table.paths.iter().filter(|path| path.root.is_some());
        global.filter_map(|path| self.table.labels.get(path.label)).map(String::as_str)
    }
}

pub(super) fn emit(source: &str, nodes: &[Node]) -> Result<Emitted, Fault> {
    let mut emitter =
        Emitter { source, out: String::new(), table: Table::default(), scopes: Vec::new(), loops: 0, weight: 0 };
    emitter.nodes(nodes)?;
    Ok(Emitted { source: emitter.out, table: Arc::new(emitter.table) })
}

/// What happens where a value is missing.
#[derive(Clone, Copy, PartialEq)]
enum Note {
    /// Listed, and a strict template refuses.
    Needed,
    /// Listed.
    Asked,
    /// Provided for.
    Quiet,
}

struct Scope {
    name: String,
    /// How the emitted source names the variable.
    variable: String,
    label: String,
}

struct Emitter<'a> {
    source: &'a str,
    out: String,
    table: Table,
    scopes: Vec<Scope>,
    loops: usize,
    /// Expressions since the loop began: what one round costs.
    weight: usize,
}

impl Emitter<'_> {
    fn nodes(&mut self, nodes: &[Node]) -> Result<(), Fault> {
        nodes.iter().try_for_each(|node| self.node(node))
    }

    fn node(&mut self, node: &Node) -> Result<(), Fault> {
        self.weight += 1;
        match node {
            Node::Text(text) => self.text(text),
            Node::Output(expr) => {
                self.out.push_str("{{ _o(_v=");
                self.expr(expr, Note::Needed)?;
                let label = self.label_of(expr);
                self.put(format_args!(", _n={label}) }}}}"));
            }
            Node::If { branches, otherwise } => {
                for (number, (condition, body)) in branches.iter().enumerate() {
                    self.out.push_str(if number == 0 { "{% if " } else { "{% elif " });
                    self.expr(condition, Note::Asked)?;
                    self.out.push_str(" %}");
                    self.nodes(body)?;
                }
                if !otherwise.is_empty() {
                    self.out.push_str("{% else %}");
                    self.nodes(otherwise)?;
                }
                self.out.push_str("{% endif %}");
            }
            Node::For { key, value, list, body, otherwise } => {
                self.for_loop(key.as_deref(), value, list, body, otherwise)?
            }
            Node::Break => self.out.push_str("{% break %}"),
            Node::Continue => self.out.push_str("{% continue %}"),
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        let plain = !text.ends_with('{') && !["{{", "{%", "{#"].iter().any(|marker| text.contains(marker));
        if plain {
            self.out.push_str(text);
        } else {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
            self.put(format_args!("{{{{ \"{escaped}\" }}}}"));
        }
    }

    fn for_loop(
        &mut self,
        key: Option<&str>,
        value: &str,
        list: &Expr,
        body: &[Node],
        otherwise: &[Node],
    ) -> Result<(), Fault> {
        let variable = format!("v{}", self.loops);
        self.loops += 1;
        self.put(format_args!("{{% for {variable} in _i(_v="));
        self.expr(list, Note::Needed)?;
        let label = self.label_of(list);
        let items = format!("{}[]", self.table.labels[label]);
        let scopes = self.scopes.len();
        match key {
            Some(key) => {
                let pair = |part: usize| format!("{variable}[{part}]");
                self.scopes.push(Scope { name: key.into(), variable: pair(0), label: format!("{items} (key)") });
                self.scopes.push(Scope { name: value.into(), variable: pair(1), label: items });
            }
            None => self.scopes.push(Scope { name: value.into(), variable, label: items }),
        }
        let outer_weight = std::mem::take(&mut self.weight);
        let head = std::mem::take(&mut self.out);
        self.nodes(body)?;
        let body = std::mem::replace(&mut self.out, head);
        self.scopes.truncate(scopes);
        let pairs = if key.is_some() { ", _k=1" } else { "" };
        self.put(format_args!(", _n={label}, _w={}{pairs}) %}}", self.weight + 1));
        self.out.push_str(&body);
        self.weight = outer_weight + 1;
        if !otherwise.is_empty() {
            self.out.push_str("{% else %}");
            self.nodes(otherwise)?;
        }
        self.out.push_str("{% endfor %}");
        Ok(())
    }

    fn expr(&mut self, expr: &Expr, note: Note) -> Result<(), Fault> {
        self.weight += 1;
        match &expr.kind {
            Kind::Literal(written) => self.out.push_str(written),
            Kind::LoopField(field) => self.put(format_args!("loop.{field}")),
            Kind::Name(_) | Kind::Step(..) => self.chain(expr, note)?,
            Kind::Filter { .. } => {
                self.out.push('(');
                self.filters(expr, note)?;
                self.out.push(')');
            }
            Kind::Test { of, name, argument, negated } => {
                let asked = if matches!(name.as_str(), "defined" | "undefined" | "none") { Note::Quiet } else { note };
                self.put(format_args!("{}_is(_t=\"{name}\", _v=", if *negated { "(not " } else { "" }));
                self.expr(of, asked)?;
                if let Some(argument) = argument {
                    self.out.push_str(", _a=");
                    self.expr(argument, Note::Needed)?;
                }
                self.out.push_str(if *negated { "))" } else { ")" });
            }
            Kind::Not(of) => {
                self.out.push_str("(not ");
                self.expr(of, note)?;
                self.out.push(')');
            }
            Kind::Negative(of) => {
                self.out.push_str("_m(_o=\"-\", _0=0, _1=");
                self.expr(of, Note::Needed)?;
                self.out.push(')');
            }
            Kind::Binary { operator, left, right } => self.binary(expr, operator, left, right, note)?,
            Kind::Ternary { condition, then, otherwise } => {
                self.out.push('(');
                self.expr(then, note)?;
                self.out.push_str(" if ");
                self.expr(condition, Note::Asked)?;
                self.out.push_str(" else ");
                self.expr(otherwise, note)?;
                self.out.push(')');
            }
            Kind::Range { arguments } => {
                self.out.push_str("_r(");
                self.arguments(arguments)?;
                let label = self.label_of(expr);
                self.put(format_args!("_n={label})"));
            }
            Kind::List(items) => {
                self.out.push('[');
                for item in items {
                    self.expr(item, Note::Needed)?;
                    self.out.push_str(", ");
                }
                self.out.push(']');
            }
            Kind::Map(fields) => {
                self.out.push_str("{ ");
                for (key, value) in fields {
                    self.put(format_args!("{key}: "));
                    self.expr(value, Note::Needed)?;
                    self.out.push_str(", ");
                }
                // Never `}}`, which would end the output.
                self.out.push_str(" } ");
            }
        }
        Ok(())
    }

    fn binary(&mut self, expr: &Expr, operator: &str, left: &Expr, right: &Expr, note: Note) -> Result<(), Fault> {
        match operator {
            "and" | "or" => {
                self.out.push('(');
                self.logic(expr, note)?;
                self.out.push(')');
            }
            "~" | "+" | "-" | "*" | "/" | "//" | "%" | "**" => {
                let concatenates = operator == "~";
                let (first, rest) = fold(expr, |operator| (operator == "~") == concatenates && is_arithmetic(operator));
                let operators = rest.iter().map(|(operator, _)| *operator).collect::<Vec<_>>().join(" ");
                self.put(format_args!("_m(_o=\"{operators}\", _0="));
                self.expr(first, Note::Needed)?;
                for (number, (_, operand)) in rest.iter().enumerate() {
                    self.put(format_args!(", _{}=", number + 1));
                    self.expr(operand, Note::Needed)?;
                }
                self.out.push(')');
            }
            _ => {
                self.put(format_args!("_b(_o=\"{operator}\", _0="));
                self.expr(left, Note::Needed)?;
                self.out.push_str(", _1=");
                self.expr(right, Note::Needed)?;
                self.out.push(')');
            }
        }
        Ok(())
    }

    /// `a and b and c` without a parenthesis for each.
    fn logic(&mut self, expr: &Expr, note: Note) -> Result<(), Fault> {
        let Kind::Binary { operator: operator @ ("and" | "or"), left, right } = &expr.kind else {
            return self.expr(expr, note);
        };
        let left_note = if *operator == "or" { Note::Quiet } else { note };
        match &left.kind {
            Kind::Binary { operator: inner, .. } if inner == operator => self.logic(left, left_note)?,
            _ => self.expr(left, left_note)?,
        }
        self.put(format_args!(" {operator} "));
        self.expr(right, note)
    }

    /// `value | f | g` as one chain.
    fn filters(&mut self, expr: &Expr, note: Note) -> Result<(), Fault> {
        let Kind::Filter { of, name, arguments } = &expr.kind else { return self.expr(expr, note) };
        let of_note = if name == "default" { Note::Quiet } else { note };
        self.filters(of, of_note)?;
        self.put(format_args!(" | _f(_f=\"{name}\", "));
        self.arguments(arguments)?;
        let label = self.label_of(expr);
        self.put(format_args!("_n={label}{})", quiet(note)));
        Ok(())
    }

    fn arguments(&mut self, arguments: &[(String, Expr)]) -> Result<(), Fault> {
        for (name, value) in arguments {
            self.put(format_args!("{name}="));
            self.expr(value, Note::Needed)?;
            self.out.push_str(", ");
        }
        Ok(())
    }

    /// A name, or steps from something.
    fn chain(&mut self, expr: &Expr, note: Note) -> Result<(), Fault> {
        let (base, steps) = static_steps(expr);
        if let (Kind::Step(of, step), []) = (&base.kind, steps.as_slice()) {
            return self.dynamic_step(expr, of, step, note);
        }
        let Kind::Name(name) = &base.kind else {
            let label = format!("{}{}", self.written(base), shown(&steps));
            let path = self.path(None, steps, label);
            self.out.push_str("_w(_v=");
            self.expr(base, note)?;
            self.put(format_args!(", _p={path}{})", quiet(note)));
            return Ok(());
        };
        match self.scopes.iter().rev().find(|scope| scope.name == *name) {
            None => {
                let label = format!("{name}{}", shown(&steps));
                let path = self.path(Some(name.clone()), steps, label);
                self.put(format_args!("_p(_p={path}{})", quiet(note)));
            }
            Some(scope) => {
                let (variable, label) = (scope.variable.clone(), format!("{}{}", scope.label, shown(&steps)));
                if steps.is_empty() {
                    self.out.push_str(&variable);
                    return Ok(());
                }
                let path = self.path(None, steps, label);
                self.put(format_args!("_w(_v={variable}, _p={path}{})", quiet(note)));
            }
        }
        Ok(())
    }

    fn dynamic_step(&mut self, expr: &Expr, of: &Expr, step: &Step, note: Note) -> Result<(), Fault> {
        let label = self.label_of(expr);
        match step {
            Step::Dynamic(key) => {
                self.out.push_str("_at(_v=");
                self.expr(of, note)?;
                self.out.push_str(", _k=");
                self.expr(key, Note::Needed)?;
            }
            Step::Slice { start, end } => {
                self.out.push_str("_s(_v=");
                self.expr(of, note)?;
                for (argument, bound) in [("_a", start), ("_b", end)] {
                    if let Some(bound) = bound {
                        self.put(format_args!(", {argument}="));
                        self.expr(bound, Note::Needed)?;
                    }
                }
            }
            Step::Name(_) | Step::Index(_) => {
                return Err(Fault::syntax(expr.span.start, "the expression is not understood"));
            }
        }
        self.put(format_args!(", _n={label}{})", quiet(note)));
        Ok(())
    }

    fn path(&mut self, root: Option<String>, steps: Vec<PathStep>, label: String) -> usize {
        let path = Path { root, steps, label: self.label(label) };
        self.table.paths.iter().position(|known| *known == path).unwrap_or_else(|| {
            self.table.paths.push(path);
            self.table.paths.len() - 1
        })
    }

    fn label(&mut self, label: String) -> usize {
        self.table.labels.iter().position(|known| *known == label).unwrap_or_else(|| {
            self.table.labels.push(label);
            self.table.labels.len() - 1
        })
    }

    /// How a person knows the expression: its path, else its text.
    fn label_of(&mut self, expr: &Expr) -> usize {
        let (base, steps) = static_steps(expr);
        let label = match &base.kind {
            Kind::Name(name) => {
                let scope = self.scopes.iter().rev().find(|scope| scope.name == *name);
                format!("{}{}", scope.map_or(name, |scope| &scope.label), shown(&steps))
            }
            _ => self.written(expr),
        };
        self.label(label)
    }

    fn written(&self, expr: &Expr) -> String {
        let text = self.source.get(expr.span.clone()).unwrap_or_default();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn put(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.out.write_fmt(arguments);
    }
}

fn quiet(note: Note) -> &'static str {
    match note {
        Note::Needed => "",
        Note::Asked => ", _q=1",
        Note::Quiet => ", _q=2",
    }
}

fn is_arithmetic(operator: &str) -> bool {
    matches!(operator, "~" | "+" | "-" | "*" | "/" | "//" | "%" | "**")
}

/// The leftmost operand and, in the order of their working, the operators and operands after it.
fn fold(expr: &Expr, joins: impl Fn(&str) -> bool) -> (&Expr, Vec<(&'static str, &Expr)>) {
    let (mut first, mut rest) = (expr, Vec::new());
    while let Kind::Binary { operator, left, right } = &first.kind
        && joins(operator)
    {
        rest.push((*operator, &**right));
        first = left;
    }
    rest.reverse();
    (first, rest)
}

/// What the expression begins with, and its trailing steps that are known without rendering.
fn static_steps(expr: &Expr) -> (&Expr, Vec<PathStep>) {
    let (mut base, mut steps) = (expr, Vec::new());
    while let Kind::Step(of, step) = &base.kind {
        match step {
            Step::Name(name) => steps.push(PathStep::Name(name.clone())),
            Step::Index(index) => steps.push(PathStep::Index(*index)),
            Step::Dynamic(_) | Step::Slice { .. } => break,
        }
        base = of;
    }
    steps.reverse();
    (base, steps)
}

fn shown(steps: &[PathStep]) -> String {
    let mut out = String::new();
    for step in steps {
        // Writing to a string cannot fail.
        let _ = match step {
            PathStep::Name(name) if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                write!(out, ".{name}")
            }
            PathStep::Name(name) => write!(out, "[{name:?}]"),
            PathStep::Index(index) => write!(out, "[{index}]"),
        };
    }
    out
}
