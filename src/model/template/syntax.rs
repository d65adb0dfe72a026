//! The shape of a template, as far as prompts may use it.

use std::ops::Range;

use super::TemplateFault;
use crate::error::Code;

/// A piece of a template's body.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Output(Expr),
    If { branches: Vec<(Expr, Vec<Node>)>, otherwise: Vec<Node> },
    For { key: Option<String>, value: String, list: Expr, body: Vec<Node>, otherwise: Vec<Node> },
    Break,
    Continue,
}

/// An expression and the bytes of the source that it stands in.
#[derive(Debug)]
pub(super) struct Expr {
    pub kind: Kind,
    pub span: Range<usize>,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// A number, string, boolean or `none`, as it is written.
    Literal(String),
    Name(String),
    /// `loop.index` and its siblings.
    LoopField(String),
    Step(Box<Expr>, Step),
    Filter {
        of: Box<Expr>,
        name: String,
        arguments: Vec<(String, Expr)>,
    },
    Test {
        of: Box<Expr>,
        name: String,
        argument: Option<Box<Expr>>,
        negated: bool,
    },
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Binary {
        operator: &'static str,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    Ternary {
        condition: Box<Expr>,
        then: Box<Expr>,
        otherwise: Box<Expr>,
    },
    Range {
        arguments: Vec<(String, Expr)>,
    },
    List(Vec<Expr>),
    Map(Vec<(String, Expr)>),
}

/// One step from a value to a part of it.
#[derive(Debug)]
pub(super) enum Step {
    Name(String),
    Index(i64),
    Dynamic(Box<Expr>),
    Slice { start: Option<Box<Expr>>, end: Option<Box<Expr>> },
}

/// Why it is refused; `at` is a byte offset.
#[derive(Debug)]
pub(super) struct Fault {
    pub code: Code,
    pub message: String,
    pub hint: Option<String>,
    pub at: usize,
}

impl Fault {
    pub fn syntax(at: usize, message: impl Into<String>) -> Self {
        Self { code: Code::TemplateSyntax, message: message.into(), hint: None, at }
    }

    pub fn forbidden(at: usize, message: impl Into<String>) -> Self {
        Self { code: Code::TemplateForbidden, ..Self::syntax(at, message) }
    }

    pub fn limit(at: usize, message: impl Into<String>) -> Self {
        Self { code: Code::TemplateLimit, ..Self::syntax(at, message) }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub fn placed(self, source: &str) -> TemplateFault {
        let before = source.get(..self.at).unwrap_or(source);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        TemplateFault {
            code: self.code,
            message: self.message,
            hint: self.hint,
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}
