//! The documentation says what is so: the book builds, no link is dead, and what stands in it as code is known to the product.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use rempart_docs::Page;
use rempart_harness::repository;

/// The book itself, and its links.
mod book;
/// The workflow for CI.
mod ci;
/// Command lines, with the help of the real programs.
mod commands;
/// Keys of unit files and of the configuration, with the agent's own parsers.
mod keys;
/// Files of the repository and of the packages.
mod paths;
/// Complete drop-ins, with the units of Debian that they are for.
mod recipes;

/// Every page: the book's, and the two beside it.
fn pages() -> Vec<Page> {
    let root = repository();
    let mut paths = vec![PathBuf::from("README.md"), PathBuf::from("CHANGELOG.md")];
    paths.extend(markdown(&root, Path::new("docs")));
    let pages: Vec<_> = paths
        .iter()
        .map(|path| Page::read(&root, path).expect("a page"))
        .collect();
    assert!(pages.len() > 20, "only {} pages were found", pages.len());
    pages
}

/// Markdown files below `folder`, from the repository's root.
fn markdown(root: &Path, folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = below(root, folder)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    found.sort();
    found
}

/// All files below `folder`, from `root`.
fn below(root: &Path, folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join(folder)).expect("a folder") {
        let entry = entry.expect("an entry");
        let path = folder.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            found.extend(below(root, &path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Ends the test with every line of `wrong`, where there is one.
fn none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
