//! `OnLock=stop`: a lock has the unit stopped, an unlock has it started, and nothing else is.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{ALLOW, world::World};

fn request(world: &World, word: &str) {
    let file = world.at("jobs/web.service");
    let begun = Instant::now();
    while fs::read_to_string(&file).ok().as_deref() != Some(word) {
        assert!(begun.elapsed() < Duration::from_secs(30), "no {word}: {}", world.logs());
        std::thread::sleep(Duration::from_millis(100));
    }
    fs::remove_file(file).expect("seen to");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_stops_who_says_so_and_an_unlock_starts_them() {
    let mut world = World::new().await;
    let unit = fs::read_to_string(world.at("units/web.service")).expect("the unit");
    fs::write(world.at("units/web.service"), format!("{unit}OnLock=stop\n")).expect("write");
    world.start_agent(ALLOW);
    world.wait_for_state("unlocked");
    world.ask().expect("released");
    let lock = |world: &World, counter: u32| {
        world.install_policy(counter, &"ff".repeat(32));
        world.attest_until(77);
    };
    let unlock = |world: &World, counter: u32| {
        world.install_policy(counter, &"00".repeat(32));
        world.clear_node();
        world.attest_until(0);
    };
    let ended = |world: &World, ended: bool| world.systemd.service.lock().expect("no panic").ended = ended;
    lock(&world, 2);
    request(&world, "stop");
    assert_eq!(world.status()["not_stopped"][0], "web.service", "it still runs");
    request(&world, "stop");
    // It stops while nobody looks: that was the lock all the same.
    world.stop_agent();
    ended(&world, true);
    world.start_agent(ALLOW);
    world.wait_until("stopped", Duration::from_secs(10), |status| {
        status["stopped"][0] == "web.service"
    });
    assert_eq!(world.status()["not_stopped"].as_array().map(Vec::len), Some(0));

    // An agent that is started again while the node is locked knows what to start.
    world.stop_agent();
    let _ = fs::remove_file(world.at("jobs/web.service"));
    world.start_agent(ALLOW);
    unlock(&world, 3);
    request(&world, "start");
    ended(&world, false);
    world.systemd.start_again();
    world.ask().expect("released");
    assert_eq!(world.status()["stopped"].as_array().map(Vec::len), Some(0));

    // What has ended before the lock is not started after it.
    ended(&world, true);
    lock(&world, 4);
    unlock(&world, 5);
    std::thread::sleep(Duration::from_secs(3));
    assert!(!world.at("jobs/web.service").exists(), "{}", world.logs());
    let log = fs::read_to_string(world.at("state/audit.jsonl")).expect("audit log");
    assert_eq!(log.matches("\"job\":\"start\"").count(), 1, "{log}");
}
