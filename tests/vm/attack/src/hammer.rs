//! Many attempts at once: opens the victim's memory again and again, from several threads, and counts the
//! answers. Prints JSON; exits 0 when every attempt was denied, 1 when one was not. Says `ready` on standard
//! error when all threads are at it.

use serde_json::json;
use std::{
    fs::File,
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

/// What the attempts came to.
#[derive(Debug, Default)]
struct Tally {
    denied: AtomicU64,
    obtained: AtomicU64,
    failed: AtomicU64,
}

impl Tally {
    fn count(&self, path: &str) {
        let answer = match File::open(path) {
            Ok(_) => &self.obtained,
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)) => &self.denied,
            Err(_) => &self.failed,
        };
        answer.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) fn run<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<ExitCode, String> {
    let (mut pid, mut times, mut tasks, mut until) = (0i32, u64::MAX, 1u64, None);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
        let number = || value.parse().map_err(|_| format!("{value} is no number"));
        match word {
            "--pid" => pid = value.parse().map_err(|_| format!("{value} is no pid"))?,
            "--times" => times = number()?,
            "--tasks" => tasks = number()?.max(1),
            "--until" => until = Some(value),
            _ => return Err(format!("unknown word {word}")),
        }
    }
    if pid <= 0 || (times == u64::MAX && until.is_none()) {
        return Err("hammer wants --pid, and --times (of all tasks together) or --until FILE".into());
    }
    let (path, tally) = (format!("/proc/{pid}/mem"), Tally::default());
    thread::scope(|scope| {
        for task in 0..tasks {
            let share = times / tasks + u64::from(task < times % tasks);
            let (path, tally) = (&path, &tally);
            scope.spawn(move || {
                for round in 0..share {
                    if round % 64 == 0 && until.is_some_and(|file| Path::new(file).exists()) {
                        break;
                    }
                    tally.count(path);
                }
            });
        }
        eprintln!("ready");
    });
    let [denied, obtained, failed] = [tally.denied, tally.obtained, tally.failed].map(AtomicU64::into_inner);
    println!("{}", json!({"denied": denied, "obtained": obtained, "failed": failed}));
    Ok(ExitCode::from(u8::from(obtained + failed > 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_is_counted_once_by_its_answer() {
        let tally = Tally::default();
        tally.count("/proc/self/mem");
        tally.count("/proc/0/mem");
        let counts = [tally.denied, tally.obtained, tally.failed].map(AtomicU64::into_inner);
        assert_eq!(counts, [0, 1, 1]);
    }

    #[test]
    fn a_hammer_without_an_end_is_refused() {
        assert!(run(["--pid", "1"].into_iter()).is_err());
        assert!(run(["--times", "1"].into_iter()).is_err());
    }
}
