//! The public functions of a file, and whether their documentation has an example that runs.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A public function without an example that runs.
#[derive(Debug, PartialEq)]
pub(crate) struct Bare {
    pub(crate) name: String,
    pub(crate) line: usize,
}

/// The public functions without an example: free ones, and those of inherent implementations. What a trait asks for is documented at
/// the trait.
pub(crate) fn bare_functions(tokens: TokenStream) -> Vec<Bare> {
    let mut bare = Vec::new();
    collect(tokens, &mut bare);
    bare
}

/// Whether the text begins with documentation of the file itself.
pub(crate) fn says_what_it_is_for(text: &str) -> bool {
    text.starts_with("//! ")
}

/// One item after the other: the documentation, `pub`, other words, `fn`, the name.
fn collect(tokens: TokenStream, bare: &mut Vec<Bare>) {
    let (mut docs, mut words) = (Vec::new(), Vec::new());
    for token in tokens {
        match &token {
            TokenTree::Group(group) if is_attribute(&words) => {
                docs.extend(doc_line(group.stream()));
                words.clear();
            }
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                if is_inherent_impl(&words) {
                    collect(group.stream(), bare);
                }
                (docs, words) = (Vec::new(), Vec::new());
            }
            TokenTree::Punct(punct) if punct.as_char() == ';' => (docs, words) = (Vec::new(), Vec::new()),
            TokenTree::Ident(name) if is_public_fn(&words) && !has_running_example(&docs) => {
                bare.push(Bare { name: name.to_string(), line: name.span().start().line });
                words.push("named".to_owned());
            }
            token => words.push(word(token)),
        }
    }
}

/// A group is its delimiter alone, so that `pub(crate)` is no `pub`.
fn word(token: &TokenTree) -> String {
    match token {
        TokenTree::Group(_) => "()".to_owned(),
        token => token.to_string(),
    }
}

fn is_attribute(words: &[String]) -> bool {
    matches!(words, [.., hash] if hash == "#") || matches!(words, [.., hash, bang] if hash == "#" && bang == "!")
}

/// `pub fn`, `pub async fn`, `pub const fn`.
fn is_public_fn(words: &[String]) -> bool {
    let is_public = words.first().is_some_and(|word| word == "pub") && words.get(1).is_some_and(|word| word != "()");
    is_public && words.last().is_some_and(|word| word == "fn")
}

fn is_inherent_impl(words: &[String]) -> bool {
    words.first().is_some_and(|word| word == "impl") && !is_trait_impl(words)
}

/// `for` of a trait, and not of `for<'a>` in a bound.
fn is_trait_impl(words: &[String]) -> bool {
    words.windows(2).any(|pair| pair[0] == "for" && pair[1] != "<")
}

/// The text of `#[doc = ".."]`, as a `///` is to the compiler.
fn doc_line(attribute: TokenStream) -> Option<String> {
    match attribute.into_iter().collect::<Vec<_>>().as_slice() {
        [TokenTree::Ident(name), TokenTree::Punct(_), TokenTree::Literal(text)] if name == "doc" => {
            Some(text.to_string().trim_matches('"').trim().to_owned())
        }
        _ => None,
    }
}

/// A block of code that rustdoc compiles and runs.
fn has_running_example(docs: &[String]) -> bool {
    let openings = docs.iter().filter_map(|line| line.strip_prefix("```")).step_by(2);
    openings.into_iter().any(|info| matches!(info.trim(), "" | "rust" | "should_panic"))
}
