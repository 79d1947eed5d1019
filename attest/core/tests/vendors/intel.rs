//! Intel: a real platform's TDX quote with the revocation lists and statements of its time.

use std::sync::Arc;

use rempart_attest::evidence::TeeEvidence;
use rempart_attest::tee::tdx::collateral::Statement;
use rempart_attest::tee::tdx::{Collateral, Policy, Quote};
use rempart_attest::tee::{self, Content, Endorsements, Origin, Sections, TeeKind, TeeProvider};
use rempart_attest::{Finding, Fixed};

use crate::Case;
use crate::packages::{Files, Package};

pub const CASES: &[Case] = &[Case {
    name: "intel: a TDX quote under the pinned root, with Intel's lists and statements, by go-tdx-guest's data",
    package: Package::Go("github.com/google/go-tdx-guest@v0.3.1"),
    run: quote,
}];

/// 2023-06-20: between the dates of lists and statements.
const NOW: u64 = 1_687_219_200;
/// Bytes of the quote; behind it, the file has text of the program that wrote it.
const QUOTE: usize = 4935;

fn quote(files: &Files) {
    let data = |name: &str, digest: &str| files.read(&format!("testing/testdata/{name}"), digest);
    let file = data(
        "tdx_prod_quote_SPR_E4.dat",
        "6dde5548bec99147fef832643301f113df99931547be26df8ac376c4eaa5b5a7",
    );
    assert!(
        Quote::parse(&file).is_err(),
        "unsigned bytes behind a quote are refused"
    );
    let bytes = &file[..QUOTE];
    let headers = files.text("testing/test_cases.go");
    let statement = |name: &str, digest: &str, header: &str| Statement {
        json: data(name, digest),
        chain: issuer_chain(&headers, header),
    };
    let collateral = Collateral {
        crls: vec![
            data(
                "rootcrl.der",
                "f64b58a120f2882219944f1c0e0e3d87e8a02313e39c5d0bc658bdbcf524c41c",
            ),
            data(
                "pckcrl",
                "381598fbab078ecfba7df257d4396d3428ffb20a491f7ddbc14c52ec9c27e06f",
            ),
        ],
        tcb_infos: vec![statement(
            "sample_tcbInfo_response",
            "1b96f799643d045c076fbc505c094a4fb26f51f4851feb8ac95f3fc12408f2d6",
            "tcbInfoIssuerChain",
        )],
        qe_identity: Some(statement(
            "sample_qeIdentity_response",
            "86239584ed47792d02cdfc051cde95cb5169a0b74dc9dcc61c1ebaeb5e59ade0",
            "qeIdentityIssuerChain",
        )),
    };
    let body = Quote::parse(bytes).expect("quote").body;
    let verify = |bytes: &[u8], data: &Fixed<64>, now: u64, collateral: &Collateral| {
        let evidence = TeeEvidence {
            kind: TeeKind::Tdx,
            provider: TeeProvider::ConfigfsTsm,
            report: bytes.into(),
            certificates: vec![].into(),
            runtime_data: vec![].into(),
        };
        let endorsements = Endorsements {
            tdx: Arc::new(collateral.clone()),
            ..Endorsements::default()
        };
        tee::verify("real", &evidence, data, &[], &endorsements, now)
    };
    // The platform lacks a microcode update that the oldest level of the statement has; the data's own project says the same.
    let old = verify(bytes, &body.report_data, NOW, &collateral).expect_err("older than any level");
    assert_eq!(names(old), ["tdx-tcb-unknown"]);
    let lists = Collateral {
        tcb_infos: vec![],
        ..collateral.clone()
    };
    let verified = verify(bytes, &body.report_data, NOW, &lists).expect("Intel's platform signed it");
    assert_eq!(verified.origin, Origin::Vendor);
    let Content::Tdx(quote) = &verified.content else {
        panic!("a TDX quote");
    };
    assert!(quote.revocation_checked);
    assert_eq!(quote.platform.fmspc.to_string(), "50806f000000");
    let judge = |policy: &Policy| {
        let sections = Sections {
            snp: None,
            tdx: Some(policy),
        };
        names(tee::appraise("real", Some(&verified), sections))
    };
    let plain = Policy::new(vec![body.mr_td]);
    assert_eq!(judge(&plain), ["tdx-sept-ve-disable", "tdx-tcb-unchecked"]);
    let lenient = Policy {
        allow_sept_ve: true,
        allow_unchecked_tcb: true,
        ..plain
    };
    assert_eq!(judge(&lenient), [""; 0]);
    for at in (48..632).step_by(7) {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        assert!(
            verify(&changed, &body.report_data, NOW, &lists).is_err(),
            "byte {at} was changed"
        );
    }
    let late =
        verify(bytes, &body.report_data, NOW + 60 * 86_400, &collateral).expect_err("lists and statements are stale");
    assert_eq!(names(late), ["tdx-crl-stale", "tdx-collateral-stale"]);
}

fn names(findings: Vec<Finding>) -> Vec<String> {
    findings.into_iter().map(|f| f.check).collect()
}

/// The PEM in a header's value, which stands percent-encoded as a string in the project's source.
fn issuer_chain(source: &str, name: &str) -> Vec<u8> {
    let from = source.find(&format!("var {name} = ")).expect("the header");
    let value = source[from..].split('"').nth(1).expect("its value");
    let mut out = Vec::new();
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let pair = [bytes.next().expect("hex"), bytes.next().expect("hex")];
            out.extend(hex::decode(pair).expect("hex"));
        } else {
            out.push(byte);
        }
    }
    out
}
