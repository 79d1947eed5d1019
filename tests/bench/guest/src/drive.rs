//! Measures in turn with the programs detached and attached, in a process that nobody protects and in a protected one. What is told to
//! the host, one line each, fields apart by a tab:
//!
//!     sample  WHAT  plain|unit  off|on  NANOSECONDS
//!     hook    WHAT  plain|unit  PROGRAM  CALLS  NANOSECONDS  OPERATIONS
//!     end

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    FOLDER, Result, at,
    lines::{self, LINES},
    loads::Load,
    subject::Subject,
};

/// How long one slice of calls takes, about.
const SLICE_NS: f64 = 5e6;
/// Slices of a line each time that it is its turn; the middle one counts.
const SLICES: usize = 3;
/// Runs of a load that are not counted: caches fill, tables get their indexes into memory.
const WARM: usize = 2;
/// Until the kernel has freed what has just ended: a task that was forked with the programs attached must be freed with them.
const SETTLE: Duration = Duration::from_millis(300);

/// Two processes of one kind, of which the second is protected.
struct Subjects {
    plain: Subject,
    unit: Subject,
}

impl Subjects {
    fn each(&mut self) -> [(&'static str, &mut Subject); 2] {
        [("plain", &mut self.plain), ("unit", &mut self.unit)]
    }
}

/// Measures `rounds` times, then counts the hooks' calls; only what has `part` in its name.
pub fn run(rounds: usize, part: &str) -> Result<()> {
    lines::prepare()?;
    let mut subjects = Subjects {
        plain: Subject::start()?,
        unit: Subject::start()?,
    };
    protect(&subjects.unit)?;
    let loads: Vec<Load> = Load::ALL
        .into_iter()
        .filter(|load| load.name().contains(part))
        .collect();
    for (name, subject) in subjects.each() {
        for load in &loads {
            load.start(subject, name)?;
            for _ in 0..WARM {
                load.run(subject, name)?;
            }
        }
    }
    let work = Work {
        lines: calibrate(&mut subjects.plain, part)?,
        loads,
    };
    guard(&["{\"v\":1,\"op\":\"arm\"}"])?;
    // `run` makes place for the switch.
    fs::write(format!("{FOLDER}/ready"), "").map_err(at("ready"))?;
    let mut switch = Switch::connect()?;
    for round in 0..rounds {
        // Twice the same state in a row, so that each is changed half as often and neither is always the first.
        for state in if round % 2 == 0 { ["off", "on"] } else { ["on", "off"] } {
            switch.order(state)?;
            visit(&mut subjects, &work, state)?;
        }
    }
    switch.order("on")?;
    switch.order("count")?;
    count(&mut subjects, &work, &mut switch)?;
    println!("end");
    Ok(())
}

/// What is measured.
struct Work {
    /// Index of each line, and how many calls make a slice.
    lines: Vec<(usize, u32)>,
    loads: Vec<Load>,
}

/// A request to the guard, as the agent makes it.
fn guard(words: &[&str]) -> Result<()> {
    let done = Command::new("/t/rempart-attack")
        .arg("ask")
        .args(words)
        .output()
        .map_err(at("rempart-attack"))?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    if said.contains("\"ok\":true") {
        Ok(())
    } else {
        Err(format!("the guard refuses: {said}"))
    }
}

fn protect(subject: &Subject) -> Result<()> {
    let request = "{\"v\":1,\"op\":\"protect\",\"unit\":\"load.service\",\"mode\":\"enforce\"}";
    guard(&[request, "--pidfd", &subject.pid().to_string()])
}

fn calibrate(subject: &mut Subject, part: &str) -> Result<Vec<(usize, u32)>> {
    let mut lines = Vec::new();
    for (index, (name, _)) in LINES.iter().enumerate() {
        if !name.contains(part) {
            continue;
        }
        let each = subject.number(&format!("calls {index} 20"))?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 5 and 100,000"
        )]
        lines.push((index, (SLICE_NS / each).clamp(5.0, 1e5) as u32));
    }
    Ok(lines)
}

fn visit(subjects: &mut Subjects, work: &Work, state: &str) -> Result<()> {
    for (index, calls) in &work.lines {
        for (name, subject) in subjects.each() {
            let each = middle(|| subject.number(&format!("calls {index} {calls}")))?;
            println!("sample\t{}\t{name}\t{state}\t{each}", LINES[*index].0);
        }
    }
    for load in &work.loads {
        for (name, subject) in subjects.each() {
            let each = load.run(subject, name)?;
            println!("sample\t{}\t{name}\t{state}\t{each}", load.name());
        }
    }
    thread::sleep(SETTLE);
    Ok(())
}

fn middle(mut once: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut slices = (0..SLICES).map(|_| once()).collect::<Result<Vec<_>>>()?;
    slices.sort_by(f64::total_cmp);
    Ok(slices[SLICES / 2])
}

fn count(subjects: &mut Subjects, work: &Work, switch: &mut Switch) -> Result<()> {
    // What asking for the counters costs is not the subject's.
    let (before, after) = (switch.ran()?, switch.ran()?);
    let asking = since(&before, &after);
    for (index, calls) in &work.lines {
        for (name, subject) in subjects.each() {
            let before = switch.ran()?;
            subject.number(&format!("calls {index} {calls}"))?;
            let ran = since(&asking, &since(&before, &switch.ran()?));
            told(LINES[*index].0, name, &ran, f64::from(calls + 1));
        }
    }
    for load in &work.loads {
        for (name, subject) in subjects.each() {
            let before = switch.ran()?;
            let operations = load.operations(load.run(subject, name)?);
            told(
                load.name(),
                name,
                &since(&asking, &since(&before, &switch.ran()?)),
                operations,
            );
        }
    }
    Ok(())
}

/// Calls and nanoseconds of each program.
type Ran = BTreeMap<String, (u64, u64)>;

fn since(before: &Ran, after: &Ran) -> Ran {
    let mut ran = after.clone();
    for (program, (calls, nanoseconds)) in &mut ran {
        let (calls_before, nanoseconds_before) = before.get(program).copied().unwrap_or_default();
        *calls = calls.saturating_sub(calls_before);
        *nanoseconds = nanoseconds.saturating_sub(nanoseconds_before);
    }
    ran
}

fn told(what: &str, name: &str, ran: &Ran, operations: f64) {
    for (program, (calls, nanoseconds)) in ran.iter().filter(|(_, (calls, _))| *calls > 0) {
        println!("hook\t{what}\t{name}\t{program}\t{calls}\t{nanoseconds}\t{operations}");
    }
}

/// The switch, seen by the driver.
struct Switch {
    orders: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Switch {
    fn connect() -> Result<Self> {
        let path = format!("{FOLDER}/switch");
        let start = Instant::now();
        loop {
            match UnixStream::connect(Path::new(&path)) {
                Ok(orders) => {
                    let answers = BufReader::new(orders.try_clone().map_err(at("the switch"))?);
                    return Ok(Self { orders, answers });
                }
                Err(error) if start.elapsed() > Duration::from_secs(60) => return Err(format!("the switch: {error}")),
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(at("the switch"))?;
        Ok(line.trim_end().to_owned())
    }

    fn order(&mut self, order: &str) -> Result<()> {
        writeln!(self.orders, "{order}").map_err(at("the switch"))?;
        let answer = self.line()?;
        if answer == "done" {
            Ok(())
        } else {
            Err(format!("switch {order}: {answer}"))
        }
    }

    fn ran(&mut self) -> Result<Ran> {
        writeln!(self.orders, "ran").map_err(at("the switch"))?;
        let mut ran = Ran::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(ran);
            }
            let mut fields = line.split('\t');
            let (Some(name), Some(calls), Some(time)) = (fields.next(), fields.next(), fields.next()) else {
                return Err(format!("switch ran: {line}"));
            };
            let number = |text: &str| text.parse().map_err(at("switch ran"));
            ran.insert(name.to_owned(), (number(calls)?, number(time)?));
        }
    }
}
