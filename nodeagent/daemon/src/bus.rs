//! org.rempart.NodeAgent1 on the system bus. Who may call what is the bus's own policy
//! (/usr/share/dbus-1/system.d/org.rempart.NodeAgent1.conf).
//!
//! Must never carry a secret.

use std::{
    fs::File,
    io::{Seek, Write},
    sync::Arc,
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use rempart_api::bus::PATH;
use rempart_backend::{Backend, BackendError, is_sealed_name};
use rempart_core::{
    config::Degraded,
    reference::Reference,
    sealed::MAX_VALUE,
    unitfile::{MAX_SECRETS, is_role},
};
use rempart_secret::SecretBytes;
use rempart_secretmem::{Area, Memory};
use serde_json::json;
use zbus::{
    Connection, MessageStream, export::ordered_stream::OrderedStreamExt, fdo, interface, object_server::SignalEmitter,
    zvariant::OwnedFd,
};

use crate::{
    audit::Audit,
    guard::Guard,
    lease::Leases,
    lock::Lock,
    node::{Node, Results},
    release::{Outage, Units},
    sealed::{Booted, Values, ValuesError},
};

/// Time for the vault to say whether one secret is there.
const CHECK: Duration = Duration::from_secs(10);
/// Most events handed out in one call.
const MAX_EVENTS: u32 = 1000;

/// The object at [`PATH`].
pub struct Agent {
    /// The node.
    pub node: Arc<Node>,
    /// Its name.
    pub name: String,
    /// Its log.
    pub audit: Arc<Audit>,
    /// Its guard.
    pub guard: Guard,
    /// The opted-in units.
    pub units: Arc<Units>,
    /// What units hold for a time.
    pub leases: Arc<Leases>,
    /// What a lock has stopped.
    pub lock: Arc<Lock>,
    /// What is kept for outages.
    pub outage: Outage,
    /// The owner's values, where they are the vault.
    pub values: Option<Arc<Values>>,
    /// The vault.
    pub backend: Arc<dyn Backend>,
    /// What a kernel that does not enforce means.
    pub degraded: Degraded,
}

#[interface(name = "org.rempart.NodeAgent1")]
impl Agent {
    /// "booting", "attesting", "unlocked" or "locked".
    #[zbus(property)]
    async fn state(&self) -> String {
        self.node.view().borrow().state.word().to_owned()
    }

    /// One line, may be empty.
    #[zbus(property)]
    async fn reason(&self) -> String {
        self.node.view().borrow().reason.clone()
    }

    /// Microseconds since 1970; 0 when not unlocked.
    #[zbus(property)]
    async fn unlocked_until(&self) -> u64 {
        self.node.view().borrow().until_us
    }

    /// Whether only an operator's Attest() ends the lock; false when not locked.
    #[zbus(property)]
    async fn latched(&self) -> bool {
        self.node.view().borrow().latched
    }

    /// The node's name.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn node(&self) -> String {
        self.name.clone()
    }

    /// What the guard enforces now, as JSON.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn protection(&self) -> String {
        json!(self.guard.recent_status().await).to_string()
    }

    /// Attests now; clears a latched refusal if the Verifier is content. Gives the outcome in one line.
    async fn attest(&self) -> String {
        self.node.attest_for_operator().await
    }

    /// Everything at once, as JSON.
    async fn status(&self) -> String {
        let view = self.node.view().borrow().clone();
        let offline = self.outage.told();
        json!({
            "v": rempart_api::PROTOCOL_VERSION,
            "node": self.name,
            "state": view.state.word(),
            "reason": view.reason,
            "latched": view.latched,
            "local": self.node.is_local(),
            "unlocked_until_us": view.until_us,
            "roles": self.node.roles(),
            "degraded": match self.degraded { Degraded::Allow => "allow", Degraded::Refuse => "refuse" },
            "guard": self.guard.recent_status().await,
            "memory": match rempart_secretmem::memory() {
                Memory::Secret => json!({"secret": true}),
                Memory::Ordinary(why) => json!({"secret": false, "why": why.to_string()}),
            },
            "attestation": self.node.facts(),
            "units": self.units.served(),
            "leases": self.leases.told(),
            "offline": offline,
            "stopped": self.lock.stopped(),
            "not_stopped": self.lock.still_running(),
            "run_roles": self.units.run_roles(),
            "audit_head": hex::encode(self.audit.head()),
        })
        .to_string()
    }

    /// The Evidence that was sent last, CBOR in a sealed memory file. It holds no secret; it shows how the machine booted.
    async fn evidence(&self) -> fdo::Result<OwnedFd> {
        let sent = self.node.evidence();
        let sent = sent.ok_or_else(|| fdo::Error::Failed("no Evidence was sent yet".into()))?;
        sealed(&sent).map_err(|error| fdo::Error::IOError(format!("no memory file: {error}")))
    }

    /// What systemd of release `systemd` needs to sign its reports with this node's attestation key: a file's text, no secret.
    async fn systemd_key(&self, systemd: u32) -> fdo::Result<String> {
        self.node.systemd_key(systemd).await.map_err(fdo::Error::Failed)
    }

    /// An empty text, or one line why `unit`, as it is defined now, would get nothing.
    async fn check_unit(&self, unit: &str, #[zbus(connection)] bus: &Connection) -> fdo::Result<String> {
        let checked = self.units.check(bus, unit).await;
        let refused = checked.map_err(|error| fdo::Error::Failed(format!("systemd does not tell: {error}")))?;
        Ok(refused.map_or_else(
            |refusal| refusal.to_string().replace(char::is_control, " "),
            |()| String::new(),
        ))
    }

    /// For each reference an empty text, or one line why a unit of `role` does not get that secret now. Values are wiped here.
    async fn check_secrets(&self, role: &str, references: Vec<String>) -> fdo::Result<Vec<String>> {
        if references.len() > MAX_SECRETS {
            return Err(fdo::Error::InvalidArgs(format!("more than {MAX_SECRETS} references")));
        }
        if !is_role(role) {
            return Err(fdo::Error::InvalidArgs("this is no role".into()));
        }
        self.node.may_release().map_err(fdo::Error::Failed)?;
        let mut answers = Vec::new();
        for reference in references {
            answers.push(match reference.parse::<Reference>() {
                Ok(reference) => self.check(role, reference).await?,
                Err(error) => error.to_string(),
            });
        }
        Ok(answers)
    }

    /// New secrets for `unit`, as its `OnRotate=` says; for every unit that may get some when the name is empty. One line for each.
    async fn rotate(&self, unit: &str) -> fdo::Result<Vec<String>> {
        self.node.may_release().map_err(fdo::Error::Failed)?;
        let units = match unit {
            "" => self.leases.rotatable(),
            unit => vec![unit.to_owned()],
        };
        let asked = units
            .iter()
            .map(|unit| self.leases.rotate(unit).map_err(fdo::Error::Failed));
        asked.collect()
    }

    /// Seals `len` bytes of secret memory (memfd_secret) to the TPM as `name`, for units of `role`.
    async fn seal_set(&self, name: &str, role: &str, len: u32, value: OwnedFd) -> fdo::Result<()> {
        let values = self.values()?;
        let invalid = |why: String| fdo::Error::InvalidArgs(why);
        let reference = name.parse::<Reference>().map_err(|error| invalid(error.to_string()))?;
        if !is_sealed_name(&reference) {
            return Err(invalid("a name has no parameters".into()));
        }
        if !is_role(role) {
            return Err(invalid("this is no role".into()));
        }
        let len = usize::try_from(len).ok().filter(|len| (1..=MAX_VALUE).contains(len));
        let len = len.ok_or_else(|| invalid(format!("a value has 1 to {MAX_VALUE} bytes")))?;
        let area = Area::map(value.into(), len).map_err(|error| invalid(error.to_string()))?;
        let value = SecretBytes::build(len, |out| out.copy_from_slice(area.as_slice()));
        // What is sealed while another boot chain runs could be opened by that one only. Without a Verifier the first value says which
        // boot chain is the right one.
        let first = self.node.is_local() && matches!(values.booted().await, Booted::Unrecorded);
        if !first {
            self.node.may_release().map_err(fdo::Error::Failed)?;
        }
        values.set(&reference.name(), role, value).await.map_err(failed)?;
        tracing::info!("{name} is sealed for role {role}");
        if first {
            self.node.attest().await;
        }
        Ok(())
    }

    /// Names and roles of what is sealed, and an empty text or one line why it cannot be opened.
    async fn seal_list(&self) -> fdo::Result<(Vec<(String, String)>, String)> {
        let (entries, closed) = self.values()?.list().await.map_err(failed)?;
        let named = entries.into_iter().map(|entry| (entry.name, entry.role));
        Ok((named.collect(), closed.unwrap_or_default()))
    }

    /// Makes the sealed value `name` void for good; an empty name means all of them.
    async fn seal_remove(&self, name: &str) -> fdo::Result<()> {
        let values = self.values()?;
        let removed = match name {
            "" => values.remove_all().await,
            name => values.remove(name).await,
        };
        removed.map_err(failed)
    }

    /// The last lines of the audit log, oldest first.
    async fn events(&self, max: u32) -> Vec<String> {
        self.audit.recent(max.min(MAX_EVENTS) as usize)
    }

    /// The state or its reason changed.
    #[zbus(signal, name = "StateChanged")]
    async fn tell_state(emitter: &SignalEmitter<'_>, state: &str, reason: &str) -> zbus::Result<()>;
}

/// `bytes` in a memory file that nobody can change any more, to be read from its beginning.
fn sealed(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(
        "evidence",
        MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
    )?);
    file.write_all(bytes)?;
    file.rewind()?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
    Ok(std::os::fd::OwnedFd::from(file).into())
}

/// Returns when the bus is gone. A call on a lost connection fails for ever: who made it has to be started again.
pub async fn gone(bus: Connection) {
    let mut messages = MessageStream::from(bus);
    while let Some(Ok(_)) = messages.next().await {}
}

/// Tells the bus about every change. Returns when the bus is gone.
pub async fn announce(bus: Connection, node: Arc<Node>) -> zbus::Result<()> {
    let agent = bus.object_server().interface::<_, Agent>(PATH).await?;
    let mut views = node.view();
    // What happened before this subscription is told as well.
    views.mark_changed();
    while views.changed().await.is_ok() {
        let view = views.borrow_and_update().clone();
        let emitter = agent.signal_emitter();
        Agent::tell_state(emitter, view.state.word(), &view.reason).await?;
        let object = agent.get().await;
        object.properties_changed(emitter).await?;
    }
    Ok(())
}

fn failed(error: ValuesError) -> fdo::Error {
    fdo::Error::Failed(error.to_string())
}

impl Agent {
    fn values(&self) -> fdo::Result<&Arc<Values>> {
        let other =
            "this node's secrets do not come from its TPM; set vault.kind = \"tpm\" in /etc/rempart/rempart.toml";
        self.values.as_ref().ok_or_else(|| fdo::Error::Failed(other.into()))
    }

    /// An error when the vault says nothing about this secret.
    async fn check(&self, role: &str, reference: Reference) -> fdo::Result<String> {
        let (wanted, grants) = ([reference], Results(self.node.clone()));
        let silent = |_| fdo::Error::Failed(format!("the vault did not answer within {} s", CHECK.as_secs()));
        let fetched = tokio::time::timeout(CHECK, self.backend.fetch(role, &wanted, &grants)).await;
        match fetched.map_err(silent)? {
            Ok(fetched) => {
                // What was made for the question is nobody's.
                self.backend.end(fetched.leases).await;
                Ok(String::new())
            }
            Err(
                no @ (BackendError::Denied { .. } | BackendError::RoleNotGranted { .. } | BackendError::Absent { .. }),
            ) => Ok(no.to_string()),
            Err(error) => Err(fdo::Error::Failed(error.to_string())),
        }
    }

    async fn properties_changed(&self, emitter: &SignalEmitter<'_>) -> zbus::Result<()> {
        self.state_changed(emitter).await?;
        self.reason_changed(emitter).await?;
        self.latched_changed(emitter).await?;
        self.unlocked_until_changed(emitter).await
    }
}
