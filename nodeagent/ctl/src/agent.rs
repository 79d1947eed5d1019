//! org.rempart.NodeAgent1, as its client sees it.

use zbus::{Connection, proxy::CacheProperties, zvariant::OwnedFd};

use crate::failure::Failure;

/// The agent's object.
#[zbus::proxy(
    interface = "org.rempart.NodeAgent1",
    default_service = "org.rempart.NodeAgent1",
    default_path = "/org/rempart/NodeAgent1"
)]
pub trait Agent {
    /// "booting", "attesting", "unlocked" or "locked".
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;
    /// One line.
    #[zbus(property)]
    fn reason(&self) -> zbus::Result<String>;
    /// Only an operator ends the lock.
    #[zbus(property)]
    fn latched(&self) -> zbus::Result<bool>;
    /// Attests now.
    fn attest(&self) -> zbus::Result<String>;
    /// The Evidence that was sent last, CBOR in a memory file.
    fn evidence(&self) -> zbus::Result<OwnedFd>;
    /// The file that makes systemd sign with the node's attestation key.
    fn systemd_key(&self, systemd: u32) -> zbus::Result<String>;
    /// Everything, as JSON.
    fn status(&self) -> zbus::Result<String>;
    /// Nothing, or why the unit gets no secret as it is defined now.
    fn check_unit(&self, unit: &str) -> zbus::Result<String>;
    /// For each reference nothing, or why a unit of that role does not get it.
    fn check_secrets(&self, role: &str, references: &[String]) -> zbus::Result<Vec<String>>;
    /// New secrets for the unit, or with an empty name for all; a line for each.
    fn rotate(&self, unit: &str) -> zbus::Result<Vec<String>>;
    /// Seals so many bytes of secret memory as a value for a role.
    fn seal_set(&self, name: &str, role: &str, len: u32, value: zbus::zvariant::Fd<'_>) -> zbus::Result<()>;
    /// Names and roles, and why the values cannot be opened, if so.
    fn seal_list(&self) -> zbus::Result<(Vec<(String, String)>, String)>;
    /// Makes a value void, or all.
    fn seal_remove(&self, name: &str) -> zbus::Result<()>;
    /// The last lines of the audit log.
    fn events(&self, max: u32) -> zbus::Result<Vec<String>>;
    /// The state changed.
    #[zbus(signal, name = "StateChanged")]
    fn state_told(&self, state: String, reason: String) -> zbus::Result<()>;
}

/// The agent on the system bus, or on the bus at `address`.
pub async fn connect(address: Option<&str>) -> Result<AgentProxy<'static>, Failure> {
    let bus = match address {
        Some(address) => zbus::connection::Builder::address(address)?.build().await?,
        None => Connection::system().await?,
    };
    Ok(AgentProxy::builder(&bus)
        .cache_properties(CacheProperties::No)
        .build()
        .await?)
}
