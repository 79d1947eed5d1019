//! The book builds, holds every page, and every link and anchor in it leads somewhere.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

use mdbook_driver::MDBook;
use rempart_harness::repository;
use tempfile::TempDir;

use crate::{below, markdown, none, pages};

/// The book as it is given out.
struct Built {
    folder: TempDir,
}

impl Built {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut book = MDBook::load(repository().join("docs")).expect("the book can be read");
        book.config.build.build_dir = folder.path().to_owned();
        book.build().expect("the book builds");
        Self { folder }
    }

    fn text(&self, page: &Path) -> String {
        fs::read_to_string(self.folder.path().join(page)).expect("a built page")
    }

    /// The page's own text, without what every page has around it.
    fn main(&self, page: &Path) -> String {
        let text = self.text(page);
        let from = text.find("<main>").expect("<main>");
        let to = text.find("</main>").expect("</main>");
        text[from..to].to_owned()
    }
}

#[test]
fn every_page_is_in_the_book_and_begins_with_its_title() {
    let root = repository();
    let summary = fs::read_to_string(root.join("docs/SUMMARY.md")).expect("SUMMARY.md");
    let mut wrong = Vec::new();
    for path in markdown(&root, Path::new("docs")) {
        let name = path.strip_prefix("docs").expect("below docs").display().to_string();
        if name == "SUMMARY.md" {
            continue;
        }
        if summary.matches(&format!("]({name})")).count() != 1 {
            wrong.push(format!("docs/{name} does not stand in docs/SUMMARY.md once"));
        }
        let text = fs::read_to_string(root.join(&path)).expect("a page");
        if !text.starts_with("# ") && !text.starts_with("{{#include") {
            wrong.push(format!("docs/{name} does not begin with a title"));
        }
    }
    none(wrong);
}

#[test]
fn the_book_builds_and_every_link_and_anchor_in_it_leads_somewhere() {
    let built = Built::new();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for page in below(built.folder.path(), Path::new("")) {
        let html = page.extension().is_some_and(|extension| extension == "html");
        if !html || ["print.html", "toc.html", "404.html"].contains(&page.to_str().unwrap_or_default()) {
            continue;
        }
        for link in attributes(&built.main(&page), &["href", "src"]) {
            if outward(&link) {
                continue;
            }
            seen += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => page.clone(),
                file => clean(&page.parent().unwrap_or(Path::new("")).join(file)),
            };
            if !built.folder.path().join(&target).is_file() {
                wrong.push(format!("{}: there is no {link}", page.display()));
            } else if !anchor.is_empty() && !attributes(&built.text(&target), &["id"]).contains(anchor) {
                wrong.push(format!("{}: there is no heading {link}", page.display()));
            }
        }
    }
    assert!(seen > 100, "only {seen} links were found");
    none(wrong);
}

#[test]
fn links_of_the_pages_beside_the_book_lead_to_files_of_the_repository() {
    let root = repository();
    let mut wrong = Vec::new();
    for page in pages() {
        let folder = page.path.parent().expect("a file");
        for link in page.links.iter().filter(|link| !outward(&link.to)) {
            let file = link.to.split('#').next().unwrap_or_default();
            if !root.join(clean(&folder.join(file))).exists() {
                wrong.push(format!("{}: there is no {}", page.at(link.line), link.to));
            }
        }
    }
    none(wrong);
}

/// Leads out of the repository, where no test goes.
fn outward(link: &str) -> bool {
    link.starts_with("https://") || link.starts_with("http://") || link.starts_with("mailto:")
}

/// Values of attributes in HTML that mdbook wrote, which quotes all of them.
fn attributes(html: &str, names: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for name in names {
        for part in html.split(&format!(" {name}=\"")).skip(1) {
            found.insert(part.split('"').next().unwrap_or_default().replace("&amp;", "&"));
        }
    }
    found
}

/// Without `.` and `..`.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    clean
}
