//! org.freedesktop.systemd1: which unit a process belongs to, and how that unit is defined.
//!
//! Nothing is cached: each answer is about now.

use std::collections::HashMap;

use zbus::{
    fdo::PropertiesProxy,
    names::InterfaceName,
    proxy::CacheProperties,
    zvariant::{Fd, OwnedObjectPath, OwnedValue},
};

/// One command of `ExecStart` as the bus shows it: path, arguments, ignore-failure, when it was started and ended by two
/// clocks each, its pid, and how it ended.
pub type Exec = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);
/// One line of `ListUnits`.
pub type Listed = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

/// The manager.
#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub trait Manager {
    /// systemd 253: object, name and invocation id of the unit that the process belongs to.
    #[zbus(name = "GetUnitByPIDFD")]
    fn unit_by_pidfd(&self, pidfd: Fd<'_>) -> zbus::Result<(OwnedObjectPath, String, Vec<u8>)>;
    /// The unit that the process belongs to.
    #[zbus(name = "GetUnitByPID")]
    fn unit_by_pid(&self, pid: u32) -> zbus::Result<OwnedObjectPath>;
    /// The unit of that name, loaded from disk if need be.
    #[zbus(name = "LoadUnit")]
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    /// The unit of that name, if it is loaded.
    #[zbus(name = "GetUnit")]
    fn unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    /// Loaded units whose names match.
    #[zbus(name = "ListUnitsByPatterns")]
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<Listed>>;
}

/// Properties of one interface, by name.
pub type Properties = HashMap<String, OwnedValue>;

const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// All properties of the unit at `path`: those of any unit, and those of a service.
pub async fn properties(bus: &zbus::Connection, path: OwnedObjectPath) -> zbus::Result<(Properties, Properties)> {
    let proxy = PropertiesProxy::builder(bus)
        .destination("org.freedesktop.systemd1")?
        .path(path)?
        .cache_properties(CacheProperties::No)
        .build()
        .await?;
    let all = |interface| proxy.get_all(interface);
    let (unit, service) = tokio::try_join!(
        all(InterfaceName::from_static_str_unchecked(UNIT)),
        all(InterfaceName::from_static_str_unchecked(SERVICE))
    )?;
    Ok((unit, service))
}

/// Whether `unit` still runs as its start `invocation`, 32 hexadecimal digits.
pub async fn runs(bus: &zbus::Connection, unit: &str, invocation: &str) -> zbus::Result<bool> {
    let state = state(bus, unit, invocation).await?;
    Ok(state.is_some_and(|(state, _)| !matches!(state.as_str(), "inactive" | "failed")))
}

/// `ActiveState` and `SubState` of `unit`, while its last start is `invocation`.
pub async fn state(bus: &zbus::Connection, unit: &str, invocation: &str) -> zbus::Result<Option<(String, String)>> {
    let path = match ManagerProxy::new(bus).await?.unit(unit).await {
        Err(zbus::Error::MethodError(name, _, _)) if name == "org.freedesktop.systemd1.NoSuchUnit" => return Ok(None),
        path => path?,
    };
    let (unit, _) = properties(bus, path).await?;
    let now: Vec<u8> = property(&unit, "InvocationID")?;
    let state = (property(&unit, "ActiveState")?, property(&unit, "SubState")?);
    Ok((hex::encode(now) == invocation).then_some(state))
}

/// The property `name`, which systemd gives in the type `T`.
pub fn property<T: TryFrom<OwnedValue>>(properties: &Properties, name: &str) -> zbus::Result<T> {
    let missing = || zbus::Error::Failure(format!("systemd does not tell its {name}"));
    let value = properties.get(name).ok_or_else(missing)?;
    T::try_from(value.try_clone().map_err(zbus::Error::Variant)?).map_err(|_| missing())
}
