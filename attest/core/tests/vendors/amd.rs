//! AMD: real chips' reports, their VCEKs, and the published chains of all generations and both kinds of key.

use std::collections::BTreeMap;
use std::sync::Arc;

use rempart_attest::evidence::TeeEvidence;
use rempart_attest::tee::snp::{Certificates, Generation, Levels, Minimum, Policy, Report, VerifiedVek, chain};
use rempart_attest::tee::{self, Endorsements, Origin, Roots, Sections, TeeKind, TeeProvider, Vek};
use rempart_attest::{Fixed, certificate};

use crate::Case;
use crate::packages::{Files, Package};

const GO: Package = Package::Go("github.com/google/go-sev-guest@v0.15.0");
const CRATE: Package = Package::Crate("sev", "8.0.0");

pub const CASES: &[Case] = &[
    Case {
        name: "amd: a Milan report under the pinned root, by go-sev-guest's data",
        package: GO,
        run: milan_of_go,
    },
    Case {
        name: "amd: a Milan report under the pinned root, by the sev crate's data",
        package: CRATE,
        run: milan_of_sev,
    },
    Case {
        name: "amd: a Turin VCEK under the pinned root, by the sev crate's data",
        package: CRATE,
        run: turin_of_sev,
    },
    Case {
        name: "amd: every published chain ends in the root that is pinned for its generation",
        package: GO,
        run: published_chains,
    },
];

/// Within the certificates' times.
const NOW: u64 = 1_730_000_000;

fn ders(pem: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let ders = certificate::pem_to_ders(pem).expect("PEM");
    let [ask, ark] = ders.as_slice() else {
        panic!("two certificates");
    };
    (ask.clone(), ark.clone())
}

fn vek(leaf: &[u8], chain_pem: &[u8], now: u64) -> VerifiedVek {
    let (ask, ark) = ders(chain_pem);
    let certificates = Certificates {
        vek: leaf,
        ask: &ask,
        ark: &ark,
        crl: None,
    };
    chain::verify(&certificates, &Roots::default(), now).expect("AMD's own chain counts")
}

/// A report is verified as it stands and in no other form.
fn judge(bytes: &[u8], vek: VerifiedVek, levels: Levels) -> Vec<String> {
    assert_eq!(vek.origin, Origin::Vendor);
    let report = Report::parse(bytes).expect("report");
    let generation = vek.generation;
    let endorsements = Endorsements {
        snp: Vek::Verified(Arc::new(vek)),
        ..Endorsements::default()
    };
    let verify = |bytes: &[u8], data: &Fixed<64>| {
        let evidence = TeeEvidence {
            kind: TeeKind::SevSnp,
            provider: TeeProvider::SevGuest,
            report: bytes.into(),
            certificates: vec![].into(),
            runtime_data: vec![].into(),
        };
        tee::verify("real", &evidence, data, &[], &endorsements, NOW)
    };
    let verified = verify(bytes, &report.report_data).expect("AMD signed it");
    for at in (0..0x2a0).step_by(7) {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        assert!(
            verify(&changed, &report.report_data).is_err(),
            "byte {at:#x} was changed"
        );
    }
    assert!(verify(bytes, &Fixed([7; 64])).is_err(), "another exchange");
    let policy = Policy {
        allow_unchecked_revocation: true,
        allow_smt: true,
        ..Policy::new(
            vec![report.measurement],
            BTreeMap::from([(generation, Minimum::all(levels))]),
        )
    };
    let sections = Sections {
        snp: Some(&policy),
        tdx: None,
    };
    let findings = tee::appraise("real", Some(&verified), sections);
    findings.into_iter().map(|f| f.check).collect()
}

/// The report of that project is of a guest that was launched with debugging: authentic, and refused for it.
fn milan_of_go(files: &Files) {
    let report = files.read(
        "verify/testdata/attestation.bin",
        "377e6241d3b373ab1df80c0f96978594e7e21f4797dd6ea95e2957e1c1e26060",
    );
    let leaf = files.read(
        "verify/testdata/vcek.testcer",
        "0d057f9b6e29a69eda9c0154b259567d291c1c08d73a11e9d31ace07c435b6d8",
    );
    let chain = files.read(
        "verify/testdata/milan.testcer",
        "22e62f8d2c21a156470145fc75f7b5a377cb053ced3e97f0bd3f8d8ca5941ce6",
    );
    let levels = Levels {
        bootloader: 2,
        snp: 5,
        microcode: 0x44,
        ..Levels::default()
    };
    let findings = judge(&report, vek(&leaf, &chain, NOW), levels);
    assert_eq!(findings, ["snp-debug", "snp-alias-check"]);
}

fn milan_of_sev(files: &Files) {
    let text = files.read(
        "tests/certs_data/report_milan.hex",
        "3d956e9104969a038031a6b63dd6c4b60000619d37702065994f7da76f88ae7d",
    );
    let report = hex::decode(text.trim_ascii()).expect("hex");
    let leaf = files.read(
        "tests/certs_data/vcek_milan.der",
        "3bbfb6ee259f75a95d13168cfdf2e034181bb93c7c016825731cbe8ea16c95e1",
    );
    let chain = files.read(
        "tests/certs_data/cert_chain_milan",
        "22e62f8d2c21a156470145fc75f7b5a377cb053ced3e97f0bd3f8d8ca5941ce6",
    );
    let vek = vek(&leaf, &chain, NOW);
    let levels = vek.tcb.levels(Generation::Milan);
    let findings = judge(&report, vek, levels);
    assert_eq!(findings, ["snp-alias-check"], "version 2 cannot say it");
}

fn turin_of_sev(files: &Files) {
    let leaf = files.read(
        "tests/certs_data/vcek_turin.der",
        "a4a6abff1c435f214cfbc35e4dadae55e467454d53dc417251b3ff1a169fd7fb",
    );
    let chain = files.read(
        "tests/certs_data/cert_chain_turin",
        "cc9a52fbed3fbc6e4a0a50149a541a75938f975658909c2a6084767829b36e85",
    );
    let vek = vek(&leaf, &chain, NOW + 86_400 * 60);
    assert_eq!((vek.generation, vek.origin), (Generation::Turin, Origin::Vendor));
    let chip = vek.chip_id().expect("a VCEK");
    assert_eq!(hex::encode(&chip.0[..8]), "1e550a8ee5cf9f4d");
    assert_eq!(vek.tcb.levels(Generation::Turin).microcode, 9);
}

/// The Milan VCEK under each chain in turn: only its own intermediate signed it, but how far the others get says that their roots
/// are the pinned ones.
fn published_chains(files: &Files) {
    let leaf = files.read(
        "verify/testdata/vcek.testcer",
        "0d057f9b6e29a69eda9c0154b259567d291c1c08d73a11e9d31ace07c435b6d8",
    );
    let chains = [
        (
            "genoa",
            "e6ecc853fa56d3170a624d40851f98a1036f974b50204ea69e6aec91d777aca3",
        ),
        (
            "genoa_vlek",
            "95f8b0deab936fe5d44a7cd6ed32590ad360581da2858a27dc2e59ac6eacb2e8",
        ),
        (
            "milan_vlek",
            "3098f7e90ee7049b8cf116448d1bdf33b08847b4250bd99507cf73b5c49d3467",
        ),
        (
            "turin_vcek",
            "cc9a52fbed3fbc6e4a0a50149a541a75938f975658909c2a6084767829b36e85",
        ),
        (
            "turin_vlek",
            "5928f39615a10790e4c3d985fbe5b025524eab50c0801c2b69d2031e476cdfe5",
        ),
    ];
    for (name, digest) in chains {
        let pem = files.read(&format!("verify/trust/ask_ark_{name}.pem"), digest);
        let (ask, ark) = ders(&pem);
        let certificates = Certificates {
            vek: &leaf,
            ask: &ask,
            ark: &ark,
            crl: None,
        };
        let refused = chain::verify(&certificates, &Roots::default(), NOW).expect_err("another intermediate");
        assert_eq!(
            refused.check(),
            "snp-vek",
            "{name}: root and intermediate count, the key is not theirs"
        );
    }
}
