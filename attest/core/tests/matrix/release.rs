//! PCR 11 signed instead of listed: an image whose sections systemd-measure 257 measured and signed (tests/fixtures/pcrsig), booted in
//! the place of the recorded one.

use rempart_attest::policy::release::Pcr11Signed;
use rempart_attest::policy::release::signatures::ReleaseKey;
use rempart_attest::{Bank, Digest};

use super::logs::{Record, records};
use super::scene::{Scene, ordinary};
use super::{Case, case};

macro_rules! fixture {
    ($file:literal) => {
        concat!("../../../../tests/fixtures/pcrsig/", $file)
    };
}

const SIGNATURES: &[u8] = include_bytes!(fixture!("signatures.json"));
const BY_OTHER: &[u8] = include_bytes!(fixture!("other.json"));
const RELEASE: &str = include_str!(fixture!("release.pub"));
const OTHER: &str = include_str!(fixture!("other.pub"));
const OS_RELEASE: &[u8] = include_bytes!(fixture!("osrel"));
const SECTIONS: [(&str, &[u8]); 4] = [
    (".linux", include_bytes!(fixture!("linux"))),
    (".osrel", OS_RELEASE),
    (".cmdline", include_bytes!(fixture!("cmdline"))),
    (".initrd", include_bytes!(fixture!("initrd"))),
];
const PHASES: [&str; 4] = ["enter-initrd", "leave-initrd", "sysinit", "ready"];
const BANK: Bank = Bank::Sha256;
const EV_IPL: u32 = 0x0d;
/// TPM_ALG_SHA256.
const SHA256: u16 = 0x0b;

/// The recorded boot with this image and these phases in PCR 11.
fn booted(phases: &[&str]) -> Scene {
    let mut scene = ordinary();
    let log = &mut scene.evidence.tpm.uefi_log.0;
    for Record { from, to, pcr, .. } in records(log).into_iter().rev() {
        if pcr == 11 {
            log.drain(from..to);
        }
    }
    scene.evidence.tpm.userspace_log.0.clear();
    let parts = SECTIONS.iter().flat_map(|(name, content)| {
        let name = [name.as_bytes(), &[0]].concat();
        [BANK.hash(&[&name]), BANK.hash(&[content])]
    });
    let digests: Vec<Digest> = parts.chain(phases.iter().map(|p| BANK.hash(&[p.as_bytes()]))).collect();
    for digest in &digests {
        log.extend([11, EV_IPL, 1].map(u32::to_le_bytes).concat());
        log.extend(SHA256.to_le_bytes());
        log.extend(digest.as_bytes());
        log.extend(0u32.to_le_bytes());
    }
    scene.evidence.tpm.pcrs[11].1 = digests
        .iter()
        .fold(BANK.zero(), |old, digest| rempart_attest::pcr::extended(&old, digest));
    scene.evidence.tpm.pcr_signatures.0 = SIGNATURES.to_vec();
    scene.evidence.tpm.os_release.0 = OS_RELEASE.to_vec();
    let image = &mut scene.policy.images[0];
    image.pcr11.clear();
    image.pcr11_signed = Some(Pcr11Signed {
        key: ReleaseKey::from_pem(RELEASE).expect("key"),
        counter: Some(7),
        revoked: vec![],
    });
    scene.requote();
    scene
}

fn released() -> Scene {
    booted(&PHASES)
}

fn rule(scene: &mut Scene) -> &mut Pcr11Signed {
    scene.policy.images[0].pcr11_signed.as_mut().expect("the scene has one")
}

/// The other key's signatures with the release key's name on them.
fn forged() -> Vec<u8> {
    let name = |pem: &str| ReleaseKey::from_pem(pem).expect("key").fingerprint().to_string();
    let text = std::str::from_utf8(BY_OTHER).expect("JSON");
    text.replace(&name(OTHER), &name(RELEASE)).into_bytes()
}

// One line a case, as a table is read.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("release: no PCR signatures", released, |s| s.evidence.tpm.pcr_signatures.0.clear(), &["pcr11-signature"]),
    case("release: PCR signatures that are no JSON", released, |s| {
        s.evidence.tpm.pcr_signatures.0.truncate(SIGNATURES.len() / 2);
    }, &["pcr11-signature"]),
    case("release: PCR signatures by another key", released, |s| {
        s.evidence.tpm.pcr_signatures.0 = BY_OTHER.to_vec();
    }, &["pcr11-signature"]),
    case("release: forged PCR signatures", released, |s| s.evidence.tpm.pcr_signatures.0 = forged(), &["pcr11-signature"]),
    case("release: a boot phase that nobody signed", released, |s| {
        *s = booted(&[PHASES.as_slice(), &["shutdown"]].concat());
    }, &["pcr11-signature"]),
    case("release: a value that was taken back", released, |s| {
        let value = s.evidence.tpm.pcrs[11].1;
        rule(s).revoked = vec![value];
    }, &["pcr11-revoked"]),
    case("release: an image that is too old", released, |s| rule(s).counter = Some(8), &["image-counter"]),
    case("release: no os-release where a counter is demanded", released, |s| {
        s.evidence.tpm.os_release.0.clear();
    }, &["image-counter"]),
    case("release: an os-release with a better counter than the measured one", released, |s| {
        let text = String::from_utf8(OS_RELEASE.to_vec()).expect("text");
        s.evidence.tpm.os_release.0 = text.replace("REMPART_IMAGE_COUNTER=7", "REMPART_IMAGE_COUNTER=9").into_bytes();
        rule(s).counter = Some(9);
    }, &["image-counter"]),
];
