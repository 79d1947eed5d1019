//! What a policy accepts, in words for the operator who is asked to sign it. It says what is accepted, what is not judged, and what was
//! waved through; it never judges a node.

use super::image::{Image, REGISTERS};
use super::instant::Instant;
use super::predict::risks;
use super::{Identity, Policy, ReportRule};
use crate::pcr::JUDGED;

/// Lines of text. `now`, where it is known, tells which windows are open.
pub fn explain(policy: &Policy, now: Option<Instant>) -> Vec<String> {
    let mut lines = vec![format!(
        "Policy \"{}\", counter {}: accepts a node that is in one of {} image(s) in all its registers.",
        policy.name,
        policy.counter,
        policy.images.len()
    )];
    lines.push(match policy.identity.len() {
        n if n == Identity::ALL.len() => "Any enrolled endorsement key counts, however it was enrolled.".to_owned(),
        _ => {
            let words: Vec<_> = policy.identity.iter().map(Identity::to_string).collect();
            format!("The endorsement key must be {}.", words.join(" or "))
        }
    });
    lines.push(if policy.require_guard {
        "The node's guard must be enforcing.".to_owned()
    } else {
        "A node whose guard does not enforce is accepted (require_guard is off).".to_owned()
    });
    lines.extend(policy.systemd_report.map(|rule| match rule {
        ReportRule::Required => "systemd's own report, signed by the node's attestation key, must be there.".to_owned(),
        ReportRule::Nonce => {
            "systemd's own report must be there, and carry the nonce of the round (not systemd 262).".to_owned()
        }
    }));
    for image in &policy.images {
        lines.push(String::new());
        lines.extend(image_lines(image, now));
    }
    lines
}

fn image_lines(image: &Image, now: Option<Instant>) -> Vec<String> {
    let mut lines = vec![format!(
        "Image \"{}\" (bank {}){}",
        image.name,
        image.bank,
        window(image, now)
    )];
    lines.extend(image.judged().map(|pcr| register_line(image, pcr)));
    lines.extend(signed_lines(image));
    if image.require_secure_boot {
        lines.push("  Secure Boot must have been on.".into());
    }
    for section in image.sections() {
        lines.push(format!("  Section {section} must be satisfied too."));
    }
    let open: Vec<_> = REGISTERS
        .into_iter()
        .filter(|pcr| !(image.judged().any(|judged| judged == *pcr) || *pcr == 11 && image.pcr11_signed.is_some()))
        .map(|pcr| format!("{pcr} ({})", meaning(pcr)))
        .collect();
    if !open.is_empty() {
        lines.push(format!("  Not judged: PCR {}.", open.join(", ")));
    }
    lines.extend(image.cmdline.iter().map(|line| format!("  Command line: {line}")));
    lines.extend(image.accepted_risks.iter().map(|name| risk_line(name)));
    lines
}

fn window(image: &Image, now: Option<Instant>) -> String {
    let Some(words) = image.window() else {
        return ", at any time".into();
    };
    let open = |now: Instant| image.not_before.is_none_or(|t| t <= now) && image.not_after.is_none_or(|t| now <= t);
    match now {
        Some(now) if open(now) => format!(", {words} (open now)"),
        Some(_) => format!(", {words} (NOT open now)"),
        None => format!(", {words}"),
    }
}

fn register_line(image: &Image, pcr: u8) -> String {
    let values = image.accepted(pcr);
    let zero = values == [image.bank.zero()];
    let said = match values {
        _ if zero => "nothing may be measured".to_owned(),
        [one] => one.to_string(),
        several => format!(
            "one of {}",
            several.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        ),
    };
    format!("  PCR {pcr:<2} {}: {said}", meaning(pcr))
}

fn signed_lines(image: &Image) -> Vec<String> {
    let Some(signed) = &image.pcr11_signed else {
        return vec![];
    };
    let mut lines = vec![format!(
        "  PCR 11 {}: any value signed by the release key {}",
        meaning(11),
        signed.key.fingerprint()
    )];
    lines.push(match signed.counter {
        Some(least) => format!("         with REMPART_IMAGE_COUNTER of at least {least} in the image's os-release"),
        None => "         of any age: no counter is demanded, so an old image with known holes counts too".into(),
    });
    lines.extend(signed.revoked.iter().map(|value| format!("         but not {value}")));
    lines
}

fn risk_line(name: &str) -> String {
    match risks::RISKS.iter().find(|risk| risk.name == name) {
        Some(risk) => format!("  ACCEPTED RISK {name}: {}", risk.reason),
        None => format!("  ACCEPTED RISK {name}"),
    }
}

/// What a register is about.
pub fn meaning(pcr: u8) -> &'static str {
    debug_assert!(JUDGED.iter().all(|judged| REGISTERS.contains(judged)));
    match pcr {
        0 => "firmware code",
        1 => "firmware configuration and ACPI tables",
        2 => "drivers added by the host",
        3 => "their configuration",
        4 => "boot loader and kernel",
        5 => "boot manager configuration and partitions",
        6 => "the platform's maker",
        7 => "Secure Boot state and keys",
        8 => "boot loader commands",
        9 => "command line and initrd as handed over",
        11 => "the image's parts and the boot phase",
        12 => "configuration from outside the image",
        13 => "system extensions from outside the image",
        14 => "machine owner keys",
        _ => "not judged by any policy",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcr::Bank;
    use crate::policy::release::{Pcr11Signed, signatures::ReleaseKey};
    use crate::policy::sample;

    #[test]
    fn what_is_accepted_not_judged_and_waved_through_is_said() {
        let mut policy = sample([4, 7, 9, 11, 0]);
        policy.images[0].accepted_risks = vec!["host-credentials".into()];
        policy.images[0].not_after = Some(Instant(1_800_000_000));
        let text = explain(&policy, Some(Instant(1_800_000_001))).join("\n");
        for part in [
            "counter 3",
            "require_guard is off",
            "until 2027-01-15T08:00:00Z (NOT open now)",
            "PCR 12 configuration from outside the image: nothing may be measured",
            "Not judged: PCR 0 (firmware code)",
            "ACCEPTED RISK host-credentials: the host could run code as root",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(explain(&policy, Some(Instant(1))).join("\n").contains("(open now)"));
    }

    #[test]
    fn a_signed_register_without_a_counter_is_said_to_be_of_any_age() {
        let mut policy = sample([4, 7, 9, 11, 0]);
        policy.identity = vec![Identity::Certified, Identity::Listed];
        let image = &mut policy.images[0];
        image.pcr11.clear();
        image.require_secure_boot = true;
        image.pcr11_signed = Some(Pcr11Signed {
            key: ReleaseKey::from_pem(include_str!("../../../../tests/fixtures/pcrsig/release.pub")).expect("key"),
            counter: None,
            revoked: vec![Bank::Sha256.zero()],
        });
        let text = explain(&policy, None).join("\n");
        for part in [
            "certified or listed",
            "of any age",
            "but not 0000",
            "Secure Boot must have been on",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        policy.images[0].pcr11_signed.as_mut().expect("signed").counter = Some(9);
        assert!(explain(&policy, None).join("\n").contains("at least 9"));
    }
}
