//! org.freedesktop.systemd1: what systemd has loaded, and how a command is run as a unit.

use std::collections::HashMap;

use zbus::{
    Connection,
    fdo::PropertiesProxy,
    names::InterfaceName,
    proxy::CacheProperties,
    zvariant::{ObjectPath, OwnedObjectPath, OwnedValue, Value},
};

use crate::failure::Failure;

/// One command of `ExecStart` as the bus shows it; the path is the first.
pub type Exec = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);
/// Properties for a unit that is made.
pub type Wanted<'a> = Vec<(&'a str, Value<'a>)>;

/// The manager.
#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub trait Manager {
    /// Signals are sent from now on.
    fn subscribe(&self) -> zbus::Result<()>;
    /// A unit that is loaded already.
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    /// The unit of that name, loaded from disk if need be.
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    /// Keeps the unit in memory while this connection lives.
    fn ref_unit(&self, name: &str) -> zbus::Result<()>;
    /// Starts it; gives the job.
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// Makes and starts a unit that no file defines.
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Value<'_>)],
        others: &[(&str, Vec<(&str, Value<'_>)>)],
    ) -> zbus::Result<OwnedObjectPath>;
    /// Ends what it does.
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// Sends a signal to processes of the unit.
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    /// Forgets that it failed.
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    /// A job has ended.
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: ObjectPath<'_>, unit: String, result: String) -> zbus::Result<()>;
}

/// systemd does not do what it was asked.
pub fn failed(error: zbus::Error) -> Failure {
    match &error {
        zbus::Error::MethodError(name, _, _)
            if matches!(
                name.as_str(),
                "org.freedesktop.DBus.Error.AccessDenied"
                    | "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
            ) =>
        {
            Failure::NotAllowed(error)
        }
        _ => Failure::Systemd(error),
    }
}

/// The bus that systemd is on, or the bus at `address`.
pub async fn connect(address: Option<&str>) -> zbus::Result<Connection> {
    match address {
        Some(address) => zbus::connection::Builder::address(address)?.build().await,
        None => Connection::system().await,
    }
}

/// What systemd tells of the object at `path`, now.
async fn properties<'a>(bus: &Connection, path: &'a str) -> zbus::Result<PropertiesProxy<'a>> {
    PropertiesProxy::builder(bus)
        .destination("org.freedesktop.systemd1")?
        .path(path)?
        .cache_properties(CacheProperties::No)
        .build()
        .await
}

/// One property of the object at `path`, which systemd gives in the type `T`.
pub async fn property<T: TryFrom<OwnedValue>>(
    bus: &Connection,
    path: &str,
    interface: &str,
    name: &str,
) -> zbus::Result<T> {
    let interface = InterfaceName::try_from(format!("org.freedesktop.systemd1.{interface}"))?;
    let value = properties(bus, path).await?.get(interface, name).await?;
    T::try_from(value).map_err(|_| zbus::Error::Failure(format!("systemd tells {name} in another type")))
}

/// A unit as systemd has it now.
pub struct Loaded(HashMap<String, OwnedValue>);

impl Loaded {
    /// The service at `path`.
    pub async fn of(bus: &Connection, path: &OwnedObjectPath) -> zbus::Result<Self> {
        let proxy = properties(bus, path.as_str()).await?;
        let all = |interface| proxy.get_all(InterfaceName::from_static_str_unchecked(interface));
        let mut properties = all("org.freedesktop.systemd1.Unit").await?;
        properties.extend(all("org.freedesktop.systemd1.Service").await?);
        Ok(Self(properties))
    }

    /// The property `name`, which systemd gives in the type `T`.
    pub fn property<T: TryFrom<OwnedValue>>(&self, name: &str) -> zbus::Result<T> {
        let missing = || zbus::Error::Failure(format!("systemd does not tell {name}"));
        let value = self.0.get(name).ok_or_else(missing)?;
        T::try_from(value.try_clone().map_err(zbus::Error::Variant)?).map_err(|_| missing())
    }
}
