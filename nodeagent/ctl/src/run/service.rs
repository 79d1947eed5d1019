//! `rempart run UNIT`: a service of this machine, with its own command and secrets, on the caller's terminal.
//!
//! Nothing about the unit is changed for it: the agent knows it as it was at boot.

use std::{path::Path, process::ExitCode};

use rempart_api::path::STDIO;

use super::{follow::Started, streams::Streams};
use crate::{
    failure::Failure,
    systemd::{self, Exec, Loaded, ManagerProxy, failed},
    units::ServiceName,
};

/// Starts it, and ends as it ends.
pub async fn run(bus: Option<&str>, unit: &ServiceName) -> Result<ExitCode, Failure> {
    let wrong = |name: &str, why: &str| Failure::Unit {
        unit: name.to_owned(),
        why: why.to_owned(),
    };
    if unit.is_template() {
        return Err(wrong(unit.as_str(), "it is a template; name one of its instances"));
    }
    let bus = systemd::connect(bus).await.map_err(failed)?;
    let manager = ManagerProxy::new(&bus).await.map_err(failed)?;
    manager.subscribe().await.map_err(failed)?;
    let path = manager.load_unit(unit.as_str()).await.map_err(failed)?;
    let loaded = Loaded::of(&bus, &path).await.map_err(failed)?;
    let before = judge(&loaded).map_err(failed)?.map_err(|refusal| match refusal {
        NotRun::NoUnit => Failure::NoUnit(unit.to_string()),
        NotRun::Because(why) => wrong(unit.as_str(), why),
    })?;
    let name: String = loaded.property("Id").map_err(failed)?;
    let streams = Streams::offer(Path::new(STDIO), &name).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => wrong(&name, "another `rempart run` runs it; wait for that"),
        std::io::ErrorKind::PermissionDenied => Failure::Machine(format!("{STDIO}: {error}; run this as root")),
        _ => Failure::Machine(format!("{STDIO}/{name}: {error}")),
    })?;
    manager.ref_unit(&name).await.map_err(failed)?;
    // An operator's start counts for itself: StartLimitBurst= is against services that start over and over by themselves.
    let _ = manager.reset_failed_unit(&name).await;
    let jobs = manager.receive_job_removed().await.map_err(failed)?;
    let job = manager.start_unit(&name, "fail").await.map_err(failed)?;
    let started = Started {
        bus: &bus,
        manager: &manager,
        name: &name,
        path,
        job,
        jobs,
        before,
    };
    let ended = started.follow().await;
    streams.drain();
    ended
}

enum NotRun {
    NoUnit,
    Because(&'static str),
}

/// Its last invocation, if it can be started now and is wrapped for us.
fn judge(unit: &Loaded) -> zbus::Result<Result<Vec<u8>, NotRun>> {
    let load: String = unit.property("LoadState")?;
    let active: String = unit.property("ActiveState")?;
    let input: String = unit.property("StandardInput")?;
    let commands: Vec<Exec> = unit.property("ExecStart")?;
    let wrapped = !commands.is_empty() && commands.iter().all(|command| command.0 == rempart_api::path::WRAP);
    Ok(if matches!(load.as_str(), "not-found" | "masked") {
        Err(NotRun::NoUnit)
    } else if !wrapped {
        Err(NotRun::Because(
            "systemd has it loaded without the wrapper; see: rempart wrap --run, then rempart validate",
        ))
    } else if !input.starts_with(&format!("file:{STDIO}/")) && input != "file" {
        Err(NotRun::Because(
            "its standard streams are not those of `rempart run`; wrap it with --run --force",
        ))
    } else if !matches!(active.as_str(), "inactive" | "failed") {
        Err(NotRun::Because("it is running already; systemctl stop it first"))
    } else {
        Ok(unit.property("InvocationID")?)
    })
}
