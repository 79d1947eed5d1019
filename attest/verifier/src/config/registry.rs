//! `[registry]`: SQLite in the state directory, or PostgreSQL for several replicas.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokio_postgres::config::Host;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::file;
use crate::outward;
use crate::registry::PostgresSettings;

/// The table of the file.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Fragment {
    /// One file in the state directory.
    Sqlite,
    /// A server.
    Postgres {
        /// `postgresql://USER@HOST:PORT/DATABASE`
        url: String,
        /// Its authority, PEM. Needed unless the server is on this machine.
        ca: Option<PathBuf>,
        /// Holds the password.
        password_file: Option<PathBuf>,
    },
}

/// Where the registry is.
#[derive(Clone)]
pub enum RegistryKind {
    /// A file.
    Sqlite(PathBuf),
    /// A server.
    Postgres(Box<PostgresSettings>),
}

/// Judges the table; `why` comes back in words.
pub fn judge(fragment: Option<Fragment>, base: &Path, state_dir: &Path) -> Result<RegistryKind, Problem> {
    let Some(Fragment::Postgres { url, ca, password_file }) = fragment else {
        return Ok(RegistryKind::Sqlite(state_dir.join("registry.sqlite")));
    };
    // The parser's words are not passed on: they may quote a password.
    let mut server: tokio_postgres::Config = url
        .parse()
        .map_err(|_| Problem::Words("registry.url is not postgresql://USER@HOST:PORT/DATABASE"))?;
    if server.get_password().is_some() {
        return Err(Problem::Words(
            "registry.url holds a password: put it into a file and name that as registry.password_file",
        ));
    }
    if server.get_hosts().is_empty() {
        return Err(Problem::Words("registry.url names no host"));
    }
    if let Some(path) = password_file {
        let password = Zeroizing::new(file::read_text(&base.join(path))?);
        server.password(password.trim_end_matches('\n'));
    }
    let tls = match ca {
        Some(path) => Some(outward::tls(&base.join(path))?),
        None if server.get_hosts().iter().all(is_here) => None,
        None => {
            return Err(Problem::Words(
                "registry.ca is missing: a PostgreSQL server on another machine is only spoken to by TLS 1.3 with a known authority",
            ));
        }
    };
    Ok(RegistryKind::Postgres(Box::new(PostgresSettings { server, tls })))
}

/// What is wrong.
pub enum Problem {
    /// With the table itself.
    Words(&'static str),
    /// With a file that it names.
    File(Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::File(error)
    }
}

/// A socket of this machine, or a loopback address as such: a name could lead anywhere.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(toml: &str) -> Result<RegistryKind, Problem> {
        let fragment = toml::from_str(toml).expect("a table");
        judge(Some(fragment), Path::new("/"), Path::new("/state"))
    }

    fn words(toml: &str) -> &'static str {
        match judged(toml) {
            Err(Problem::Words(words)) => words,
            _ => "accepted",
        }
    }

    #[test]
    fn without_tls_only_this_machine_is_spoken_to() {
        let at = |host: &str| format!("kind = \"postgres\"\nurl = \"postgresql://rempart@{host}/rempart\"\n");
        for far in ["db.example", "localhost", "10.0.0.1", "127.0.0.1,db.example"] {
            assert!(words(&at(far)).contains("registry.ca is missing"), "{far}");
        }
        for here in ["127.0.0.1:5433", "[::1]", "%2Frun%2Fpostgresql"] {
            assert_eq!(words(&at(here)), "accepted", "{here}");
        }
    }

    #[test]
    fn a_password_in_the_configuration_is_refused() {
        let told = words("kind = \"postgres\"\nurl = \"postgresql://rempart:secret@127.0.0.1/rempart\"\n");
        assert!(told.contains("password_file"), "{told}");
        assert!(!told.contains("secret"));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(toml::from_str::<Fragment>("kind = \"postgres\"\nurl = \"x\"\nsslmode = \"disable\"\n").is_err());
    }
}
