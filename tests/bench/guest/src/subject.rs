//! The process that is measured, on orders by standard input, one a line; each answer is one line.
//!
//!     calls LINE COUNT      single calls: nanoseconds of one
//!     time COMMAND          a shell's command: nanoseconds until it has ended
//!     start COMMAND         a server: done, as soon as it runs
//!
//! All that it starts has its label, as all processes of a unit have.

use std::{
    io::{BufRead, BufReader, Write, stdin, stdout},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use crate::{Result, at, lines};

/// Serves until the input ends.
pub fn serve() -> Result<()> {
    for order in stdin().lock().lines() {
        let order = order.map_err(at("the driver"))?;
        let answer = obey(&order).unwrap_or_else(|why| format!("failed: {why}"));
        println!("{answer}");
        stdout().flush().map_err(at("the driver"))?;
    }
    Ok(())
}

fn obey(order: &str) -> Result<String> {
    match order.split_once(' ') {
        Some(("calls", rest)) => {
            let number = |text: Option<&str>| text.and_then(|text| text.parse().ok());
            let mut numbers = rest.split(' ');
            let (Some(line), Some(calls)) = (number(numbers.next()), number(numbers.next())) else {
                return Err(format!("two numbers are wanted: {rest}"));
            };
            lines::measure(line as usize, calls).map(|each| each.to_string())
        }
        Some(("time", command)) => {
            let start = Instant::now();
            let status = shell(command).status().map_err(at(command))?;
            let taken = start.elapsed().as_nanos();
            if status.success() {
                Ok(taken.to_string())
            } else {
                Err(format!("{command}: {status}"))
            }
        }
        // Ends with the machine.
        Some(("start", command)) => shell(command).spawn().map(|_| "done".into()).map_err(at(command)),
        _ => Err(format!("no such order: {order}")),
    }
}

fn shell(command: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::null());
    shell
}

/// A subject, seen by the driver.
pub struct Subject {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Subject {
    /// Starts one.
    pub fn start() -> Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg("subject")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(at("a subject"))?;
        Ok(Self {
            orders: child.stdin.take().expect("piped"),
            answers: BufReader::new(child.stdout.take().expect("piped")),
            child,
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends an order and waits for the answer.
    pub fn ask(&mut self, order: &str) -> Result<String> {
        writeln!(self.orders, "{order}").map_err(at("a subject"))?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).map_err(at("a subject"))?;
        match answer.trim_end() {
            "" => Err(format!("the subject ended at {order}")),
            answer if answer.starts_with("failed") => Err(format!("{order}: {answer}")),
            answer => Ok(answer.to_owned()),
        }
    }

    /// The same, for an answer that is a number.
    pub fn number(&mut self, order: &str) -> Result<f64> {
        self.ask(order)?.parse().map_err(at(order))
    }
}
