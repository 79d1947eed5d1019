//! Every kept input is run through its target, and folders and targets belong together.

use std::{collections::BTreeSet, fs, path::Path};

use rempart_fuzz::{all, meter::Meter};

#[global_allocator]
static METER: Meter = Meter;

/// Cargo runs a test in its package's folder; a compiled path may be that of another checkout.
fn corpus() -> std::path::PathBuf {
    Path::new("corpus").to_owned()
}

#[test]
fn every_kept_input_keeps_the_promises() {
    for target in all() {
        for entry in fs::read_dir(corpus().join(target.name)).expect("a folder for each target") {
            let path = entry.expect("readable").path();
            let input = fs::read(&path).expect("readable");
            // The name of the input stands above the panic.
            println!("{}", path.display());
            target.check(&input);
        }
    }
}

#[test]
fn every_folder_has_its_target_and_every_target_its_own_name() {
    let names: BTreeSet<String> = all().map(|target| target.name.to_owned()).collect();
    assert_eq!(names.len(), all().count());
    let folders: BTreeSet<String> = fs::read_dir(corpus())
        .expect("the corpora")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("text"))
        .collect();
    assert_eq!(folders, names);
}
