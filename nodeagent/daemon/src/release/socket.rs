//! The socket and its conversations: one request a connection, each with its own time limit.

use std::{
    collections::HashMap,
    os::fd::AsFd,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rempart_api::{
    PROTOCOL_VERSION as V,
    agent::{Deliver, Reply, Request},
    guard::Mode,
    line::{self, LineError},
};
use rempart_backend::Backend;
use rempart_core::{
    audit::What,
    config::Degraded,
    fingerprint::Fingerprints,
    unitfile::{OnLock, OptIn},
};
use rempart_secret::SecretBytes;
use tokio::{
    io::BufReader,
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::timeout,
};
use zbus::Connection;

use super::{
    Refusal, Units,
    caller::{Caller, Peer},
    credential::named,
    layout::{Layout, lay_out},
    links,
    outage::{Outage, StandIn},
    replace::{self, Files},
    stale::copies,
    starts::Starts,
    template,
};
use crate::{
    audit::Audit,
    guard::{self, Guard},
    lease::Leases,
    lock::Lock,
    node::{Node, Results},
};

/// Time for a caller to say what it wants; the wrapper says it at once.
pub const ASK: Duration = Duration::from_secs(10);
/// Time for systemd to say who the caller is.
pub const SYSTEMD: Duration = Duration::from_secs(10);
/// Time for Verifier, vault and guard together. With the two above it stays under the wrapper's own 60 s, so that the
/// wrapper gets a reason and not silence.
pub const RELEASE: Duration = Duration::from_secs(35);
/// Callers about whom systemd is asked at a time. The bus ends questions of one who has more than some dozens open (`max_replies_per_connection`), and
/// systemd answers one after the other anyway.
const ASKED_ABOUT: usize = 16;
/// Conversations at a time: of root, as most units start as root and boot starts some hundreds at once; of one other user; of all others together. Everybody
/// may connect, a user may have thousands of numbers, and nobody may keep root's units out by it.
const MAX_OF_ROOT: usize = 768;
const MAX_OF_USER: usize = 32;
const MAX_OF_OTHERS: usize = 256;

/// What releases need.
pub struct Releases {
    /// Bus of systemd.
    pub bus: Connection,
    /// Turns to ask systemd who a caller is.
    pub asking: Turns,
    /// The node.
    pub node: Arc<Node>,
    /// The vault.
    pub backend: Arc<dyn Backend>,
    /// The guard.
    pub guard: Guard,
    /// The log.
    pub audit: Arc<Audit>,
    /// The units.
    pub units: Arc<Units>,
    /// What a kernel that does not enforce means.
    pub degraded: Degraded,
    /// The wrapper.
    pub wrap: PathBuf,
    /// Folder of links.
    pub links: PathBuf,
    /// What units hold for a time.
    pub leases: Arc<Leases>,
    /// What stands in while the vault is away.
    pub outage: Outage,
    /// What systemd was given for starts that are under way.
    pub starts: Arc<Starts>,
    /// What a lock stops.
    pub lock: Arc<Lock>,
}

/// For [`Releases::asking`].
pub fn turns() -> Turns {
    Turns([Semaphore::new(ASKED_ABOUT), Semaphore::new(ASKED_ABOUT)])
}

/// Root's and everybody else's, so that these do not wait for those.
pub struct Turns([Semaphore; 2]);

impl Turns {
    /// One for a caller of `uid`, until the value ends.
    pub(super) async fn of(&self, uid: u32) -> Option<SemaphorePermit<'_>> {
        self.0[usize::from(uid != 0)].acquire().await.ok()
    }
}

/// Who comes through a socket, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The wrapper, for the secrets of its unit. Everybody may connect: callers are judged by the kernel's word, not by a file mode.
    Wrapper,
    /// systemd, which is root, for one credential.
    Systemd,
}

/// Listens at `path`.
pub fn listen(path: &Path, door: Door) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    let mode = match door {
        Door::Wrapper => 0o666,
        Door::Systemd => 0o600,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Wipes what is kept for outages and for starts as soon as the node is locked. For ever.
pub async fn wipe_at_lock(releases: Arc<Releases>) {
    let mut locks = releases.node.locks();
    while locks.changed().await.is_ok() {
        releases.outage.forget();
        releases.starts.forget();
    }
}

/// Makes void what is sealed for outages as soon as the node is refused. For ever. A lapse is nobody's no: what is sealed stays, and is
/// of no use until the Verifier has judged the node again.
pub async fn void_at_refusal(releases: Arc<Releases>) {
    let mut refusals = releases.node.refusals();
    while refusals.changed().await.is_ok() {
        releases.outage.copies.void_all("the node was locked").await;
    }
}

/// Serves for ever.
pub async fn serve(listener: UnixListener, releases: Arc<Releases>, door: Door) {
    let users = Users::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let turn = match stream.peer_cred() {
                    Ok(peer) => users
                        .enter(peer.uid())
                        .ok_or(Refusal::CallerTooMany { uid: peer.uid() }),
                    Err(error) => Err(Refusal::KernelCannotTell(error)),
                };
                // What is refused takes a place as well, for as long as it takes to say so.
                let turn = match turn {
                    Ok(turn) => Ok(turn),
                    Err(refusal) => match users.enter_refused() {
                        Some(place) => Err((refusal, place)),
                        None => continue,
                    },
                };
                let releases = releases.clone();
                tokio::spawn(async move {
                    let unknown = || "an unknown process".to_owned();
                    match (turn, door) {
                        (Ok(_turn), Door::Wrapper) => releases.converse(stream).await,
                        (Ok(_turn), Door::Systemd) => releases.lend(stream).await,
                        (Err((refusal, _place)), Door::Wrapper) => releases.refuse(stream, unknown(), &refusal).await,
                        (Err((refusal, _place)), Door::Systemd) => releases.deny(stream, unknown(), &refusal).await,
                    }
                });
            }
            Err(error) => {
                tracing::error!("agent socket: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Conversations of each user.
#[derive(Clone)]
struct Users {
    of: Arc<Mutex<HashMap<u32, usize>>>,
    /// Places of those that only hear a refusal.
    refused: Arc<Semaphore>,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            of: Arc::default(),
            refused: Arc::new(Semaphore::new(MAX_OF_OTHERS)),
        }
    }
}

impl Users {
    /// One more of `uid`, until the value ends; `None` when it, or everybody but root together, has too many.
    fn enter(&self, uid: u32) -> Option<Turn> {
        let mut open = self.open();
        let most = if uid == 0 { MAX_OF_ROOT } else { MAX_OF_USER };
        let own = open.get(&uid).copied().unwrap_or_default();
        let others: usize = open.iter().filter(|(uid, _)| **uid != 0).map(|(_, count)| count).sum();
        if own >= most || (uid != 0 && others >= MAX_OF_OTHERS) {
            return None;
        }
        open.insert(uid, own + 1);
        Some(Turn(self.clone(), uid))
    }

    /// One that is refused; `None` when too many are being told so.
    fn enter_refused(&self) -> Option<OwnedSemaphorePermit> {
        self.refused.clone().try_acquire_owned().ok()
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        // Single map operations; a panic leaves it whole.
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Turn(Users, u32);

impl Drop for Turn {
    fn drop(&mut self) {
        let mut open = self.0.open();
        if let Some(count) = open.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.1);
            }
        }
    }
}

impl Releases {
    async fn converse(&self, stream: UnixStream) {
        let mut reader = BufReader::new(stream);
        let refused = match Peer::of(reader.get_ref()) {
            Err(refusal) => ("an unknown process".to_owned(), refusal),
            Ok(peer) => match self.asked(&mut reader, &peer).await {
                Err(refusal) => (format!("pid {}", peer.pid), refusal),
                Ok(caller) => match self.release(&peer, &caller).await {
                    Err(refusal) => (caller.unit, refusal),
                    Ok(released) => return self.hand_over(&mut reader.into_inner(), &caller, released).await,
                },
            },
        };
        self.refuse(reader.into_inner(), refused.0, &refused.1).await;
    }

    /// Records and tells a refusal; gives it as one line.
    pub(super) fn told(&self, who: String, refusal: &Refusal) -> String {
        // Others' words (systemd's, a server's) may be in it.
        let reason = refusal.to_string().replace(char::is_control, " ");
        let told = self.audit.record_some(What::Refused {
            who: who.clone(),
            reason: reason.clone(),
        });
        if told {
            tracing::warn!("no secrets for {who}: {reason}");
        }
        reason
    }

    async fn refuse(&self, mut stream: UnixStream, who: String, refusal: &Refusal) {
        let reason = self.told(who, refusal);
        // The caller may be gone; the journal has the line.
        if let Ok(line) = line::encode(&Reply::Refused { v: V, refused: reason }) {
            drop(timeout(ASK, guard::send(&mut stream, &line, None)).await);
        }
    }

    async fn asked(&self, reader: &mut BufReader<UnixStream>, peer: &Peer) -> Result<Caller, Refusal> {
        let line = timeout(ASK, guard::read_line(reader))
            .await
            .unwrap_or_else(|_| Err(LineError::Io(std::io::ErrorKind::TimedOut.into())))
            .map_err(Refusal::Request)?;
        let Request::Release { v: V } = line::decode(&line).map_err(Refusal::Request)? else {
            return Err(Refusal::Request(LineError::Io(std::io::Error::other(
                "another protocol version",
            ))));
        };
        in_time("systemd", SYSTEMD, async {
            let _turn = self.asking.of(peer.uid).await;
            peer.caller(&self.bus, &self.wrap).await
        })
        .await
    }

    async fn release(&self, peer: &Peer, caller: &Caller) -> Result<Released, Refusal> {
        let opt_in = self.units.judge(caller)?;
        self.node.may_release().map_err(Refusal::Node)?;
        self.units.claim(caller)?;
        let prepare = self.prepare(peer, caller, &opt_in);
        let released = in_time("the Verifier, the vault or the guard", RELEASE, prepare).await;
        if released.is_err() {
            self.units.unclaim(caller);
            self.starts
                .end(&caller.unit, &caller.invocation, "the rest of its secrets was refused");
            self.lock.unnote(&caller.unit, &caller.invocation);
            self.leases.drop_start(&caller.unit, &caller.invocation);
        }
        let (layout, kept) = released?;
        Ok(Released {
            layout,
            keep: kept.map(|values| (opt_in, values)),
        })
    }

    /// All that the unit wants, from the vault or what may stand in for it, and how old it is then.
    pub(super) async fn fetch(
        &self,
        caller: &Caller,
        opt_in: &OptIn,
    ) -> Result<(Vec<SecretBytes>, Option<Duration>), Refusal> {
        let results = Results(self.node.clone());
        let fetch = self.outage.fetch(&*self.backend, &results, &caller.unit, opt_in);
        let (fetched, stand_in) = fetch.await?;
        let age = stand_in.map(|StandIn { age, why }| {
            let seconds = age.as_secs();
            tracing::warn!(
                "{} gets values of {seconds} s ago, as Offline= says: {why}",
                caller.unit
            );
            age
        });
        // Whatever becomes of this release, they are somebody's.
        self.leases.hold(
            &caller.unit,
            &caller.invocation,
            opt_in.role(),
            opt_in.on_rotate,
            fetched.leases,
        );
        Ok((fetched.values, age))
    }

    async fn prepare(
        &self,
        peer: &Peer,
        caller: &Caller,
        opt_in: &OptIn,
    ) -> Result<(Layout, Option<Vec<SecretBytes>>), Refusal> {
        let (values, age) = if opt_in.credentials().next().is_some() {
            // Of the answer that systemd has got a part of already.
            let answer = self.answer_before(caller)?;
            (copies(&answer.values), answer.age)
        } else {
            self.fetch(caller, opt_in).await?
        };
        let memory = |error: rempart_secretmem::Error| Refusal::Memory {
            unit: caller.unit.clone(),
            why: error.to_string(),
        };
        let prints = fingerprints(&caller.unit, opt_in, &[&values])?;
        let kept = opt_in.on_rotate.is_in_place().then(|| copies(&values));
        let mut deliveries = template::deliveries(&caller.unit, opt_in, values)?;
        deliveries.retain(|delivery| delivery.deliver != Deliver::Credential);
        let mut layout = lay_out(deliveries).map_err(memory)?;
        layout.heap = opt_in.heap;
        links::make(&self.links, &caller.unit, &mut layout.items)?;
        self.protect(peer, caller, opt_in).await?;
        watch(&self.guard, self.degraded, &caller.unit, opt_in, &prints).await?;
        // Before the last look at the node: a lock that comes after it finds the unit noted.
        if opt_in.on_lock == OnLock::Stop {
            self.lock.note(&caller.unit, &caller.invocation);
        }
        // The vault took its time; the node may have been locked meanwhile.
        self.node.may_release().map_err(Refusal::Node)?;
        let secrets = named(opt_in, |deliver| deliver != Deliver::Credential);
        let record = released(&caller.unit, &caller.invocation, opt_in, secrets, age);
        self.audit.record(record).map_err(Refusal::Record)?;
        self.starts.complete(&caller.unit, &caller.invocation);
        Ok((layout, kept))
    }

    /// Labels the task before a secret is in it.
    async fn protect(&self, peer: &Peer, caller: &Caller, opt_in: &OptIn) -> Result<(), Refusal> {
        let allow = self.degraded == Degraded::Allow;
        match self
            .guard
            .protect(&caller.unit, opt_in.protect, allow, peer.pidfd.as_fd())
            .await
        {
            Ok(()) => Ok(()),
            Err(error) if allow => {
                tracing::warn!(
                    "{} runs unprotected, as guard.degraded = \"allow\" says: {error}",
                    caller.unit
                );
                Ok(())
            }
            Err(why) => Err(Refusal::Guard {
                unit: caller.unit.clone(),
                why,
            }),
        }
    }

    async fn hand_over(&self, stream: &mut UnixStream, caller: &Caller, Released { layout, keep }: Released) {
        let count = layout.items.len();
        let reply = Reply::Released {
            v: V,
            area_len: layout.len,
            items: layout.items,
            heap: layout.heap,
            keep: keep.is_some(),
        };
        let sent = match line::encode(&reply) {
            Ok(line) => timeout(ASK, guard::send(stream, &line, Some(layout.descriptor.as_fd())))
                .await
                .unwrap_or_else(|_| Err(LineError::Io(std::io::ErrorKind::TimedOut.into()))),
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => tracing::info!("{} got {count} secrets", caller.unit),
            Err(error) => return tracing::warn!("{} was gone before it got its secrets: {error}", caller.unit),
        }
        if let Some((opt_in, values)) = keep {
            self.keep(stream, caller, opt_in, values).await;
        }
    }

    /// Takes the unit's files in its keeping. Without them it is started again when they have to be replaced.
    async fn keep(&self, stream: &UnixStream, caller: &Caller, opt_in: OptIn, values: Vec<SecretBytes>) {
        let received = timeout(ASK, replace::receive(stream)).await;
        let received = received.unwrap_or_else(|_| Err(LineError::Io(std::io::ErrorKind::TimedOut.into())));
        match received.and_then(|files| Files::of(opt_in, files, values).map_err(LineError::Io)) {
            Ok(files) => self.leases.keep(&caller.unit, &caller.invocation, files),
            Err(error) => tracing::warn!(
                "{}: its files cannot be replaced while it runs, so it will be started again for that: {error}",
                caller.unit
            ),
        }
    }
}

/// What goes to the wrapper.
struct Released {
    layout: Layout,
    /// For a unit whose files are to be replaced while it runs: what they are made of.
    keep: Option<(OptIn, Vec<SecretBytes>)>,
}

/// The record of a release of `secrets`, to be made before one of them leaves the agent.
pub(super) fn released(
    unit: &str,
    invocation: &str,
    opt_in: &OptIn,
    secrets: Vec<String>,
    age: Option<Duration>,
) -> What {
    What::Released {
        unit: unit.to_owned(),
        invocation: invocation.to_owned(),
        role: opt_in.role().to_owned(),
        secrets,
        stale_s: age.map(|age| age.as_secs()),
    }
}

/// Has the unit's output watched before a secret is in it. What was refused as a leak must not go unseen instead.
pub(super) async fn watch(
    guard: &Guard,
    degraded: Degraded,
    unit: &str,
    opt_in: &OptIn,
    prints: &Fingerprints,
) -> Result<(), Refusal> {
    let mode = opt_in.leak.unwrap_or(Mode::Observe);
    match guard.watch(unit, mode, prints).await {
        Ok(()) => Ok(()),
        Err(error) if mode == Mode::Observe || degraded == Degraded::Allow => {
            tracing::warn!("{unit}: its output is not watched for its secrets: {error}");
            Ok(())
        }
        Err(why) => Err(Refusal::Watch {
            unit: unit.to_owned(),
            why,
        }),
    }
}

/// Of the secrets that the unit's output is to be watched for.
pub(super) fn fingerprints(unit: &str, opt_in: &OptIn, sets: &[&[SecretBytes]]) -> Result<Fingerprints, Refusal> {
    let mut random = [0; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Refusal::Random)?;
    let mut prints = Fingerprints::new(&random);
    if opt_in.leak.is_none() {
        return Ok(prints);
    }
    for (name, value) in sets.iter().flat_map(|values| opt_in.names().zip(*values)) {
        if opt_in.leak_except.contains(name) {
            continue;
        }
        if let Err(why) = prints.add(value.expose()) {
            tracing::warn!("{unit}: output is not watched for {name}: {why}");
        }
    }
    Ok(prints)
}

pub async fn in_time<T>(
    what: &'static str,
    patience: Duration,
    work: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    timeout(patience, work)
        .await
        .unwrap_or(Err(Refusal::Slow { what, patience }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_keep_others_out() {
        let users = Users::default();
        let held: Vec<_> = (0..MAX_OF_USER).map(|_| users.enter(1000).expect("room")).collect();
        assert!(users.enter(1000).is_none());
        assert!(users.enter(0).is_some() && users.enter(1001).is_some());
        drop(held);
        assert!(users.enter(1000).is_some());
        // A user of many numbers.
        let users = Users::default();
        let held: Vec<_> = (0..MAX_OF_OTHERS)
            .map(|number| {
                users
                    .enter(100_000 + u32::try_from(number).expect("few"))
                    .expect("room")
            })
            .collect();
        assert!(users.enter(7).is_none(), "all others together");
        let root: Vec<_> = (0..MAX_OF_ROOT)
            .map(|_| users.enter(0).expect("root has places of its own"))
            .collect();
        assert!(users.enter(0).is_none());
        let refused: Vec<_> = (0..MAX_OF_OTHERS)
            .map(|_| users.enter_refused().expect("told"))
            .collect();
        assert!(users.enter_refused().is_none());
        drop((held, root, refused));
        assert!(users.enter(7).is_some() && users.enter(0).is_some() && users.enter_refused().is_some());
        assert!(users.open().is_empty(), "nothing is kept of users who left");
    }

    #[tokio::test]
    async fn a_silent_server_gives_a_refusal_before_the_wrapper_gives_up() {
        let silent = in_time(
            "the vault",
            Duration::from_millis(9),
            std::future::pending::<Result<(), _>>(),
        );
        let line = silent.await.expect_err("silent").to_string();
        assert!(line.contains("the vault did not answer within"), "{line}");
        assert!(
            ASK + SYSTEMD + RELEASE < Duration::from_secs(60),
            "rempart-wrap waits so long"
        );
    }
}
