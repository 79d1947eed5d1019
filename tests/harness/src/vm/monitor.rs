//! QEMU's machine protocol (QMP): what whoever runs the machine can do to it without a word to the guest.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// For one command; saving a gibibyte takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection to the monitor; one at a time.
#[derive(Debug)]
pub struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    pub(super) fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path).context("QEMU's monitor")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut monitor = Self {
            stream: BufReader::new(stream),
        };
        monitor.line()?;
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Halts all processors.
    pub fn stop(&mut self) -> Result<()> {
        self.execute("stop", &json!({})).map(drop)
    }

    /// Lets them go on.
    pub fn resume(&mut self) -> Result<()> {
        self.execute("cont", &json!({})).map(drop)
    }

    /// The registers of all processors, as QEMU prints them.
    pub fn registers(&mut self) -> Result<String> {
        let printed = self.execute("human-monitor-command", &json!({"command-line": "info registers -a"}))?;
        Ok(printed.as_str().context("text of registers")?.to_owned())
    }

    /// Bytes of memory that the machine was given.
    pub fn memory_size(&mut self) -> Result<u64> {
        let sizes = self.execute("query-memory-size-summary", &json!({}))?;
        sizes["base-memory"].as_u64().context("size of the memory")
    }

    /// Writes physical memory to a file.
    pub fn save(&mut self, address: u64, len: u64, file: &Path) -> Result<()> {
        self.execute("pmemsave", &json!({"val": address, "size": len, "filename": file}))
            .map(drop)
    }

    fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({"execute": command, "arguments": arguments});
        self.stream.get_mut().write_all(format!("{request}\n").as_bytes())?;
        loop {
            let mut answer = self.line().with_context(|| command.to_owned())?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {command}: {}", error["desc"]);
            }
            // What lies between are events.
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the machine has ended");
        }
        Ok(serde_json::from_str(&line)?)
    }
}
