//! One source file as tokens, so that comments and strings name nothing.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A file under `src`.
pub(crate) struct Source {
    /// `src/listener/mod.rs`.
    pub(crate) file: String,
    text: String,
    tokens: TokenStream,
    /// `listener`, `stream`; empty for the crate root.
    module: Vec<String>,
}

/// A top-level module that a file names; empty for the crate root itself.
#[derive(PartialEq)]
pub(crate) struct Named {
    pub(crate) module: String,
    pub(crate) line: usize,
}

impl Source {
    /// The file at `path` under `src`.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let file = format!("src/{path}");
        let tokens = text.parse().unwrap_or_else(|error| panic!("{file} does not parse: {error}"));
        let module = path.trim_end_matches(".rs").split('/').map(str::to_owned);
        let module = module.filter(|part| part != "mod" && part != "lib").collect();
        Self { file, text: text.to_owned(), tokens, module }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.module.is_empty()
    }

    /// The path of its module: `listener`, `stream`.
    pub(crate) fn path(&self) -> &[String] {
        &self.module
    }

    pub(crate) fn is_test(&self) -> bool {
        self.file.contains("/tests/") || self.file.ends_with("/tests.rs")
    }

    /// The top-level module it belongs to.
    pub(crate) fn module(&self) -> Option<&str> {
        self.module.first().map(String::as_str)
    }

    /// The top-level modules it names, by paths that begin with `crate`, `self` or `super`.
    pub(crate) fn names(&self) -> Vec<Named> {
        let mut named = Vec::new();
        collect_names(&flat(self.tokens.clone()), &self.module, false, &mut named);
        named.dedup();
        named
    }

    /// The lines on which the keyword stands in code.
    pub(crate) fn lines_with(&self, keyword: &str) -> Vec<usize> {
        let mut lines = Vec::new();
        collect_lines(self.tokens.clone(), keyword, &mut lines);
        lines
    }

    /// The lines on which the words of `type_name` stand in a row, also with a path before the last, as in `dyn std::any::Any`.
    pub(crate) fn lines_with_words(&self, type_name: &[&str; 2]) -> Vec<usize> {
        let mut lines = Vec::new();
        collect_word_lines(&flat(self.tokens.clone()), type_name, &mut lines);
        lines
    }

    /// The lines on which `module::name` stands in code, also as a part of a use tree.
    pub(crate) fn lines_with_path(&self, module: &str, name: &str) -> Vec<usize> {
        let mut lines = Vec::new();
        collect_path_lines(&flat(self.tokens.clone()), module, name, &mut lines);
        lines
    }

    pub(crate) fn lines_before_tests(&self) -> usize {
        let lines: Vec<_> = self.text.lines().collect();
        let tests = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod "));
        tests.unwrap_or(lines.len())
    }

    /// The lines before its tests that are no documentation.
    pub(crate) fn lines_of_code(&self) -> usize {
        let is_docs = |line: &&str| ["///", "//!"].iter().any(|mark| line.trim_start().starts_with(mark));
        self.text.lines().take(self.lines_before_tests()).filter(|line| !is_docs(line)).count()
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn tokens(&self) -> TokenStream {
        self.tokens.clone()
    }

    /// Its items without attributes, each as text up to its `;`.
    pub(crate) fn items(&self) -> Vec<String> {
        let mut items = vec![TokenStream::new()];
        let mut tokens = self.tokens.clone().into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    tokens.next_if(|token| is_punct(token, '!'));
                    tokens.next();
                }
                TokenTree::Punct(punct) if punct.as_char() == ';' => items.push(TokenStream::new()),
                token => items.last_mut().expect("there is one from the start").extend([token]),
            }
        }
        items.iter().map(ToString::to_string).filter(|item| !item.is_empty()).collect()
    }
}

pub(crate) fn flat(tokens: TokenStream) -> Vec<TokenTree> {
    tokens.into_iter().collect()
}

pub(crate) fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

fn collect_lines(tokens: TokenStream, keyword: &str, lines: &mut Vec<usize>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if ident == keyword => lines.push(ident.span().start().line),
            TokenTree::Group(group) => collect_lines(group.stream(), keyword, lines),
            _ => {}
        }
    }
}

fn collect_word_lines(tokens: &[TokenTree], words: &[&str; 2], lines: &mut Vec<usize>) {
    for (i, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => collect_word_lines(&flat(group.stream()), words, lines),
            TokenTree::Ident(ident) if ident == words[0] => {
                let named =
                    paths(&tokens[i + 1..]).into_iter().any(|path| path.last().is_some_and(|it| it == words[1]));
                lines.extend(named.then(|| ident.span().start().line));
            }
            _ => {}
        }
    }
}

fn collect_path_lines(tokens: &[TokenTree], module: &str, name: &str, lines: &mut Vec<usize>) {
    for (i, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => collect_path_lines(&flat(group.stream()), module, name, lines),
            TokenTree::Ident(ident) if ident == module => {
                let line = ident.span().start().line;
                let paths = paths(&tokens[i..]).into_iter();
                lines.extend(paths.filter(|path| path.get(1).is_some_and(|part| part == name)).map(|_| line));
            }
            _ => {}
        }
    }
}

/// Walks `tokens`, which stand in the module `here`; `parenthesized` tells `pub(crate)` from `use crate`.
fn collect_names(tokens: &[TokenTree], here: &[String], parenthesized: bool, named: &mut Vec<Named>) {
    for (i, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => {
                let inner = inline_module(&tokens[..i], group.delimiter());
                let here: Vec<_> = here.iter().cloned().chain(inner).collect();
                let parenthesized = group.delimiter() == Delimiter::Parenthesis;
                collect_names(&flat(group.stream()), &here, parenthesized, named);
            }
            TokenTree::Ident(ident) if is_path_start(tokens, i, parenthesized) => {
                let line = ident.span().start().line;
                let paths = paths(&tokens[i..]).into_iter();
                named.extend(paths.filter_map(|path| top_module(here, &path)).map(|module| Named { module, line }));
            }
            _ => {}
        }
    }
}

/// The name of the module whose body a brace opens.
pub(crate) fn inline_module(before: &[TokenTree], delimiter: Delimiter) -> Option<String> {
    match before {
        [.., TokenTree::Ident(keyword), TokenTree::Ident(name)]
            if delimiter == Delimiter::Brace && keyword == "mod" =>
        {
            Some(name.to_string())
        }
        _ => None,
    }
}

pub(crate) fn is_path_start(tokens: &[TokenTree], i: usize, parenthesized: bool) -> bool {
    let TokenTree::Ident(ident) = &tokens[i] else {
        return false;
    };
    let follows_path = i > 0 && is_punct(&tokens[i - 1], ':');
    let starts_path = tokens.get(i + 1).is_some_and(|next| is_punct(next, ':'));
    !follows_path
        && match ident.to_string().as_str() {
            "crate" | "super" => starts_path || !parenthesized,
            // `self: Pin<..>` is no path.
            "self" => starts_path && tokens.get(i + 2).is_some_and(|next| is_punct(next, ':')),
            _ => false,
        }
}

/// The paths that `tokens` begin with: one, or as many as a use tree has leaves.
pub(crate) fn paths(tokens: &[TokenTree]) -> Vec<Vec<String>> {
    match tokens {
        [TokenTree::Ident(ident), colon, colon2, rest @ ..] if is_punct(colon, ':') && is_punct(colon2, ':') => {
            let prefix = |path: Vec<String>| [vec![ident.to_string()], path].concat();
            paths(rest).into_iter().map(prefix).collect()
        }
        [TokenTree::Ident(ident), ..] => vec![vec![ident.to_string()]],
        [TokenTree::Group(group), ..] if group.delimiter() == Delimiter::Brace => {
            let leaves = flat(group.stream());
            leaves.split(|token| is_punct(token, ',')).filter(|leaf| !leaf.is_empty()).flat_map(paths).collect()
        }
        _ => vec![vec!["*".to_owned()]],
    }
}

/// The top-level module that `path` leads to from `here`; `None` where it leads nowhere in this crate.
fn top_module(here: &[String], path: &[String]) -> Option<String> {
    let mut module = here.to_vec();
    for part in path {
        match part.as_str() {
            "crate" => module.clear(),
            "self" => {}
            "super" => _ = module.pop()?,
            "*" => return Some(module.first().cloned().unwrap_or_default()),
            name => return Some(module.first().map_or(name, String::as_str).to_owned()),
        }
    }
    Some(module.first().cloned().unwrap_or_default())
}
