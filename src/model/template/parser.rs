//! Reads Tera's grammar, as far as prompts may use it, and says what is wrong where.
//!
//! Beyond Tera: `a.0.b` for `a[0].b`, and filters and tests take their natural arguments by position too.

use super::LOOP_DEPTH_MAX;
use super::expression::Line;
use super::lexer::{self, Piece, Token, TokenKind};
use super::syntax::{Expr, Fault, Node};
use crate::model::diagnostic::did_you_mean;

/// How deep expressions, and tags, may nest.
pub(super) const DEPTH_MAX: usize = 12;
/// Most `elif` of one `if`.
const BRANCHES_MAX: usize = 32;
/// Most faults that are reported at once.
pub(super) const FAULTS_MAX: usize = 20;

/// Tags and calls that other templates may use and prompts may not, with what to do instead.
const FORBIDDEN: [(&str, &str); 11] = [
    ("set", "write the expression where it is used"),
    ("set_global", "write the expression where it is used"),
    ("include", "put the text into this template"),
    ("import", "put the text into this template"),
    ("extends", "put the text into this template"),
    ("macro", "write the text out, or use a loop"),
    ("component", "write the text out, or use a loop"),
    ("block", "write the text without the block"),
    ("filter", "apply the filter to each value (`{{ title | upper }}`)"),
    ("super", "put the text into this template"),
    ("throw", "use `strict_templates: true` to refuse incomplete deliveries"),
];

pub(super) fn parse(source: &str) -> Result<Vec<Node>, Vec<Fault>> {
    let pieces = lexer::lex(source).map_err(|fault| vec![fault])?;
    let forbidden = forbidden_tags(&pieces);
    if !forbidden.is_empty() {
        return Err(forbidden);
    }
    let mut parser = Parser { pieces: pieces.iter().peekable(), source, faults: Vec::new(), loops: 0, depth: 0 };
    match parser.body(&[], source.len()) {
        Ok(nodes) if parser.faults.is_empty() => Ok(nodes),
        Ok(_) => Err(parser.faults),
        Err(fault) => {
            parser.faults.push(fault);
            Err(parser.faults)
        }
    }
}

fn forbidden_tags(pieces: &[Piece<'_>]) -> Vec<Fault> {
    let tags = pieces.iter().filter_map(|piece| match piece {
        Piece::Tag(tokens) => tokens.first(),
        Piece::Text(_) | Piece::Output(_) => None,
    });
    tags.filter_map(|token| match token.kind {
        TokenKind::Name(name) => forbidden(name, token.start),
        TokenKind::Symbol("<" | "</") => forbidden("component", token.start),
        _ => None,
    })
    .take(FAULTS_MAX)
    .collect()
}

pub(super) fn forbidden(name: &str, at: usize) -> Option<Fault> {
    let (_, hint) = FORBIDDEN.iter().find(|(forbidden, _)| *forbidden == name)?;
    Some(Fault::forbidden(at, format!("`{name}` is not allowed in prompts")).hint(*hint))
}

struct Parser<'p, 'a> {
    pieces: std::iter::Peekable<std::slice::Iter<'p, Piece<'a>>>,
    source: &'a str,
    /// Faults that do not hinder reading on.
    faults: Vec<Fault>,
    loops: usize,
    depth: usize,
}

impl<'p, 'a> Parser<'p, 'a> {
    /// Nodes until one of the `ends`, which is left to be read; none of them means the end of the template.
    fn body(&mut self, ends: &[&str], opened_at: usize) -> Result<Vec<Node>, Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Fault::limit(opened_at, format!("tags nest deeper than {DEPTH_MAX}")));
        }
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.peek().copied() {
            if let Piece::Tag(tokens) = piece
                && let Some(TokenKind::Name(name)) = tokens.first().map(|token| token.kind)
                && ends.contains(&name)
            {
                self.depth -= 1;
                return Ok(nodes);
            }
            self.pieces.next();
            match piece {
                Piece::Text(text) => nodes.push(Node::Text(text.clone())),
                Piece::Output(tokens) => {
                    let mut line = self.line(tokens);
                    let expr = line.expression(0)?;
                    line.end()?;
                    nodes.push(Node::Output(expr));
                }
                Piece::Tag(tokens) => nodes.push(self.tag(tokens)?),
            }
        }
        self.depth -= 1;
        match ends.last() {
            None => Ok(nodes),
            Some(end) => {
                Err(Fault::syntax(opened_at, "the tag is not closed").hint(format!("end it with `{{% {end} %}}`")))
            }
        }
    }

    fn tag(&mut self, tokens: &'p [Token<'a>]) -> Result<Node, Fault> {
        let at = tokens.first().map_or(0, |token| token.start);
        let mut line = self.line(tokens);
        match line.name() {
            Some("if") => {
                let condition = line.expression(0)?;
                line.end()?;
                self.if_tag(condition, at)
            }
            Some("for") => {
                let (key, value) = line.loop_names()?;
                let list = line.expression(0)?;
                line.end()?;
                self.for_tag(key, value, list, at)
            }
            Some(word @ ("break" | "continue")) => {
                line.end()?;
                match (word, self.loops) {
                    (_, 0) => Err(Fault::syntax(at, format!("`{word}` stands in no loop"))),
                    ("break", _) => Ok(Node::Break),
                    _ => Ok(Node::Continue),
                }
            }
            Some(word @ ("endif" | "endfor" | "else" | "elif")) => {
                Err(Fault::syntax(at, format!("`{word}` closes nothing here")))
            }
            Some(word) => {
                let fault = Fault::syntax(at, format!("unknown tag `{word}`"));
                Err(match did_you_mean(word, ["if", "elif", "else", "endif", "for", "endfor", "raw"]) {
                    Some(near) => fault.hint(format!("did you mean `{near}`?")),
                    None => fault.hint("prompts may use `if`, `for` and `raw`"),
                })
            }
            None => Err(Fault::syntax(at, "the tag has no name")),
        }
    }

    fn if_tag(&mut self, condition: Expr, at: usize) -> Result<Node, Fault> {
        let mut branches = vec![(condition, self.body(&["elif", "else", "endif"], at)?)];
        let mut otherwise = Vec::new();
        loop {
            let Some(Piece::Tag(tokens)) = self.pieces.next() else {
                return Err(Fault::syntax(at, "`if` is not closed"));
            };
            let mut line = self.line(tokens);
            match line.name() {
                Some("elif") if branches.len() > BRANCHES_MAX => {
                    return Err(Fault::limit(
                        tokens[0].start,
                        format!("an `if` has more than {BRANCHES_MAX} branches"),
                    ));
                }
                Some("elif") => {
                    let condition = line.expression(0)?;
                    line.end()?;
                    branches.push((condition, self.body(&["elif", "else", "endif"], at)?));
                }
                Some("else") => {
                    line.end()?;
                    otherwise = self.body(&["endif"], at)?;
                }
                _ => {
                    line.end()?;
                    return Ok(Node::If { branches, otherwise });
                }
            }
        }
    }

    fn for_tag(&mut self, key: Option<String>, value: String, list: Expr, at: usize) -> Result<Node, Fault> {
        self.loops += 1;
        if self.loops > LOOP_DEPTH_MAX {
            return Err(Fault::limit(at, format!("loops nest deeper than {LOOP_DEPTH_MAX}"))
                .hint("print the inner list with `join` or `json_encode`"));
        }
        let body = self.body(&["else", "endfor"], at)?;
        self.loops -= 1;
        let mut otherwise = Vec::new();
        if let Some(Piece::Tag(tokens)) = self.pieces.next() {
            let mut line = self.line(tokens);
            let word = line.name();
            line.end()?;
            if word == Some("else") {
                otherwise = self.body(&["endfor"], at)?;
                self.pieces.next();
            }
        }
        Ok(Node::For { key, value, list, body, otherwise })
    }

    fn line<'l>(&'l mut self, tokens: &'p [Token<'a>]) -> Line<'l, 'a>
    where
        'p: 'l,
    {
        let in_loop = self.loops > 0;
        Line::of(tokens, self.source, &mut self.faults, in_loop)
    }
}
