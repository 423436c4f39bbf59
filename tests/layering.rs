//! The layers of the crate, held: a module names only modules of lower layers, `unsafe` lives in `sys` alone, `log` alone
//! logs, files stay small, and the crate root holds no logic.

use std::{
    fs,
    path::{Path, PathBuf},
};

#[path = "layering/circles.rs"]
mod circles;
#[path = "layering/documents.rs"]
mod documents;
#[path = "layering/examples.rs"]
mod examples;
#[path = "layering/source.rs"]
mod source;

use self::{circles::Crate, source::Source};

/// Every top-level module and its layer. A module names only modules of lower layers.
const LAYERS: &[(&str, u8)] = &[
    ("blocking", 0),
    ("error", 0),
    ("log", 0),
    ("unwind", 0),
    ("sys", 0),
    ("addr", 1),
    ("drain", 1),
    ("notify", 1),
    ("listener", 2),
    ("idle_connection", 2),
    ("tls", 3),
    ("wire", 3),
    ("activation", 4),
    ("handoff", 5),
    ("fdstore", 5),
    ("layer", 6),
    ("readiness", 6),
    ("resume", 6),
    ("extract", 7),
    ("server", 8),
    ("unit_check", 8),
    ("testing", 9),
    ("fuzzing", 9),
    ("guide", 10),
];

/// Who may name a module of its own layer all the same: an error says what a descriptor is, an event catches what a subscriber
/// throws, and a thread that cannot be started is logged.
const EQUALS: &[(&str, &str)] = &[("blocking", "log"), ("blocking", "unwind"), ("error", "sys"), ("log", "unwind")];

/// Words that a reader who knows systemd, hyper and nginx has to guess at.
const REFUSED_WORDS: &[&str] =
    &["told", "nobody", "whoever", "somebody", "heir", "heirloom", "farewell", "mend", "mended", "linger", "begun"];

/// Names that others have given and that have such a word in them.
const NAMES_OF_THE_SYSTEM: &[&str] = &["SO_LINGER", "set_linger"];

/// The most lines that a file may have before its tests, without its documentation.
const LONGEST_FILE: usize = 380;

/// Public functions that need no example: what they do cannot end by itself, or only axum calls them.
const WITHOUT_EXAMPLE: &[&str] = &[];

#[test]
fn a_module_names_only_lower_layers() {
    assert_none(sources().iter().flat_map(upward_names));
}

#[test]
fn no_two_files_need_each_other() {
    assert_none(Crate::new(&sources()).circles().into_iter());
}

#[test]
fn no_value_travels_without_its_type() {
    assert_none(sources().iter().flat_map(stray_any));
}

#[test]
fn the_words_are_those_of_the_field() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // What a fuzzer has found is no text of the project, and stands beside these two.
    let folders = ["src", "docs", "examples", "tests", "benches", "fuzz/fuzz_targets", "fuzz/src"];
    let folders = folders.map(|folder| root.join(folder));
    let files = folders.iter().filter(|folder| folder.exists()).flat_map(|folder| files(folder));
    let files = files.chain([root.join("README.md")]).filter(|file| !file.starts_with(root.join("tests/layering.rs")));
    assert_none(files.flat_map(|path| {
        let text = fs::read_to_string(&path).unwrap_or_default();
        refused_words(&path.strip_prefix(root).expect("it was found there").display().to_string(), &text)
    }));
}

#[test]
fn a_refused_word_is_caught_in_prose_and_in_names() {
    let text = "fine\nThe client is told.\nfn is_told() {}\nNobody; linger\nsocket.set_linger(None); SO_LINGER, untold";
    let problems = refused_words("docs/a.md", text);
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert!(problems[0].starts_with("docs/a.md:2: `told` "), "{problems:?}");
}

#[test]
fn unsafe_code_lives_in_sys_alone() {
    assert_none(sources().iter().flat_map(stray_unsafe));
}

#[test]
fn events_are_logged_by_one_file_alone() {
    assert_none(sources().iter().flat_map(stray_events));
}

#[test]
fn threads_are_started_by_one_file_alone() {
    assert_none(sources().iter().flat_map(stray_threads));
}

#[test]
fn a_file_is_short_enough_to_be_read_at_once() {
    assert_none(sources().iter().filter_map(overlong));
}

#[test]
fn a_file_says_first_what_it_is_for() {
    assert_none(sources().iter().filter_map(unexplained));
}

#[test]
fn a_public_function_has_an_example_that_runs() {
    assert_none(sources().iter().flat_map(without_example));
}

#[test]
fn the_crate_root_holds_no_logic() {
    let root = sources().into_iter().find(Source::is_root).expect("src/lib.rs is there");
    assert_none(root.items().into_iter().filter_map(|item| logic(&item)));
}

#[test]
fn a_name_from_a_higher_or_an_equal_layer_is_caught() {
    for code in [
        "use crate::server::Server;",
        "use crate::{error::Error, server::{Server, Route}};",
        "use {crate::error::Error, crate::server::Server};",
        "fn f() -> crate::server::Server { todo!() }",
        "fn f() { tokio::select! { _ = crate::server::run() => {} } }",
        "use super::super::server::Server;",
        "use super::{super::server::Server};",
        "mod tests { use super::super::super::server::Server; }",
        "pub(in crate::listener) use crate::server::Server;",
        "use crate::activation::ActivatedListeners;",
    ] {
        let problems = upward_names(&Source::new("listener/stream.rs", code));
        assert_eq!(problems.len(), 1, "{code}: {problems:?}");
        assert!(problems[0].starts_with("src/listener/stream.rs:1: `listener` (layer 2) names `"), "{problems:?}");
    }
    assert_eq!(upward_names(&Source::new("addr.rs", "use super::drain::Drain;")).len(), 1);
    assert_eq!(upward_names(&Source::new("sys/socket.rs", "use crate::error::Error;")).len(), 1);
}

#[test]
fn lower_layers_and_a_modules_own_parts_may_be_named() {
    for code in [
        "use crate::{addr::{ListenAddr, PeerAddr}, error::Error, sys::socket};",
        "use super::listener::bind::Bound; use self::stream::Stream; mod tests { use super::*; }",
        "pub(crate) mod x {} pub(super) fn f(&self) -> Self { self.g(crate::error::Error) }",
        "//! [`Server`](crate::server::Server)\nfn f() { /* crate::server */ g(\"crate::server\"); }",
    ] {
        let problems = upward_names(&Source::new("listener/mod.rs", code));
        assert!(problems.is_empty(), "{code}: {problems:?}");
    }
    assert!(upward_names(&Source::new("error.rs", "use crate::sys::socket::SocketKind;")).is_empty());
}

#[test]
fn a_name_that_hides_its_layer_is_caught() {
    for (code, named) in [
        ("use crate::Server;", "`Server`"),
        ("use super::Server;", "`Server`"),
        ("use crate::*;", "the crate root"),
        ("use super::*;", "the crate root"),
        ("use crate as root;", "the crate root"),
        ("use super::{self as root};", "the crate root"),
    ] {
        let problems = upward_names(&Source::new("server.rs", code));
        assert_eq!(problems.len(), 1, "{code}: {problems:?}");
        assert!(problems[0].contains(&format!("names {named}, which is no module of a layer")), "{problems:?}");
    }
}

#[test]
fn a_module_without_a_layer_is_caught() {
    let problems = upward_names(&Source::new("proxy/mod.rs", ""));
    assert_eq!(
        problems,
        ["src/proxy/mod.rs: the module `proxy` has no layer yet; add it to LAYERS in tests/layering.rs"]
    );
}

#[test]
fn stray_unsafe_is_caught_in_code_and_not_in_words() {
    let code = "\n\nfn f() { g(|| unsafe { h() }) }";
    assert_eq!(
        stray_unsafe(&Source::new("listener/bind.rs", code)),
        ["src/listener/bind.rs:3: `unsafe` belongs under src/sys/"]
    );
    assert!(stray_unsafe(&Source::new("sys/exec.rs", code)).is_empty());
    assert_eq!(stray_unsafe(&Source::new("sys.rs", code)).len(), 1);
    let words = "//! unsafe\n#![expect(unsafe_code)] // unsafe\nconst S: &str = \"unsafe\";";
    assert!(stray_unsafe(&Source::new("addr.rs", words)).is_empty());
}

#[test]
fn a_value_without_its_type_is_caught() {
    let code = "//! dyn Any\nfn f(x: Box<dyn Any + Send>) {}\nfn g(x: &dyn std::any::Any) {}";
    assert_eq!(stray_any(&Source::new("activation/set.rs", code)).len(), 2);
    assert!(stray_any(&Source::new("server/route.rs", code)).is_empty());
    assert!(stray_any(&Source::new("addr.rs", "fn f(x: &dyn Anything, y: Any) {}")).is_empty());
}

#[test]
fn a_stray_event_is_caught_in_code_and_not_in_words() {
    let code = "//! tracing\nfn f() { tracing::info!(\"tracing\"); }";
    assert_eq!(
        stray_events(&Source::new("drain/mod.rs", code)),
        ["src/drain/mod.rs:2: a subscriber may panic; log by the macros of src/log.rs"]
    );
    assert!(stray_events(&Source::new("log.rs", code)).is_empty());
}

#[test]
fn a_stray_thread_is_caught_in_code_and_not_in_tests() {
    for code in [
        "use tokio::task::spawn_blocking;",
        "use tokio::task::{self, spawn_blocking as f};",
        "fn f() { tokio::task::spawn_blocking(g); }",
        "fn f() { set.spawn_blocking_on(g, h); }",
        "fn f() { tokio::task::block_in_place(g); }",
        "fn f() { g(|| std::thread::spawn(h)); }",
        "fn f() { thread::Builder::new().spawn(h); }",
        "use std::thread::{self, spawn};",
        "use std::{io, thread::Builder};",
        "fn f() { thread::scope(g); }",
        "async fn f() { tokio::fs::read(g).await; }",
        "use tokio::{fs, time::sleep};",
        "async fn f() { tokio::net::lookup_host(g).await; }",
    ] {
        assert_eq!(stray_threads(&Source::new("handoff/spawn.rs", code)).len(), 1, "{code}");
    }
    let code = "use std::thread;\nfn f() { thread::spawn(g); }";
    let file = |path, code: &str| stray_threads(&Source::new(path, code));
    assert!(file("handoff/spawn.rs", code)[0].starts_with("src/handoff/spawn.rs:2: "));
    for path in ["blocking.rs", "handoff/tests/whole.rs", "sys/exec/tests.rs"] {
        assert!(file(path, code).is_empty(), "{path}");
    }
    assert!(file("drain/shard.rs", &format!("#[cfg(test)]\nmod tests {{ {code} }}")).is_empty());
    let harmless =
        "//! spawn_blocking\nuse std::{fs, thread}; fn f() { thread::sleep(g); std::fs::read(h); tokio::spawn(i); }";
    assert!(file("handoff/spawn.rs", harmless).is_empty());
}

#[test]
fn an_overlong_file_is_caught_and_its_tests_do_not_count() {
    let file = |lines: usize, rest: &str| Source::new("addr.rs", &("// line\n".repeat(lines) + rest));
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "// line\n".repeat(300));
    assert_eq!(overlong(&file(LONGEST_FILE, "")), None);
    assert_eq!(overlong(&file(LONGEST_FILE, &tests)), None);
    assert!(
        overlong(&file(LONGEST_FILE + 1, &tests)).is_some_and(|problem| problem.starts_with("src/addr.rs: 381 lines"))
    );
    let import = format!("#[cfg(test)]\nuse std::fmt;\n{}", "// line\n".repeat(LONGEST_FILE));
    assert!(overlong(&file(0, &import)).is_some());
}

#[test]
fn documentation_does_not_make_a_file_long() {
    let file = |docs: &str| Source::new("addr.rs", &(docs.repeat(LONGEST_FILE) + "mod a;\n".repeat(300).as_str()));
    assert_eq!(overlong(&file("/// docs\n")), None);
    assert!(overlong(&file("// no docs\n")).is_some());
}

#[test]
fn a_public_function_without_an_example_is_caught() {
    let bare = |code: &str| without_example(&Source::new("addr.rs", code)).len();
    let run = "/// ```\n/// f();\n/// ```\n";
    assert!(without_example(&Source::new("wire/fuzzing.rs", "pub fn f() {}")).is_empty());
    for (code, expected) in [
        ("pub fn f() {}".to_owned(), 1),
        (format!("{run}pub fn f() {{}} pub fn g() {{}}"), 1),
        (format!("{run}#[must_use]\npub async fn f() {{}}"), 0),
        (format!("impl<T> S<T> {{ {run} pub fn f(&self) {{}} /// no code\n pub const fn g() {{}} }}"), 1),
        (format!("impl S {{ {}pub fn f(&self) {{}} }}", run.replacen("```", "```no_run", 1)), 1),
        ("impl T for S { fn f() {} } impl<F> S where F: for<'a> T<'a> { pub fn f() {} }".to_owned(), 1),
        ("pub(crate) fn f() {} impl S { pub(super) fn g() {} fn h() {} } pub trait T { fn f(); }".to_owned(), 0),
        ("#[cfg(test)] mod tests { pub fn f() {} } pub struct S; pub use a::b;".to_owned(), 0),
    ] {
        assert_eq!(bare(&code), expected, "{code}");
    }
}

#[test]
fn a_file_that_does_not_say_what_it_is_for_is_caught() {
    let file = |code: &str| unexplained(&Source::new("addr.rs", code));
    assert_eq!(file("//! Addresses.\nmod a;"), None);
    assert!(file("mod a;\n//! Too late.").is_some());
}

#[test]
fn logic_in_the_crate_root_is_caught() {
    let problems = |code: &str| Source::new("lib.rs", code).items().into_iter().filter_map(|item| logic(&item)).count();
    let declarations = "//! Docs.\n#![warn(missing_docs)]\npub mod a;\n#[cfg(x)] mod b;\npub use self::a::{B, c::D};";
    assert_eq!(problems(declarations), 0);
    for code in [
        "fn f() {}",
        "mod a; fn f() {} mod b;",
        "mod a { fn f() {} }",
        "use a::B;",
        "struct S;",
        "macro_rules! m { () => {} }",
    ] {
        assert_eq!(problems(code), 1, "{code}");
    }
}

/// What `source` names that is not below it.
fn upward_names(source: &Source) -> Vec<String> {
    let Some(own) = source.module() else {
        return Vec::new();
    };
    let file = &source.file;
    let Some(layer) = layer(own) else {
        return vec![format!("{file}: the module `{own}` has no layer yet; add it to LAYERS in tests/layering.rs")];
    };
    let judge =
        |name: source::Named| upward(own, layer, &name.module).map(|what| format!("{file}:{}: {what}", name.line));
    source.names().into_iter().filter_map(judge).collect()
}

fn upward(own: &str, own_layer: u8, named: &str) -> Option<String> {
    if named == own || EQUALS.contains(&(own, named)) {
        return None;
    }
    match layer(named) {
        Some(layer) if layer < own_layer => None,
        Some(layer) => {
            Some(format!("`{own}` (layer {own_layer}) names `{named}` (layer {layer}), which is not below it"))
        }
        None if named.is_empty() => {
            Some(format!("`{own}` names the crate root, which is no module of a layer; name the module it needs"))
        }
        None => Some(format!("`{own}` names `{named}`, which is no module of a layer; name the module it comes from")),
    }
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

fn stray_unsafe(source: &Source) -> Vec<String> {
    if source.file.starts_with("src/sys/") {
        return Vec::new();
    }
    let lines = source.lines_with("unsafe");
    lines.into_iter().map(|line| format!("{}:{line}: `unsafe` belongs under src/sys/", source.file)).collect()
}

/// `dyn Any`, which a downcast has to guess from; a panic's payload has no other type.
fn stray_any(source: &Source) -> Vec<String> {
    if source.is_test() || source.file == "src/server/route.rs" {
        return Vec::new();
    }
    let mut lines = source.lines_with_words(&["dyn", "Any"]);
    lines.retain(|line| *line <= source.lines_before_tests());
    let what = "`dyn Any` forgets a type that a downcast may not find again; name the type, or use a trait";
    lines.into_iter().map(|line| format!("{}:{line}: {what}", source.file)).collect()
}

/// Where a word of [`REFUSED_WORDS`] stands in `text`, also as a part of a name.
fn refused_words(file: &str, text: &str) -> Vec<String> {
    let refused = |word: &&str| REFUSED_WORDS.contains(&word.to_lowercase().as_str());
    let words = |line: &str| {
        let line = NAMES_OF_THE_SYSTEM.iter().fold(line.to_owned(), |line, name| line.replace(name, ""));
        line.split(|letter: char| !letter.is_ascii_alphabetic()).filter(refused).map(str::to_owned).collect::<Vec<_>>()
    };
    let lines = text.lines().zip(1..);
    lines
        .flat_map(|(line, number)| words(line).into_iter().map(move |word| (number, word)))
        .map(|(number, word)| format!("{file}:{number}: `{word}` is no word of the field; say who does what"))
        .collect()
}

fn stray_events(source: &Source) -> Vec<String> {
    if source.file == "src/log.rs" {
        return Vec::new();
    }
    let lines = source.lines_with("tracing");
    let what = "a subscriber may panic; log by the macros of src/log.rs";
    lines.into_iter().map(|line| format!("{}:{line}: {what}", source.file)).collect()
}

/// Where a thread is started outside of the one file, by name or by a function that starts one.
fn stray_threads(source: &Source) -> Vec<String> {
    if source.is_test() || source.file == "src/blocking.rs" {
        return Vec::new();
    }
    let names = ["spawn_blocking", "spawn_blocking_on", "block_in_place", "lookup_host"];
    let mut lines: Vec<_> = names.iter().flat_map(|name| source.lines_with(name)).collect();
    for (module, names) in [("thread", &["spawn", "Builder", "scope"][..]), ("tokio", &["fs"])] {
        lines.extend(names.iter().flat_map(|name| source.lines_with_path(module, name)));
    }
    lines.retain(|line| *line <= source.lines_before_tests());
    let what = "the system may have no thread for it, which panics; use src/blocking.rs";
    lines.into_iter().map(|line| format!("{}:{line}: {what}", source.file)).collect()
}

fn overlong(source: &Source) -> Option<String> {
    let lines = source.lines_of_code();
    (lines > LONGEST_FILE)
        .then(|| format!("{}: {lines} lines before its tests; more than {LONGEST_FILE} are two concepts", source.file))
}

fn unexplained(source: &Source) -> Option<String> {
    let says = examples::says_what_it_is_for(source.text());
    (!says).then(|| format!("{}: it begins with no `//!` that says what it is for", source.file))
}

/// What is there for the fuzz targets alone has no users.
fn is_for_fuzzing(source: &Source) -> bool {
    source.path().last().is_some_and(|module| module == "fuzzing")
}

fn without_example(source: &Source) -> Vec<String> {
    if is_for_fuzzing(source) {
        return Vec::new();
    }
    let bare = examples::bare_functions(source.tokens()).into_iter();
    let bare = bare.filter(|bare| !WITHOUT_EXAMPLE.contains(&bare.name.as_str()));
    let problem = |bare: examples::Bare| {
        format!("{}:{}: `{}` is public and has no example that runs in its docs", source.file, bare.line, bare.name)
    };
    bare.map(problem).collect()
}

fn logic(item: &str) -> Option<String> {
    let declares = ["mod ", "pub mod ", "pub use "].iter().any(|start| item.starts_with(start));
    let has_body = item.contains('{') && !item.starts_with("pub use ");
    (!declares || has_body).then(|| format!("src/lib.rs declares modules and re-exports, and this is neither: {item}"))
}

/// Every file under `src`.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).expect("it was found under src").to_str().expect("file names are UTF-8");
        Source::new(name, &fs::read_to_string(&path).expect("a source file can be read"))
    };
    rust_files(&root).into_iter().map(read).collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    files(folder).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of the project can be read");
    let paths = entries.map(|entry| entry.expect("a folder of the project can be read").path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn assert_none(problems: impl Iterator<Item = String>) {
    let problems: Vec<_> = problems.collect();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}
