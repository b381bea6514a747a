//! Reads a Rust file as tokens: which paths it names, which functions and strings it has.

use proc_macro2::{Delimiter, Group, LineColumn, TokenStream, TokenTree};
use std::collections::BTreeSet;

/// What a file holds, as far as the rules ask.
#[derive(Debug, Default)]
pub struct Scan {
    /// Every path, resolved: it starts with `crate` or with the name of an external crate.
    pub paths: Vec<NamedPath>,
    /// Every function with a body.
    pub functions: Vec<Function>,
    /// Every string that is not documentation.
    pub strings: Vec<Text>,
    /// Where `unsafe` stands.
    pub unsafe_lines: Vec<usize>,
    /// The lines that hold code.
    pub code_lines: BTreeSet<usize>,
}

/// A path such as `crate::store::Key`.
#[derive(Debug)]
pub struct NamedPath {
    pub segments: Vec<String>,
    pub line: usize,
    pub in_test: bool,
}

/// A function and its length.
#[derive(Debug)]
pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

/// A string literal, as written between its quotes.
#[derive(Debug)]
pub struct Text {
    pub text: String,
    pub line: usize,
    pub in_test: bool,
}

/// Scans the file of module `module` (empty for the crate root).
pub fn scan(module: &[String], text: &str) -> Result<Scan, String> {
    let tokens: TokenStream = text.parse().map_err(|fault| format!("{fault}"))?;
    let mut scan = Scan::default();
    let place = Place { module: module.to_vec(), in_test: false, prefix: None };
    scan.walk(tokens, &place);
    Ok(scan)
}

/// Where in the file the walk is.
#[derive(Clone)]
struct Place {
    module: Vec<String>,
    in_test: bool,
    /// Inside `use prefix::{ ... }`: what every entry starts with.
    prefix: Option<Vec<String>>,
}

impl Scan {
    fn walk(&mut self, tokens: TokenStream, outer: &Place) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut place = outer.clone();
        let mut i = 0;
        while i < tokens.len() {
            if let Some((attribute, next)) = attribute_at(&tokens, i) {
                if !is_ident(attribute.stream().into_iter().next().as_ref(), "doc") {
                    self.mark(tokens[i].span().start(), attribute.span_close().end());
                }
                if is_cfg_test(&attribute) {
                    let end = item_end(&tokens, next);
                    let test = Place { in_test: true, ..outer.clone() };
                    self.walk(tokens[next..end].iter().cloned().collect(), &test);
                    i = end;
                } else {
                    i = next;
                }
                continue;
            }
            if is_punct(tokens.get(i), ',') {
                place.prefix.clone_from(&outer.prefix);
            }
            let starts_entry = matches!(tokens[i], TokenTree::Ident(_));
            i = self.step(&tokens, i, &place);
            if starts_entry {
                // `a as b`: only `a` is below the prefix.
                place.prefix = None;
            }
        }
    }

    /// Takes one token, or the path that starts at it; returns the index after it.
    fn step(&mut self, tokens: &[TokenTree], i: usize, place: &Place) -> usize {
        match &tokens[i] {
            TokenTree::Group(group) => {
                self.mark(group.span_open().start(), group.span_open().end());
                self.mark(group.span_close().start(), group.span_close().end());
                let inner = Place {
                    module: inner_module(tokens, i, &place.module),
                    prefix: None,
                    ..place.clone()
                };
                self.walk(group.stream(), &inner);
                i + 1
            }
            TokenTree::Literal(literal) => {
                self.mark(literal.span().start(), literal.span().end());
                let written = literal.to_string();
                if let (Some(open), Some(close)) = (written.find('"'), written.rfind('"')) {
                    self.strings.push(Text {
                        text: written[(open + 1).min(close)..close].to_owned(),
                        line: literal.span().start().line,
                        in_test: place.in_test,
                    });
                }
                i + 1
            }
            TokenTree::Ident(ident) => {
                self.mark(ident.span().start(), ident.span().end());
                if ident == "unsafe" {
                    self.unsafe_lines.push(ident.span().start().line);
                }
                if ident == "fn" {
                    self.function(tokens, i);
                }
                self.path(tokens, i, place)
            }
            TokenTree::Punct(punct) => {
                self.mark(punct.span().start(), punct.span().end());
                i + 1
            }
        }
    }

    fn mark(&mut self, start: LineColumn, end: LineColumn) {
        self.code_lines.extend(start.line..=end.line);
    }

    /// Takes the function whose `fn` stands at `i`, if it has a name and a body.
    fn function(&mut self, tokens: &[TokenTree], i: usize) {
        let Some(TokenTree::Ident(name)) = tokens.get(i + 1) else {
            return;
        };
        let start = tokens[i].span().start().line;
        for token in &tokens[i + 2..] {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ';' => return,
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    self.functions.push(Function {
                        name: name.to_string(),
                        line: start,
                        lines: group.span_close().end().line - start + 1,
                    });
                    return;
                }
                _ => {}
            }
        }
    }

    /// Takes the path that starts with the identifier at `i`; returns the index after it.
    fn path(&mut self, tokens: &[TokenTree], i: usize, place: &Place) -> usize {
        let mut own = vec![tokens[i].to_string()];
        let mut next = i + 1;
        let mut group = None;
        while is_punct(tokens.get(next), ':') && is_punct(tokens.get(next + 1), ':') {
            match tokens.get(next + 2) {
                Some(TokenTree::Ident(ident)) => {
                    self.mark(ident.span().start(), ident.span().end());
                    own.push(ident.to_string());
                    next += 3;
                }
                Some(TokenTree::Group(inner)) if inner.delimiter() == Delimiter::Brace => {
                    group = Some(inner);
                    next += 3;
                    break;
                }
                _ => break,
            }
        }
        let mut segments = place.prefix.clone().unwrap_or_default();
        segments.extend(own);
        // A single name is a local name, not a path; a group's paths are those of its entries.
        if segments.len() > 1 && group.is_none() {
            let line = tokens[i].span().start().line;
            self.resolved(&segments, line, place);
        }
        if let Some(group) = group {
            self.mark(group.span_open().start(), group.span_open().end());
            self.mark(group.span_close().start(), group.span_close().end());
            let inner = Place { prefix: Some(segments), ..place.clone() };
            self.walk(group.stream(), &inner);
        }
        next
    }

    /// Records a path with `self` and `super` replaced by what they stand for.
    fn resolved(&mut self, segments: &[String], line: usize, place: &Place) {
        let supers = segments.iter().take_while(|name| *name == "super").count();
        let first = segments[0].as_str();
        let full: Vec<String> = if first == "self" || supers > 0 {
            let rest = &segments[if supers > 0 { supers } else { 1 }..];
            let kept = place.module.len().saturating_sub(supers);
            let base = std::iter::once("crate".to_owned());
            let base = base.chain(place.module[..kept].iter().cloned());
            base.chain(rest.iter().cloned()).collect()
        } else {
            segments.to_vec()
        };
        self.paths.push(NamedPath { segments: full, line, in_test: place.in_test });
    }
}

/// The attribute that starts at `i`, and the index after it.
fn attribute_at(tokens: &[TokenTree], i: usize) -> Option<(Group, usize)> {
    if !is_punct(tokens.get(i), '#') {
        return None;
    }
    let at = if is_punct(tokens.get(i + 1), '!') { i + 2 } else { i + 1 };
    match tokens.get(at) {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Bracket => {
            Some((group.clone(), at + 1))
        }
        _ => None,
    }
}

/// Whether an attribute is `cfg(test)` or `cfg(all(test, ...))`.
fn is_cfg_test(attribute: &Group) -> bool {
    let text: String = attribute.stream().to_string().split_whitespace().collect();
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

/// The index after the item that starts at `i`: further attributes, then up to its `;` or body.
fn item_end(tokens: &[TokenTree], mut i: usize) -> usize {
    while let Some((_, next)) = attribute_at(tokens, i) {
        i = next;
    }
    let mut is_use = false;
    for (at, token) in tokens.iter().enumerate().skip(i) {
        is_use |= is_ident(Some(token), "use");
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ';' => return at + 1,
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && !is_use => {
                return at + 1;
            }
            _ => {}
        }
    }
    tokens.len()
}

/// The module inside the group at `i`: one deeper where `mod name` stands before it.
fn inner_module(tokens: &[TokenTree], i: usize, module: &[String]) -> Vec<String> {
    let mut inner = module.to_vec();
    if i >= 2 && is_ident(tokens.get(i - 2), "mod") {
        inner.push(tokens[i - 1].to_string());
    }
    inner
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_ident(token: Option<&TokenTree>, wanted: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(ident)) if ident == wanted)
}
