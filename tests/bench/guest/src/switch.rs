//! Orders by a socket, one a line: `off`, `on`, `count` (statistics on), `ran` (one line a program, then an empty one). Ends when its
//! one client does, and leaves the programs detached.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::{fd::OwnedFd, unix::net::UnixListener},
    thread,
    time::{Duration, Instant},
};

use crate::{FOLDER, Result, at, bpf};

/// Where the guard pins.
const PINS: &str = "/sys/fs/bpf/rempart";

/// Serves the one client.
pub fn serve() -> Result<()> {
    let programs = bpf::programs()?;
    let listener = UnixListener::bind(format!("{FOLDER}/switch")).map_err(at("the switch's socket"))?;
    let (stream, _) = listener.accept().map_err(at("the driver"))?;
    let mut answers = stream.try_clone().map_err(at("the driver"))?;
    // The guard's own links, which hold the programs until then.
    let mut links = Links::Pinned;
    for order in BufReader::new(stream).lines() {
        let answer = match order.map_err(at("the driver"))?.as_str() {
            "off" => links.close().map(|()| "done\n".to_owned()),
            "on" => links.open(&programs).map(|()| "done\n".to_owned()),
            "count" => fs::write("/proc/sys/kernel/bpf_stats_enabled", "1")
                .map(|()| "done\n".to_owned())
                .map_err(at("statistics")),
            "ran" => ran(&programs),
            other => Err(format!("no such order: {other}")),
        };
        let answer = answer.unwrap_or_else(|why| format!("{why}\n"));
        answers.write_all(answer.as_bytes()).map_err(at("the driver"))?;
    }
    links.close()
}

enum Links {
    Pinned,
    #[expect(dead_code, reason = "held, never used")]
    Open(Vec<OwnedFd>),
    Closed,
}

impl Links {
    fn close(&mut self) -> Result<()> {
        if matches!(self, Links::Pinned) {
            for pin in fs::read_dir(PINS).map_err(at(PINS))?.flatten() {
                if pin.file_name().to_string_lossy().starts_with("link_") {
                    fs::remove_file(pin.path()).map_err(at("a pin"))?;
                }
            }
        }
        *self = Links::Closed;
        silent()
    }

    fn open(&mut self, programs: &[bpf::Program]) -> Result<()> {
        if matches!(self, Links::Closed) {
            *self = Links::Open(programs.iter().map(bpf::Program::attach).collect::<Result<_>>()?);
        }
        Ok(())
    }
}

/// Waits until no hook calls a program: the kernel frees links one after another, some time after they were closed.
fn silent() -> Result<()> {
    const CALLED: &str = "/sys/kernel/tracing/enabled_functions";
    let start = Instant::now();
    loop {
        let called = fs::read_to_string(CALLED).map_err(at(CALLED))?;
        if called.is_empty() {
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(120) {
            return Err(format!("still called: {}", called.replace('\n', " / ")));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn ran(programs: &[bpf::Program]) -> Result<String> {
    let mut text = String::new();
    for program in programs {
        let ran = program.ran()?;
        text += &format!("{}\t{}\t{}\n", program.name, ran.calls, ran.nanoseconds);
    }
    Ok(text + "\n")
}
