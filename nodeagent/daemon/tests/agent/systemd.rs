//! A stand-in for systemd's manager on the test's own bus: one service, whose main process is this test.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use zbus::{
    connection::Builder,
    fdo, interface,
    zvariant::{Fd, ObjectPath, OwnedObjectPath},
};

const UNIT: &str = "/org/freedesktop/systemd1/unit/web_2eservice";

type Exec = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);
type Listed = (
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

/// What the service looks like now; a test changes it.
#[derive(Debug, Clone)]
pub struct Service {
    /// The process that systemd noted for the command; the main process is always this test.
    pub started_pid: u32,
    /// The process of its `ExecStartPre=`, which runs; 0 for none.
    pub control_pid: u32,
    /// The program of its `ExecStartPre=`.
    pub prepare: String,
    pub invocation: [u8; 16],
    pub program: String,
    pub arguments: Vec<String>,
    /// The unit is started again after the next question whose a process is.
    pub starts_again_soon: bool,
    /// Whether systemd has seen the process end.
    pub ended: bool,
    pub fragment: String,
}

/// The stand-in; it ends with this value.
pub struct Systemd {
    pub service: Arc<Mutex<Service>>,
    _bus: zbus::Connection,
}

impl Systemd {
    /// Takes systemd's name on the bus at `address`.
    pub async fn start(address: &str, fragment: &Path) -> Self {
        let program = std::env::current_exe().expect("own path").display().to_string();
        let fragment = fragment.display().to_string();
        let service = Service {
            started_pid: std::process::id(),
            control_pid: 0,
            prepare: "/usr/bin/prepare".to_owned(),
            invocation: [1; 16],
            program,
            arguments: Vec::new(),
            starts_again_soon: false,
            ended: false,
            fragment,
        };
        let service = Arc::new(Mutex::new(service));
        let bus = Builder::address(address)
            .and_then(|builder| builder.name("org.freedesktop.systemd1"))
            .and_then(|builder| builder.serve_at("/org/freedesktop/systemd1", Manager(service.clone())))
            .and_then(|builder| builder.serve_at(UNIT, Unit(service.clone())))
            .and_then(|builder| builder.serve_at(UNIT, MainProcess(service.clone())))
            .expect("bus")
            .build()
            .await
            .expect("systemd's name");
        Self { service, _bus: bus }
    }

    /// The next start of the service.
    pub fn start_again(&self) {
        let mut service = self.service.lock().expect("no panic");
        service.invocation = u128::from_be_bytes(service.invocation).wrapping_add(1).to_be_bytes();
    }
}

struct Manager(Arc<Mutex<Service>>);

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    #[zbus(name = "GetUnitByPIDFD")]
    async fn unit_by_pidfd(&self, _pidfd: Fd<'_>) -> fdo::Result<(OwnedObjectPath, String, Vec<u8>)> {
        let mut service = self.0.lock().expect("no panic");
        let asked = service.invocation;
        if std::mem::take(&mut service.starts_again_soon) {
            service.invocation = u128::from_be_bytes(asked).wrapping_add(1).to_be_bytes();
        }
        Ok((unit_path(), "web.service".into(), asked.to_vec()))
    }

    #[zbus(name = "LoadUnit")]
    async fn load_unit(&self, name: &str) -> fdo::Result<OwnedObjectPath> {
        if name == "web.service" {
            Ok(unit_path())
        } else {
            Err(fdo::Error::FileNotFound(name.into()))
        }
    }

    #[zbus(name = "GetUnit")]
    async fn unit(&self, name: &str) -> fdo::Result<OwnedObjectPath> {
        self.load_unit(name).await
    }

    #[zbus(name = "ListUnitsByPatterns")]
    async fn list_units_by_patterns(&self, _states: Vec<String>, _patterns: Vec<String>) -> Vec<Listed> {
        Vec::new()
    }
}

struct Unit(Arc<Mutex<Service>>);

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl Unit {
    #[zbus(property)]
    async fn id(&self) -> String {
        "web.service".into()
    }
    #[zbus(property)]
    async fn fragment_path(&self) -> String {
        self.0.lock().expect("no panic").fragment.clone()
    }
    #[zbus(property)]
    async fn drop_in_paths(&self) -> Vec<String> {
        Vec::new()
    }
    #[zbus(property)]
    async fn active_state(&self) -> String {
        let ended = self.0.lock().expect("no panic").ended;
        if ended { "inactive" } else { "active" }.into()
    }
    #[zbus(property)]
    async fn sub_state(&self) -> String {
        let ended = self.0.lock().expect("no panic").ended;
        if ended { "dead" } else { "running" }.into()
    }
    #[zbus(property, name = "InvocationID")]
    async fn invocation_id(&self) -> Vec<u8> {
        self.0.lock().expect("no panic").invocation.to_vec()
    }
}

struct MainProcess(Arc<Mutex<Service>>);

#[interface(name = "org.freedesktop.systemd1.Service")]
impl MainProcess {
    #[zbus(property, name = "MainPID")]
    async fn main_pid(&self) -> u32 {
        std::process::id()
    }
    #[zbus(property, name = "ControlPID")]
    async fn control_pid(&self) -> u32 {
        self.0.lock().expect("no panic").control_pid
    }
    #[zbus(property)]
    async fn exec_start_pre(&self) -> Vec<Exec> {
        let service = self.0.lock().expect("no panic");
        let (pid, program) = (service.control_pid, service.prepare.clone());
        let begun = u64::from(pid != 0);
        vec![(program, Vec::new(), false, begun, begun, 0, 0, pid, 0, 0)]
    }
    #[zbus(property)]
    async fn exec_start_post(&self) -> Vec<Exec> {
        Vec::new()
    }
    #[zbus(property)]
    async fn exec_main_start_timestamp_monotonic(&self) -> u64 {
        1
    }
    #[zbus(property)]
    async fn exec_start(&self) -> Vec<Exec> {
        let service = self.0.lock().expect("no panic").clone();
        let ended = u64::from(service.ended);
        vec![(
            service.program,
            service.arguments,
            false,
            1,
            1,
            ended,
            ended,
            service.started_pid,
            0,
            0,
        )]
    }
}

fn unit_path() -> OwnedObjectPath {
    ObjectPath::from_static_str_unchecked(UNIT).into()
}
