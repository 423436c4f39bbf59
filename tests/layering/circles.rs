//! Which file names which: a name belongs to the file that defines it, also through `pub use`.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, Group, TokenTree};

use super::source::{Source, flat, inline_module, is_path_start, is_punct, paths};

/// The files of the crate as modules, and what each re-exports.
pub(crate) struct Crate<'a> {
    /// By the path of the module; the crate root is empty.
    files: BTreeMap<Vec<String>, &'a Source>,
    reexports: BTreeMap<Vec<String>, Vec<Vec<String>>>,
}

/// From a file to the files that it names, and one name of each.
type Graph<'a> = BTreeMap<&'a str, BTreeMap<&'a str, String>>;
type Reach<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

impl<'a> Crate<'a> {
    /// All of `sources` that are no tests.
    pub(crate) fn new(sources: &'a [Source]) -> Self {
        let files: BTreeMap<_, _> =
            sources.iter().filter(|source| !source.is_test()).map(|source| (source.path().to_vec(), source)).collect();
        let reexports = files.iter().map(|(module, source)| {
            let mut exported = Vec::new();
            walk(&flat(source.tokens()), module, false, &mut |path, is_export| {
                if is_export {
                    exported.push(path);
                }
            });
            (module.clone(), exported)
        });
        let reexports = reexports.collect();
        Self { files, reexports }
    }

    /// The circles: sets of files of which each leads to each, with the arrows between them.
    pub(crate) fn circles(&self) -> Vec<String> {
        let graph = self.graph();
        let reach: Reach<'_> = graph.keys().map(|file| (*file, reachable(&graph, file))).collect();
        let mut circles = BTreeSet::new();
        for (file, reached) in &reach {
            if reached.contains(file) {
                circles.insert(reached.iter().copied().filter(|other| reach[other].contains(file)).collect::<Vec<_>>());
            }
        }
        circles.iter().map(|circle| describe(circle, &graph)).collect()
    }

    fn graph(&self) -> Graph<'_> {
        self.files.iter().map(|(module, source)| (source.file.as_str(), self.named_files(module, source))).collect()
    }

    /// The files that `source` names, but for what it only hands on.
    fn named_files(&self, module: &[String], source: &'a Source) -> BTreeMap<&str, String> {
        let mut named = BTreeMap::new();
        walk(&flat(source.tokens()), module, false, &mut |path, is_export| {
            let file = (!is_export).then(|| self.file_of(&path, 0)).flatten();
            named.extend(file.filter(|file| *file != source.file).map(|file| (file, path.join("::"))));
        });
        named
    }

    /// The file that defines what `path` leads to.
    fn file_of(&self, path: &[String], depth: usize) -> Option<&str> {
        let known = (0..=path.len()).rev().find(|len| self.files.contains_key(&path[..*len]))?;
        let (module, rest) = path.split_at(known);
        let exported = rest.first().filter(|_| depth < 8).and_then(|name| {
            let exports = &self.reexports[module];
            exports.iter().find(|export| export.last() == Some(name) && export.as_slice() != path)
        });
        match exported {
            Some(export) => self.file_of(export, depth + 1),
            None if module.is_empty() => None,
            None => Some(&self.files[module].file),
        }
    }
}

fn reachable<'a>(graph: &Graph<'a>, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<_> = graph[from].keys().copied().collect();
    while let Some(file) = open.pop() {
        if reached.insert(file) {
            open.extend(graph[file].keys().copied());
        }
    }
    reached
}

fn describe(circle: &[&str], graph: &Graph<'_>) -> String {
    let arrow = |from: &str| {
        let to = graph[from].iter().filter(|(to, _)| circle.contains(to)).map(|(to, name)| format!("{to} ({name})"));
        format!("  {from} names {}", to.collect::<Vec<_>>().join(", "))
    };
    let arrows: Vec<_> = circle.iter().map(|file| arrow(file)).collect();
    format!("{} files lead back to themselves:\n{}", circle.len(), arrows.join("\n"))
}

/// Calls `found` for each path into the crate that stands in `tokens`, absolute, and whether it is exported there; tests are left out.
fn walk(tokens: &[TokenTree], here: &[String], parenthesized: bool, found: &mut impl FnMut(Vec<String>, bool)) {
    let mut i = 0;
    let mut exports = false;
    while i < tokens.len() {
        match &tokens[i] {
            TokenTree::Punct(punct) if punct.as_char() == '#' && is_test_attribute(tokens.get(i + 1)) => {
                i = end_of_item(tokens, i + 2);
                continue;
            }
            TokenTree::Punct(punct) if punct.as_char() == ';' => exports = false,
            TokenTree::Ident(ident) if ident == "use" => exports = i > 0 && is_public(&tokens[..i]),
            TokenTree::Group(group) if !exports && !is_visibility(group) => {
                let inner = inline_module(&tokens[..i], group.delimiter());
                let here: Vec<_> = here.iter().cloned().chain(inner).collect();
                walk(&flat(group.stream()), &here, group.delimiter() == Delimiter::Parenthesis, found);
            }
            TokenTree::Ident(_) if is_path_start(tokens, i, parenthesized) => {
                let absolute = paths(&tokens[i..]).into_iter().filter_map(|path| absolute(here, &path));
                absolute.for_each(|path| found(path, exports));
                i = end_of_path(tokens, i);
                continue;
            }
            _ => {}
        }
        i += 1;
    }
}

/// Behind the path that begins at `start`, and the use tree that ends it.
fn end_of_path(tokens: &[TokenTree], start: usize) -> usize {
    let mut end = start + 1;
    while let [colon, colon2, part, ..] = &tokens[end..] {
        let goes_on = is_punct(colon, ':') && is_punct(colon2, ':');
        match part {
            TokenTree::Ident(_) if goes_on => end += 3,
            TokenTree::Group(group) if goes_on && group.delimiter() == Delimiter::Brace => return end + 3,
            _ => break,
        }
    }
    end
}

/// The parentheses of `pub(in crate::server)`.
fn is_visibility(group: &Group) -> bool {
    matches!(group.stream().into_iter().next(), Some(TokenTree::Ident(ident)) if ident == "in")
}

/// `pub` or `pub(..)` stands before.
fn is_public(before: &[TokenTree]) -> bool {
    match before {
        [.., TokenTree::Ident(ident)] => ident == "pub",
        [.., TokenTree::Ident(ident), TokenTree::Group(_)] => ident == "pub",
        _ => false,
    }
}

fn is_test_attribute(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Group(group)) if group.stream().to_string().replace(' ', "").starts_with("cfg(test"))
}

/// Behind the `;` or the braces that end the item which begins at `start`.
fn end_of_item(tokens: &[TokenTree], start: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        token => is_punct(token, ';'),
    };
    let use_tree = matches!(tokens.get(start), Some(TokenTree::Ident(ident)) if ident == "use");
    let ends = |token: &TokenTree| if use_tree { is_punct(token, ';') } else { ends(token) };
    tokens[start..].iter().position(ends).map_or(tokens.len(), |at| start + at + 1)
}

/// `path`, which stands in the module `here`, from the crate root on; `None` where it leads out of the crate.
fn absolute(here: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut module = here.to_vec();
    for (i, part) in path.iter().enumerate() {
        match part.as_str() {
            "crate" if i == 0 => module.clear(),
            "self" => {}
            "super" => _ = module.pop()?,
            "*" => {}
            name => module.push(name.to_owned()),
        }
    }
    Some(module)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<_> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        Crate::new(&sources).circles()
    }

    #[test]
    fn files_that_name_each_other_are_a_circle() {
        let found = circles(&[
            ("a/mod.rs", "mod b; mod c; mod d; pub(crate) use self::b::B;"),
            ("a/b.rs", "use super::c::C; pub(crate) struct B(C);"),
            ("a/c.rs", "pub(crate) struct C; impl crate::a::d::D for crate::a::B {}"),
            ("a/d.rs", "pub(crate) trait D {}"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        for arrow in ["src/a/b.rs names src/a/c.rs (a::c::C)", "src/a/c.rs names src/a/b.rs (a::B)"] {
            assert!(found[0].contains(arrow), "{found:?}");
        }
    }

    #[test]
    fn a_file_and_its_module_that_need_each_other_are_a_circle() {
        for child in ["use super::Own;", "fn f() -> super::Own { g() }", "use crate::a::{self, Own};"] {
            let own = "mod b; pub(crate) struct Own(self::b::B);";
            assert_eq!(circles(&[("a/mod.rs", own), ("a/b.rs", child)]).len(), 1, "{child}");
        }
    }

    #[test]
    fn a_module_may_name_its_children_and_a_test_anything() {
        let found = circles(&[
            ("a/mod.rs", "mod b; mod c; use self::b::B; pub(crate) use self::c::C; struct Own(B);"),
            ("a/b.rs", "use super::C; pub(crate) struct B(C); #[cfg(test)] mod tests { use super::super::Own; }"),
            ("a/c.rs", "#[cfg(test)] use super::Own; use super::{super::d::D}; pub(in crate::a) struct C(D);"),
            ("d.rs", "pub(crate) struct D;"),
            ("a/c/tests.rs", "use crate::a::Own;"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }
}
