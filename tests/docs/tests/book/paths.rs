//! Every file of the repository and of the packages that a page names is there.

use std::fs;

use rempart_harness::repository;

use crate::{below, none, pages};

/// Top folders whose files pages name.
const FOLDERS: [&str; 8] = [
    "attest/",
    "docs/",
    "ebpf/",
    "nodeagent/",
    "packaging/",
    "tests/",
    "vagrant/",
    "wrapper/",
];
/// Where an installed system has what is ours.
const INSTALLED: [&str; 7] = [
    "/etc/rempart/",
    "/etc/rempart-verifier/",
    "/usr/lib/rempart/",
    "/var/lib/rempart/",
    "/var/lib/rempart-verifier/",
    "/run/rempart/",
    "/usr/share/rempart/",
];

/// The words of code.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let edges: &[char] = &['"', '\'', '`', ',', ';', ':', '(', ')', '<', '>', '='];
    text.split_whitespace()
        .flat_map(|word| word.split(['=', ':', '"', '\'']))
        .map(move |word| word.trim_matches(edges).trim_end_matches('.'))
}

/// A name that stands for many.
fn is_pattern(word: &str) -> bool {
    word.contains(['*', '{', '…', '$', '<', '|', '#'])
}

#[test]
fn every_file_of_the_repository_that_a_page_names_is_there() {
    let root = repository();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages() {
        for code in page.code() {
            for word in words(&code.text).filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder))) {
                if is_pattern(word) {
                    continue;
                }
                seen += 1;
                if !root.join(word).exists() {
                    wrong.push(format!("{}: there is no {word}", page.at(code.line)));
                }
            }
        }
    }
    assert!(seen > 3, "only {seen} files were found");
    none(wrong);
}

/// What packages hold and what programs say of files.
fn known() -> String {
    let root = repository();
    let mut known = String::new();
    for folder in ["packaging", "nodeagent", "wrapper", "ebpf", "attest"] {
        for file in below(&root, folder.as_ref()) {
            known.push_str(&fs::read_to_string(root.join(&file)).unwrap_or_default());
        }
    }
    known
}

/// Programs name a file whole, or by its last part below a folder that they have.
fn is_known(known: &str, folder: &str, name: &str) -> bool {
    known.contains(&format!("{folder}{name}")) || known.contains(&format!("\"{name}\""))
}

#[test]
fn a_file_that_nobody_knows_is_found() {
    let known = known();
    assert!(is_known(&known, "/etc/rempart/", "break-glass.keys") && is_known(&known, "/usr/lib/rempart/", "rempartd"));
    assert!(
        !is_known(&known, "/etc/rempart/", "break-glass.kyes") && !is_known(&known, "/usr/lib/rempart/", "rempartc")
    );
}

#[test]
fn every_installed_file_that_a_page_names_is_known_to_packages_or_programs() {
    let known = known();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages() {
        for code in page.code() {
            for word in words(&code.text) {
                let Some(folder) = INSTALLED.iter().find(|folder| word.starts_with(**folder)) else {
                    continue;
                };
                // What lies deeper is the user's, or is named by a placeholder.
                let name = word[folder.len()..].split('/').next().unwrap_or_default();
                if name.is_empty() || is_pattern(name) || OWN.contains(&name) {
                    continue;
                }
                seen += 1;
                if !is_known(&known, folder, name) {
                    wrong.push(format!("{}: nothing of ours knows {folder}{name}", page.at(code.line)));
                }
            }
        }
    }
    assert!(seen > 15, "only {seen} files were found");
    none(wrong);
}

/// Folders that pages advise the reader to make.
const OWN: [&str; 1] = ["templates"];
