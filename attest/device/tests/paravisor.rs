//! A report in NV of the virtual TPM, in the layout of the paravisor of Azure. No such machine was at hand: swtpm's NV is written as
//! the paravisor writes it, and what it does by itself (a new report for new user data) is done before the question.

mod common;

use common::{Swtpm, loaded, tools::Tools};
use rempart_attest::{Fixed, TeeKind, TeeProvider};
use rempart_device::tee::TeeError;

const DATA: Fixed<64> = Fixed([0xab; 64]);

/// Header, report, header of the runtime data, runtime data; little endian.
fn content(report_type: u32, runtime_data: &str) -> Vec<u8> {
    let word = u32::to_le_bytes;
    let length = u32::try_from(runtime_data.len()).expect("short");
    let header = [*b"HCLA", word(2), word(0), word(2), word(0), word(0), word(0), word(0)].concat();
    let data_header = [word(20 + length), word(1), word(report_type), word(1), word(length)].concat();
    [&header[..], &[0x5a; 1184], &data_header, runtime_data.as_bytes()].concat()
}

fn leave(tools: &Tools, index: &str, content: &[u8]) {
    tools.write("content", content);
    let size = content.len().to_string();
    tools.run(
        "tpm2_nvdefine",
        &[index, "-C", "o", "-s", &size, "-a", "ownerwrite|ownerread"],
    );
    tools.run("tpm2_nvwrite", &[index, "-C", "o", "-i", "content"]);
}

fn runtime_data(user_data: &Fixed<64>) -> String {
    format!(
        r#"{{"keys":[],"user-data":"{}"}}"#,
        user_data.to_string().to_uppercase()
    )
}

#[test]
fn the_report_and_its_runtime_data_come_apart_and_the_user_data_was_written() {
    let swtpm = Swtpm::start();
    let tools = Tools::new(&swtpm);
    leave(&tools, "0x01400001", &content(2, &runtime_data(&DATA)));
    // The second time the index for user data is there.
    for _ in 0..2 {
        let found = swtpm.open().tee_report_from_nv(&DATA).expect("report");
        assert_eq!((found.kind, found.provider), (TeeKind::SevSnp, TeeProvider::VtpmNv));
        assert_eq!(found.report.0, [0x5a; 1184]);
        assert_eq!(found.runtime_data.0, runtime_data(&DATA).as_bytes());
        tools.run("tpm2_nvread", &["0x01400002", "-C", "o", "-o", "user-data"]);
        assert_eq!(tools.read("user-data"), DATA.0);
    }
    assert_eq!(loaded(&swtpm), 0);
}

/// The Verifier sees that the user data is another and that the report is therefore not of this round.
#[test]
fn a_paravisor_that_makes_no_new_report_is_not_waited_for_for_ever() {
    let swtpm = Swtpm::start();
    let old = runtime_data(&Fixed([1; 64]));
    leave(&Tools::new(&swtpm), "0x01400001", &content(2, &old));
    let asked = std::time::Instant::now();
    let found = swtpm.open().tee_report_from_nv(&DATA).expect("the report of the boot");
    assert_eq!(found.runtime_data.0, old.as_bytes());
    assert!(asked.elapsed().as_secs() < 10);
}

#[test]
fn no_index_another_tee_and_another_layout_are_told_apart() {
    let swtpm = Swtpm::start();
    let tools = Tools::new(&swtpm);
    let none = |swtpm: &Swtpm| swtpm.open().tee_report_from_nv(&DATA).expect_err("no report");
    let absent = none(&swtpm);
    assert!(
        matches!(absent, TeeError::NoReportIndex) && absent.is_absent(),
        "{absent}"
    );
    let left = |content: &[u8]| {
        leave(&tools, "0x01400001", content);
        let error = none(&swtpm);
        tools.run("tpm2_nvundefine", &["-C", "o", "0x01400001"]);
        error
    };
    // A TDREPORT only its own machine can verify.
    let local = left(&content(4, &runtime_data(&DATA)));
    assert!(matches!(local, TeeError::NoRemoteReport(_)) && local.is_absent());
    let foreign = left(&[0; 1500]);
    assert!(matches!(foreign, TeeError::Paravisor(_)) && !foreign.is_absent());
    assert_eq!(loaded(&swtpm), 0);
}
