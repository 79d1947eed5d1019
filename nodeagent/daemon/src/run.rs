//! All parts put together: what is opened, in which order, and how it ends.

use std::{collections::BTreeSet, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use rempart_api::{
    bus::{NAME, PATH},
    exit,
    guard::{self, Event, Mode},
};
use rempart_backend::{Accessors, Backend, Login, OpenBao, TpmStore, VerifierStore};
use rempart_core::{
    audit::What,
    config::{Degraded, Vault, VaultAuth},
    machine::Pace,
};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};
use std::os::fd::AsFd;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    STACK,
    anchor::Anchors,
    attest::{Attestor, Judge, Local},
    audit::Audit,
    bus::{self, Agent},
    guard::Guard,
    jobs::Jobs,
    lease::Leases,
    lock::Lock,
    mounts,
    node::{Arming, Node},
    policy,
    release::{self, Door, Outage, Releases, Replacer, Stale, Starts, Units},
    sealed::{self, Copies, Sealer, Values},
    setup::{Setup, SetupError},
    sleep,
    systemd::notify,
    tpm::TpmLine,
};

/// The unit's name, as the guard labels it.
const UNIT: &str = "rempartd.service";
/// The system bus.
const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";
/// Wait before the guard is asked again.
const GUARD_RETRY: Duration = Duration::from_secs(5);
/// Different reasons reported for a missing guard.
const MAX_TOLD: usize = 32;
/// Time for revoking tokens at the end.
const FAREWELL: Duration = Duration::from_secs(5);

/// The configuration cannot be used, or the TPM not as it says.
pub fn misconfigured(error: &SetupError) -> ExitCode {
    tracing::error!("not started: {error}");
    ExitCode::from(exit::CONFIG)
}

/// Runs until SIGTERM or SIGINT.
pub fn run(setup: Setup) -> ExitCode {
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(STACK)
        // They look up names, and stand in for a thread that waits for the TPM.
        .max_blocking_threads(3)
        .enable_all()
        .build()
        .context("no run time")
        .and_then(|runtime| runtime.block_on(serve(setup)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("not started: {error:#}");
            ExitCode::from(exit::OS)
        }
    }
}

async fn serve(setup: Setup) -> anyhow::Result<()> {
    let mut ends = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    let audit = Arc::new(Audit::open(&setup.places.state)?);
    audit.record(What::Started {
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })?;
    let guard = Guard::at(setup.places.guard.clone());
    let tpm = TpmLine::start(setup.tpm.clone()).context("no thread for the TPM")?;
    let sealer = Sealer::new(&setup, tpm.clone(), sealed::VALUES);
    let values = Values::new(&setup.places.state, sealer, audit.clone());
    let backend = backend(&setup, &values)?;
    let copies = Copies::new(
        &setup.places.state,
        Sealer::new(&setup, tpm.clone(), sealed::COPIES),
        audit.clone(),
    );
    let recalled = copies.clone();
    tokio::spawn(async move { recalled.recall().await });
    let judge = match setup.verifier.clone() {
        Some(verifier) => Judge::Verifier(Box::new(Attestor::new(
            &setup,
            verifier,
            tpm,
            audit.clone(),
            guard.clone(),
        ))),
        None => {
            tracing::warn!("local: there is no [verifier], so nobody outside judges this machine");
            Judge::Tpm(Box::new(Local::new(values.clone(), tpm, setup.tpm.clone())))
        }
    };
    let pace = Pace::every(setup.settings.interval);
    let bus = connect(setup.places.bus.as_deref())
        .await
        .context("no connection to the system bus; check: systemctl status dbus")?;
    let units = Arc::new(
        match Units::record(&bus, &setup.places.unit_folders, &setup.places.state.join("units.json")).await {
            Ok(units) => units,
            Err(error) => {
                tracing::error!(
                    "systemd does not list its units, so no unit gets a secret until the agent is restarted: {error}"
                );
                Units::default()
            }
        }
        .allowing(setup.settings.run_roles.clone()),
    );
    let mounts = mounts::trusted().context("the table of mounts cannot be read; the agent needs /proc")?;
    let arming = Arming {
        how: guard::Arming {
            node: setup.settings.node.clone(),
            files: setup.settings.files,
            tpm_exclusive: setup.settings.tpm_exclusive,
            foreign_bpf: setup.settings.foreign_bpf.clone(),
        },
        anchors: Anchors::new(&setup.text, &mounts, &units),
        units: units.clone(),
    };
    // Before `systemctl restart` returns, so that a token may be ended right after it. Each round asks again while this fails.
    if let Err(why) = arming.anchors.hold(&guard, &units).await {
        tracing::error!("not to be attested as it is: {why}");
        tracing::info!("mounted at trusted places: {}", mounts.trim_end().replace('\n', "; "));
    }
    let node = Node::new(
        pace,
        judge,
        backend.clone(),
        audit.clone(),
        guard.clone(),
        setup.settings.degraded,
        arming,
    );

    let jobs = Jobs::at(setup.places.jobs.clone());
    let outage = Outage {
        stale: Arc::new(Stale::default()),
        copies,
    };
    let replacer = Replacer {
        node: node.clone(),
        backend: backend.clone(),
        guard: guard.clone(),
        audit: audit.clone(),
        degraded: setup.settings.degraded,
        outage: outage.clone(),
        units: units.clone(),
        bus: bus.clone(),
    };
    let leases = Leases::remember(replacer, bus.clone(), jobs.clone(), &setup.places.state);
    let lock = Lock::remember(node.clone(), audit.clone(), bus.clone(), jobs, &setup.places.state);
    tokio::spawn(lock.clone().watch());
    let agent = Agent {
        node: node.clone(),
        name: setup.settings.node.clone(),
        audit: audit.clone(),
        guard: guard.clone(),
        units: units.clone(),
        leases: leases.clone(),
        lock: lock.clone(),
        outage: outage.clone(),
        values: (setup.settings.vault == Vault::Tpm).then_some(values),
        backend: backend.clone(),
        degraded: setup.settings.degraded,
    };
    publish(&bus, agent).await?;
    let listen =
        |path, door| release::listen(path, door).with_context(|| format!("cannot listen at {}", path.display()));
    // The other first: who finds the agent's socket finds both.
    let credentials = listen(&setup.places.credentials, Door::Systemd)?;
    let listener = listen(&setup.places.socket, Door::Wrapper)?;
    tokio::spawn(leases.clone().drive());
    let releases = Releases {
        bus: bus.clone(),
        asking: release::turns(),
        node: node.clone(),
        backend,
        guard: guard.clone(),
        audit: audit.clone(),
        units,
        degraded: setup.settings.degraded,
        wrap: setup.places.wrap.clone(),
        links: setup.places.links.clone(),
        leases,
        outage,
        starts: Arc::new(Starts::default()),
        lock,
    };
    let releases = Arc::new(releases);
    tokio::spawn(release::wipe_at_lock(releases.clone()));
    tokio::spawn(release::void_at_refusal(releases.clone()));
    tokio::spawn(releases.starts.clone().watch(bus.clone()));
    tokio::spawn(release::serve(credentials, releases.clone(), Door::Systemd));
    tokio::spawn(release::serve(listener, releases, Door::Wrapper));
    tokio::spawn(watch_guard(guard, audit, setup.settings.degraded));
    tokio::spawn(node.clone().drive());
    tokio::spawn(sleep::watch(bus.clone(), node.clone()));
    if let Some((verifier, trust)) = setup.verifier {
        tokio::spawn(policy::watch(node.clone(), verifier, trust, setup.settings.interval));
    }
    let announcing = bus::announce(bus.clone(), node.clone());
    notify::ready();

    let [terminate, interrupt] = &mut ends;
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        gone = announcing => Err(anyhow::anyhow!("the connection to the system bus is gone: {gone:?}")),
        () = bus::gone(bus) => Err(anyhow::anyhow!("the connection to the system bus is gone; it is made anew by a new start")),
    };
    notify::stopping();
    if tokio::time::timeout(FAREWELL, node.forget()).await.is_err() {
        tracing::warn!("the vault did not take the tokens back in time; they end by themselves");
    }
    outcome
}

fn backend(setup: &Setup, values: &Arc<Values>) -> anyhow::Result<Arc<dyn Backend>> {
    let without = || anyhow::anyhow!("there is no [verifier], and vault.kind is not \"tpm\"");
    let verifier = || setup.verifier.clone().ok_or_else(without);
    Ok(match (&setup.settings.vault, &setup.vault) {
        (
            Vault::OpenBao {
                origin,
                auth,
                namespace,
                wrapping,
                ..
            },
            Some(vault),
        ) => {
            let login = match auth.clone() {
                VaultAuth::Jwt { mount } => Login::Jwt { mount },
                VaultAuth::Cert { mount } => Login::Cert { mount },
                VaultAuth::AppRole { mount, folder } => Login::AppRole { mount, folder },
            };
            let (verifier, trust) = verifier()?;
            let accessors = Accessors::new(verifier, trust);
            let server = OpenBao::new(origin, login, vault, Some(accessors))?;
            Arc::new(server.in_namespace(namespace.clone()).by_wrapping(*wrapping))
        }
        (Vault::Tpm, _) if setup.verifier.is_none() => Arc::new(TpmStore::alone(values.clone())),
        (Vault::Tpm, _) => Arc::new(TpmStore::new(values.clone())),
        _ => {
            let (verifier, trust) = verifier()?;
            Arc::new(VerifierStore::new(verifier, trust))
        }
    })
}

async fn connect(address: Option<&str>) -> zbus::Result<zbus::Connection> {
    match address {
        Some(address) => zbus::connection::Builder::address(address)?.build().await,
        // Not Connection::system(): it obeys the environment.
        None => zbus::connection::Builder::address(SYSTEM_BUS)?.build().await,
    }
}

async fn publish(bus: &zbus::Connection, agent: Agent) -> anyhow::Result<()> {
    bus.object_server().at(PATH, agent).await?;
    bus.request_name(NAME)
        .await
        .with_context(|| format!("the bus name {NAME} is not to be had; is rempartd running twice?"))
}

/// Registers the agent itself, then records what the guard sees; from the beginning whenever the guard was gone.
async fn watch_guard(guard: Guard, audit: Arc<Audit>, degraded: Degraded) {
    let mut told = BTreeSet::new();
    loop {
        if let Err(error) = protect_self(&guard, degraded).await {
            tell(&mut told, format!("the agent itself is not protected: {error:#}"));
        }
        let why = match guard.events(|event| attempt(&audit, event)).await {
            Ok(()) => "the guard's event stream ended".to_owned(),
            Err(error) => error.to_string(),
        };
        tell(&mut told, format!("attempts are not recorded: {why}"));
        tokio::time::sleep(GUARD_RETRY).await;
    }
}

/// Once for each new reason: the loop comes here every few seconds.
fn tell(told: &mut BTreeSet<String>, line: String) {
    if told.len() < MAX_TOLD && !told.contains(&line) {
        tracing::warn!("{line}");
        told.insert(line);
    }
}

async fn protect_self(guard: &Guard, degraded: Degraded) -> anyhow::Result<()> {
    let own: Pid = getpid();
    let pidfd = pidfd_open(own, PidfdFlags::empty()).context("no pidfd of the agent itself")?;
    guard
        .protect(UNIT, Mode::Enforce, degraded == Degraded::Allow, pidfd.as_fd())
        .await?;
    Ok(())
}

fn attempt(audit: &Audit, event: Event) {
    let target = if event.target_unit.is_empty() {
        "the machine"
    } else {
        &event.target_unit
    };
    let line = format!(
        "{} {} on {target} by {} (pid {}, uid {})",
        event.vector, event.verdict, event.comm, event.tgid, event.uid
    );
    let told = audit.record_some(What::Attempt {
        vector: event.vector,
        verdict: event.verdict,
        comm: event.comm,
        pid: event.tgid,
        uid: event.uid,
        unit: event.target_unit,
        seq: event.seq,
        suppressed: event.suppressed,
    });
    if told {
        tracing::warn!("{line}");
    }
}
