//! A real OpenBao: TLS, raft storage in a folder of its own, file audit device, KV version 2 at `kv/`, JWT auth at `jwt/`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Pki, Postgres, Process, free_port, repository, run, wait_for_port};

/// The server, unsealed, and its root token.
#[derive(Debug)]
pub struct OpenBao {
    program: PathBuf,
    pki: Pki,
    port: u16,
    process: Option<Process>,
    keys: Keys,
    dir: TempDir,
}

#[derive(Debug, Default, Deserialize)]
struct Keys {
    unseal_keys_b64: Vec<String>,
    root_token: String,
}

impl OpenBao {
    /// Starts and unseals a fresh one.
    pub fn start(pki: &Pki) -> Result<Self> {
        let program = run(&mut Command::new(repository().join("tests/servers/openbao/bao")))?.into();
        let dir = tempfile::Builder::new().prefix("rempart-bao").tempdir()?;
        fs::create_dir(dir.path().join("data"))?;
        let (port, cluster) = (free_port()?, free_port()?);
        let identity = pki.identity("bao");
        let here = dir.path().display();
        let configuration = format!(
            r#"
storage "raft" {{
  path = "{here}/data"
  node_id = "one"
  # A secret of one MiB, in base64; by default an entry has at most that.
  max_entry_size = 2097152
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_cert_file = "{}"
  tls_key_file = "{}"
  tls_min_version = "tls13"
}}
api_addr = "https://127.0.0.1:{port}"
cluster_addr = "https://127.0.0.1:{cluster}"
audit "file" "audit" {{
  options {{
    file_path = "{here}/audit.log"
  }}
}}
"#,
            identity.certificate.display(),
            identity.key.display()
        );
        fs::write(dir.path().join("bao.hcl"), configuration)?;
        let mut server = Self {
            program,
            pki: pki.clone(),
            port,
            process: None,
            keys: Keys::default(),
            dir,
        };
        server.run_process()?;
        let text = server.bao(
            &["operator", "init", "-key-shares=1", "-key-threshold=1", "-format=json"],
            None,
        )?;
        server.keys = serde_json::from_str(&text).context("the answer of bao operator init")?;
        server.unseal()?;
        server.bao(&["secrets", "enable", "-path=kv", "-version=2", "kv"], None)?;
        server.bao(&["auth", "enable", "jwt"], None)?;
        Ok(server)
    }

    /// Its program.
    #[must_use]
    pub fn program(&self) -> &std::path::Path {
        &self.program
    }

    /// Its loopback port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder: configuration, data, logs.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// The root token, for what the functions here do not cover.
    #[must_use]
    pub fn root_token(&self) -> &str {
        &self.keys.root_token
    }

    /// Trusts the Verifier whose keys are at `jwks_url` (its certificate under the test CA) and whose results are issued by `issuer`.
    ///
    /// OpenBao fetches the keys when the first login comes, so the Verifier need not run yet.
    pub fn trust_verifier(&self, jwks_url: &str, issuer: &str) -> Result<()> {
        let config = json!({
            "jwks_url": jwks_url, "jwks_ca_pem": self.pki.ca_pem()?, "bound_issuer": issuer, "jwt_supported_algs": ["ES256"],
            "skip_jwks_validation": true,
        });
        self.write("auth/jwt/config", &config)
    }

    /// A JWT role: a result whose `roles` contain `role` may read the secret `kv/PATH` for each of `paths`.
    pub fn role(&self, role: &str, paths: &[&str]) -> Result<()> {
        let rules: String = paths
            .iter()
            .map(|path| format!("path \"kv/data/{path}\" {{\n  capabilities = [\"read\"]\n}}\n"))
            .collect();
        let policy = format!("rempart-{role}");
        self.write(&format!("sys/policies/acl/{policy}"), &json!({"policy": rules}))?;
        let settings = json!({
            "role_type": "jwt", "bound_audiences": ["openbao"], "user_claim": "sub", "bound_claims": {"roles": role},
            "token_policies": [policy], "token_ttl": "10m", "token_max_ttl": "1h", "token_no_default_policy": false,
        });
        self.write(&format!("auth/jwt/role/{role}"), &settings)
    }

    /// Stores a secret: `put_secret("billing", &[("db_password", "…")])` is `kv/billing#db_password`.
    pub fn put_secret(&self, path: &str, fields: &[(&str, &str)]) -> Result<()> {
        let data: BTreeMap<&str, &str> = fields.iter().copied().collect();
        self.write(&format!("kv/data/{path}"), &json!({"data": data}))
    }

    /// Makes logins at `postgres`, at `db/creds/NAME` for each [`Self::logins`].
    pub fn connect(&self, postgres: &Postgres) -> Result<()> {
        postgres.sql("CREATE ROLE vault LOGIN SUPERUSER PASSWORD 'rempart-vault'")?;
        self.bao(&["secrets", "enable", "-path=db", "database"], None)?;
        let url = format!(
            "postgresql://{{{{username}}}}:{{{{password}}}}@localhost:{}/postgres?sslmode=require",
            postgres.port()
        );
        let connection = json!({
            "plugin_name": "postgresql-database-plugin", "connection_url": url, "allowed_roles": "*",
            "username": "vault", "password": "rempart-vault",
        });
        self.write("db/config/main", &connection)
    }

    /// Logins that live for `ttl`, renewed for `most`; `first` is run before each is made.
    pub fn logins(&self, name: &str, ttl: &str, most: &str, first: &str) -> Result<()> {
        let make = "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';";
        let role = json!({
            "db_name": "main", "default_ttl": ttl, "max_ttl": most, "creation_statements": format!("{first}{make}"),
        });
        self.write(&format!("db/roles/{name}"), &role)
    }

    /// Leases that are not ended of what was read at `path`.
    #[must_use]
    pub fn leases(&self, path: &str) -> usize {
        // Of none it says that there is no value.
        let listed = self.bao(&["list", "-format=json", &format!("sys/leases/lookup/{path}")], None);
        listed.map_or(0, |text| text.matches('"').count() / 2)
    }

    /// Seals it: it answers, and gives nothing out.
    pub fn seal(&self) -> Result<()> {
        self.bao(&["operator", "seal"], None).map(drop)
    }

    /// Unseals it and waits until it serves.
    pub fn unseal(&self) -> Result<()> {
        let key = self.keys.unseal_keys_b64.first().context("no unseal key")?;
        self.bao(&["write", "sys/unseal", "-"], Some(&json!({"key": key})))?;
        let start = Instant::now();
        // Status 200 is an active server; a raft node is a standby for a moment after the unseal.
        while self.bao(&["operator", "raft", "autopilot", "state"], None).is_err() {
            if start.elapsed() > Duration::from_secs(30) {
                bail!(
                    "OpenBao did not become active in 30 s; its log ended with:\n{}",
                    self.log_tail()
                );
            }
            thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Stops the process; the data stays.
    pub fn stop_process(&mut self) {
        self.process = None;
    }

    /// Starts the process again, sealed.
    pub fn run_process(&mut self) -> Result<()> {
        let config = format!("-config={}", self.dir.path().join("bao.hcl").display());
        let mut process = Process::start(
            "openbao",
            &self.program,
            &["server", &config],
            &self.dir.path().join("log"),
        )?;
        let port = self.port;
        process.wait_until(Duration::from_secs(30), || wait_for_port(port))?;
        self.process = Some(process);
        Ok(())
    }

    /// The audit device's lines.
    pub fn audit_log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.dir.path().join("audit.log"))?)
    }

    /// Writes JSON to an API path as the administrator.
    pub fn write(&self, path: &str, body: &Value) -> Result<()> {
        self.bao(&["write", path, "-"], Some(body)).map(drop)
    }

    /// Runs the `bao` program as the administrator; its stdout.
    pub fn bao(&self, args: &[&str], stdin: Option<&Value>) -> Result<String> {
        let mut child = Command::new(&self.program)
            .args(args)
            .env("BAO_ADDR", format!("https://127.0.0.1:{}", self.port))
            .env("BAO_CACERT", self.pki.ca())
            .env("BAO_TOKEN", &self.keys.root_token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| self.program.display().to_string())?;
        if let (Some(mut pipe), Some(body)) = (child.stdin.take(), stdin) {
            pipe.write_all(body.to_string().as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!(
                "bao {}: {}\n{}",
                args.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn log_tail(&self) -> String {
        crate::process::tail(&self.dir.path().join("log"), 20)
    }
}
