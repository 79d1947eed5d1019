//! Policies that are none, and nodes that are not what the policy says.

use rempart_attest::testing::SMBIOS;
use rempart_attest::{Fixed, Policy};

use super::scene::{Scene, ordinary};
use super::{Case, against, case};

/// The policy's text with one word replaced.
fn edit(scene: &mut Scene, from: &str, to: &str) {
    let text = scene.policy.to_toml();
    assert!(text.contains(from), "{from} in {text}");
    scene.policy_text = Some(text.replacen(from, to, 1));
}

fn other_value(scene: &mut Scene, pcr: u8) {
    *scene.policy.images[0].accepted_mut(pcr).expect("judged") = vec![Fixed([1; 32]).into()];
}

// One line a case, as a table is read.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    against("policy", "empty policy file", ordinary, |s| s.policy_text = Some(String::new()), &["policy-file"]),
    against("policy", "policy without images", ordinary, |s| s.policy.images.clear(), &["policy-file"]),
    against("policy", "policy with an unknown key", ordinary, |s| edit(s, "version =", "colour = 1\nversion ="), &["policy-file"]),
    against("policy", "policy with an unknown key in an image", ordinary, |s| edit(s, "pcr4 =", "pcr99 = []\npcr4 ="), &["policy-file"]),
    against("policy", "policy of another version", ordinary, |s| edit(s, "version = 1", "version = 2"), &["policy-file"]),
    against("policy", "policy without a value for PCR 12", ordinary, |s| s.policy.images[0].pcr12.clear(), &["policy-file"]),
    against("policy", "policy with values of two banks", ordinary, |s| {
        s.policy.images[0].pcr4.push(Fixed([1; 48]).into());
    }, &["policy-file"]),
    against("policy", "policy that accepts no identity", ordinary, |s| s.policy.identity.clear(), &["policy-file"]),
    against("policy", "policy without images that nobody has read", ordinary, |s| {
        s.policy.images.clear();
        s.policy_unread = true;
    }, &["policy"]),
    case("another boot loader or kernel (PCR 4)", ordinary, |s| other_value(s, 4), &["pcr"]),
    case("another Secure Boot state (PCR 7)", ordinary, |s| other_value(s, 7), &["pcr"]),
    case("another command line or initrd (PCR 9)", ordinary, |s| other_value(s, 9), &["pcr"]),
    case("another image or boot phase (PCR 11)", ordinary, |s| other_value(s, 11), &["pcr"]),
    case("configuration from outside (PCR 12)", ordinary, |s| other_value(s, 12), &["pcr"]),
    case("a driver of the host's (PCR 2)", ordinary, |s| other_value(s, 2), &["pcr"]),
    case("a kernel argument from the host by SMBIOS", ordinary, |s| {
        s.evidence = s.node.evidence(&SMBIOS);
    }, &["pcr", "pcr"]),
    case("registers of two images", ordinary, |s| {
        let mut other = s.policy.images[0].clone();
        other.name = "other".into();
        other.pcr12 = vec![Fixed([1; 32]).into()];
        s.policy.images[0].pcr4 = vec![Fixed([1; 32]).into()];
        s.policy.images.push(other);
    }, &["pcr"]),
    case("a guard that does not enforce", ordinary, |s| s.policy.require_guard = true, &["guard"]),
    case("an image whose window is over", ordinary, |s| {
        let text = s.policy.to_toml().replacen("pcr4 =", "not_after = \"2020-01-01T00:00:00Z\"\npcr4 =", 1);
        s.policy = Policy::parse(text.as_bytes()).expect("a policy");
    }, &["window"]),
    case("an image whose window is not open yet", ordinary, |s| {
        let text = s.policy.to_toml().replacen("pcr4 =", "not_before = \"2090-01-01T00:00:00Z\"\npcr4 =", 1);
        s.policy = Policy::parse(text.as_bytes()).expect("a policy");
    }, &["window"]),
    case("Secure Boot off where it is demanded", ordinary, |s| s.policy.images[0].require_secure_boot = true, &["secure-boot"]),
];
