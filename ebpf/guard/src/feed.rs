//! From the rings to subscribers and journal. Reads, never decides: the verdict was given in the kernel.

use crate::{digest::Digest, install, notify, warden::Warden};
use aya::maps::RingBuf;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rempart_api::{PROTOCOL_VERSION, guard, line};
use rempart_bpf_common::Event;
use std::{
    os::fd::AsFd,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

/// How often fingerprints of units that have ended are looked for.
const SWEEP: Duration = Duration::from_secs(30);
/// Lines a slow subscriber may lag behind; then it loses lines, and sees it by their numbers.
const BACKLOG: usize = 4096;

/// How often the programs are made to tell how many observations they have only counted.
const FLUSH: Duration = Duration::from_secs(1);

type Line = Arc<[u8]>;

/// Those who listen.
#[derive(Clone, Default)]
pub(crate) struct Feed {
    subscribers: Arc<Mutex<Vec<SyncSender<Line>>>>,
}

impl Feed {
    /// A new listener.
    pub(crate) fn subscribe(&self) -> Receiver<Line> {
        let (sender, receiver) = sync_channel(BACKLOG);
        self.subscribers
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .push(sender);
        receiver
    }

    fn publish(&self, line: &Line) {
        let mut subscribers = self.subscribers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        subscribers.retain(|to| !matches!(to.try_send(Arc::clone(line)), Err(TrySendError::Disconnected(_))));
    }
}

/// Reads the rings until the end of days; in degraded mode only keeps the watchdog content.
pub(crate) fn run(warden: &Warden, feed: &Feed) -> ! {
    let mut rings = warden.rings();
    let mut digest = Digest::default();
    let (interval, mut last_sign, mut said_lost) = (notify::interval(), Instant::now(), 0);
    let mut last_sweep = Instant::now();
    let mut flushed = Instant::now();
    notify::alive();
    loop {
        match &mut rings {
            None => std::thread::sleep(FLUSH),
            Some(rings) => {
                let deny = rings.deny.iter().map(AsFd::as_fd);
                let mut fds: Vec<_> = deny
                    .chain([rings.observe.as_fd()])
                    .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
                    .collect();
                // A failure (EINTR) is the same as a time-out: the rings are looked at anyway.
                let _ = poll(&mut fds, PollTimeout::from(1000u16));
                // Denials first, and between any two observations.
                loop {
                    let mut taken = false;
                    while let Some(item) = rings.deny.as_mut().and_then(RingBuf::next) {
                        emit(&item, warden, feed, &mut digest);
                        taken = true;
                    }
                    if let Some(item) = rings.observe.next() {
                        emit(&item, warden, feed, &mut digest);
                        taken = true;
                    }
                    if !taken || last_sign.elapsed() >= interval {
                        break;
                    }
                }
            }
        }
        if flushed.elapsed() >= FLUSH {
            flushed = Instant::now();
            if rings.as_ref().is_some_and(|rings| rings.deny.is_some()) {
                // The worst is that a number is told later.
                let _ = install::sync_self();
            }
            warden.tick();
        }
        for text in digest.flush(Instant::now()) {
            eprintln!("<4>{text}");
        }
        let lost = warden.lost();
        if lost != said_lost {
            eprintln!("<4>{lost} events found no room since boot; what they tried was judged all the same");
            said_lost = lost;
        }
        if last_sweep.elapsed() >= SWEEP {
            warden.lift_ended();
            last_sweep = Instant::now();
        }
        if last_sign.elapsed() >= interval {
            notify::alive();
            last_sign = Instant::now();
        }
    }
}

fn emit(bytes: &[u8], warden: &Warden, feed: &Feed, digest: &mut Digest) {
    let Some(event) = Event::decode(bytes) else {
        eprintln!("<3>rempart-guard: an event of {} bytes is not one of ours", bytes.len());
        return;
    };
    let event = wire(&event, warden.unit_name(event.unit));
    if let Some(text) = digest.take(&event, Instant::now()) {
        eprintln!("<4>{text}");
    }
    if let Ok(line) = line::encode(&event) {
        feed.publish(&line.into());
    }
}

fn wire(event: &Event, target_unit: String) -> guard::Event {
    guard::Event {
        v: PROTOCOL_VERSION,
        seq: event.seq,
        boottime_ns: event.boottime_ns,
        vector: event
            .vector
            .map_or_else(|number| format!("VECTOR_{number}"), |vector| vector.name().into()),
        verdict: event.verdict.name().into(),
        pid: event.pid,
        tgid: event.tgid,
        uid: event.uid,
        comm: String::from_utf8_lossy(event.comm_bytes()).into_owned(),
        target_pid: event.target_pid,
        target_unit,
        suppressed: event.suppressed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rempart_bpf_common::{Vector, Verdict};

    #[test]
    fn an_event_on_the_wire_has_the_names_of_the_contract() {
        let event = Event {
            seq: 3,
            boottime_ns: 4,
            unit: 1,
            vector: Ok(Vector::PtraceAttach),
            verdict: Verdict::Denied,
            pid: 6,
            tgid: 5,
            uid: 0,
            target_pid: 9,
            comm: *b"gdb\0garbage\0\0\0\0\0",
            suppressed: 2,
        };
        let json = serde_json::to_value(wire(&event, "x.service".into())).expect("JSON");
        assert_eq!(json["vector"], "PTRACE_ATTACH");
        assert_eq!(json["verdict"], "denied");
        assert_eq!(json["comm"], "gdb");
        assert_eq!(json["target_unit"], "x.service");
        assert_eq!(json["suppressed"], 2);
    }

    /// A value of the JSON type that the schema gives a field.
    fn has_type(value: &serde_json::Value, field: &serde_json::Value) -> bool {
        match (
            field["type"].as_str(),
            field["const"].as_u64(),
            field["maximum"].as_u64(),
        ) {
            (Some("integer"), _, Some(most)) => value.as_u64().is_some_and(|number| number <= most),
            (Some("string"), ..) => value.is_string(),
            (_, Some(only), _) => value.as_u64() == Some(only),
            _ => value.is_string() && (field["enum"].is_array() || field["anyOf"].is_array()),
        }
    }

    #[test]
    fn the_schema_in_docs_has_these_fields_these_words_and_these_limits() {
        let text = std::fs::read_to_string("../../docs/event.schema.json").expect("the schema");
        let schema: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let largest = Event {
            seq: u64::MAX,
            boottime_ns: u64::MAX,
            unit: 1,
            vector: Ok(Vector::PtraceAttach),
            verdict: Verdict::Observed,
            pid: u32::MAX,
            tgid: u32::MAX,
            uid: u32::MAX,
            target_pid: u32::MAX,
            comm: *b"fifteen letters\0",
            suppressed: u32::MAX,
        };
        let event = serde_json::to_value(wire(&largest, "x.service".into())).expect("JSON");
        let written = schema["properties"].as_object().expect("fields");
        let ours = event.as_object().expect("an object");
        assert!(written.keys().eq(ours.keys()), "{written:?}\n{ours:?}");
        assert_eq!(schema["required"].as_array().map(Vec::len), Some(ours.len()));
        for (name, value) in ours {
            assert!(has_type(value, &written[name]), "{name}");
        }
        let vectors: Vec<&str> = Vector::ALL.iter().map(|vector| vector.name()).collect();
        assert_eq!(written["vector"]["anyOf"][0]["enum"], serde_json::json!(vectors));
        let verdicts = [Verdict::Denied, Verdict::Killed, Verdict::Observed].map(Verdict::name);
        assert_eq!(written["verdict"]["enum"], serde_json::json!(verdicts));
        let text = std::fs::read_to_string("../../docs/events.md").expect("the document");
        for name in ours.keys() {
            assert!(text.contains(&format!("| `{name}` |")), "docs/events.md lacks {name}");
        }
    }

    #[test]
    fn a_listener_that_left_is_forgotten_and_a_slow_one_blocks_nobody() {
        let feed = Feed::default();
        drop(feed.subscribe());
        let slow = feed.subscribe();
        for _ in 0..BACKLOG + 10 {
            feed.publish(&Arc::from(&b"x\n"[..]));
        }
        assert_eq!(feed.subscribers.lock().map(|s| s.len()).unwrap_or_default(), 1);
        assert_eq!(slow.try_iter().count(), BACKLOG);
    }
}
