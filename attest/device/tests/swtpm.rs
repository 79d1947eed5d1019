//! The device crate against a real software TPM. A machine without swtpm fails this test: a skip would prove nothing.

mod common;

use common::{Swtpm, loaded, tools::Tools};
use rempart_attest::pcr::{self, Bank};
use rempart_device::{AkKind, AkSource, EkChoice, EkKind, TpmError};
use tss_esapi::{
    structures::{Attest, AttestInfo},
    traits::UnMarshall,
};

const AK_KINDS: [AkKind; 3] = [AkKind::EccP256, AkKind::Rsa2048, AkKind::EccP384];

#[test]
fn a_quote_covers_the_values_that_come_with_it_in_either_bank() {
    let swtpm = Swtpm::start();
    Tools::new(&swtpm).run(
        "tpm2_pcrextend",
        &[&format!("4:sha256={},sha384={}", "11".repeat(32), "22".repeat(48))],
    );
    for bank in [Bank::Sha256, Bank::Sha384] {
        for kind in AK_KINDS {
            let quoted = swtpm
                .open_with(|options| (options.bank, options.ak) = (bank, AkSource::Template(kind)))
                .quote(&[7; 32])
                .expect("quote");
            let attest = Attest::unmarshall(&quoted.attest).expect("TPMS_ATTEST");
            assert_eq!(attest.extra_data().value(), [7; 32]);
            let AttestInfo::Quote { info } = attest.attested() else {
                panic!("not a quote")
            };
            let values: Vec<u8> = quoted
                .pcrs
                .iter()
                .flat_map(|(_, value)| value.as_bytes().to_vec())
                .collect();
            // TPM2_Quote hashes with the hash of the signing scheme, not of the bank.
            let hash = match kind {
                AkKind::EccP384 => Bank::Sha384,
                AkKind::EccP256 | AkKind::Rsa2048 => Bank::Sha256,
            };
            assert_eq!(info.pcr_digest().value(), hash.hash(&[&values]).as_bytes());
            assert!(quoted.pcrs.iter().map(|(index, _)| *index).eq(pcr::QUOTED));
            assert!(quoted.pcrs.iter().all(|(_, value)| value.bank() == bank));
            assert_ne!(quoted.pcrs[4].1, bank.zero());
        }
    }
    assert_eq!(loaded(&swtpm), 0);
}

/// The templates that systemd 262 made the keys of tests/fixtures/systemd-report by.
#[test]
fn systemd_is_given_the_templates_that_real_reports_were_signed_by() {
    let swtpm = Swtpm::start();
    let recorded = [
        "0018 0023 000b 00050472 0000 0010 0018 000b 0003 0010 0000 0000",
        "0018 0001 000b 00050472 0000 0010 0014 000b 0800 00000000 0000",
        "0018 0023 000c 00050472 0000 0010 0018 000c 0004 0010 0000 0000",
    ];
    for (kind, template) in AK_KINDS.into_iter().zip(recorded) {
        let mut tpm = swtpm.open_with(|options| options.ak = AkSource::Template(kind));
        let (given, key) = tpm.attestation_template().expect("a template");
        let hex: String = given.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, template.replace(' ', ""));
        assert_eq!(key, tpm.attestation_key().expect("ak"));
    }
    let handle = "persistent:0x81010002".parse().expect("a handle");
    let refused = swtpm.open_with(|options| options.ak = handle).attestation_template();
    assert!(matches!(refused, Err(TpmError::NoTemplate)));
    assert_eq!(loaded(&swtpm), 0);
}

#[test]
fn a_bank_that_is_not_active_is_told_by_its_name() {
    let swtpm = Swtpm::start();
    Tools::new(&swtpm).run("tpm2_pcrallocate", &["sha256:all+sha384:none"]);
    let mut swtpm = swtpm;
    swtpm.cut_power();
    let refused = swtpm.open_with(|options| options.bank = Bank::Sha384).quote(&[7; 32]);
    assert!(matches!(refused, Err(TpmError::NoBank { bank: Bank::Sha384 })));
    assert_eq!(swtpm.open().describe().expect("description").banks, ["sha256"]);
    assert_eq!(loaded(&swtpm), 0);
}

/// Each power cut after a use of a key with dictionary-attack protection counts as a failed guess; three lock swtpm out.
#[test]
fn a_machine_that_lost_power_many_times_still_attests() {
    let mut swtpm = Swtpm::start();
    for _ in 0..6 {
        let mut tpm = swtpm.open();
        tpm.attestation_key().expect("ak");
        tpm.quote(&[7; 32]).expect("quote");
        drop(tpm);
        swtpm.cut_power();
    }
}

#[test]
fn a_machine_that_lost_power_many_times_still_has_its_tls_key() {
    let mut swtpm = Swtpm::start();
    let key = swtpm.open().tls_key().expect("key");
    for _ in 0..6 {
        let mut tpm = swtpm.open();
        assert_eq!(tpm.tls_key().expect("key"), key);
        tpm.sign_tls(&[7; 32]).expect("signature");
        tpm.certify_tls_key(&[7; 32]).expect("certification");
        drop(tpm);
        swtpm.cut_power();
    }
}

#[test]
fn keys_are_the_same_each_time_and_nothing_stays_loaded() {
    let swtpm = Swtpm::start();
    for (ak, ek) in AK_KINDS.into_iter().zip(EkKind::ALL) {
        let open =
            || swtpm.open_with(|options| (options.ak, options.ek) = (AkSource::Template(ak), EkChoice::Kind(ek)));
        let mut tpm = open();
        let (first_ek, first_ak) = (tpm.endorsement_key().expect("ek"), tpm.attestation_key().expect("ak"));
        drop(tpm);
        let mut again = open();
        // More rounds than a TPM has slots: everything is flushed.
        for _ in 0..4 {
            assert_eq!(again.endorsement_key().expect("ek"), first_ek);
            assert_eq!(again.attestation_key().expect("ak"), first_ak);
        }
    }
    assert_eq!(loaded(&swtpm), 0);
}

#[test]
fn a_kept_attestation_key_quotes_as_its_template_does() {
    const HANDLE: u32 = 0x8101_0002;
    let mut swtpm = Swtpm::start();
    for (kind, handle) in AK_KINDS.into_iter().zip(HANDLE..) {
        let by_template = |swtpm: &Swtpm| swtpm.open_with(|options| options.ak = AkSource::Template(kind));
        let kept = by_template(&swtpm).persist_ak(handle).expect("kept");
        assert_eq!(by_template(&swtpm).attestation_key().expect("ak"), kept);
        assert_eq!(by_template(&swtpm).persist_ak(handle).expect("kept already"), kept);
        swtpm.cut_power();
        let text = format!("persistent:{handle:#010x}");
        let mut tpm = swtpm.open_with(|options| options.ak = text.parse().expect("handle"));
        assert_eq!(tpm.attestation_key().expect("ak"), kept);
        for _ in 0..4 {
            tpm.quote(&[7; 32]).expect("quote");
        }
        assert!(matches!(tpm.persist_ak(handle), Err(TpmError::AlreadyPersistent)));
    }
    // The handle now has another key than this template's.
    let occupied = swtpm.open().persist_ak(HANDLE + 1);
    assert!(matches!(
        occupied,
        Err(TpmError::HandleOccupied { handle: 0x8101_0003 })
    ));
    assert!(matches!(swtpm.open().persist_ak(0x8180_0000), Err(TpmError::Option(_))));
    assert_eq!(loaded(&swtpm), 0);
}

#[test]
fn a_persistent_key_that_is_absent_or_no_attestation_key_is_refused() {
    let swtpm = Swtpm::start();
    let quote = |source: &str| {
        swtpm
            .open_with(|options| options.ak = source.parse().expect("source"))
            .quote(&[7; 32])
    };
    assert!(matches!(
        quote("persistent:0x81010099"),
        Err(TpmError::NoPersistentKey { handle: 0x8101_0099 })
    ));
    // swtpm_setup left the endorsement key there.
    assert!(matches!(
        quote("persistent:0x81010001"),
        Err(TpmError::UnfitKey { lacks: "sign", .. })
    ));
    let tools = Tools::new(&swtpm);
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign";
    tools.make(
        "tpm2_createprimary",
        &["-C", "e", "-G", "ecc256:ecdsa-sha256", "-a", attributes, "-c", "key"],
    );
    tools.make("tpm2_evictcontrol", &["-c", "key", "0x81010050"]);
    assert!(matches!(
        quote("persistent:0x81010050"),
        Err(TpmError::UnfitKey {
            lacks: "restricted",
            ..
        })
    ));
    assert_eq!(loaded(&swtpm), 0);
}

#[test]
fn the_clock_counts_boots() {
    let mut swtpm = Swtpm::start();
    let before = swtpm.open().clock_info().expect("clock");
    swtpm.cut_power();
    let after = swtpm.open().clock_info().expect("clock");
    assert_eq!(after.reset_count, before.reset_count + 1);
    assert_eq!((before.restart_count, after.restart_count), (0, 0));
    assert_eq!(after.firmware_version, before.firmware_version);
    assert_eq!(loaded(&swtpm), 0);
}

#[test]
fn a_tpm_describes_itself() {
    let swtpm = Swtpm::start();
    let described = swtpm.open().describe().expect("description");
    assert_eq!(described.banks, ["sha256", "sha384"]);
    assert_eq!(described.ak, "template:ecc-p256");
    assert_eq!(described.ek, EkKind::Rsa2048);
    assert_eq!(described.ek_certificates, [EkKind::Rsa2048, EkKind::EccP384]);
    assert_eq!(described.manufacturer, "IBM");
    assert_eq!(
        described.firmware,
        swtpm.open().clock_info().expect("clock").firmware_version
    );
}
