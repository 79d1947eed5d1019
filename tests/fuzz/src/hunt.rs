//! The long run: each target for a given time, its progress shown, every input that broke a promise kept and named.

use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::Result;
use rempart_fuzz::Target;

use crate::engine::{Engine, Run, corpus, work};

/// How often progress is shown.
const PULSE: Duration = Duration::from_secs(15);

/// Hunts in `targets`, `jobs` at once; false when something was found.
pub fn run(engine: &Engine, targets: &[&'static Target], seconds: u64, jobs: usize) -> Result<bool> {
    let mut waiting = targets.iter().copied();
    let mut running: Vec<(Run, Instant)> = Vec::new();
    let mut clean = true;
    loop {
        while running.len() < jobs.max(1) {
            let Some(target) = waiting.next() else { break };
            running.push((start(engine, target, seconds)?, Instant::now()));
        }
        if running.is_empty() {
            return Ok(clean);
        }
        thread::sleep(Duration::from_millis(200));
        let mut still = Vec::new();
        for (mut run, shown) in running {
            if let Some(ended) = run.ended()? {
                println!("{:<18} {}", run.target.name, ended.words(&run));
                clean &= ended.clean();
            } else if shown.elapsed() > PULSE {
                println!("{:<18} {}", run.target.name, run.progress());
                still.push((run, Instant::now()));
            } else {
                still.push((run, shown));
            }
        }
        running = still;
    }
}

fn start(engine: &Engine, target: &'static Target, seconds: u64) -> Result<Run> {
    let grown = work(target)?.join("corpus");
    fs::create_dir_all(&grown)?;
    for (at, seed) in target.seeds().iter().enumerate() {
        fs::write(grown.join(format!("seed-{at}")), seed)?;
    }
    let time = format!("-max_total_time={seconds}");
    engine.start(target, &[&time, "-use_value_profile=1"], &[&grown, &corpus(target)])
}
