//! What the heap costs: the start of a program, its work, its forks.

use std::{path::Path, time::Instant};

use anyhow::{Result, ensure};

use super::{PROGRAMS, Program, Setting, copies, installed};
use crate::table::{Table, percentile};

/// Copies and times of each installed program; times are medians of `rounds`, alternating, so that other load falls on both alike.
pub fn measure(library: &Path, rounds: usize) -> Result<Table> {
    let mut table = Table::default();
    for program in PROGRAMS {
        let Some(file) = installed(program) else {
            table.note(&format!("{} is not installed", program.name()));
            continue;
        };
        outside(program, &file, library, &mut table)?;
        if let Some(words) = program.nothing() {
            let start = |library: Option<&Path>| nothing(&file, words, library);
            let (plain, secret) = alternating(rounds.max(9), start, library)?;
            table.add(
                &format!("{}: start and end", program.name()),
                secret,
                "ms",
                Some(plain),
                None,
            );
        }
        work(program, &file, library, rounds.max(3), &mut table)?;
    }
    Ok(table)
}

#[expect(clippy::cast_precision_loss, reason = "counts of copies")]
fn outside(program: &dyn Program, file: &Path, library: &Path, table: &mut Table) -> Result<()> {
    let plain = copies::count(program, file, None)?;
    for (kind, found) in copies::count(program, file, Some(library))? {
        let aim = (!program.uncovered().contains(&kind.as_str())).then_some(0.0);
        table.add(
            &format!("{}: copies that can be read, {kind}", program.name()),
            found.copies as f64,
            "",
            plain.get(&kind).map(|found| found.copies as f64),
            aim,
        );
    }
    Ok(())
}

/// One start and end, in ms.
fn nothing(file: &Path, words: &[&str], library: Option<&Path>) -> Result<f64> {
    let folder = Path::new("/");
    let start = Instant::now();
    let status = Setting { library, folder }.command(file).args(words).status()?;
    ensure!(status.success(), "{}: {status}", file.display());
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

/// Medians without and with the library.
fn alternating(rounds: usize, once: impl Fn(Option<&Path>) -> Result<f64>, library: &Path) -> Result<(f64, f64)> {
    let (mut plain, mut secret) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        plain.push(once(None)?);
        secret.push(once(Some(library))?);
    }
    Ok((percentile(&plain, 0.5), percentile(&secret, 0.5)))
}

fn work(program: &dyn Program, file: &Path, library: &Path, rounds: usize, table: &mut Table) -> Result<()> {
    let once = |library: Option<&Path>| {
        let folder = tempfile::tempdir()?;
        let folder = folder.path();
        program.work(file, Setting { library, folder })
    };
    let mut all: Vec<(&str, &str, Vec<f64>, Vec<f64>)> = Vec::new();
    for round in 0..rounds {
        let (plain, secret) = (once(None)?, once(Some(library))?);
        for (index, (plain, secret)) in plain.into_iter().zip(secret).enumerate() {
            if round == 0 {
                all.push((plain.what, plain.unit, Vec::new(), Vec::new()));
            }
            all[index].2.push(plain.value);
            all[index].3.push(secret.value);
        }
    }
    for (what, unit, plain, secret) in all {
        let name = format!("{}: {what}", program.name());
        table.add(
            &name,
            percentile(&secret, 0.5),
            unit,
            Some(percentile(&plain, 0.5)),
            None,
        );
    }
    Ok(())
}
