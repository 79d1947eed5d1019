//! The short run: every corpus is replayed, then each target gets a fixed number of mutations from a fixed start, so that two runs
//! do the same. Nothing is written to the kept corpora.

use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result};
use rempart_fuzz::{Target, all};

use crate::engine::{Engine, corpus};

/// Where the pseudo-random mutations start.
const START: &str = "-seed=1";

/// Runs all targets, `jobs` at once; prints one test line for each; false when one failed.
pub fn run(engine: &Engine, jobs: usize) -> Result<bool> {
    let waiting = Mutex::new(all());
    let next = || waiting.lock().ok().and_then(|mut targets| targets.next());
    let work = || -> Result<bool> {
        let mut clean = true;
        while let Some(target) = next() {
            clean &= one(engine, target)?;
        }
        Ok(clean)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_fold(true, |clean, worker| {
            let one = worker.join().ok().context("a worker of the smoke run panicked")?;
            Ok(one? && clean)
        })
    })
}

fn one(engine: &Engine, target: &'static Target) -> Result<bool> {
    let scratch = tempfile::tempdir()?;
    let runs = format!("-runs={}", target.runs);
    let mut run = engine.start(target, &[&runs, START], &[scratch.path(), &corpus(target)])?;
    let ended = run.wait()?;
    if ended.clean() {
        println!("test fuzz/{} ... ok ({})", target.name, run.progress());
    } else {
        println!("test fuzz/{} ... FAILED: {}", target.name, ended.words(&run));
    }
    Ok(ended.clean())
}
