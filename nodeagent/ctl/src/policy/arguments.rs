//! Command line of `rempart policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use rempart_attest::{Bank, policy::Instant};

/// What is asked about policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Predict the measurements of UKI files, as a policy on standard output, ready to be signed.
    Predict(Predict),
    /// Learn a policy from recorded Evidence or from this machine; says loudly what was learnt and not predicted.
    Learn(Learn),
    /// What changed between two policies; lines that let more nodes in begin with "!".
    Diff(Diff),
    /// What a policy accepts, in words; with Evidence, why it is or is not accepted.
    Explain(Explain),
    /// Try a policy on recorded Evidence: exit 0 when each is affirmed, 77 when one is refused.
    Test(Test),
    /// Add a signature to FILE.sig with ssh-keygen: key files, agents and FIDO2 keys work.
    Sign(Sign),
    /// Verify the signatures in FILE.sig.
    Verify(Verify),
    /// Read and write Concise Reference Integrity Manifests (draft-ietf-rats-corim).
    #[command(subcommand)]
    Corim(CorimCommand),
}

/// What `policy predict` is told.
#[derive(Debug, Args)]
pub struct Predict {
    /// Unified kernel images.
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// Whether the machines boot with Secure Boot on; only "off" can be predicted.
    #[arg(long, value_enum, default_value_t = SecureBootSwitch::Off)]
    pub secure_boot: SecureBootSwitch,
    /// PCR bank that the nodes quote.
    #[arg(long, value_parser = bank, default_value = "sha256")]
    pub bank: Bank,
    /// How it is named and counted.
    #[command(flatten)]
    pub head: Head,
    /// Time from which the images are accepted (RFC 3339, in UTC).
    #[arg(long, value_parser = instant)]
    pub not_before: Option<Instant>,
    /// Time until which the images are accepted (RFC 3339, in UTC).
    #[arg(long, value_parser = instant)]
    pub not_after: Option<Instant>,
    /// As JSON; the Verifier takes TOML.
    #[arg(long)]
    pub json: bool,
}

/// What every new policy is told.
#[derive(Debug, Args)]
pub struct Head {
    /// Name of the policy, and of its image when there is only one.
    #[arg(long, default_value = "predicted")]
    pub name: String,
    /// Counter of the policy; the Verifier refuses one below the highest it has accepted.
    #[arg(long, default_value_t = 1)]
    pub counter: u64,
    /// Boot phases after which a node may attest.
    #[arg(long, value_delimiter = ',', default_value = "sysinit,ready")]
    pub phases: Vec<String>,
    /// Refuse nodes whose guard does not enforce.
    #[arg(long)]
    pub require_guard: bool,
    /// Accept a risk by its name; it is recorded in the policy.
    #[arg(long, value_name = "RISK")]
    pub accept: Vec<String>,
}

/// What `policy learn` is told.
#[derive(Debug, Args)]
pub struct Learn {
    /// Evidence that `rempart attest --save` wrote; without it this machine's own registers and logs are read.
    pub evidence: Option<PathBuf>,
    /// PCR bank to read from this machine.
    #[arg(long, value_parser = bank, default_value = "sha256", conflicts_with = "evidence")]
    pub bank: Bank,
    /// Registers to judge beside 4, 7, 9, 11 and 12.
    #[arg(long, value_delimiter = ',', value_name = "PCR")]
    pub pcr: Vec<u8>,
    /// How it is named and counted.
    #[command(flatten)]
    pub head: Head,
    /// As JSON with the warnings.
    #[arg(long)]
    pub json: bool,
}

/// What `policy diff` is told.
#[derive(Debug, Args)]
pub struct Diff {
    /// The policy in force.
    pub old: PathBuf,
    /// The policy to come.
    pub new: PathBuf,
    /// As one JSON array.
    #[arg(long)]
    pub json: bool,
}

/// What `policy explain` is told.
#[derive(Debug, Args)]
pub struct Explain {
    /// The policy.
    pub policy: PathBuf,
    /// Evidence that `rempart attest --save` wrote.
    pub evidence: Option<PathBuf>,
    /// The time to judge at (RFC 3339, in UTC); without it now.
    #[arg(long, value_parser = instant)]
    pub at: Option<Instant>,
    /// As one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// What `policy test` is told.
#[derive(Debug, Args)]
pub struct Test {
    /// The policy.
    pub policy: PathBuf,
    /// Evidence that `rempart attest --save` wrote.
    #[arg(required = true)]
    pub evidence: Vec<PathBuf>,
    /// The time to judge at (RFC 3339, in UTC); without it now.
    #[arg(long, value_parser = instant)]
    pub at: Option<Instant>,
    /// As one JSON array.
    #[arg(long)]
    pub json: bool,
}

/// What `policy sign` is told.
#[derive(Debug, Args)]
pub struct Sign {
    /// The policy; signatures are kept in FILE.sig.
    pub file: PathBuf,
    /// The key, as ssh-keygen takes it: a private key file, or a public one whose private half is in an agent or a security key.
    #[arg(long)]
    pub key: PathBuf,
    /// As one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// What `policy verify` is told.
#[derive(Debug, Args)]
pub struct Verify {
    /// The policy; its signatures are in FILE.sig.
    pub file: PathBuf,
    /// Who may sign (ssh-keygen(1), ALLOWED SIGNERS).
    #[arg(long)]
    pub allowed_signers: PathBuf,
    /// How many different principals must have signed.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    pub required: u8,
    /// The time to verify at (RFC 3339, in UTC); without it now.
    #[arg(long, value_parser = instant)]
    pub at: Option<Instant>,
    /// As one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// CoRIM in and out.
#[derive(Debug, Subcommand)]
pub enum CorimCommand {
    /// Write a policy's Reference Values as an unsigned CoRIM.
    Export(Export),
    /// Read a CoRIM as a policy on standard output, ready to be signed.
    Import(Import),
}

/// What `policy corim export` is told.
#[derive(Debug, Args)]
pub struct Export {
    /// The policy.
    pub policy: PathBuf,
    /// File to write.
    #[arg(short, long)]
    pub output: PathBuf,
    /// Write Reference Values alone and leave out what a CoRIM cannot say; each is told on standard error.
    #[arg(long)]
    pub values_only: bool,
    /// Tell what was written as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// What `policy corim import` is told.
#[derive(Debug, Args)]
pub struct Import {
    /// The CoRIM, signed or not.
    pub file: PathBuf,
    /// PEM of the public key that must have signed it; without it only an unsigned one is taken.
    #[arg(long)]
    pub key: Option<PathBuf>,
    /// Refuse nodes whose guard does not enforce.
    #[arg(long)]
    pub require_guard: bool,
    /// The time to judge at (RFC 3339, in UTC); without it now.
    #[arg(long, value_parser = instant)]
    pub at: Option<Instant>,
    /// As JSON; the Verifier takes TOML.
    #[arg(long)]
    pub json: bool,
}

/// State of Secure Boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SecureBootSwitch {
    /// No keys enrolled.
    Off,
}

fn bank(text: &str) -> Result<Bank, String> {
    [Bank::Sha256, Bank::Sha384]
        .into_iter()
        .find(|bank| bank.to_string() == text)
        .ok_or_else(|| "sha256 or sha384 is expected".to_owned())
}

fn instant(text: &str) -> Result<Instant, String> {
    Instant::from_rfc3339(text).ok_or_else(|| "a time is expected as 2027-01-15T08:00:00Z (in UTC)".to_owned())
}
