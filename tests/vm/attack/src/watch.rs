//! Has the guard watch a unit's output, as the agent does when it releases secrets:
//! `rempart-attack watch --socket PATH UNIT off|observe|enforce|kill SECRET…` (`@` stands for the secret of the attempts).

use crate::{ask, sys, vector};
use rempart_core::fingerprint::Fingerprints;
use serde_json::json;
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::ExitCode,
};

pub(crate) fn run<'a>(words: impl Iterator<Item = &'a str>) -> Result<ExitCode, String> {
    let words: Vec<&str> = words.collect();
    let ["--socket", socket, unit, mode, secrets @ ..] = words.as_slice() else {
        return Err("watch wants --socket PATH UNIT MODE SECRET…".into());
    };
    let said = |error: std::io::Error| error.to_string();
    let mut random = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .map_err(said)?;
    let mut prints = Fingerprints::new(&random);
    for secret in secrets.iter().filter(|_| *mode != "off") {
        let secret = if *secret == "@" { vector::SECRET } else { secret };
        prints
            .add(secret.as_bytes())
            .map_err(|why| format!("{secret}: {why}"))?;
    }
    let file = memory_file(&prints.encode()).map_err(said)?;
    let mode = if *mode == "off" { "observe" } else { mode };
    let line = json!({"v": 1, "op": "fingerprints", "unit": unit, "mode": mode, "prints": prints.len(),
        "wide": prints.wide(), "step": prints.step()});
    ask::exchange(socket, &[&line.to_string()], Some(file), false)
}

/// Prints the secret of the attempts.
pub(crate) fn secret() -> Result<ExitCode, String> {
    println!("{}", vector::SECRET);
    Ok(ExitCode::SUCCESS)
}

fn memory_file(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let file = sys::call_for_fd(libc::SYS_memfd_create, [c"fingerprints".as_ptr() as u64, 0, 0, 0, 0, 0])?;
    let mut file = File::from(file);
    file.write_all(bytes)?;
    Ok(file.into())
}
