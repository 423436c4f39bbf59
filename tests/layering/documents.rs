//! What the documents say of the code and of each other is there: links, errors, log lines, tests, examples.

use std::{
    collections::HashSet,
    fs,
    path::{Component, Path, PathBuf},
};

use super::{assert_none, rust_files};

/// The repository, as links that work on crates.io and docs.rs have it.
const REPOSITORY: &str = "https://github.com/axum-activation/axum-activation/";

/// A document without its blocks of code.
struct Document {
    path: PathBuf,
    lines: Vec<String>,
}

#[test]
fn every_link_of_a_document_leads_to_a_file_and_a_heading() {
    assert_none(documents().iter().flat_map(broken_links));
}

/// rustdoc takes the first of two definitions of a link, so `links.md` stands before each page.
#[test]
fn the_links_of_the_guides_lead_to_the_same_place_in_rustdoc() {
    let known = Document::read(&root().join("src/guide/links.md")).definitions();
    let guides = documents().into_iter().filter(|document| document.path.parent() == Some(&root().join("docs/guide")));
    assert_none(guides.flat_map(|guide| guide.definitions()).filter_map(|(label, target)| {
        let (file, fragment) = target.split_once('#').map_or((&*target, ""), |(file, fragment)| (file, fragment));
        let in_rustdoc = match file.strip_suffix(".md").filter(|page| !page.contains('/')) {
            Some(page) => format!("crate::guide::{}", page.replace('-', "_")),
            None => format!("{REPOSITORY}blob/main/{}", normal(&Path::new("docs/guide").join(file)).display()),
        };
        let expected = if fragment.is_empty() { in_rustdoc } else { format!("{in_rustdoc}#{fragment}") };
        let is_there = known.iter().any(|(known, target)| *known == label && *target == expected);
        (!is_there).then(|| format!("src/guide/links.md lacks [{label}]: {expected}"))
    }));
}

/// Relative ones lead nowhere on crates.io.
#[test]
fn every_link_of_the_readme_is_absolute() {
    let readme = Document::read(&root().join("README.md"));
    let targets = readme.lines.iter().flat_map(|line| link_targets(&without_code(line)));
    let relative = targets.filter(|target| !target.starts_with("https://") && !target.starts_with('#'));
    assert_none(relative.map(|target| format!("README.md has the relative link {target}")));
}

/// Pages outside of them are no doctests.
#[test]
fn every_example_in_rust_stands_in_a_guide_or_in_the_readme() {
    let guides = fs::read_to_string(root().join("src/guide/mod.rs")).expect("the module of the guides can be read");
    assert_none(documents().into_iter().filter_map(|document| {
        let text = fs::read_to_string(&document.path).expect("a document can be read");
        let name = document.path.file_name()?.to_str()?.to_owned();
        let is_tested = guides.contains(&format!("\"{name}\"")) && document.path.starts_with(root().join("docs/guide"));
        (!is_tested && name != "README.md" && text.contains("```rust"))
            .then(|| format!("{} has an example that is no doctest", document.place()))
    }));
}

#[test]
fn every_kind_of_error_is_listed_with_its_fix() {
    let code = fs::read_to_string(root().join("src/error.rs")).expect("the errors can be read");
    let (_, kinds) = code.split_once("enum Kind {\n").expect("the kinds are there");
    let (kinds, _) = kinds.split_once("\n}").expect("they end");
    let names = kinds.lines().filter_map(|line| line.strip_prefix("    ")?.split([',', ' ', '(']).next());
    let names: Vec<_> = names.filter(|name| name.starts_with(char::is_uppercase)).collect();
    assert!(names.len() > 20, "{names:?}");
    let page = fs::read_to_string(root().join("docs/reference/errors.md")).expect("the page can be read");
    let listed = |name: &str| page.lines().any(|line| line.starts_with(&format!("| `{name}` |")));
    assert_none(names.into_iter().filter(|name| !listed(name)).map(|name| format!("errors.md lacks `{name}`")));
}

/// By their names in the report, which an operator looks for.
#[test]
fn every_reason_why_a_connection_does_not_move_is_listed_with_what_to_do() {
    let code = fs::read_to_string(root().join("src/drain/unmoved.rs")).expect("the reasons can be read");
    let names =
        code.lines().filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => \"")?.1.split('"').next());
    let names: HashSet<_> = names.collect();
    assert!(names.len() > 10, "{names:?}");
    let page = fs::read_to_string(root().join("docs/guide/monitoring.md")).expect("the guide can be read");
    let (_, listed) = page.split_once("## Why connections do not move").expect("the guide has that part");
    let (listed, _) = listed.split_once("\n## ").expect("another part follows");
    let listed: HashSet<_> = listed.lines().filter_map(|row| row.strip_prefix("| `")?.split('`').next()).collect();
    assert_none(names.symmetric_difference(&listed).map(|name| format!("monitoring.md or unmoved.rs lacks {name:?}")));
}

/// In a table whose column is called `line`, what is in code is a line of the log.
#[test]
fn every_log_line_that_the_guide_names_is_in_the_code() {
    let guide = fs::read_to_string(root().join("docs/guide/monitoring.md")).expect("the guide can be read");
    let mut tables = guide.split("\n\n").filter(|block| block.starts_with("| level | process | line |")).peekable();
    assert!(tables.peek().is_some(), "the tables are there");
    // A long text is broken by a backslash at the end of a line.
    let code = all_code().replace("\\\n", "").split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<_> =
        tables.flat_map(str::lines).filter_map(|row| row.split(" | ").nth(2)?.split('`').nth(1)).collect();
    assert!(lines.len() > 10, "{lines:?}");
    let is_missing = |line: &&str| !line.split("..").all(|part| code.contains(part.trim()));
    assert_none(lines.into_iter().filter(is_missing).map(|line| format!("monitoring.md names the log line {line:?}")));
}

/// The table of what is believed of each field names the test of each check.
#[test]
fn every_test_that_the_docs_of_the_protocol_name_is_there() {
    let docs = fs::read_to_string(root().join("docs/reference/handoff.md")).expect("the docs can be read");
    let (_, believed) = docs.split_once("## What is believed").expect("the docs have that part");
    let (table, _) = believed.split_once("\n## ").expect("another part follows");
    let named = table.lines().filter_map(|line| line.trim_end_matches('|').rsplit('|').next());
    let named: Vec<_> = named.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert!(named.len() > 20, "{named:?}");
    let code = all_code();
    let is_missing = |name: &&str| !code.contains(&format!("fn {name}("));
    assert_none(named.into_iter().filter(is_missing).map(|name| format!("handoff.md names the test {name}")));
}

/// A page that walks through the code names symbols and files of `src`, and never lines.
#[test]
fn every_symbol_that_a_lifecycle_names_is_in_the_code() {
    let code = all_code();
    let words: HashSet<_> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let pages: Vec<_> = documents().into_iter().filter(|page| page.path.ends_with("LIFECYCLE.md")).collect();
    assert_eq!(pages.len(), 2);
    assert_none(pages.iter().flat_map(|page| {
        let spans = page.lines.iter().flat_map(|line| line.split('`').skip(1).step_by(2));
        let is_there = |span: &str| match span.contains('/') {
            true => root().join("src").join(span).exists(),
            false => span.split(|c: char| !c.is_alphanumeric() && c != '_').all(|word| words.contains(word)),
        };
        let missing = spans.filter(|span| !is_there(span)).collect::<Vec<_>>();
        missing.into_iter().map(|span| format!("{} names `{span}`, which is not there", page.place()))
    }));
}

#[test]
fn a_broken_link_is_caught() {
    let problems = |text: &str| broken_links(&Document::new(root().join("docs/guide/x.md"), text)).len();
    for text in [
        "[a](drain.md) [b](../reference/drain.md#phases) [c](#here)\n# Here",
        "[a][b]\n[b]: drain.md",
        "[a](https://example.org/)",
        "`[a](nowhere.md)`",
        "```text\n[a](nowhere.md)\n```",
        &format!("[a]({REPOSITORY}tree/main/docs)"),
    ] {
        assert_eq!(problems(text), 0, "{text}");
    }
    for text in [
        "[a](nowhere.md)",
        "[a](drain.md#nowhere)",
        "[a](#nowhere)",
        "[a][nowhere]",
        "[b]: nowhere.md",
        &format!("[a]({REPOSITORY}blob/main/docs/nowhere.md)"),
    ] {
        assert_eq!(problems(text), 1, "{text}");
    }
}

fn broken_links(document: &Document) -> Vec<String> {
    let definitions = document.definitions();
    let mut problems = Vec::new();
    for line in document.lines.iter().map(|line| without_code(line)) {
        for (label, _) in line.split("][").skip(1).filter_map(|rest| rest.split_once(']')) {
            if !definitions.iter().any(|(known, _)| known == label) {
                problems.push(format!("{} does not say where [{label}] leads", document.place()));
            }
        }
        let broken = link_targets(&line).into_iter().filter(|target| !document.leads_somewhere(target));
        problems.extend(broken.map(|target| format!("{} leads to {target}, which is not there", document.place())));
    }
    problems
}

impl Document {
    fn read(path: &Path) -> Self {
        Self::new(path.to_owned(), &fs::read_to_string(path).expect("a document can be read"))
    }

    fn new(path: PathBuf, text: &str) -> Self {
        let mut is_code = false;
        let is_prose = |line: &&str| {
            let is_fence = line.trim_start().starts_with("```");
            is_code ^= is_fence;
            !is_code && !is_fence
        };
        Self { path, lines: text.lines().filter(is_prose).map(str::to_owned).collect() }
    }

    fn place(&self) -> String {
        self.path.strip_prefix(root()).unwrap_or(&self.path).display().to_string()
    }

    /// Each `[label]: target`.
    fn definitions(&self) -> Vec<(String, String)> {
        self.lines.iter().filter_map(|line| definition(line)).collect()
    }

    fn leads_somewhere(&self, target: &str) -> bool {
        let (file, fragment) = target.split_once('#').map_or((target, None), |(file, fragment)| (file, Some(fragment)));
        // Pages of the repository that are no files are left to the reader.
        let of_repository =
            file.strip_prefix(REPOSITORY).and_then(|rest| Some(root().join(rest.split_once("/main/")?.1)));
        let path = match file {
            "" => return fragment.is_some_and(|fragment| self.has_heading(fragment)),
            file if file.contains(':') => match of_repository {
                Some(path) => path,
                None => return true,
            },
            file => self.path.parent().expect("a document is in a folder").join(file),
        };
        path.exists() && fragment.is_none_or(|fragment| Self::read(&path).has_heading(fragment))
    }

    fn has_heading(&self, fragment: &str) -> bool {
        let headings = self
            .lines
            .iter()
            .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
        headings.map(anchor).any(|anchor| anchor == fragment)
    }
}

/// Where the links of a line lead, and the definitions.
fn link_targets(line: &str) -> Vec<String> {
    let inline = line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()));
    inline.chain(definition(line).map(|(_, target)| target)).collect()
}

fn definition(line: &str) -> Option<(String, String)> {
    let (label, target) = line.strip_prefix('[')?.split_once("]: ")?;
    Some((label.to_owned(), target.to_owned()))
}

/// The line without its `code`.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// The anchor of a heading on GitHub and in rustdoc.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut normal, part| {
        match part {
            Component::ParentDir => drop(normal.pop()),
            part => normal.push(part),
        }
        normal
    })
}

fn documents() -> Vec<Document> {
    let folders = ["benches", "docs", "examples", "src"].map(|folder| files_below(&root().join(folder))).concat();
    let mut paths: Vec<_> = folders.into_iter().filter(|path| path.extension().is_some_and(|it| it == "md")).collect();
    paths.extend(["CHANGELOG.md", "CONTRIBUTING.md", "README.md", "SECURITY.md"].map(|name| root().join(name)));
    paths.retain(|path| !path.ends_with("src/guide/links.md"));
    paths.iter().map(|path| Document::read(path)).collect()
}

fn all_code() -> String {
    let files = ["src", "tests"].map(|folder| rust_files(&root().join(folder))).concat();
    files.iter().map(|file| fs::read_to_string(file).expect("a source file can be read")).collect()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).expect("a folder can be read").map(|entry| entry.expect("it has entries").path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
