//! `rempart break-glass`: asks the owner for a token, and gives it to the guard. Judges nothing: the guard does.

use std::{
    fs,
    io::Write,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::{Subcommand, ValueEnum};
use rempart_api::{
    PROTOCOL_VERSION,
    breakglass::{MAX_MINUTES, MAX_TOKEN, NAMESPACE, Token},
    guard::{self, Outcome, Request},
    line, path,
};
use serde::Deserialize;

use crate::{agent, failure::Failure};

/// The guard answers at once; longer means that it does not run.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where the kernel names this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// `break-glass`.
#[derive(Debug, Subcommand)]
pub enum BreakGlass {
    /// A token for the owner to sign, on standard output.
    Request(Wanted),
    /// Give a signed token to the guard. What it lifts is lifted from then on, and in the log before.
    Apply {
        /// The token.
        token: PathBuf,
        /// Its signature; by default the token's name with .sig, as ssh-keygen writes it.
        #[arg(long, value_name = "FILE")]
        signature: Option<PathBuf>,
    },
    /// End what a token lifts, before its time: what is on the disk now is sealed.
    End,
}

/// What a token is to say.
#[derive(Debug, clap::Args)]
pub struct Wanted {
    /// What is lifted.
    #[arg(long, required = true, value_enum)]
    lift: Vec<Lift>,
    /// Why; it goes into the log.
    #[arg(long)]
    reason: String,
    /// For how long once the guard has it.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_MINUTES)))]
    minutes: u32,
    /// How long the owner has for signing, in hours.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=168))]
    hours_to_use: u32,
    /// The node's name, where the agent cannot be asked.
    #[arg(long)]
    node: Option<String>,
}

/// [`guard::Lift`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Lift {
    /// Rempart's own files may be changed; nothing is released meanwhile.
    Files,
    /// What is denied to the machine as a whole is let through; nothing is released before the next boot.
    Machine,
}

/// Does what the command says.
pub async fn run(bus: Option<&str>, command: &BreakGlass) -> Result<ExitCode, Failure> {
    match command {
        BreakGlass::Request(asked) => request(bus, asked).await,
        BreakGlass::Apply { token, signature } => {
            let beside = || {
                let mut name = token.clone().into_os_string();
                name.push(".sig");
                PathBuf::from(name)
            };
            let signature = signature.clone().unwrap_or_else(beside);
            let (token, signature) = (read(token)?, read(&signature)?);
            ask(&Request::BreakGlass {
                v: PROTOCOL_VERSION,
                token,
                signature,
            })
        }
        BreakGlass::End => ask(&Request::Restore { v: PROTOCOL_VERSION }),
    }
}

async fn request(bus: Option<&str>, asked: &Wanted) -> Result<ExitCode, Failure> {
    let node = match &asked.node {
        Some(node) => node.clone(),
        None => node_of(&agent::connect(bus).await?.status().await?)?,
    };
    let boot_id = fs::read_to_string(BOOT_ID).map_err(|error| Failure::Machine(format!("{BOOT_ID}: {error}")))?;
    let until = SystemTime::now() + Duration::from_secs(u64::from(asked.hours_to_use) * 3600);
    let token = Token {
        node,
        boot_id: boot_id.trim().to_owned(),
        lift: asked
            .lift
            .iter()
            .map(|lift| match lift {
                Lift::Files => guard::Lift::Files,
                Lift::Machine => guard::Lift::Machine,
            })
            .collect(),
        minutes: asked.minutes,
        not_after: humantime::format_rfc3339_seconds(until).to_string(),
        reason: asked.reason.clone(),
    };
    let text = toml::to_string(&token).map_err(|error| Failure::Machine(error.to_string()))?;
    print!("# The owner signs this file: ssh-keygen -Y sign -n {NAMESPACE} -f KEY FILE\n{text}");
    Ok(ExitCode::SUCCESS)
}

fn node_of(status: &str) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Named {
        node: String,
    }
    let named: Named = serde_json::from_str(status).map_err(Failure::AgentMalformed)?;
    Ok(named.node)
}

fn read(path: &Path) -> Result<String, Failure> {
    let input = |why: String| Failure::Input {
        path: path.display().to_string(),
        why,
    };
    let text = fs::read_to_string(path).map_err(|error| input(error.to_string()))?;
    match text.len() {
        0..=MAX_TOKEN => Ok(text),
        _ => Err(input(format!("longer than {MAX_TOKEN} bytes"))),
    }
}

fn ask(request: &Request) -> Result<ExitCode, Failure> {
    let away = |error: line::LineError| {
        Failure::NotAsked(format!(
            "the guard does not answer at {} ({error}); check: systemctl status rempart-guard",
            path::GUARD_SOCKET
        ))
    };
    let exchange = || {
        let mut stream = UnixStream::connect(path::GUARD_SOCKET)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&line::encode(request)?)?;
        line::decode::<Outcome>(&line::read(&mut stream)?)
    };
    match exchange().map_err(away)? {
        Outcome::Done { .. } => Ok(ExitCode::SUCCESS),
        Outcome::Refused { refused, .. } => Err(Failure::Refused(refused)),
    }
}
