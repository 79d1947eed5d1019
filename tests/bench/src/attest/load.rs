//! A fleet against one Verifier, by a schedule: each attestation has its time, drawn beforehand (exponential distances, as nodes
//! that know nothing of each other have), and its latency counts from that time. A Verifier that falls behind is therefore seen in
//! the figures; waiting for the answer before the next question would hide it. One attestation is a TCP connection, a full TLS 1.3
//! handshake, a challenge, the Evidence, and a result.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rempart_attest::api::{self, AttestResponse, ChallengeRequest, ChallengeResponse};
use rempart_attest::hpke::{EphemeralKey, Purpose};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use super::Options;
use super::client::{self, Client};
use super::fleet::{self, Fleet};
use super::site::{Running, Site};
use crate::table::{Table, percentile};

/// Attestations under way at once; one that finds no place is an error and is counted.
const UNDER_WAY: usize = 4000;
/// An agent gives up after so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Attestations before the measured ones: caches fill, memory settles.
const WARM: usize = 200;
/// Every so many results are opened and read, the others counted by their status.
const OPENED: usize = 16;

/// What attestations take.
struct Times {
    /// From the scheduled time to the result.
    whole: f64,
    /// From sending the Evidence to the result.
    evidence: f64,
}

/// All that an attestation needs.
struct World {
    fleet: Fleet,
    tls: TlsConnector,
    port: u16,
}

/// Measures with the fleet of the options.
pub fn measure(options: &Options, table: &mut Table) -> Result<()> {
    println!("making {} nodes with keys of their own", options.nodes);
    let site = Site::make(&options.verifier, options.nodes)?;
    let fleet = Fleet::make(options.nodes, &site.authority()?)?;
    let verifier = site.start()?;
    let idle = verifier.memory("VmRSS")?;
    let world = Arc::new(World {
        tls: client::tls(&site.ca)?,
        port: verifier.port,
        fleet,
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(warm(&world))?;
    println!("{} attestations a second for {} s", options.rate, options.seconds);
    let before = verifier.processor_time()?;
    let outcome = runtime.block_on(play(world, options.rate, Duration::from_secs(options.seconds)));
    let processor = verifier.processor_time()?.saturating_sub(before);
    rows(options, &outcome, processor, table);
    memory(&verifier, idle, table)
}

/// One node attests once; for the start's measurement.
pub fn once(site: &Site, verifier: &Running) -> Result<()> {
    let world = World {
        tls: client::tls(&site.ca)?,
        port: verifier.port,
        fleet: Fleet::make(1, &site.authority()?)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(attest(&world, 0, true)).map(drop)
}

async fn warm(world: &World) -> Result<()> {
    for number in 0..WARM.min(world.fleet.len()) {
        attest(world, number, true)
            .await
            .context("an attestation before the measurement")?;
    }
    Ok(())
}

#[derive(Default)]
struct Outcome {
    times: Vec<Times>,
    errors: BTreeMap<String, usize>,
    scheduled: usize,
    elapsed: Duration,
}

async fn play(world: Arc<World>, rate: f64, length: Duration) -> Outcome {
    let places = Arc::new(Semaphore::new(UNDER_WAY));
    let mut outcome = Outcome::default();
    let mut tasks: JoinSet<Result<Times, String>> = JoinSet::new();
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let (start, mut due) = (Instant::now(), Duration::ZERO);
    loop {
        due += chance.distance(rate);
        if due > length {
            break;
        }
        sleep_until(start + due).await;
        // Through the whole fleet and from its beginning again: no node comes twice in a short time.
        let number = outcome.scheduled % world.fleet.len();
        let opened = outcome.scheduled.is_multiple_of(OPENED);
        outcome.scheduled += 1;
        let (world, places, scheduled) = (world.clone(), places.clone(), start + due);
        tasks.spawn(async move {
            let _place = places
                .try_acquire()
                .map_err(|_| "no place at the load generator".to_owned())?;
            let attested = timeout(PATIENCE, attest(&world, number, opened)).await;
            let evidence = attested
                .map_err(|_| "no result in time".to_owned())?
                .map_err(|error| format!("{error:#}"))?;
            Ok(Times {
                whole: scheduled.elapsed().as_secs_f64() * 1e3,
                evidence: evidence.as_secs_f64() * 1e3,
            })
        });
        while let Some(done) = tasks.try_join_next() {
            outcome.take(done.unwrap_or_else(|error| Err(error.to_string())));
        }
    }
    while let Some(done) = tasks.join_next().await {
        outcome.take(done.unwrap_or_else(|error| Err(error.to_string())));
    }
    outcome.elapsed = start.elapsed();
    outcome
}

impl Outcome {
    fn take(&mut self, done: Result<Times, String>) {
        match done {
            Ok(times) => self.times.push(times),
            Err(error) => *self.errors.entry(error).or_default() += 1,
        }
    }
}

/// One attestation; how long the Verifier had the Evidence.
async fn attest(world: &World, number: usize, opened: bool) -> Result<Duration> {
    let mut client = Client::connect(&world.tls, fleet::address(number), world.port).await?;
    let ask = serde_json::to_vec(&ChallengeRequest {})?;
    let (status, answer) = client.post(api::CHALLENGE, "application/json", &ask).await?;
    ensure!(
        status == 200,
        "challenge: {status} {}",
        String::from_utf8_lossy(&answer)
    );
    let given: ChallengeResponse = serde_json::from_slice(&answer)?;
    let key = EphemeralKey::generate()?;
    let challenge = given.challenge.clone();
    let evidence = world.fleet.evidence(
        number,
        given.challenge,
        &given.verifier,
        &client.exporter,
        *key.public(),
    );
    let body = evidence.to_cbor();
    let sent = Instant::now();
    let (status, answer) = client.post(api::ATTEST, api::CBOR, &body).await?;
    let took = sent.elapsed();
    ensure!(status == 200, "attest: {status} {}", String::from_utf8_lossy(&answer));
    if opened {
        let response: AttestResponse = serde_json::from_slice(&answer)?;
        let result = key.open(Purpose::Ear, challenge.as_bytes(), &response.into())?;
        ensure!(result.split(|byte| *byte == b'.').count() == 3, "the result is no JWT");
    }
    Ok(took)
}

/// Pseudo-random distances (xorshift), the same in every run.
struct Chance(u64);

impl Chance {
    fn distance(&mut self, rate: f64) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        #[expect(clippy::cast_precision_loss, reason = "a number between 0 and 1")]
        let uniform = ((self.0 >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
        Duration::from_secs_f64(-uniform.ln() / rate)
    }
}

fn rows(options: &Options, outcome: &Outcome, processor: Duration, table: &mut Table) {
    let of = |time: fn(&Times) -> f64| outcome.times.iter().map(time).collect::<Vec<f64>>();
    let (whole, evidence) = (of(|times| times.whole), of(|times| times.evidence));
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let (answered, scheduled, nodes) = (whole.len() as f64, outcome.scheduled as f64, options.nodes as f64);
    let failed: usize = outcome.errors.values().sum();
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let failed = failed as f64;
    table.add("fleet, nodes with keys of their own", nodes, "", None, None);
    table.at_least(
        "fleet, attestations scheduled",
        scheduled / options.seconds as f64,
        "/s",
        None,
        Some(options.rate * 0.99),
    );
    table.at_least(
        "fleet, attestations affirmed",
        answered / outcome.elapsed.as_secs_f64(),
        "/s",
        None,
        Some(options.rate * 0.99),
    );
    table.add("fleet, attestations that failed", failed, "", None, Some(0.0));
    for (name, part) in [
        ("p50", 0.5),
        ("p90", 0.9),
        ("p99", 0.99),
        ("p99.9", 0.999),
        ("max", 1.0),
    ] {
        table.add(
            &format!("fleet, scheduled time to result, {name}"),
            percentile(&whole, part),
            "ms",
            None,
            None,
        );
    }
    for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
        table.add(
            &format!("fleet, Evidence sent to result, {name}"),
            percentile(&evidence, part),
            "ms",
            None,
            None,
        );
    }
    table.add(
        "fleet, Verifier's processor time for one",
        processor.as_secs_f64() * 1e3 / answered.max(1.0),
        "ms",
        None,
        None,
    );
    table
        .note("fleet: load generator and Verifier share the processors of this machine; times count from the schedule");
    for (error, count) in &outcome.errors {
        table.note(&format!("fleet: {count} × {error}"));
    }
}

fn memory(verifier: &Running, idle: f64, table: &mut Table) -> Result<()> {
    table.add("fleet, Verifier VmRSS before", idle, "MiB", None, None);
    table.add(
        "fleet, Verifier VmRSS after",
        verifier.memory("VmRSS")?,
        "MiB",
        None,
        None,
    );
    table.add("fleet, Verifier VmHWM", verifier.memory("VmHWM")?, "MiB", None, None);
    Ok(())
}
