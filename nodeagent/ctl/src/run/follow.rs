//! Waits until a unit has ended, hands on signals meanwhile, and ends as it did.

use std::{process::ExitCode, time::Duration};

use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep, sleep_until},
};
use zbus::{
    Connection, export::ordered_stream::OrderedStreamExt, fdo::PropertiesProxy, proxy::CacheProperties,
    zvariant::OwnedObjectPath,
};

use crate::{
    failure::Failure,
    systemd::{JobRemovedStream, Loaded, ManagerProxy, failed},
};

/// systemd is asked at least this often: a signal of its may be lost with a reload.
const LOOK: Duration = Duration::from_secs(1);
/// After so long without a start it is said what is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// A unit that was told to start.
pub struct Started<'a> {
    /// systemd's bus.
    pub bus: &'a Connection,
    /// Its manager.
    pub manager: &'a ManagerProxy<'static>,
    /// Full name.
    pub name: &'a str,
    /// Its object.
    pub path: OwnedObjectPath,
    /// The job that starts it.
    pub job: OwnedObjectPath,
    /// Jobs that ended since before that.
    pub jobs: JobRemovedStream,
    /// The invocation before.
    pub before: Vec<u8>,
}

/// How a unit ended.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
enum End {
    Exited(i32),
    Killed(i32),
    /// Its command did not run: the job's result and the unit's.
    Never(String, String),
}

impl Started<'_> {
    /// The unit's exit status as ours.
    pub async fn follow(mut self) -> Result<ExitCode, Failure> {
        let mut signals = Signals::new()?;
        let mut changes = PropertiesProxy::builder(self.bus)
            .destination("org.freedesktop.systemd1")
            .and_then(|builder| builder.path(self.path.clone()))
            .map_err(failed)?
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(failed)?
            .receive_properties_changed()
            .await
            .map_err(failed)?;
        let mut result: Option<String> = None;
        let mut hint = Some(Instant::now() + PATIENCE);
        loop {
            if let Some(job) = &result
                && let Some(end) = self.end(job).await?
            {
                return end.code(self.name);
            }
            let hint_at = hint.unwrap_or_else(|| Instant::now() + LOOK);
            select! {
                Some(removed) = self.jobs.next() => {
                    let removed = removed.args().map_err(failed)?;
                    if removed.job().as_str() == self.job.as_str() {
                        result = Some(removed.result().clone());
                    }
                }
                Some(_) = changes.next() => {}
                number = signals.next() => {
                    if let Some(code) = self.hand_on(number).await? {
                        return Ok(code);
                    }
                }
                () = sleep_until(hint_at), if hint.is_some() => {
                    hint = None;
                    if result.is_none() && !self.runs().await {
                        eprintln!("rempart: waiting for rempart-unlocked.target; see: rempart status");
                    }
                }
                () = sleep(LOOK) => {}
            }
        }
    }

    async fn loaded(&self) -> Result<Loaded, Failure> {
        Loaded::of(self.bus, &self.path).await.map_err(failed)
    }

    async fn runs(&self) -> bool {
        let state = self
            .loaded()
            .await
            .and_then(|unit| unit.property::<String>("ActiveState").map_err(failed));
        state.is_ok_and(|state| !matches!(state.as_str(), "inactive" | "failed"))
    }

    /// A signal that asks to end while the unit waits for its start ends the waiting. Nobody takes others then.
    async fn hand_on(&self, number: i32) -> Result<Option<ExitCode>, Failure> {
        if self.runs().await || !Signals::END.contains(&number) {
            // Its processes may be gone by now; then it has ended too.
            let _ = self.manager.kill_unit(self.name, "all", number).await;
            return Ok(None);
        }
        self.manager.stop_unit(self.name, "replace").await.map_err(failed)?;
        End::Killed(number).code(self.name).map(Some)
    }

    /// `None` while it runs.
    async fn end(&self, job: &str) -> Result<Option<End>, Failure> {
        let unit = self.loaded().await?;
        let read = || -> zbus::Result<Option<End>> {
            let active: String = unit.property("ActiveState")?;
            let sub: String = unit.property("SubState")?;
            if !matches!(active.as_str(), "inactive" | "failed") && sub != "exited" {
                return Ok(None);
            }
            let invocation: Vec<u8> = unit.property("InvocationID")?;
            let (code, status): (i32, i32) = (unit.property("ExecMainCode")?, unit.property("ExecMainStatus")?);
            let same = invocation.is_empty() || invocation == self.before;
            Ok(Some(End::of(same, code, status, job, unit.property("Result")?)))
        };
        read().map_err(failed)
    }
}

impl End {
    /// By what systemd noted of the main process (waitid(2), `si_code`).
    fn of(not_invoked: bool, code: i32, status: i32, job: &str, result: String) -> Self {
        match code {
            1 if !not_invoked => Self::Exited(status),
            2 | 3 if !not_invoked => Self::Killed(status),
            _ => Self::Never(job.to_owned(), result),
        }
    }

    fn code(self, name: &str) -> Result<ExitCode, Failure> {
        let code = |number: i32| ExitCode::from(u8::try_from(number).unwrap_or(u8::MAX));
        match self {
            Self::Exited(status) => Ok(code(status)),
            Self::Killed(signal) => Ok(code(128 + signal)),
            Self::Never(job, _) if job == "dependency" => Err(Failure::Refused(format!(
                "{name} was not started: the node is not unlocked, or another unit that it requires failed; see: rempart status; journalctl -u {name}"
            ))),
            Self::Never(job, result) => Err(Failure::Machine(format!(
                "{name} did not run its command (job {job}, result {result}); see: journalctl -u {name}"
            ))),
        }
    }
}

/// What the terminal, or whoever runs us, tells the command.
struct Signals(Vec<(i32, Signal)>);

impl Signals {
    /// SIGHUP, SIGINT, SIGQUIT, SIGTERM.
    const END: [i32; 4] = [1, 2, 3, 15];

    fn new() -> Result<Self, Failure> {
        let kinds = [
            SignalKind::hangup(),
            SignalKind::interrupt(),
            SignalKind::quit(),
            SignalKind::terminate(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
            SignalKind::window_change(),
        ];
        let open = |kind: SignalKind| Ok((kind.as_raw_value(), signal(kind)?));
        let signals: std::io::Result<Vec<_>> = kinds.into_iter().map(open).collect();
        signals
            .map(Self)
            .map_err(|error| Failure::Machine(format!("signals cannot be taken: {error}")))
    }

    async fn next(&mut self) -> i32 {
        std::future::poll_fn(|context| {
            for (number, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_or_a_signal_is_that_of_the_command_and_of_no_earlier_start() {
        let end = |same, code| End::of(same, code, 9, "done", "success".into());
        assert_eq!(end(false, 1), End::Exited(9));
        assert_eq!(end(false, 2), End::Killed(9));
        assert_eq!(end(false, 3), End::Killed(9));
        let never = End::Never("done".into(), "success".into());
        assert_eq!(
            (end(false, 0), end(true, 1)),
            (never, End::Never("done".into(), "success".into()))
        );
    }

    #[test]
    fn a_command_that_never_ran_is_told_with_what_to_look_at() {
        let line = |job: &str| {
            End::Never(job.into(), "resources".into())
                .code("a.service")
                .expect_err("never")
                .to_string()
        };
        assert!(line("dependency").contains("not unlocked"));
        assert!(line("failed").contains("result resources") && line("failed").contains("journalctl -u a.service"));
        assert_eq!(End::Killed(15).code("a.service").expect("code"), ExitCode::from(143));
    }
}
