//! *Appraise* (RFC 9334): verified claims against the Reference Values of a policy. Digests decide; the logs' texts only explain.

#![expect(clippy::result_large_err, reason = "a finding is rare and goes straight into a list")]

use crate::eventlog::{Event, uefi};
use crate::finding::Finding;
use crate::pcr::PcrValue;
use crate::policy::predict::registers::load_options;
use crate::policy::{Image, Policy};
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

/// Judges `verified` under `policy`; every failed check of both steps is reported.
pub fn appraise(verified: &Verified, policy: &Policy) -> Result<Affirmed, Vec<Finding>> {
    let mut findings = verified.log_findings.clone();
    findings.extend(guard_enforces(verified, policy).err());
    let image = closest(verified, policy);
    for pcr in image.map(|i| i.mismatches(&verified.pcrs)).unwrap_or_default() {
        findings.extend(image.map(|i| pcr_finding(verified, i, pcr)));
    }
    match image {
        Some(image) if findings.is_empty() => Ok(Affirmed {
            image: image.name.clone(),
            policy: policy.name.clone(),
        }),
        Some(_) => Err(findings),
        None => {
            findings.push(Finding::new(
                "policy",
                "policy",
                "the policy names no image",
                "install a policy with an image",
            ));
            Err(findings)
        }
    }
}

/// The image with the fewest differing registers: the one that the operator most likely meant.
fn closest<'a>(verified: &Verified, policy: &'a Policy) -> Option<&'a Image> {
    policy
        .images
        .iter()
        .min_by_key(|image| image.mismatches(&verified.pcrs).len())
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
    let (what, remedy) = match pcr {
        4 => (
            "another boot loader or kernel was started",
            "boot the accepted image, or predict and sign a policy for this one",
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
        _ => (
            "configuration came from outside the image",
            "remove extra kernel arguments (SMBIOS), addons and credentials given by the host or the boot partition",
        ),
    };
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
    match shown(&verified.events, pcr) {
        events if events.is_empty() => finding,
        events => finding.event(events),
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
    use crate::testing::{Boot, Node, ORDINARY, SMBIOS, policy};
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
        let affirmed = appraise(&verified(&ORDINARY), &policy()).expect("affirmed");
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
        let findings = appraise(&verified(&SMBIOS), &policy()).expect_err("refused");
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
        let findings = appraise(&lying, &policy()).expect_err("refused");
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
                registers(&appraise(&changed, &policy()).expect_err("refused")),
                [Some(pcr)]
            );
            changed.pcrs.values.remove(&pcr);
            assert_eq!(
                registers(&appraise(&changed, &policy()).expect_err("refused")),
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
        let findings =
            appraise(&verified(&ORDINARY), &policy).expect_err("register 4 of one and 12 of the other do not add up");
        assert_eq!(findings.len(), 1);
    }

    #[test]
    fn the_guard_counts_when_the_policy_says_so_and_adds_to_the_other_findings() {
        let mut policy = policy();
        policy.require_guard = true;
        let findings = appraise(&verified(&SMBIOS), &policy).expect_err("refused");
        assert_eq!(
            findings.iter().map(|f| f.check.as_str()).collect::<Vec<_>>(),
            ["guard", "pcr", "pcr"]
        );
        assert_eq!(findings[0].found.as_deref(), Some("no BPF LSM"));
        let mut enforcing = verified(&ORDINARY);
        enforcing.guard.enforcing = true;
        assert!(appraise(&enforcing, &policy).is_ok());
    }

    #[test]
    fn wrong_logs_fail_even_when_the_registers_match() {
        let node = Node::new();
        let mut evidence = node.evidence(&ORDINARY);
        evidence.tpm.uefi_log.0.truncate(2000);
        let verified = verify(&evidence, &node.context()).expect("the quote is authentic");
        let findings = appraise(&verified, &policy()).expect_err("refused");
        assert_eq!(findings[0].check, "event-log");
    }
}
