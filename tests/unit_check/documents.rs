//! The units that are written out in the documents: they are copied, so they have no fault.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use axum_activation::unit_check::{Expectation, check};

use crate::{brief, printed, units};

/// A block that shows what is wrong says so after the word that opens it.
const WRONG: &str = "wrong";

/// The blocks of one section of a document that begin with the name of a unit: its text, and whether it is wrong on purpose.
#[derive(Debug, Default)]
struct Section {
    place: String,
    files: Vec<(String, String)>,
    is_wrong: bool,
}

#[test]
fn the_units_in_the_documents_have_no_fault() {
    let mut checked = 0;
    for document in documents() {
        for section in sections(&document) {
            let findings = check(&units(&section.files), &expectation(&section.files));
            assert_eq!(section.is_wrong, !findings.is_empty(), "{}\n{}", section.place, printed(&findings));
            checked += section.files.len();
        }
    }
    assert!(checked >= 6, "the blocks are found: {checked}");
}

#[test]
fn every_unit_file_beside_the_documents_has_no_fault() {
    let mut files = Vec::new();
    for file in files_below(&root().join("docs")).into_iter().filter(|path| is_unit(path)) {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        files.push((name, fs::read_to_string(file).unwrap()));
    }
    assert!(files.len() >= 2, "they are found");
    let findings = check(&units(&files), &expectation(&files));
    assert_eq!(brief(&findings), [], "{}", printed(&findings));
}

/// What a service expects that runs under these units.
fn expectation(files: &[(String, String)]) -> Expectation {
    let values = |key: &str| {
        let lines = files.iter().flat_map(|(_, text)| text.lines());
        lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut expectation = Expectation::new().handoff(!values("ExecReload").is_empty());
    for name in values("FileDescriptorName") {
        expectation = expectation.name(name);
    }
    for stored in values("FileDescriptorStoreMax") {
        expectation = expectation.fd_store(stored.parse().unwrap());
    }
    expectation
}

/// The sections of a document that have units.
fn sections(document: &Path) -> Vec<Section> {
    let text = fs::read_to_string(document).unwrap();
    let name = document.strip_prefix(root()).unwrap().display();
    let mut sections = vec![Section::default()];
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with('#') {
            sections.push(Section { place: format!("{name}: {line}"), ..Section::default() });
            continue;
        }
        let Some(language) = line.trim_start().strip_prefix("```").filter(|language| !language.is_empty()) else {
            continue;
        };
        let block: Vec<_> = lines.by_ref().take_while(|line| !line.trim_start().starts_with("```")).collect();
        let mut words = language.split(' ');
        if words.next() != Some("ini") {
            continue;
        }
        let section = sections.last_mut().unwrap();
        let unit = block.first().and_then(|first| first.strip_prefix("# ")).map(|path| Path::new(path).file_name());
        let unit = unit.flatten().and_then(|unit| unit.to_str()).filter(|unit| is_unit(Path::new(unit)));
        let unit = unit.unwrap_or_else(|| panic!("{}: a block of ini names its unit first: {block:?}", section.place));
        section.is_wrong |= words.next() == Some(WRONG);
        section.files.push((unit.to_owned(), block.join("\n")));
    }
    sections.retain(|section| !section.files.is_empty());
    sections
}

fn documents() -> Vec<PathBuf> {
    let mut documents = files_below(&root().join("docs"));
    documents.extend(files_below(&root().join("examples/systemd")));
    documents.push(root().join("README.md"));
    documents.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    documents
}

fn is_unit(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["service", "socket", "container"].iter().any(|unit| extension == *unit))
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
