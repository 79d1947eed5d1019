//! A real PostgreSQL with TLS and SCRAM only, in a folder of its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::User;
use tempfile::TempDir;

use crate::{Pki, Process, free_port, run};

/// The server and its folder.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    programs: PathBuf,
    port: u16,
    dir: TempDir,
}

impl Postgres {
    /// A fresh cluster with a database `billing`; add logins by [`Postgres::login`].
    pub fn start(pki: &Pki) -> Result<Self> {
        let programs = Self::programs()?;
        let user = User::from_name("postgres")?.context("no user postgres; run ./x deps")?;
        let dir = tempfile::Builder::new().prefix("rempart-pg").tempdir()?;
        let own = |path: &Path, mode: u32| -> Result<()> {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
            Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
        };
        own(dir.path(), 0o700)?;
        let data = dir.path().join("data");
        let mut initdb = as_postgres(&programs.join("initdb"));
        run(initdb
            .args([
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C",
                "--auth-local=peer",
                "--auth-host=scram-sha-256",
                "-D",
            ])
            .arg(&data))?;
        let identity = pki.identity("db");
        for (from, to) in [(identity.certificate, "server.pem"), (identity.key, "server.key")] {
            fs::copy(from, data.join(to))?;
            own(&data.join(to), 0o600)?;
        }
        fs::write(
            data.join("pg_hba.conf"),
            "local all postgres peer\nhostssl all all 127.0.0.1/32 scram-sha-256\n",
        )?;

        let port = free_port()?;
        let settings = [
            format!("port={port}"),
            "listen_addresses=127.0.0.1".into(),
            format!("unix_socket_directories={}", dir.path().display()),
            "ssl=on".into(),
            "ssl_cert_file=server.pem".into(),
            "ssl_key_file=server.key".into(),
            "password_encryption=scram-sha-256".into(),
            "fsync=off".into(),
            "log_connections=on".into(),
        ];
        let mut args = vec!["-D".to_owned(), data.display().to_string()];
        args.extend(settings.iter().map(|setting| format!("--{setting}")));
        let log = dir.path().join("log");
        fs::write(&log, "")?;
        let mut process = Process::start_as(
            "postgres",
            Some("postgres"),
            &programs.join("postgres"),
            &args,
            &[],
            &log,
        )?;
        // Its port opens before it serves, so readiness is asked of the server itself.
        process.wait_until(Duration::from_secs(30), || {
            let mut ready = Command::new(programs.join("pg_isready"));
            ready.args(["-q", "-p", &port.to_string(), "-h"]).arg(dir.path());
            ready.status().is_ok_and(|status| status.success())
        })?;
        let server = Self {
            process,
            programs,
            port,
            dir,
        };
        server.sql("create database billing")?;
        Ok(server)
    }

    /// Its loopback port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes a login role that may use the database `billing`.
    pub fn login(&self, name: &str, password: &str) -> Result<()> {
        self.sql(&format!(
            "create role {name} login password '{}'",
            password.replace('\'', "''")
        ))?;
        self.sql(&format!("grant all on database billing to {name}"))?;
        Ok(())
    }

    /// Runs SQL as the administrator.
    pub fn sql(&self, statement: &str) -> Result<String> {
        let mut psql = as_postgres(&self.programs.join("psql"));
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            "postgres",
            "-p",
            &self.port.to_string(),
            "-c",
            statement,
        ]);
        run(psql.arg("-h").arg(self.dir.path()).current_dir("/"))
    }

    /// The newest installed version's programs: Debian keeps them out of PATH.
    pub fn programs() -> Result<PathBuf> {
        let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
            .context("PostgreSQL is not installed; run ./x deps")?
            .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
            .filter(|dir| dir.join("initdb").exists())
            .collect();
        found.sort_by_key(|dir| {
            dir.to_string_lossy()
                .split('/')
                .nth(4)
                .and_then(|version| version.parse::<u32>().ok())
        });
        found
            .pop()
            .context("PostgreSQL's server programs are not installed; run ./x deps")
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.process.log()).unwrap_or_default()
    }
}

fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"])
        .arg(program)
        .current_dir("/");
    command
}
