//! Reads the inside of one output or tag: expressions with Tera's operators and precedence.

use super::lexer::{Token, TokenKind, unescape};
use super::parser::{DEPTH_MAX, FAULTS_MAX, forbidden};
use super::syntax::{Expr, Fault, Kind, Step};
use super::{filters, operators};
use crate::error::Code;
use crate::model::diagnostic::did_you_mean;

/// Most operators, filters and steps of one expression.
const OPERATORS_MAX: usize = 64;

const LITERALS: [&str; 7] = ["true", "True", "false", "False", "none", "None", "null"];
const RESERVED: [&str; 9] = ["loop", "self", "and", "or", "not", "is", "in", "continue", "break"];
const LOOP_FIELDS: [&str; 5] = ["index", "index0", "first", "last", "length"];

/// The inside of one output or tag.
pub(super) struct Line<'l, 'a> {
    tokens: &'l [Token<'a>],
    at: usize,
    source: &'a str,
    faults: &'l mut Vec<Fault>,
    in_loop: bool,
    depth: usize,
    operators: usize,
}

impl<'l, 'a> Line<'l, 'a> {
    pub fn of(tokens: &'l [Token<'a>], source: &'a str, faults: &'l mut Vec<Fault>, in_loop: bool) -> Self {
        Self { tokens, at: 0, source, faults, in_loop, depth: 0, operators: 0 }
    }

    /// The next token; the last one (`End`) is never passed.
    fn peek(&self) -> Token<'a> {
        self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at += 1;
        token
    }

    pub fn name(&mut self) -> Option<&'a str> {
        match self.peek().kind {
            TokenKind::Name(name) => {
                self.at += 1;
                Some(name)
            }
            _ => None,
        }
    }

    fn takes(&mut self, wanted: &str) -> bool {
        let found = match self.peek().kind {
            TokenKind::Symbol(symbol) => symbol == wanted,
            TokenKind::Name(name) => name == wanted,
            TokenKind::Number(_) | TokenKind::Text(_) | TokenKind::End => false,
        };
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: &str) -> Result<(), Fault> {
        if self.takes(wanted) { Ok(()) } else { Err(self.unexpected(&format!("`{wanted}`"))) }
    }

    pub fn end(&mut self) -> Result<(), Fault> {
        match self.peek().kind {
            TokenKind::End => Ok(()),
            _ => Err(self.unexpected("the end")),
        }
    }

    fn unexpected(&self, expected: &str) -> Fault {
        let token = self.peek();
        match token.kind {
            TokenKind::End => Fault::syntax(token.start, format!("expected {expected} before the end")),
            _ => Fault::syntax(
                token.start,
                format!("expected {expected}, found `{}`", &self.source[token.start..token.end]),
            ),
        }
    }

    pub fn loop_names(&mut self) -> Result<(Option<String>, String), Fault> {
        let first = self.loop_name()?;
        let names = if self.takes(",") { (Some(first), self.loop_name()?) } else { (None, first) };
        self.expect("in")?;
        Ok(names)
    }

    fn loop_name(&mut self) -> Result<String, Fault> {
        let token = self.peek();
        match self.name() {
            Some(name) if RESERVED.contains(&name) || LITERALS.contains(&name) => {
                Err(Fault::syntax(token.start, format!("`{name}` cannot be the name of a loop's variable")))
            }
            Some(name) => Ok(name.to_owned()),
            None => Err(self.unexpected("a name")),
        }
    }

    /// Precedence climbing; the powers are Tera's. `least` is the power below which operators belong to the caller.
    pub fn expression(&mut self, least: u8) -> Result<Expr, Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Fault::limit(self.peek().start, format!("the expression nests deeper than {DEPTH_MAX}")));
        }
        let mut left = self.prefix()?;
        while let Some((operator, power, right_power)) = self.infix() {
            if power < least {
                break;
            }
            self.count_operator()?;
            left = self.infix_expression(left, operator, right_power)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    fn count_operator(&mut self) -> Result<(), Fault> {
        self.operators += 1;
        if self.operators > OPERATORS_MAX {
            return Err(Fault::limit(
                self.peek().start,
                format!("the expression has more than {OPERATORS_MAX} operators"),
            ));
        }
        Ok(())
    }

    fn infix(&self) -> Option<(&'static str, u8, u8)> {
        let operator = match self.peek().kind {
            TokenKind::Symbol(symbol) => symbol,
            TokenKind::Name(name) => name,
            TokenKind::Number(_) | TokenKind::Text(_) | TokenKind::End => return None,
        };
        Some(match operator {
            "if" => ("if", 0, 0),
            "or" => ("or", 1, 2),
            "and" => ("and", 3, 4),
            "in" => ("in", 5, 6),
            "not" => ("not", 5, 6),
            "is" => ("is", 5, 6),
            "==" => ("==", 7, 8),
            "!=" => ("!=", 7, 8),
            "<" => ("<", 7, 8),
            "<=" => ("<=", 7, 8),
            ">" => (">", 7, 8),
            ">=" => (">=", 7, 8),
            "+" => ("+", 11, 12),
            "-" => ("-", 11, 12),
            "*" => ("*", 13, 14),
            "/" => ("/", 13, 14),
            "//" => ("//", 13, 14),
            "%" => ("%", 13, 14),
            "~" => ("~", 13, 14),
            "**" => ("**", 16, 15),
            "|" => ("|", 17, 18),
            _ => return None,
        })
    }

    fn infix_expression(&mut self, left: Expr, operator: &'static str, power: u8) -> Result<Expr, Fault> {
        self.next();
        let start = left.span.start;
        let left = Box::new(left);
        let kind = match operator {
            "|" => self.filter(left)?,
            "is" => self.test(left)?,
            "if" => {
                let condition = Box::new(self.expression(0)?);
                self.expect("else")?;
                Kind::Ternary { condition, then: left, otherwise: Box::new(self.expression(0)?) }
            }
            "not" => {
                self.expect("in")?;
                let right = Box::new(self.expression(power)?);
                let span = start..self.behind();
                Kind::Not(Box::new(Expr { kind: Kind::Binary { operator: "in", left, right }, span }))
            }
            _ => Kind::Binary { operator, left, right: Box::new(self.expression(power)?) },
        };
        Ok(Expr { kind, span: start..self.behind() })
    }

    /// The end of the token that was read last.
    fn behind(&self) -> usize {
        self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map_or(0, |token| token.end)
    }

    fn prefix(&mut self) -> Result<Expr, Fault> {
        let token = self.next();
        let start = token.start;
        let kind = match token.kind {
            TokenKind::Number(written) => {
                check_number(written, start)?;
                Kind::Literal(written.to_owned())
            }
            TokenKind::Text(written) => Kind::Literal(written.to_owned()),
            TokenKind::Name("not") => Kind::Not(Box::new(self.expression(5)?)),
            TokenKind::Name(name) if LITERALS.contains(&name) => Kind::Literal(name.to_owned()),
            TokenKind::Name(name) => self.named(name, start)?,
            TokenKind::Symbol("-") => Kind::Negative(Box::new(self.expression(20)?)),
            TokenKind::Symbol("(") => {
                let inner = self.expression(0)?;
                self.expect(")")?;
                inner.kind
            }
            TokenKind::Symbol("[") => Kind::List(self.list(start)?),
            TokenKind::Symbol("{") => Kind::Map(self.map()?),
            TokenKind::Symbol("<") => {
                return Err(forbidden("component", start).unwrap_or_else(|| self.unexpected("a value")));
            }
            TokenKind::Symbol(_) | TokenKind::End => {
                self.at -= 1;
                return Err(self.unexpected("a value"));
            }
        };
        self.steps(Expr { kind, span: start..self.behind() })
    }

    fn named(&mut self, name: &str, at: usize) -> Result<Kind, Fault> {
        if name.starts_with("__tera") {
            return Err(Fault::forbidden(at, format!("`{name}` is not allowed in prompts"))
                .hint("name the fields that the prompt needs; `payload` is the whole delivery"));
        }
        if matches!(self.peek().kind, TokenKind::Symbol("(")) {
            return self.call(name, at);
        }
        if name == "loop" && self.in_loop {
            if !self.takes(".") {
                self.expect("?.")?;
            }
            let field = self.peek();
            return match self.name() {
                Some(written) if LOOP_FIELDS.contains(&written) => Ok(Kind::LoopField(written.to_owned())),
                _ => Err(Fault::syntax(field.start, "`loop` has no such field")
                    .hint("it has `index`, `index0`, `first`, `last` and `length`")),
            };
        }
        if RESERVED.contains(&name) && name != "loop" {
            self.at -= 1;
            return Err(self.unexpected("a value"));
        }
        Ok(Kind::Name(name.to_owned()))
    }

    fn call(&mut self, name: &str, at: usize) -> Result<Kind, Fault> {
        if let Some(fault) = forbidden(name, at) {
            return Err(fault);
        }
        let arguments = self.arguments(name, &["end", "start", "step_by"])?;
        if name == "range" && arguments.iter().any(|(name, _)| name == "end") {
            return Ok(Kind::Range { arguments });
        }
        let fault = if name == "range" {
            Fault::syntax(at, "`range` needs `end`").hint("write `range(end=10)`")
        } else {
            Fault { code: Code::TemplateForbidden, ..Fault::syntax(at, format!("there is no function `{name}`")) }.hint(
                "prompts may call `range`; values come from the delivery, and filters are written `value | filter`",
            )
        };
        self.faults.push(fault);
        Ok(Kind::Literal("none".to_owned()))
    }

    /// `.name`, `.0`, `[index]`, `["name"]` and `[start:end]`.
    fn steps(&mut self, mut of: Expr) -> Result<Expr, Fault> {
        loop {
            let step = if self.takes(".") || self.takes("?.") {
                self.dotted()?
            } else if self.takes("[") || self.takes("?[") {
                let step = self.bracketed()?;
                self.expect("]")?;
                step
            } else {
                return Ok(of);
            };
            self.count_operator()?;
            let span = of.span.start..self.behind();
            of = Expr { kind: Kind::Step(Box::new(of), step), span };
        }
    }

    fn dotted(&mut self) -> Result<Step, Fault> {
        let token = self.next();
        match token.kind {
            TokenKind::Name(name) => Ok(Step::Name(name.to_owned())),
            TokenKind::Number(written) if !written.contains('.') => {
                written.parse().map(Step::Index).map_err(|_| Fault::syntax(token.start, "the index is too large"))
            }
            _ => {
                self.at -= 1;
                Err(self.unexpected("a name or an index"))
            }
        }
    }

    fn bracketed(&mut self) -> Result<Step, Fault> {
        let start = if matches!(self.peek().kind, TokenKind::Symbol(":")) { None } else { Some(self.expression(0)?) };
        if self.takes(":") {
            let end =
                if matches!(self.peek().kind, TokenKind::Symbol("]" | ":")) { None } else { Some(self.expression(0)?) };
            if matches!(self.peek().kind, TokenKind::Symbol(":")) {
                return Err(Fault::forbidden(self.peek().start, "slices have no step here").hint("use `reverse`"));
            }
            return Ok(Step::Slice { start: start.map(Box::new), end: end.map(Box::new) });
        }
        let index = start.ok_or_else(|| self.unexpected("an index"))?;
        Ok(match &index.kind {
            Kind::Literal(written) if written.starts_with(['"', '\'', '`']) => {
                unescape(written).map_or_else(|| Step::Dynamic(Box::new(index)), Step::Name)
            }
            Kind::Literal(written) => written.parse().map_or_else(|_| Step::Dynamic(Box::new(index)), Step::Index),
            Kind::Negative(inner) if matches!(&inner.kind, Kind::Literal(written) if written.parse::<i64>().is_ok()) => {
                match &inner.kind {
                    Kind::Literal(written) => Step::Index(written.parse::<i64>().map_or(0, |index| -index)),
                    _ => Step::Dynamic(Box::new(index)),
                }
            }
            _ => Step::Dynamic(Box::new(index)),
        })
    }

    fn filter(&mut self, of: Box<Expr>) -> Result<Kind, Fault> {
        let token = self.peek();
        let Some(name) = self.name() else { return Err(self.unexpected("the name of a filter")) };
        let positions = filters::positions(name);
        if positions.is_none() {
            let fault = Fault::syntax(token.start, format!("unknown filter `{name}`"));
            self.fault(match did_you_mean(name, filters::names()) {
                Some(near) => fault.hint(format!("did you mean `{near}`?")),
                None => fault.hint(format!("the filters are {}", filters::names().collect::<Vec<_>>().join(", "))),
            });
        }
        let arguments = self.optional_arguments(name, positions.unwrap_or_default())?;
        if let Some(needed) = filters::lacks(name, &arguments) {
            self.fault(Fault::syntax(token.start, format!("the filter `{name}` needs `{needed}`")));
        }
        Ok(Kind::Filter { of, name: name.to_owned(), arguments })
    }

    fn test(&mut self, of: Box<Expr>) -> Result<Kind, Fault> {
        let negated = self.takes("not");
        let token = self.peek();
        let Some(name) = self.name() else { return Err(self.unexpected("the name of a test")) };
        let argument = operators::test_argument(name);
        if argument.is_none() {
            let fault = Fault::syntax(token.start, format!("unknown test `{name}`"));
            let names = operators::tests();
            self.fault(match did_you_mean(name, names.clone()) {
                Some(near) => fault.hint(format!("did you mean `{near}`?")),
                None => fault.hint(format!("the tests are {}", names.collect::<Vec<_>>().join(", "))),
            });
        }
        let needed = argument.flatten();
        let arguments = self.optional_arguments(name, needed.as_slice())?;
        let argument =
            arguments.into_iter().find(|(name, _)| Some(name.as_str()) == needed).map(|(_, value)| Box::new(value));
        if let (Some(needed), None) = (needed, &argument) {
            self.fault(Fault::syntax(token.start, format!("the test `{name}` needs `{needed}`")));
        }
        Ok(Kind::Test { of, name: name.to_owned(), argument, negated })
    }

    fn fault(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }

    fn optional_arguments(&mut self, of: &str, positions: &[&str]) -> Result<Vec<(String, Expr)>, Fault> {
        match self.peek().kind {
            TokenKind::Symbol("(") => self.arguments(of, positions),
            _ => Ok(Vec::new()),
        }
    }

    fn arguments(&mut self, of: &str, positions: &[&str]) -> Result<Vec<(String, Expr)>, Fault> {
        self.expect("(")?;
        let mut arguments: Vec<(String, Expr)> = Vec::new();
        while !self.takes(")") {
            if !arguments.is_empty() {
                self.expect(",")?;
                if self.takes(")") {
                    break;
                }
            }
            self.count_operator()?;
            let token = self.peek();
            let named = match (token.kind, self.tokens.get(self.at + 1).map(|token| token.kind)) {
                (TokenKind::Name(name), Some(TokenKind::Symbol("="))) => Some(name),
                _ => None,
            };
            let name = match named {
                Some(name) => {
                    self.at += 2;
                    name
                }
                None => *positions.get(arguments.len()).ok_or_else(|| {
                    Fault::syntax(token.start, format!("`{of}` takes its arguments by name")).hint("write `name=value`")
                })?,
            };
            if name.starts_with('_') || arguments.iter().any(|(earlier, _)| earlier == name) {
                return Err(Fault::syntax(token.start, format!("`{of}` cannot take `{name}` here")));
            }
            arguments.push((name.to_owned(), self.expression(0)?));
        }
        Ok(arguments)
    }

    fn list(&mut self, start: usize) -> Result<Vec<Expr>, Fault> {
        let mut items = Vec::new();
        while !self.takes("]") {
            if !items.is_empty() {
                if matches!(self.peek().kind, TokenKind::Name("for")) {
                    return Err(Fault::forbidden(start, "list comprehensions are not allowed in prompts")
                        .hint("use a `for` loop, or the filters `map` and `filter`"));
                }
                self.expect(",")?;
                if self.takes("]") {
                    break;
                }
            }
            self.no_spread()?;
            self.count_operator()?;
            items.push(self.expression(0)?);
        }
        Ok(items)
    }

    fn map(&mut self) -> Result<Vec<(String, Expr)>, Fault> {
        let mut fields = Vec::new();
        while !self.takes("}") {
            if !fields.is_empty() {
                self.expect(",")?;
                if self.takes("}") {
                    break;
                }
            }
            self.no_spread()?;
            self.count_operator()?;
            let TokenKind::Text(key) = self.peek().kind else { return Err(self.unexpected("a key in quotes")) };
            self.at += 1;
            self.expect(":")?;
            fields.push((key.to_owned(), self.expression(0)?));
        }
        Ok(fields)
    }

    fn no_spread(&self) -> Result<(), Fault> {
        match self.peek().kind {
            TokenKind::Symbol("...") => {
                Err(Fault::forbidden(self.peek().start, "`...` is not allowed in prompts").hint("write the values out"))
            }
            _ => Ok(()),
        }
    }
}

fn check_number(written: &str, at: usize) -> Result<(), Fault> {
    let fits = if written.contains('.') { written.parse::<f64>().is_ok() } else { written.parse::<i64>().is_ok() };
    if fits { Ok(()) } else { Err(Fault::syntax(at, "the number is too large")) }
}
