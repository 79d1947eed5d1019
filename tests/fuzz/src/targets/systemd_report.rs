//! systemd's own signed report. What is marshalled from it is what a TPM could have signed, and nobody but the recorded TPM gets one
//! accepted: an input that passes says what the recorded report says.

use std::sync::OnceLock;

use rempart_attest::systemd_report::{Against, SystemdReport, structures, verify};
use rempart_attest::testing::{
    Authority, REPORT_LATER_BOOT, REPORT_NONCE, REPORT_OWN_KEY, REPORT_P256, REPORT_P384, REPORT_RSA, recorded_pcrs,
};
use rempart_attest::tpm::signature::Signature;
use rempart_attest::tpm::{PublicKey, Quote};
use rempart_attest::verify::Verified;
use rempart_attest::{Evidence, Fixed, limits, verify as evidence};

use super::{Memory, Target};

pub(super) const TARGETS: &[Target] = &[Target {
    name: "systemd-report",
    from: "systemd's signed report, by the node",
    max_len: 16 * 1024,
    memory: Memory::SERDE,
    runs: 10_000,
    run: report,
    seeds,
}];

/// The recorded node: its Evidence without the report, what was verified of it, and what the report says.
struct Recorded {
    ak: PublicKey,
    evidence: Evidence,
    nonce: Fixed<64>,
    verified: Verified,
    says: SystemdReport,
}

impl Recorded {
    fn get() -> &'static Self {
        static RECORDED: OnceLock<Recorded> = OnceLock::new();
        RECORDED.get_or_init(|| {
            let (node, evidence) = REPORT_P256.evidence(&Authority::default());
            let verified = evidence::verify(&evidence, &node.context()).expect("recorded");
            Self {
                ak: node.tpm.key.clone(),
                nonce: node.binding(&evidence),
                says: verified.systemd_report.clone().expect("a report"),
                evidence,
                verified,
            }
        })
    }

    fn quote(&self) -> &Quote {
        &self.verified.quote
    }
}

fn report(data: &[u8]) {
    let Ok(structures) = structures(data) else { return };
    assert!(structures.len() <= 2 * limits::SYSTEMD_COMPONENTS * limits::SYSTEMD_RECORDS);
    for pair in structures.chunks(2) {
        assert!(
            pair[0].0.starts_with(&[0xff, b'T', b'C', b'G', 0x80]),
            "no TPM makes {:?}",
            pair[0].0
        );
        Signature::parse(&pair[1].0).expect("what was marshalled is read again");
    }
    let recorded = Recorded::get();
    let pcrs = recorded_pcrs();
    let against = Against {
        ak: &recorded.ak,
        nonce: Some(&recorded.nonce.0[..32]),
        clock: Some(&recorded.quote().clock),
        pcrs: Some(&pcrs),
        identity: recorded.says.identity.expect("quoted"),
        boot_id: &recorded.evidence.boot_id,
    };
    if let Ok(says) = verify(data, &against) {
        assert_eq!(says, recorded.says, "a report that nobody signed");
    }
}

/// Without their event logs, which nobody reads and nobody signed.
fn seeds() -> Vec<Vec<u8>> {
    let all = [
        REPORT_P256.report,
        REPORT_NONCE.report,
        REPORT_RSA.report,
        REPORT_P384.report,
        REPORT_LATER_BOOT,
        REPORT_OWN_KEY,
    ];
    all.map(without_log).into()
}

fn without_log(report: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(report);
    match (text.find("\"eventLog\":["), text.find("],\"publicKey\"")) {
        (Some(from), Some(to)) if from < to => {
            let kept = from + "\"eventLog\":[".len();
            format!("{}{}", &text[..kept], &text[to..]).into_bytes()
        }
        _ => report.to_vec(),
    }
}
