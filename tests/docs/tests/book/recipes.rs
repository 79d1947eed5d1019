//! Complete unit files and drop-ins in pages, beside the units of Debian 13 that they are for: each would be wrapped.

use std::{fs, path::Path};

use rempart_core::unitfile::{Entry, OnRotate, Source, entries, read_opt_in};
use rempart_docs::Page;
use rempart_harness::repository;
use rempart_rewrite::{Candidate, Judgement, Units};
use tempfile::TempDir;

use crate::{below, none, pages};

/// What the first line of a block says that it is.
const PLACE: &str = "# /etc/systemd/system/";

/// Every unit file of one page in its place, and the units that they are for.
fn system(page: &Page) -> (TempDir, usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = 0;
    for block in &page.blocks {
        let Some(rest) = block.text.strip_prefix(PLACE) else {
            continue;
        };
        let (name, text) = rest.split_once('\n').expect("a first line");
        let path = folder.path().join("etc").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        assert!(!path.exists(), "{}: {PLACE}{name} a second time", page.at(block.line));
        fs::write(path, text).expect("written");
        files += 1;
    }
    let units = repository().join("tests/docs/units");
    for unit in below(&units, Path::new("")) {
        let path = folder.path().join("usr").join(unit.file_name().expect("a file"));
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::copy(units.join(&unit), path).expect("copied");
    }
    (folder, files)
}

/// What is wrong with the units below `folder`, and how many there are that would be wrapped.
fn judged(folder: &Path) -> (Vec<String>, usize) {
    let units = Units::read(&[folder.join("etc"), folder.join("usr")]);
    let (mut wrong, mut wrapped) = (Vec::new(), 0);
    for candidate in Candidate::all(&units) {
        let name = candidate.name().to_owned();
        match candidate.judge(false) {
            Judgement::Leave => {}
            Judgement::Refuse(defect) => wrong.push(format!("{name}: {defect}")),
            Judgement::Wrap(_) => {
                wrapped += 1;
                let sources = candidate.sources().expect("readable");
                let opt_in = read_opt_in(&sources).expect("judged").expect("opted in");
                if opt_in.on_rotate == OnRotate::Reload && !reloads(&sources) {
                    wrong.push(format!("{name}: OnRotate=reload without ExecReload="));
                }
            }
        }
    }
    (wrong, wrapped)
}

/// Whether the last `ExecReload=` says something.
fn reloads(sources: &[Source<'_>]) -> bool {
    let found = sources
        .iter()
        .flat_map(|source| entries(source.text).unwrap_or_default());
    let mut commands = found.filter_map(|entry| match entry {
        Entry::Assignment(set) if set.key == "ExecReload" => Some(!set.value.is_empty()),
        _ => None,
    });
    commands.next_back().unwrap_or(false)
}

/// The page of recipes.
fn recipes() -> Page {
    Page::read(&repository(), "docs/recipes.md".as_ref()).expect("the recipes")
}

#[test]
fn every_unit_file_in_a_page_would_be_wrapped() {
    let mut wrong = Vec::new();
    for page in pages() {
        let (folder, _) = system(&page);
        let found = judged(folder.path()).0.into_iter();
        wrong.extend(found.map(|what| format!("{}: {what}", page.path.display())));
    }
    none(wrong);
    let (folder, files) = system(&recipes());
    let (_, wrapped) = judged(folder.path());
    assert!(files >= 12 && wrapped >= 12, "{files} files, {wrapped} wrapped units");
}

#[test]
fn a_drop_in_with_a_wrong_word_or_without_its_unit_is_found() {
    for (name, text) in [
        ("nginx.service.d/60.conf", "[X-Rempart]\nSercet=a=kv/a#b\n"),
        ("nginx.service.d/60.conf", "[Service]\nExecStart=\nExecStart=nginx\n"),
        ("ngnix.service.d/60.conf", "[X-Rempart]\nWrap=yes\n"),
        ("nginx.service.d/60.conf", "[Service]\nExecReload=\n"),
    ] {
        let (folder, _) = system(&recipes());
        let path = folder.path().join("etc").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
        assert_eq!(judged(folder.path()).0.len(), 1, "{text}");
    }
}
