//! Plays docs/quick-start.md as a reader would: its commands as they stand there, in a clean Debian 13 with a booted systemd, and on
//! an owner's machine beside it. Root. Prints `test docs/quick-start/… ... ok|FAILED`; exit 1 when one failed.
//!
//! usage: rempart-docs FOLDER      FOLDER has the packages, as ./x deb makes them

#![forbid(unsafe_code)]

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use rempart_docs::{Page, Section};
use rempart_harness::repository;

use play::Stage;

/// The two machines, and what the page says that the test adds to them.
mod play;
/// A shell that is told one block after another.
mod shell;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error:#}");
            println!("test docs/quick-start/set-up ... FAILED");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    play::alone()?;
    let packages = PathBuf::from(env::args_os().nth(1).context("usage: rempart-docs FOLDER")?);
    let page = Page::read(&repository(), "docs/quick-start.md".as_ref())?;
    let sections = Section::of(&page);
    anyhow::ensure!(
        sections.len() == 2,
        "the page has {} sections with commands",
        sections.len()
    );
    let mut well = true;
    for section in &sections {
        // Each section is for machines of its own, so that either can be read alone.
        let mut stage = Stage::set(&packages)?;
        for step in &section.steps {
            let name = format!("docs/quick-start/{}/line-{}", section.name, step.line);
            match stage.play(step) {
                Ok(()) => println!("test {name} ... ok"),
                Err(error) => {
                    println!("{error:#}");
                    println!("test {name} ... FAILED");
                    well = false;
                    // What follows builds on it.
                    break;
                }
            }
        }
    }
    Ok(well)
}
