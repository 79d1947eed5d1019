//! Secrets for a unit, over the agent socket. The story of one release:
//! who asks (kernel) → which unit (systemd) → is it the wrapper → is the unit what it was at boot → may the node release
//! → one release per start → values from the vault → label the task → pass the area.
//!
//! Must never take the caller's word for anything, and never put a value into a message.

/// Who asks, by the kernel's and systemd's word.
mod caller;
/// The socket of systemd's LoadCredential=.
mod credential;
/// Values laid out in secret memory.
mod layout;
/// Links for file deliveries.
mod links;
/// What `Offline=` makes of the vault's answer.
mod outage;
/// Other values while a unit runs.
mod replace;
/// The socket and its conversations.
mod socket;
/// What stands in while the vault is away, in memory.
pub mod stale;
/// The values of a start that is under way.
mod starts;
/// Configuration files made of a text and secrets.
mod template;
/// The opted-in units and their definitions.
mod units;

pub use outage::Outage;
pub use replace::{Files, NotReplaced, Replacer};
pub use socket::{Door, Releases, listen, serve, turns, void_at_refusal, wipe_at_lock};
pub use stale::Stale;
pub use starts::Starts;
pub use units::Units;

/// Why nothing is released. Each is one line: what, why, what to do.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The kernel has no SO_PEERPIDFD.
    #[error("this kernel cannot prove who asks: {0}; Rempart needs Linux 6.5 or later for the agent socket")]
    KernelCannotTell(std::io::Error),
    /// The caller ended meanwhile.
    #[error("the process that asked is gone; start the unit again")]
    CallerGone,
    /// No unit.
    #[error("pid {pid} belongs to no service that systemd knows ({why}); secrets go to services only")]
    CallerNoUnit {
        /// Its number.
        pid: u32,
        /// systemd's words.
        why: String,
    },
    /// Another process of the unit.
    #[error(
        "pid {pid} is not the process that systemd started for ExecStart= of {unit}; only that one may ask. If systemd was reloaded during the start, start {unit} again"
    )]
    CallerNotStarted {
        /// Its number.
        pid: u32,
        /// The unit.
        unit: String,
    },
    /// A user that is not root, at the socket of systemd's credentials.
    #[error("pid {pid} is of user {uid}; only systemd itself, as root, may ask for credentials")]
    LoaderNotRoot {
        /// Its number.
        pid: u32,
        /// Its user.
        uid: u32,
    },
    /// Root, but not on systemd's behalf.
    #[error(
        "pid {pid} was not forked by systemd for a command of {unit} that starts; only such a process may ask for credentials. If systemd was reloaded during the start, start {unit} again"
    )]
    LoaderNotStarted {
        /// Its number.
        pid: u32,
        /// The unit.
        unit: String,
    },
    /// An address that does not say for what is asked.
    #[error(
        "{unit} asks for a credential from an address that is not of systemd's form; leave LoadCredential= to rempart-generator"
    )]
    LoaderUnnamed {
        /// The unit.
        unit: String,
    },
    /// An address that names another unit.
    #[error("{unit} asks for a credential in the name of {claimed}; a unit gets its own only")]
    LoaderClaims {
        /// The unit that asks.
        unit: String,
        /// The unit that it says it is.
        claimed: String,
    },
    /// No such credential.
    #[error(
        "{unit} has no secret {name} that is delivered by credential; say Secret={name}:credential=… or remove its LoadCredential="
    )]
    NoCredential {
        /// The unit.
        unit: String,
        /// What was asked for.
        name: String,
    },
    /// systemd would not take them.
    #[error(
        "the credentials of {unit} have more than 1 MiB together, which systemd does not take; deliver some of them by file"
    )]
    CredentialsTooLong {
        /// The unit.
        unit: String,
    },
    /// The values of this start are not there.
    #[error("{unit} has credentials, and {why}; start it again")]
    StartOver {
        /// The unit.
        unit: String,
        /// One line.
        why: &'static str,
    },
    /// Another program.
    #[error(
        "{unit} is not started through {wrap} (pid {pid} runs another program); run systemctl daemon-reload and restart it"
    )]
    CallerNotWrapper {
        /// Its number.
        pid: u32,
        /// The unit.
        unit: String,
        /// The wrapper.
        wrap: String,
    },
    /// No `[X-Rempart]`.
    #[error(
        "{unit} has not opted in: none of its files has [X-Rempart] with Wrap=yes; add a drop-in with it and reboot"
    )]
    UnitNotOptedIn {
        /// The unit.
        unit: String,
    },
    /// The section is wrong.
    #[error("{unit} is misconfigured: {why}; correct that line and reboot")]
    UnitMalformed {
        /// The unit.
        unit: String,
        /// File, line and defect.
        why: String,
    },
    /// A unit file cannot be read.
    #[error(
        "{unit}: {path} cannot be read: {why}; make it readable for everybody (chmod a+r) and start the unit again"
    )]
    UnitUnreadable {
        /// The unit.
        unit: String,
        /// The file.
        path: String,
        /// What the kernel says.
        why: String,
    },
    /// The unit's definition changed.
    #[error(
        "{unit} is not what it was when the agent first started in this boot: {what}; undo that and run systemctl daemon-reload, or reboot to accept it"
    )]
    UnitChanged {
        /// The unit.
        unit: String,
        /// The first difference.
        what: String,
    },
    /// The unit was not there.
    #[error(
        "{unit} was not there, opted in, when the agent first started in this boot; reboot to accept it (an instance of a template must be enabled, so that boot loads it)"
    )]
    UnitNew {
        /// The unit.
        unit: String,
    },
    /// A command that the operator named.
    #[error(
        "{unit} is a command that `rempart run` was given, and [run] roles in this machine's configuration does not name the role {role}; run a service that had opted in at boot (rempart run UNIT), or have the owner name the role in the measured configuration"
    )]
    RunNotAllowed {
        /// The unit.
        unit: String,
        /// Its role.
        role: String,
    },
    /// A second request of one start.
    #[error("{unit} has already got its secrets for this start; they are given once, restart it to get them again")]
    UnitServed {
        /// The unit.
        unit: String,
    },
    /// The node is not unlocked.
    #[error("{0}")]
    Node(String),
    /// The vault.
    #[error("{0}")]
    Vault(#[from] rempart_backend::BackendError),
    /// The guard.
    #[error("{unit} cannot be protected: {why}; set guard.degraded = \"allow\" to release all the same")]
    Guard {
        /// The unit.
        unit: String,
        /// What it said.
        why: crate::guard::GuardError,
    },
    /// The guard does not watch what a strict unit puts out.
    #[error(
        "the output of {unit} cannot be watched for its secrets: {why}; set Leak=observe or Leak=off to release all the same"
    )]
    Watch {
        /// The unit.
        unit: String,
        /// What it said.
        why: crate::guard::GuardError,
    },
    /// A template gives no file.
    #[error("{path} of {unit} gives no file: {why}; correct the template or the unit's Secret= lines")]
    Template {
        /// The unit.
        unit: String,
        /// The template.
        path: String,
        /// One line.
        why: String,
    },
    /// No random numbers.
    #[error("the system gives no random numbers; see dmesg")]
    Random,
    /// Secret memory.
    #[error("no secret memory for {unit}: {why}; check with: rempart doctor")]
    Memory {
        /// The unit.
        unit: String,
        /// One line.
        why: String,
    },
    /// A link for a file delivery.
    #[error("{path} cannot be made: {why}; check space and owner of /run/rempart")]
    Link {
        /// The link.
        path: String,
        /// What the kernel says.
        why: String,
    },
    /// It takes longer than the wrapper waits.
    #[error("{what} did not answer within {} s; see journalctl -u rempartd, then start the unit again", patience.as_secs())]
    Slow {
        /// Who.
        what: &'static str,
        /// How long.
        patience: std::time::Duration,
    },
    /// One user has too many conversations at once.
    #[error("user {uid} has too many questions to the agent open at once; end the processes that hold them")]
    CallerTooMany {
        /// The user.
        uid: u32,
    },
    /// The release cannot be recorded.
    #[error("{0}; nothing is released without a record of it")]
    Record(crate::audit::NotRecorded),
    /// The request itself.
    #[error("the request is not understood: {0}; bring agent and wrapper to the same release")]
    Request(rempart_api::line::LineError),
}
