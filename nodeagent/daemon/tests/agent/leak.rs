//! What the agent has the guard watch for: a stand-in guard hears the requests of a release and reads the file that comes along.

use std::{
    fs::{self, File},
    os::{fd::AsFd, unix::fs::FileExt, unix::net::UnixListener},
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use rempart_api::{
    guard::{Mode, Outcome, Request, Status},
    line,
};
use rempart_secretmem::{receive_line, send_line};

use crate::world::{VALUE, World};

type Heard = Arc<Mutex<Vec<(Request, Vec<u8>)>>>;

/// Longest file of fingerprints.
const MOST: usize = 1024 * 1024;

/// Says yes to everything but fingerprints for the mode `refuses`.
fn stand_in(path: &Path, refuses: Option<Mode>) -> Heard {
    let listener = UnixListener::bind(path).expect("socket");
    let heard = Heard::default();
    let all = heard.clone();
    thread::spawn(move || {
        let mut streams = Vec::new();
        for stream in listener.incoming().flatten() {
            let Ok((question, file)) = receive_line(stream.as_fd(), line::MAX_LINE) else {
                continue;
            };
            let request: Request = line::decode(&question).expect("a request");
            let answer = match &request {
                Request::Events { .. } => {
                    streams.push(stream);
                    continue;
                }
                Request::Status { v } => line::encode(&Status {
                    v: *v,
                    enforcing: true,
                    armed: true,
                    ..Status::default()
                }),
                Request::Fingerprints { v, mode, .. } if Some(*mode) == refuses => line::encode(&Outcome::Refused {
                    v: *v,
                    refused: "not watched: no room".into(),
                }),
                Request::Protect { v, .. }
                | Request::Arm { v, .. }
                | Request::Remember { v, .. }
                | Request::BreakGlass { v, .. }
                | Request::Restore { v }
                | Request::Fingerprints { v, .. } => line::encode(&Outcome::Done { v: *v, ok: true }),
            };
            let mut bytes = vec![0; MOST];
            let is_file = matches!(request, Request::Fingerprints { .. });
            let count = match file.filter(|_| is_file) {
                Some(file) => File::from(file).read_at(&mut bytes, 0).expect("a file"),
                None => 0,
            };
            bytes.truncate(count);
            all.lock().expect("no panic").push((request, bytes));
            send_line(stream.as_fd(), &answer.expect("plain struct"), &[]).expect("answered");
        }
    });
    heard
}

/// What was asked for the unit, in order.
fn for_web(heard: &Heard) -> Vec<(Request, Vec<u8>)> {
    let heard = heard.lock().expect("no panic");
    let is_web = |request: &Request| match request {
        Request::Protect { unit, .. } | Request::Fingerprints { unit, .. } => unit == "web.service",
        _ => false,
    };
    heard.iter().filter(|(request, _)| is_web(request)).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_has_the_units_output_watched_before_it_gets_a_value() {
    let mut world = World::new().await;
    let heard = stand_in(&world.at("guard.sock"), None);
    world.start_agent("");
    world.wait_for_state("unlocked");
    world.ask().expect("released");
    let asked = for_web(&heard);
    assert!(matches!(asked[0].0, Request::Protect { .. }), "{:?}", asked[0].0);
    let (
        Request::Fingerprints {
            mode,
            prints,
            wide,
            step,
            ..
        },
        file,
    ) = &asked[1]
    else {
        panic!("{:?}", asked[1].0);
    };
    // The unit has one value twice: each of its windows of 16 bytes once.
    let windows = VALUE.len() - 15;
    assert_eq!(
        (*mode, *prints as usize, *wide, *step),
        (Mode::Observe, windows, true, 0)
    );
    assert_eq!(file.len(), 32 + 16 * 1024 + 8 * windows);
    let holds = |part: &[u8]| file.windows(part.len()).any(|window| window == part);
    assert!(!VALUE.as_bytes().windows(5).any(holds));

    world.systemd.start_again();
    world.ask().expect("released");
    let again = for_web(&heard);
    assert_ne!(again[3].1, asked[1].1, "a key of its own for each start");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_must_not_leak_gets_nothing_when_it_cannot_be_watched() {
    let mut world = World::new().await;
    let heard = stand_in(&world.at("guard.sock"), Some(Mode::Enforce));
    let fragment = world.at("units").join("web.service");
    let unit = fs::read_to_string(&fragment).expect("readable");
    fs::write(&fragment, format!("{unit}Leak=enforce\n")).expect("written");
    world.start_agent("");
    world.wait_for_state("unlocked");
    let refused = world.ask().expect_err("not watched");
    assert!(
        refused.contains("cannot be watched") && refused.contains("Leak=observe"),
        "{refused}"
    );
    assert_eq!(for_web(&heard).len(), 2);
    assert!(!world.logs().contains(VALUE));
}
