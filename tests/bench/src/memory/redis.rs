//! Redis: its password and its data. Debian's is linked with jemalloc, whose malloc comes behind the preloaded one.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use rempart_harness::{free_port, scan::Needle};

use super::{Figure, Program, Running, Setting};

const PASSWORD: &str = "correct-horse-battery-staple";
const VALUE: &str = "a-value-that-is-as-secret-as-the-password";

/// The server.
pub struct Redis;

/// A connection that has logged in.
struct Client(BufReader<TcpStream>);

impl Client {
    fn new(port: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        let mut client = Self(BufReader::new(stream));
        ensure!(
            client.ask(&format!("AUTH {PASSWORD}"))?.starts_with("+OK"),
            "the password"
        );
        Ok(client)
    }

    fn ask(&mut self, command: &str) -> Result<String> {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line)
    }

    /// A value of INFO.
    fn info(&mut self, section: &str, key: &str) -> Result<f64> {
        let len: usize = self
            .ask(&format!("INFO {section}"))?
            .trim_start_matches('$')
            .trim()
            .parse()?;
        let mut text = vec![0; len + 2];
        std::io::Read::read_exact(&mut self.0, &mut text)?;
        let text = String::from_utf8(text)?;
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        Ok(value.with_context(|| format!("no {key}"))?.trim().parse()?)
    }
}

impl Redis {
    fn server(file: &Path, setting: Setting<'_>) -> Result<(Running, u16)> {
        let port = free_port()?;
        let needles = vec![
            Needle::new("password", PASSWORD.as_bytes()),
            Needle::new("value", VALUE.as_bytes()),
        ];
        let mut running = Running::start(setting.command(file).arg("-"), needles)?;
        let folder = setting.folder.display();
        running.say(&format!(
            "bind 127.0.0.1\nport {port}\ndir {folder}\nsave \"\"\nrequirepass {PASSWORD}\n"
        ))?;
        running.input = None;
        running.until(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
        Ok((running, port))
    }
}

impl Program for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn files(&self) -> &'static [&'static str] {
        &["/usr/bin/redis-server"]
    }

    fn start(&self, file: &Path, setting: Setting<'_>) -> Result<Running> {
        let (running, port) = Self::server(file, setting)?;
        let mut client = Client::new(port)?;
        ensure!(client.ask(&format!("SET key {VALUE}"))?.starts_with("+OK"), "SET");
        client.ask(&format!("APPEND key {VALUE}"))?;
        client.ask("BGSAVE")?;
        while client.info("persistence", "rdb_bgsave_in_progress")? > 0.0 {}
        Ok(running)
    }

    fn work(&self, file: &Path, setting: Setting<'_>) -> Result<Vec<Figure>> {
        let (_running, port) = Self::server(file, setting)?;
        let mut client = Client::new(port)?;
        let start = Instant::now();
        for number in 0..20_000 {
            client.ask(&format!("SET key{} {number}{VALUE}", number % 5000))?;
        }
        let rate = 20_000.0 / start.elapsed().as_secs_f64();
        // 20 MB in values of 1 kB, then the fork for a snapshot.
        let value = "v".repeat(1000);
        for number in 0..20_000 {
            client.ask(&format!("SET large{number} {value}"))?;
        }
        client.ask("BGSAVE")?;
        while client.info("persistence", "rdb_bgsave_in_progress")? > 0.0 {}
        Ok(vec![
            Figure {
                what: "SET, one connection",
                unit: "/s",
                value: rate,
            },
            Figure {
                what: "fork for a snapshot of 20 MB",
                unit: "ms",
                value: client.info("stats", "latest_fork_usec")? / 1000.0,
            },
        ])
    }
}
