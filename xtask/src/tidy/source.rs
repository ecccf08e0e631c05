//! A Rust file as a flat list of tokens with line numbers. Comments and documentation are not in it: a rule about code
//! must not trip over prose, nor be satisfied by it.

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

pub(crate) struct Source {
    pub(crate) tokens: Vec<Token>,
}

pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) line: usize,
    /// Inside a `#[cfg(test)]` module.
    pub(crate) in_test: bool,
    /// Inside an attribute, its `#` included.
    pub(crate) in_attribute: bool,
}

#[derive(PartialEq, Debug)]
pub(crate) enum Kind {
    Word(String),
    /// A string literal's contents, escapes as written.
    Text(String),
    /// A number, a character.
    Other,
    Punctuation(char),
    Open(char),
    Close(char),
}

impl Source {
    pub(crate) fn read(text: &str) -> Result<Source> {
        let stream: TokenStream = text.parse().map_err(|fault| anyhow!("cannot be read as Rust: {fault}"))?;
        let mut source = Source { tokens: Vec::new() };
        source.flatten(stream, false);
        source.mark_tests();
        Ok(source)
    }

    /// The word at this index.
    pub(crate) fn word(&self, at: usize) -> Option<&str> {
        match &self.tokens.get(at)?.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    /// Whether the tokens from this index on are these; each is a word, a punctuation character or a bracket.
    pub(crate) fn reads(&self, at: usize, expected: &[&str]) -> bool {
        expected.iter().enumerate().all(|(offset, expected)| match self.tokens.get(at + offset).map(|t| &t.kind) {
            Some(Kind::Word(word)) => word == expected,
            Some(Kind::Punctuation(c) | Kind::Open(c) | Kind::Close(c)) => expected.chars().eq([*c]),
            _ => false,
        })
    }

    /// The index of the bracket that closes the one at `open`.
    pub(crate) fn closing(&self, open: usize) -> usize {
        let mut depth = 0_usize;
        for (at, token) in self.tokens.iter().enumerate().skip(open) {
            match token.kind {
                Kind::Open(_) => depth += 1,
                Kind::Close(_) if depth == 1 => return at,
                Kind::Close(_) => depth -= 1,
                _ => {}
            }
        }
        self.tokens.len()
    }

    fn push(&mut self, kind: Kind, line: usize, in_attribute: bool) {
        self.tokens.push(Token { kind, line, in_test: false, in_attribute });
    }

    fn flatten(&mut self, stream: TokenStream, in_attribute: bool) {
        let trees: Vec<TokenTree> = stream.into_iter().collect();
        let mut at = 0;
        while at < trees.len() {
            let attribute = attribute(&trees[at..]);
            match attribute {
                Some((length, is_documentation)) => {
                    if !is_documentation {
                        trees[at..at + length].iter().for_each(|tree| self.flatten_one(tree, true));
                    }
                    at += length;
                }
                None => {
                    self.flatten_one(&trees[at], in_attribute);
                    at += 1;
                }
            }
        }
    }

    fn flatten_one(&mut self, tree: &TokenTree, in_attribute: bool) {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Ident(word) => self.push(Kind::Word(word.to_string()), line, in_attribute),
            TokenTree::Punct(mark) => self.push(Kind::Punctuation(mark.as_char()), line, in_attribute),
            TokenTree::Literal(literal) => {
                let written = literal.to_string();
                let kind = match (written.find('"'), written.rfind('"')) {
                    (Some(first), Some(last)) if first < last && !written.starts_with('\'') => {
                        Kind::Text(written[first + 1..last].to_owned())
                    }
                    _ => Kind::Other,
                };
                self.push(kind, line, in_attribute);
            }
            TokenTree::Group(group) => {
                let brackets = match group.delimiter() {
                    Delimiter::Parenthesis => Some(('(', ')')),
                    Delimiter::Brace => Some(('{', '}')),
                    Delimiter::Bracket => Some(('[', ']')),
                    Delimiter::None => None,
                };
                if let Some((open, _)) = brackets {
                    self.push(Kind::Open(open), line, in_attribute);
                }
                self.flatten(group.stream(), in_attribute);
                if let Some((_, close)) = brackets {
                    self.push(Kind::Close(close), group.span_close().start().line, in_attribute);
                }
            }
        }
    }

    /// Marks the bodies of `#[cfg(test)] mod name { … }`.
    fn mark_tests(&mut self) {
        for at in 0..self.tokens.len() {
            if !self.reads(at, &["#", "[", "cfg", "(", "test", ")", "]"]) {
                continue;
            }
            let mut item = at + 7;
            while self.tokens.get(item).is_some_and(|token| token.in_attribute) {
                item += 1;
            }
            if self.word(item) == Some("pub") {
                item += 1;
                if self.reads(item, &["("]) {
                    item = self.closing(item) + 1;
                }
            }
            if self.reads(item, &["mod"]) && self.reads(item + 2, &["{"]) {
                let end = self.closing(item + 2).min(self.tokens.len() - 1);
                self.tokens[at..=end].iter_mut().for_each(|token| token.in_test = true);
            }
        }
    }
}

/// The attribute that these tokens begin with: how many tokens it has, and whether it is documentation.
fn attribute(trees: &[TokenTree]) -> Option<(usize, bool)> {
    let punctuation = |at: usize, mark| matches!(trees.get(at), Some(TokenTree::Punct(p)) if p.as_char() == mark);
    if !punctuation(0, '#') {
        return None;
    }
    let body = if punctuation(1, '!') { 2 } else { 1 };
    match trees.get(body) {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Bracket => {
            let first = group.stream().into_iter().next();
            let is_documentation = matches!(first, Some(TokenTree::Ident(word)) if word == "doc");
            Some((body + 1, is_documentation))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_documentation_are_no_code_and_lines_are_right() {
        let source =
            Source::read("//! todo!\n/// unsafe words\nfn a() {\n    b(r#\"FROM \"x\"\"#, 'c', \"d\")\n}\n").unwrap();
        let words: Vec<&str> = (0..source.tokens.len()).filter_map(|at| source.word(at)).collect();
        assert_eq!(words, ["fn", "a", "b"]);
        let texts: Vec<_> = source.tokens.iter().filter(|t| matches!(t.kind, Kind::Text(_))).collect();
        assert_eq!(texts[0].kind, Kind::Text("FROM \"x\"".into()));
        assert_eq!((texts.len(), texts[0].line), (2, 4));
    }

    #[test]
    fn test_modules_are_marked_with_their_attributes_and_nothing_after_them() {
        let text = "fn a() {}\n#[cfg(test)]\n#[expect(x)]\npub(crate) mod tests { fn b() {} }\nfn c() {}\n#[cfg(test)]\nfn d() {}";
        let source = Source::read(text).unwrap();
        let tested = |name: &str| {
            let at = (0..source.tokens.len()).find(|at| source.word(*at) == Some(name)).unwrap();
            source.tokens[at].in_test
        };
        assert_eq!(["a", "b", "c", "d"].map(tested), [false, true, false, false]);
    }
}
