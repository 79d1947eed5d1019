//! nginx: a master with two workers. Its TLS key, a password of its configuration, a header of a request.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use rempart_harness::{free_port, scan::Needle};

use super::{Figure, Program, Running, Setting};

const CONFIGURED: &str = "correct-horse-battery-staple";
const SENT: &str = "a-token-that-a-client-sends";

/// The server.
pub struct Nginx;

struct Site {
    running: Running,
    plain: u16,
    tls: u16,
}

impl Nginx {
    fn site(file: &Path, setting: Setting<'_>) -> Result<Site> {
        let folder = setting.folder;
        let at = |name: &str| folder.join(name).display().to_string();
        let (key, certificate) = (at("key.pem"), at("certificate.pem"));
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=test",
            "-days",
            "9",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ])?;
        let number = private_number(&openssl(&["pkey", "-in", &key, "-text", "-noout"])?)?;
        // As in its encoding, and as the words of a big number lie in memory.
        let turned: Vec<u8> = number.iter().rev().copied().collect();
        let needles = vec![
            Needle::new("key", &number),
            Needle::new("key", &turned),
            Needle::new("configured", CONFIGURED.as_bytes()),
            Needle::new("sent", SENT.as_bytes()),
        ];
        let (plain, tls) = (free_port()?, free_port()?);
        let (pid, log) = (at("pid"), at("log"));
        let text = format!(
            "daemon off; user root; worker_processes 2; pid {pid}; error_log {log};\nevents {{ }}\nhttp {{ access_log off;\n\
             server {{ listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl; ssl_certificate {certificate};\n\
             ssl_certificate_key {key}; keepalive_requests 1000000;\nlocation / {{ proxy_set_header Authorization \
             \"Bearer {CONFIGURED}\"; return 200 \"hello $http_x_token\"; }} }} }}\n"
        );
        fs::write(folder.join("nginx.conf"), text)?;
        let mut running = Running::start(
            setting
                .command(file)
                .arg("-p")
                .arg(folder)
                .arg("-c")
                .arg(folder.join("nginx.conf")),
            needles,
        )?;
        running.until(|| TcpStream::connect((Ipv4Addr::LOCALHOST, plain)).is_ok())?;
        Ok(Site { running, plain, tls })
    }
}

fn openssl(words: &[&str]) -> Result<String> {
    let output = Command::new("openssl").args(words).output().context("openssl")?;
    ensure!(
        output.status.success(),
        "openssl: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// The number behind `priv:` in what `openssl pkey -text` writes.
fn private_number(text: &str) -> Result<Vec<u8>> {
    let digits = text.split("priv:").nth(1).and_then(|rest| rest.split("pub:").next());
    let words = digits
        .context("no priv:")?
        .split([':', ' ', '\n'])
        .filter(|word| !word.is_empty());
    words.map(|word| Ok(u8::from_str_radix(word, 16)?)).collect()
}

/// One answer on a connection that stays.
fn ask(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Token: {SENT}\r\n\r\n").as_bytes())?;
    let mut answer = [0; 1024];
    let mut len = 0;
    while !answer[..len].ends_with(SENT.as_bytes()) {
        let more = stream.read(&mut answer[len..])?;
        ensure!(more > 0, "cut off");
        len += more;
    }
    Ok(())
}

/// One connection for each request, with TLS, by openssl's own clock: connections a second.
fn handshakes(port: u16) -> Result<f64> {
    let place = format!("127.0.0.1:{port}");
    let output = Command::new("openssl")
        .args(["s_time", "-connect", &place, "-new", "-time", "3", "-www", "/"])
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // "N connections in T real seconds, …"
    let line = text
        .lines()
        .find(|line| line.contains("real seconds"))
        .context("openssl s_time")?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| -> Result<f64> { Ok(words.get(at).context("a number")?.parse()?) };
    Ok(number(0)? / number(3)?)
}

impl Program for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn files(&self) -> &'static [&'static str] {
        &["/usr/sbin/nginx"]
    }

    fn start(&self, file: &Path, setting: Setting<'_>) -> Result<Running> {
        let site = Self::site(file, setting)?;
        let url = format!("https://127.0.0.1:{}/", site.tls);
        for _ in 0..10 {
            let header = format!("X-Token: {SENT}");
            let output = Command::new("curl")
                .args(["-sk", "-H", &header, &url])
                .output()
                .context("curl")?;
            ensure!(output.stdout.ends_with(SENT.as_bytes()), "no answer over TLS");
        }
        Ok(site.running)
    }

    fn work(&self, file: &Path, setting: Setting<'_>) -> Result<Vec<Figure>> {
        let site = Self::site(file, setting)?;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, site.plain))?;
        stream.set_nodelay(true)?;
        let start = Instant::now();
        for _ in 0..20_000 {
            ask(&mut stream)?;
        }
        Ok(vec![
            Figure {
                what: "requests, one connection",
                unit: "/s",
                value: 20_000.0 / start.elapsed().as_secs_f64(),
            },
            Figure {
                what: "requests, each with a TLS handshake",
                unit: "/s",
                value: handshakes(site.tls)?,
            },
        ])
    }
}
