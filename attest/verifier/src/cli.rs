//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::Degraded;

/// Verifies and appraises nodes, and keeps policies, nodes and secrets on the owner's side.
#[derive(Parser)]
#[command(name = "rempart-verifier", version, about)]
pub struct Cli {
    /// Configuration file.
    #[arg(
        long,
        global = true,
        default_value = "/etc/rempart-verifier/verifier.toml",
        value_name = "FILE"
    )]
    pub config: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Make keys, certificate authority, registry and a configuration file.
    Init(Init),
    /// Answer nodes until terminated.
    Serve,
    /// Reference values.
    #[command(subcommand)]
    Policy(Policy),
    /// Nodes that may attest.
    #[command(subcommand)]
    Node(Node),
    /// Secrets of the Verifier's own store.
    #[command(subcommand)]
    Secret(Secret),
    /// Print who did what when.
    History {
        /// Only of this node.
        #[arg(long)]
        node: Option<String>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
}

/// Make keys, certificate authority, registry and a configuration file.
#[derive(Args)]
pub struct Init {
    /// Directory for keys and registry; it must not hold a Verifier already.
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Where to write the configuration [default: DIR/verifier.toml].
    #[arg(long, value_name = "FILE")]
    pub configuration: Option<PathBuf>,
    /// The Verifier's identifier: the https URL that nodes use.
    #[arg(long, value_name = "URL")]
    pub id: String,
    /// Address and port to listen on.
    #[arg(long, default_value = "[::]:8443", value_name = "ADDRESS")]
    pub listen: String,
    /// TLS certificate chain, PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_certificate: PathBuf,
    /// TLS key, PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_key: PathBuf,
    /// Manufacturers' certificates, PEM; may be given several times.
    #[arg(long, value_name = "FILE")]
    pub ek_root: Vec<PathBuf>,
    /// Who may sign policies (see ALLOWED SIGNERS in ssh-keygen(1)).
    #[arg(long, value_name = "FILE")]
    pub allowed_signers: PathBuf,
    /// Whether to go on in ordinary memory where the kernel has no secret memory.
    #[arg(long, value_enum, default_value = "refuse")]
    pub memory_degraded: Degraded,
}

/// Reference values.
#[derive(Subcommand)]
pub enum Policy {
    /// Verify FILE against FILE.sig (several signatures one after the other, or in FILE.sig2, FILE.sig3, …) and make it the active policy.
    Install {
        /// The policy.
        file: PathBuf,
    },
    /// Print the active policy.
    Show,
}

/// Nodes that may attest.
#[derive(Subcommand)]
pub enum Node {
    /// Let a node enrol, and give it roles; an existing node gets exactly these roles.
    Add {
        /// Its name.
        name: String,
        /// A role; may be given several times.
        #[arg(long)]
        role: Vec<String>,
        /// SHA-256 of the public area of its TPM's EK, hex: only this TPM may enrol, with or without a certificate.
        #[arg(long, value_name = "HEX")]
        ek: Option<String>,
    },
    /// Forget a node and its TPM.
    Rm {
        /// Its name.
        name: String,
    },
    /// Let a node that drifted attest again, after you found out why it did.
    Clear {
        /// Its name.
        name: String,
    },
    /// Accept the TPM that was the first under a name.
    Approve {
        /// The node's name.
        name: String,
        /// SHA-256 of the public area of its EK, hex, at least the first 16 digits, as you read it on the machine itself
        /// (journalctl -u rempartd: it names its EK when it enrols).
        #[arg(long, value_name = "HEX")]
        ek: String,
    },
    /// Print all nodes.
    List {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
}

/// Secrets of the Verifier's own store.
#[derive(Subcommand)]
pub enum Secret {
    /// Store the value given on standard input.
    Set {
        /// Its name, for example kv/billing#db_password.
        name: String,
        /// A role that may have it; may be given several times.
        #[arg(long, required = true)]
        role: Vec<String>,
    },
    /// Print names and roles, never values.
    List {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Remove a secret for all roles.
    Rm {
        /// Its name.
        name: String,
    },
}
