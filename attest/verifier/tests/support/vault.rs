//! An OpenBao development server and its own command line.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const TOKEN: &str = "test-root";

pub struct Vault {
    program: String,
    address: String,
    server: Child,
    home: tempfile::TempDir,
}

impl Vault {
    pub fn start(program: &str) -> Self {
        // Free at this moment; nobody else asks for ports here.
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("port")
            .port();
        let home = tempfile::tempdir().expect("dir");
        let server = Command::new(program)
            .args(["server", "-dev", "-dev-no-store-token"])
            .args([
                &format!("-dev-root-token-id={TOKEN}"),
                &format!("-dev-listen-address=127.0.0.1:{port}"),
            ])
            .env("HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("bao");
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_secs(2));
        Self {
            program: program.into(),
            address: format!("http://127.0.0.1:{port}"),
            server,
            home,
        }
    }

    /// Output, or the error's text.
    pub fn run(&self, args: &[&str]) -> Result<String, String> {
        self.with_input(args, b"")
    }

    pub fn write_json(&self, path: &str, json: &str) {
        self.with_input(&["write", path, "-"], json.as_bytes())
            .expect("written");
    }

    fn with_input(&self, args: &[&str], input: &[u8]) -> Result<String, String> {
        let mut child = Command::new(&self.program)
            .args(args)
            .env("HOME", self.home.path())
            .env("BAO_ADDR", &self.address)
            .env("BAO_TOKEN", TOKEN)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("bao");
        let _closed_early = child.stdin.take().expect("piped").write_all(input);
        let output = child.wait_with_output().expect("ends");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        let _gone = self.server.kill();
        let _waited = self.server.wait();
    }
}
