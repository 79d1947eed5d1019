//! `rempart attest`: attests now, and keeps the Evidence that was sent for whoever wants to judge it again; and the key file by which
//! systemd signs with the same key.
//!
//! Must never keep Evidence of an earlier round in the place of one that was not sent.

use std::{fs::File, io::Read, os::fd::OwnedFd, path::Path, process::ExitCode};

use rempart_api::bus::State;
use rempart_attest::{Evidence, limits};

use crate::{
    agent::AgentProxy,
    arguments::{EvidenceFormat, SaveEvidence},
    failure::Failure,
    whole::Beside,
};

/// Attests, and saves the Evidence whatever the Verifier said of it: the refused one is the one to look at.
pub async fn attest(agent: &AgentProxy<'_>, save: &SaveEvidence) -> Result<ExitCode, Failure> {
    let before = match &save.save {
        Some(_) => sent(agent).await.ok(),
        None => None,
    };
    let outcome = agent.attest().await?;
    let saved = match &save.save {
        Some(file) => keep(file, save.format, before, sent(agent).await),
        None => Ok(()),
    };
    let verdict = if outcome == State::Unlocked.word() {
        println!("{outcome}");
        Ok(ExitCode::SUCCESS)
    } else if agent.latched().await? {
        Err(Failure::Refused(outcome))
    } else {
        Err(Failure::NotAsked(outcome))
    };
    match (verdict, saved) {
        (Ok(_), Err(failure)) => Err(failure),
        (Err(verdict), Err(failure)) => {
            failure.report();
            Err(verdict)
        }
        (verdict, Ok(())) => verdict,
    }
}

/// Prints the key file. It is not written to its place: who may sign with the node's key is root's to decide.
pub async fn systemd_key(agent: &AgentProxy<'_>, systemd: u32) -> Result<ExitCode, Failure> {
    println!("{}", agent.systemd_key(systemd).await?);
    Ok(ExitCode::SUCCESS)
}

/// The Evidence that the agent sent last, CBOR.
async fn sent(agent: &AgentProxy<'_>) -> Result<Vec<u8>, Failure> {
    let file = File::from(OwnedFd::from(agent.evidence().await?));
    let mut cbor = Vec::new();
    file.take(limits::EVIDENCE as u64 + 1)
        .read_to_end(&mut cbor)
        .map_err(|error| Failure::Machine(format!("the agent's Evidence cannot be read: {error}")))?;
    Ok(cbor)
}

fn keep(
    file: &Path,
    format: Option<EvidenceFormat>,
    before: Option<Vec<u8>>,
    sent: Result<Vec<u8>, Failure>,
) -> Result<(), Failure> {
    let cbor = sent?;
    if before.as_ref() == Some(&cbor) {
        let why = "not written: the Verifier was not sent any Evidence this time".to_owned();
        return Err(failed(file, why));
    }
    let evidence = Evidence::from_cbor(&cbor).map_err(|error| failed(file, format!("not written: {error}")))?;
    let text = match format.unwrap_or_else(|| EvidenceFormat::of(file)) {
        EvidenceFormat::Json => evidence.to_json().into_bytes(),
        EvidenceFormat::Cbor => cbor,
    };
    // For its owner only: it shows how the machine booted.
    let written = Beside::write(file, &text, 0o600).and_then(Beside::place);
    written.map_err(|error| failed(file, format!("cannot be written: {error}")))
}

fn failed(file: &Path, why: String) -> Failure {
    let path = file.display().to_string();
    Failure::Input { path, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_of_an_earlier_round_is_not_written_as_that_of_this_one() {
        let folder = std::env::temp_dir().join(format!("rempart-attest-{}", std::process::id()));
        let kept = keep(&folder, None, Some(vec![1]), Ok(vec![1])).expect_err("the same as before");
        assert!(kept.to_string().contains("not sent any Evidence") && !folder.exists());
        let broken = keep(&folder, None, None, Ok(vec![1])).expect_err("no Evidence");
        assert!(broken.to_string().contains("not written") && !folder.exists());
    }

    #[test]
    fn the_name_tells_the_format_unless_it_is_told() {
        assert_eq!(EvidenceFormat::of(Path::new("/x/e.cbor")), EvidenceFormat::Cbor);
        assert_eq!(EvidenceFormat::of(Path::new("/x/e.json")), EvidenceFormat::Json);
        assert_eq!(EvidenceFormat::of(Path::new("cbor")), EvidenceFormat::Json);
    }
}
