//! *Appraise* (RFC 9334): verified claims against the Reference Values of a policy. Digests decide; the logs' texts only explain.

#![expect(clippy::result_large_err, reason = "a finding is rare and goes straight into a list")]

use crate::eventlog::{Event, uefi};
use crate::finding::Finding;
use crate::pcr::{JUDGED, PcrValue};
use crate::policy::event::first_difference;
use crate::policy::predict::registers::load_options;
use crate::policy::{Claims, Failure, Identity, Image, Policy};
use crate::tee;
use crate::verify::Verified;

/// Events named in one finding, count: a register has a handful, an attacker's log may have thousands.
const EVENTS_SHOWN: usize = 16;

/// What an affirmed node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affirmed {
    /// Name of the image that it booted.
    pub image: String,
    /// Name of the policy.
    pub policy: String,
}

/// Judges `verified` under `policy` at `now` (Unix seconds); every failed check of both steps is reported. Findings against the node
/// bear its name, findings against the policy or the Verifier do not: only the former are drift.
pub fn appraise(verified: &Verified, policy: &Policy, now: u64) -> Result<Affirmed, Vec<Finding>> {
    let claims = Claims {
        pcrs: &verified.pcrs,
        events: &verified.events,
        pcr_signatures: &verified.pcr_signatures.0,
        os_release: &verified.os_release.0,
        now,
    };
    let Some((image, failures)) = closest(&claims, policy) else {
        let remedy = "install a policy with an image";
        return Err(vec![Finding::new(
            "policy",
            "policy",
            "the policy names no image",
            remedy,
        )]);
    };
    let mut findings = logs_explain(verified, image);
    findings.extend(identity_is_accepted(verified, policy).err());
    findings.extend(guard_enforces(verified, policy).err());
    if let Some(rule) = &policy.counters {
        findings.extend(rule.failures(&verified.node, &verified.counters));
    }
    let explained = |failure: &Failure| match failure {
        Failure::Pcr(pcr) => Some(pcr_finding(verified, image, *pcr)),
        other => other.finding(&verified.node, image),
    };
    findings.extend(failures.iter().filter_map(explained));
    if let Some(rule) = &image.ima {
        findings.extend(rule.failures(&verified.node, &verified.ima_log.0, &verified.pcrs));
    }
    let sections = tee::Sections {
        snp: image.snp.as_ref(),
        tdx: image.tdx.as_ref(),
    };
    // What a report says counts once it is known to be authentic.
    match verified.tee_findings.as_slice() {
        [] => findings.extend(tee::appraise(&verified.node, verified.tee.as_ref(), sections)),
        refused => findings.extend_from_slice(refused),
    }
    if findings.is_empty() {
        Ok(Affirmed {
            image: image.name.clone(),
            policy: policy.name.clone(),
        })
    } else {
        Err(findings)
    }
}

/// The image with the fewest failures, and these: the one that the operator most likely meant.
fn closest<'a>(claims: &Claims<'_>, policy: &'a Policy) -> Option<(&'a Image, Vec<Failure>)> {
    let judged = policy.images.iter().map(|image| (image, image.failures(claims)));
    judged.min_by_key(|(_, failures)| failures.len())
}

/// What is wrong with the logs, as far as this image judges the registers: a firmware whose log does not explain PCR 1 does no harm
/// where nobody judges PCR 1.
fn logs_explain(verified: &Verified, image: &Image) -> Vec<Finding> {
    let judged = |pcr: u8| JUDGED.contains(&pcr) || image.judged().any(|judged| judged == pcr);
    let counts = |finding: &&Finding| finding.pcr.is_none_or(judged);
    verified.log_findings.iter().filter(counts).cloned().collect()
}

fn identity_is_accepted(verified: &Verified, policy: &Policy) -> Result<(), Finding> {
    if policy.identity.contains(&verified.identity) {
        return Ok(());
    }
    let what = "the policy does not accept what vouches for this node's TPM";
    let remedy = "list the TPM, approve the node, or trust its manufacturer's root and enrol it again";
    let accepted: Vec<String> = policy.identity.iter().map(Identity::to_string).collect();
    Err(Finding::new("identity", &verified.node, what, remedy)
        .expected(accepted.join(" or "))
        .found(verified.identity.to_string()))
}

fn guard_enforces(verified: &Verified, policy: &Policy) -> Result<(), Finding> {
    if !policy.require_guard || verified.guard.enforcing {
        return Ok(());
    }
    let why = crate::eventlog::printable(verified.guard.why.as_deref().unwrap_or("no reason given"), 200);
    Err(Finding::new(
        "guard",
        &verified.node,
        "the policy demands an enforcing guard and the node's is not",
        "look at rempart-guard.service on the node; the kernel needs BPF LSM (lsm=…,bpf)",
    )
    .expected("enforcing")
    .found(why))
}

fn pcr_finding(verified: &Verified, image: &Image, pcr: u8) -> Finding {
    let (what, remedy) = meaning(pcr);
    let expected: Vec<String> = image.accepted(pcr).iter().map(PcrValue::to_string).collect();
    let found = verified
        .pcrs
        .value(pcr)
        .map_or_else(|| "nothing".into(), |v| v.to_string());
    let what = format!("PCR {pcr} does not match image \"{}\": {what}", image.name);
    let mut finding = Finding::new("pcr", &verified.node, what, remedy)
        .pcr(pcr)
        .expected(expected.join(" or "))
        .found(found);
    let explained = match pcr {
        9 => explain_command_line(verified, image),
        _ => None,
    };
    if let Some((expected, found)) = explained {
        finding = finding.expected(expected).found(found);
    }
    let first = first_difference(&image.events, &verified.events, pcr).map(|d| format!("the first that differs: {d}"));
    match first.unwrap_or_else(|| shown(&verified.events, pcr)) {
        events if events.is_empty() => finding,
        events => finding.event(events),
    }
}

/// What another value of a register means, and what to do.
fn meaning(pcr: u8) -> (&'static str, &'static str) {
    match pcr {
        0 | 1 => (
            "the firmware or its configuration is another one",
            "restore the firmware, or learn and sign a policy for it",
        ),
        2 | 3 => (
            "a driver or option ROM was added that is not part of the image",
            "remove the device or its ROM from the machine, or sign a policy that accepts it",
        ),
        4 => (
            "another boot loader or kernel was started",
            "boot the accepted image, or predict and sign a policy for this one",
        ),
        5 => (
            "the partition table or the boot manager's configuration differs",
            "restore the disk's partition table, or learn and sign a policy for it",
        ),
        7 => (
            "Secure Boot has another state or other keys",
            "restore the firmware's Secure Boot settings, or sign a policy for them",
        ),
        9 => (
            "the kernel was handed another command line or initrd",
            "remove what the host or the boot entry adds; else predict and sign a policy",
        ),
        11 => (
            "the image's parts or the boot phase differ",
            "boot the accepted image, or predict and sign a policy for this one",
        ),
        12 => (
            "configuration came from outside the image",
            "remove extra kernel arguments (SMBIOS), addons and credentials given by the host or the boot partition",
        ),
        13 => (
            "a system extension came from outside the image",
            "remove extensions from the boot partition, or sign a policy that accepts them",
        ),
        14 => (
            "other machine owner keys are enrolled",
            "remove them (mokutil), or sign a policy that accepts them",
        ),
        _ => (
            "it has another value",
            "boot the accepted image, or learn and sign a policy for this machine",
        ),
    }
}

/// Expected and found command line in words. Linux' event carries only a digest, so a text counts as found only when it has that
/// digest: the policy's command line with what the stub says it appended, or replaced it with.
fn explain_command_line(verified: &Verified, image: &Image) -> Option<(String, String)> {
    let event = verified.events.iter().find(|e| uefi::is_load_options(e))?;
    let expected = image.cmdline.as_deref()?;
    let is_measured = |text: &str| event.digest.bank().hash(&[&load_options(text)]) == event.digest;
    if is_measured(expected) {
        return None; // The command line is right, so the initrd is what differs.
    }
    let outside: Vec<&str> = verified
        .events
        .iter()
        .filter(|e| e.pcr == 12)
        .filter_map(|e| e.command_line.as_deref())
        .collect();
    let outside = outside.join(" ");
    let found = if is_measured(&format!("{expected} {outside}")) {
        format!("the image's command line and \"{outside}\"")
    } else if is_measured(&outside) {
        format!("in its place the command line \"{outside}\"")
    } else {
        format!("a command line with digest {}", event.digest)
    };
    Some(("the image's command line alone".to_owned(), found))
}

fn shown(events: &[Event], pcr: u8) -> String {
    let of_pcr: Vec<&str> = events
        .iter()
        .filter(|e| e.pcr == pcr)
        .map(|e| e.text.as_str())
        .collect();
    let mut text = of_pcr[..of_pcr.len().min(EVENTS_SHOWN)].join(", ");
    if of_pcr.len() > EVENTS_SHOWN {
        text.push_str(&format!(", and {} more", of_pcr.len() - EVENTS_SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::Fixed;
    use crate::testing::{Boot, NOW, Node, ORDINARY, SMBIOS, policy};
    use crate::verify::verify;

    fn verified(boot: &Boot) -> Verified {
        let node = Node::new();
        verify(&node.evidence(boot), &node.context()).expect("verifies")
    }

    fn registers(findings: &[Finding]) -> Vec<Option<u8>> {
        findings.iter().map(|f| f.pcr).collect()
    }

    #[test]
    fn the_accepted_image_is_affirmed() {
        let affirmed = appraise(&verified(&ORDINARY), &policy(), NOW).expect("affirmed");
        assert_eq!(
            affirmed,
            Affirmed {
                image: "trixie".into(),
                policy: "demo image".into()
            }
        );
    }

    #[test]
    fn a_kernel_argument_from_the_host_is_named_in_words() {
        let findings = appraise(&verified(&SMBIOS), &policy(), NOW).expect_err("refused");
        assert_eq!(registers(&findings), [Some(9), Some(12)]);
        assert_eq!(findings[0].expected, Some("the image's command line alone".to_owned()));
        assert_eq!(
            findings[0].found,
            Some("the image's command line and \"systemd.import_credentials=yes\"".to_owned())
        );
        assert_eq!(
            findings[1].event.as_deref(),
            Some("EV_IPL \"systemd.import_credentials=yes\"")
        );
    }

    #[test]
    fn a_text_that_has_not_the_measured_digest_is_not_shown_as_found() {
        let mut lying = verified(&SMBIOS);
        for event in lying.events.iter_mut().filter(|e| e.pcr == 12) {
            event.command_line = Some("harmless=yes".into());
        }
        let findings = appraise(&lying, &policy(), NOW).expect_err("refused");
        assert!(
            findings[0]
                .found
                .as_deref()
                .is_some_and(|f| f.starts_with("a command line with digest")),
            "{findings:?}"
        );
    }

    #[test]
    fn each_judged_register_counts() {
        for pcr in crate::pcr::JUDGED {
            let mut changed = verified(&ORDINARY);
            changed.pcrs.values.insert(pcr, Fixed([1; 32]).into());
            assert_eq!(
                registers(&appraise(&changed, &policy(), NOW).expect_err("refused")),
                [Some(pcr)]
            );
            changed.pcrs.values.remove(&pcr);
            assert_eq!(
                registers(&appraise(&changed, &policy(), NOW).expect_err("refused")),
                [Some(pcr)],
                "a missing one too"
            );
        }
    }

    #[test]
    fn one_image_must_match_in_all_registers() {
        let mut policy = policy();
        let mut other = policy.images[0].clone();
        other.name = "other".into();
        policy.images[0].pcr4 = vec![Fixed([1; 32]).into()];
        other.pcr12 = vec![Fixed([1; 32]).into()];
        policy.images.push(other);
        let findings = appraise(&verified(&ORDINARY), &policy, NOW)
            .expect_err("register 4 of one and 12 of the other do not add up");
        assert_eq!(findings.len(), 1);
    }

    #[test]
    fn the_guard_counts_when_the_policy_says_so_and_adds_to_the_other_findings() {
        let mut policy = policy();
        policy.require_guard = true;
        let findings = appraise(&verified(&SMBIOS), &policy, NOW).expect_err("refused");
        assert_eq!(
            findings.iter().map(|f| f.check.as_str()).collect::<Vec<_>>(),
            ["guard", "pcr", "pcr"]
        );
        assert_eq!(findings[0].found.as_deref(), Some("no BPF LSM"));
        let mut enforcing = verified(&ORDINARY);
        enforcing.guard.enforcing = true;
        assert!(appraise(&enforcing, &policy, NOW).is_ok());
    }

    #[test]
    fn wrong_logs_fail_even_when_the_registers_match() {
        let node = Node::new();
        let mut evidence = node.evidence(&ORDINARY);
        evidence.tpm.uefi_log.0.truncate(2000);
        let verified = verify(&evidence, &node.context()).expect("the quote is authentic");
        let findings = appraise(&verified, &policy(), NOW).expect_err("refused");
        assert_eq!(findings[0].check, "uefi-log");
    }
}
