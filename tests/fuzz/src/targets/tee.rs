//! Reports of TEEs, and what a host or a vendor's service hands over with them.

use std::sync::{Arc, OnceLock};

use rempart_attest::evidence::TeeEvidence;
use rempart_attest::tee::snp::extensions::Extensions;
use rempart_attest::tee::snp::{self, Generation, Report, table};
use rempart_attest::tee::tdx::Collateral;
use rempart_attest::tee::tdx::collateral::Statement;
use rempart_attest::tee::tdx::pck::Pck;
use rempart_attest::tee::testing::snp::{Chip, Draft, REPORT_DATA};
use rempart_attest::tee::testing::{NOW, snp as soft_snp, tdx as soft_tdx};
use rempart_attest::tee::{self, Content, Endorsements, Sections, TeeKind, TeeProvider, crl, tdx, vtpm};
use rempart_attest::{Blob, Finding};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::{Memory, Target};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "snp-report",
        from: "a SEV-SNP report, by the node",
        max_len: 1184,
        memory: Memory::OURS,
        runs: 20_000,
        run: snp_report,
        seeds: reports,
    },
    Target {
        name: "snp-verify",
        from: "a SEV-SNP report that its chip signed, through verify and appraise",
        max_len: 1184,
        memory: Memory::OURS,
        runs: 1_000,
        run: snp_verify,
        seeds: reports,
    },
    Target {
        name: "snp-table",
        from: "the certificate table, by the host",
        max_len: 4096,
        memory: Memory::OURS,
        runs: 20_000,
        run: snp_table,
        seeds: || {
            vec![
                chip().table(),
                table::build(&snp::table::Table {
                    vcek: Some(b"a"),
                    crl: Some(b""),
                    ..Default::default()
                }),
            ]
        },
    },
    Target {
        name: "snp-key-certificate",
        from: "a VCEK or VLEK certificate, by the host or the vendor",
        max_len: 2048,
        memory: Memory::OURS,
        runs: 20_000,
        run: key_certificate,
        seeds: || {
            vec![
                chip().certificate.clone(),
                Chip::of_provider(Generation::Turin, "cloud").certificate,
            ]
        },
    },
    Target {
        name: "revocation-list",
        from: "a vendor's revocation list, by whoever delivers it",
        max_len: 2048,
        memory: Memory::OURS,
        runs: 20_000,
        run: revocation_list,
        seeds: || vec![chip().pki().crl(NOW, &[]), chip().pki().crl(NOW, &[1, 0x77])],
    },
    Target {
        name: "tdx-quote",
        from: "a TDX quote, by the node, through verify and appraise",
        max_len: 8192,
        memory: Memory::OURS,
        runs: 3_000,
        run: tdx_quote,
        seeds: || vec![platform().quote(&REPORT_DATA)],
    },
    Target {
        name: "tdx-collateral",
        from: "Intel's statements (TCB info, QE identity) that an operator stored, signed whatever they say",
        max_len: 4096,
        memory: Memory::SERDE,
        // Some hundred a second: each is signed, and held against a whole chain.
        runs: 600,
        run: tdx_collateral,
        seeds: || {
            let texts = [
                soft_tdx::tcb_info("UpToDate"),
                soft_tdx::qe_identity("UpToDate"),
                soft_tdx::tcb_info("Revoked"),
            ];
            texts.map(String::into_bytes).to_vec()
        },
    },
    Target {
        name: "tdx-pck",
        from: "the SGX extension of a platform's certificate, by the node",
        max_len: 1024,
        memory: Memory::OURS,
        runs: 20_000,
        run: tdx_pck,
        seeds: || vec![soft_tdx::platform_names()],
    },
    Target {
        name: "vtpm-report",
        from: "a paravisor's report out of the virtual TPM, by the host",
        max_len: 4096,
        memory: Memory::OURS,
        runs: 3_000,
        run: vtpm_report,
        seeds: || vec![nv_index(&chip().report(&REPORT_DATA), RUNTIME_DATA)],
    },
];

const RUNTIME_DATA: &[u8] =
    br#"{"keys":[{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"AQAB"}],"user-data":"D5"}"#;

fn chip() -> &'static Chip {
    static CHIP: OnceLock<Chip> = OnceLock::new();
    CHIP.get_or_init(|| Chip::new(Generation::Milan))
}

fn endorsed() -> &'static Endorsements {
    static ENDORSED: OnceLock<Endorsements> = OnceLock::new();
    ENDORSED.get_or_init(|| chip().endorsements(NOW))
}

fn platform() -> &'static soft_tdx::Platform {
    static PLATFORM: OnceLock<soft_tdx::Platform> = OnceLock::new();
    PLATFORM.get_or_init(|| soft_tdx::Platform::new(soft_tdx::Pki::generate()))
}

/// Reports of every version, without a signature where none is looked at: kept inputs then need no key.
fn reports() -> Vec<Vec<u8>> {
    let unsigned = |version, mitigations| {
        Draft {
            version,
            mitigations,
            ..Draft::default()
        }
        .unsigned()
    };
    vec![unsigned(2, (0, 0)), unsigned(3, (0, 0)), unsigned(5, (3, 1))]
}

/// Written again from what was read, it is the same, but for what is not read: the report's own id and reserved fields.
fn snp_report(data: &[u8]) {
    let Ok(report) = Report::parse(data) else { return };
    let again = Draft {
        version: report.version,
        guest_svn: report.guest_svn,
        policy: report.policy.0,
        family_id: report.family_id,
        image_id: report.image_id,
        vmpl: report.vmpl.into(),
        current_tcb: report.current_tcb,
        platform: report.platform.0,
        keys: report.keys.0,
        report_data: report.report_data,
        measurement: report.measurement,
        host_data: report.host_data,
        id_key: report.id_key,
        author_key: report.author_key,
        report_id_ma: report.migration_agent.unwrap_or(rempart_attest::Fixed([0xff; 32])),
        reported_tcb: report.reported_tcb,
        cpuid: report.cpuid.unwrap_or_default(),
        chip_id: report.chip_id,
        committed_tcb: report.committed_tcb,
        current_firmware: [
            report.current_firmware.build,
            report.current_firmware.abi.minor,
            report.current_firmware.abi.major,
        ],
        committed_firmware: [
            report.committed_firmware.build,
            report.committed_firmware.abi.minor,
            report.committed_firmware.abi.major,
        ],
        launch_tcb: report.launch_tcb,
        mitigations: report.mitigations.unwrap_or_default(),
    }
    .unsigned();
    // Every field that is read, by its offset in the specification.
    for range in [
        0..0x4c,
        0x50..0x140,
        0x160..0x188,
        0x1a0..0x1eb,
        0x1ec..0x1ef,
        0x1f0..0x1f8,
    ] {
        assert_eq!(data[range.clone()], again[range.clone()], "field at {range:x?}");
    }
}

fn evidence(kind: TeeKind, report: Vec<u8>) -> TeeEvidence {
    TeeEvidence {
        kind,
        provider: TeeProvider::ConfigfsTsm,
        report: Blob(report),
        certificates: Blob::default(),
        runtime_data: Blob::default(),
    }
}

/// The chip signs whatever it is given; only its own chip id, our REPORT_DATA and what the policy accepts may pass.
fn snp_verify(data: &[u8]) {
    if data.len() != snp::LEN {
        return;
    }
    let mut signed = data.to_vec();
    // Kept inputs know no chip of this process.
    signed[0x1a0..0x1e0].copy_from_slice(&chip().chip_id.0);
    chip().sign(&mut signed);
    let policy = soft_snp::policy(Generation::Milan);
    let sections = Sections {
        snp: Some(&policy),
        tdx: None,
    };
    if passes(&evidence(TeeKind::SevSnp, signed), endorsed(), sections) {
        let report = Report::parse(data).expect("what passes can be read");
        assert_eq!(report.report_data, REPORT_DATA);
        assert_eq!(report.measurement, soft_snp::MEASUREMENT);
        assert_eq!((report.vmpl, report.migration_agent), (0, None));
        assert!(
            report.policy.0 & snp::bits::guest::DEBUG == 0,
            "a guest that can be debugged passes"
        );
    }
}

fn passes(tee: &TeeEvidence, endorsements: &Endorsements, sections: Sections<'_>) -> bool {
    let verified = tee::verify("node", tee, &REPORT_DATA, &[], endorsements, NOW);
    let findings: Vec<Finding> = match &verified {
        Ok(verified) => tee::appraise("node", Some(verified), sections),
        Err(_) => return false,
    };
    let _shown: Vec<String> = findings.iter().map(Finding::to_string).collect();
    findings.is_empty()
}

/// What is read is built so that it is read as the same.
fn snp_table(data: &[u8]) {
    let Ok(read) = table::parse(data) else { return };
    let built = table::build(&read);
    assert_eq!(table::parse(&built).as_ref(), Ok(&read));
}

fn key_certificate(data: &[u8]) {
    if let Ok(([], certificate)) = X509Certificate::from_der(data) {
        let _read = Extensions::read(&certificate);
    }
}

fn revocation_list(data: &[u8]) {
    let read = crl::parse(data);
    let next = crl::claimed_next_update(data);
    assert!(
        read.is_ok() || next.is_none(),
        "a time out of a list that cannot be read"
    );
}

fn tdx_quote(data: &[u8]) {
    let Ok(quote) = tdx::Quote::parse(data) else { return };
    for field in [quote.body.mr_td, quote.body.mr_seam, quote.body.rtmr[3]] {
        assert!(
            data.windows(48).any(|window| window == field.0),
            "a measurement that is not in the quote"
        );
    }
    static ENDORSED: OnceLock<(Arc<Endorsements>, tdx::Policy)> = OnceLock::new();
    let (endorsed, policy) = ENDORSED.get_or_init(|| (Arc::new(platform().endorsements()), soft_tdx::policy()));
    let sections = Sections {
        snp: None,
        tdx: Some(policy),
    };
    if passes(&evidence(TeeKind::Tdx, data.to_vec()), endorsed, sections) {
        assert_eq!(
            (quote.body.mr_td, quote.body.report_data),
            (soft_tdx::MRTD, REPORT_DATA)
        );
    }
}

/// A statement that Intel signed, whatever it says, beside a genuine quote and the other statement; and one that nobody signed.
fn tdx_collateral(data: &[u8]) {
    static GENUINE: OnceLock<(Arc<soft_tdx::Pki>, Vec<u8>)> = OnceLock::new();
    let (pki, quote) = GENUINE.get_or_init(|| {
        let pki = soft_tdx::Pki::generate();
        let quote = soft_tdx::Platform::new(pki.clone()).quote(&REPORT_DATA);
        (pki, quote)
    });
    let judge = |change: &dyn Fn(&mut Collateral)| {
        let mut collateral = pki.collateral();
        change(&mut collateral);
        let endorsements = Endorsements {
            roots: Arc::new(pki.roots()),
            tdx: Arc::new(collateral),
            ..Endorsements::default()
        };
        let tee = evidence(TeeKind::Tdx, quote.clone());
        tee::verify("node", &tee, &REPORT_DATA, &[], &endorsements, NOW)
    };
    let unsigned = Statement {
        json: data.to_vec(),
        ..pki.statement("tcbInfo", "{}")
    };
    let judged = judge(&|c| c.tcb_infos = vec![unsigned.clone()]);
    assert!(judged.is_err(), "a statement that nobody signed counts");
    let Ok(text) = std::str::from_utf8(data) else { return };
    let said = [
        judge(&|c| c.tcb_infos = vec![pki.statement("tcbInfo", text)]),
        judge(&|c| c.qe_identity = Some(pki.statement("enclaveIdentity", text))),
    ];
    for verified in said.into_iter().flatten() {
        let Content::Tdx(quote) = &verified.content else {
            panic!("a TDX quote is something else");
        };
        let advisories = quote.tcb.iter().flat_map(|tcb| &tcb.advisories);
        let genuine = soft_tdx::tcb_info("UpToDate");
        for advisory in advisories {
            // An escaped text is another one in JSON.
            assert!(
                text.contains(advisory.as_str()) || text.contains('\\') || genuine.contains(advisory.as_str()),
                "an advisory out of nowhere: {advisory}"
            );
        }
    }
}

/// What is read lies in what came.
fn tdx_pck(data: &[u8]) {
    let Some(read) = Pck::parse(data) else { return };
    let holds = |part: &[u8]| data.windows(part.len()).any(|window| window == part);
    assert!(holds(&read.fmspc.0) && holds(&read.pce_id.0), "names out of nowhere");
    assert!(
        read.components.iter().all(|svn| data.contains(svn)),
        "an SVN out of nowhere"
    );
}

/// Both parts lie in the index's content.
fn vtpm_report(data: &[u8]) {
    let Ok((report, runtime_data)) = vtpm::split(data) else {
        return;
    };
    assert_eq!(nv_index(report, runtime_data)[32..32 + snp::LEN], *report);
    assert!(
        data.windows(runtime_data.len().max(1))
            .any(|window| window == runtime_data)
            || runtime_data.is_empty()
    );
    // The key it names is judged in `verify`, which wants a digest of it in REPORT_DATA.
    let tee = TeeEvidence {
        provider: TeeProvider::VtpmNv,
        runtime_data: runtime_data.into(),
        ..evidence(TeeKind::SevSnp, committed(report, runtime_data))
    };
    let _judged = tee::verify("node", &tee, &REPORT_DATA, &[], endorsed(), NOW);
}

fn committed(report: &[u8], runtime_data: &[u8]) -> Vec<u8> {
    let mut report = report.to_vec();
    report[0x50..0x70].copy_from_slice(&rempart_attest::bytes::sha256(runtime_data).0);
    report[0x70..0x90].fill(0);
    report[0x1a0..0x1e0].copy_from_slice(&chip().chip_id.0);
    chip().sign(&mut report);
    report
}

/// The layout of index 0x01400001: header, report, data header, JSON.
fn nv_index(report: &[u8], runtime_data: &[u8]) -> Vec<u8> {
    let word = |value: usize| u32::try_from(value).expect("small").to_le_bytes();
    let mut out = b"HCLA".to_vec();
    out.resize(32, 0);
    out.extend_from_slice(report);
    for value in [runtime_data.len() + 20, 1, 2, 1, runtime_data.len()] {
        out.extend_from_slice(&word(value));
    }
    out.extend_from_slice(runtime_data);
    out
}
