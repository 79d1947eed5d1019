//! Sealed keys against a real software TPM: each condition of the policy alone stops what worked before.

mod common;

use std::time::Duration;

use common::{Swtpm, loaded, tools::Tools};
use rempart_attest::pcr::Bank;
use rempart_device::{Bound, SealError, SealedKey, Tpm, TpmError, TpmOptions, unseal_key};
use rempart_secret::SecretBytes;

const INDEX: u32 = 0x0180_5241;

fn key() -> SecretBytes {
    SecretBytes::new((0..32).collect())
}

/// Sealed to a new value of the counter.
fn sealed(tpm: &mut Tpm, bank: Bank, life: Option<Duration>) -> (SealedKey, Bound) {
    let counter = tpm.increment(INDEX).expect("a counter");
    let now = tpm.clock_info().expect("clock").clock;
    let bound = Bound {
        bank,
        pcrs: vec![4, 7, 9, 12],
        index: INDEX,
        counter,
        deadline: life.map(|life| now + life.as_millis() as u64),
    };
    (tpm.seal_key(&key(), &bound).expect("sealed"), bound)
}

fn unseal(swtpm: &Swtpm, (sealed, bound): &(SealedKey, Bound)) -> Result<SecretBytes, SealError> {
    let unsealed = unseal_key(&TpmOptions::new(swtpm.tcti()), sealed, bound);
    assert_eq!(loaded(swtpm), 0, "nothing is left in the TPM");
    unsealed
}

fn works(swtpm: &Swtpm, sealed: &(SealedKey, Bound)) {
    assert_eq!(unseal(swtpm, sealed).expect("unsealed").expose(), key().expose());
}

#[test]
fn a_key_comes_back_in_either_bank_and_after_power_cuts() {
    let mut swtpm = Swtpm::start();
    for bank in [Bank::Sha256, Bank::Sha384] {
        let sealed = sealed(&mut swtpm.open(), bank, Some(Duration::from_secs(600)));
        works(&swtpm, &sealed);
        for _ in 0..2 {
            swtpm.cut_power();
            works(&swtpm, &sealed);
        }
    }
}

#[test]
fn another_value_of_a_register_that_was_named_stops_it_until_the_machine_boots_as_before() {
    let mut swtpm = Swtpm::start();
    let sealed = sealed(&mut swtpm.open(), Bank::Sha256, None);
    let tools = Tools::new(&swtpm);
    tools.run("tpm2_pcrextend", &[&format!("11:sha256={}", "11".repeat(32))]);
    works(&swtpm, &sealed);
    for pcr in [4, 7, 9, 12] {
        tools.run("tpm2_pcrextend", &[&format!("{pcr}:sha256={}", "11".repeat(32))]);
        assert!(matches!(unseal(&swtpm, &sealed), Err(SealError::Pcrs { .. })), "{pcr}");
        swtpm.cut_power();
        works(&swtpm, &sealed);
    }
}

#[test]
fn a_hash_of_registers_that_is_not_the_one_of_sealing_does_not_help() {
    let swtpm = Swtpm::start();
    let mut sealed = sealed(&mut swtpm.open(), Bank::Sha256, None);
    Tools::new(&swtpm).run("tpm2_pcrextend", &[&format!("4:sha256={}", "11".repeat(32))]);
    // As the registers are now, so that PolicyPCR is content; the object's policy is not.
    let mut again = swtpm.open();
    sealed.0.pcr_digest = again.seal_key(&key(), &sealed.1).expect("sealed").pcr_digest;
    drop(again);
    assert!(matches!(unseal(&swtpm, &sealed), Err(SealError::Foreign)));
    // Nor does leaving a register out.
    sealed.1.pcrs = vec![7, 9, 12];
    assert!(unseal(&swtpm, &sealed).is_err());
}

#[test]
fn what_the_counter_made_void_stays_so_though_the_index_is_deleted_and_defined_again() {
    let swtpm = Swtpm::start();
    let sealed = sealed(&mut swtpm.open(), Bank::Sha256, None);
    works(&swtpm, &sealed);
    let after = swtpm.open().increment(INDEX).expect("incremented");
    assert_eq!(after, sealed.1.counter + 1);
    assert!(matches!(unseal(&swtpm, &sealed), Err(SealError::Void)));
    let lies = Bound {
        counter: after,
        ..sealed.1.clone()
    };
    assert!(matches!(
        unseal(&swtpm, &(sealed.0.clone(), lies)),
        Err(SealError::Foreign)
    ));

    let tools = Tools::new(&swtpm);
    let index = format!("{INDEX:#010x}");
    tools.run("tpm2_nvundefine", &["-C", "o", &index]);
    assert!(matches!(unseal(&swtpm, &sealed), Err(SealError::Void)), "no counter");
    let attributes = "ownerwrite|ownerread|authread|no_da|nt=counter";
    tools.run("tpm2_nvdefine", &[&index, "-C", "o", "-s", "8", "-a", attributes]);
    assert!(
        matches!(unseal(&swtpm, &sealed), Err(SealError::Void)),
        "not counted yet"
    );
    tools.run("tpm2_nvincrement", &[&index, "-C", "o"]);
    assert!(matches!(unseal(&swtpm, &sealed), Err(SealError::Void)));
    assert!(swtpm.open().counter(INDEX).expect("ours").expect("counts") > after);

    // An ordinary index that holds the old value is another index.
    tools.run("tpm2_nvundefine", &["-C", "o", &index]);
    let ordinary = "ownerwrite|ownerread|authread|no_da";
    tools.run("tpm2_nvdefine", &[&index, "-C", "o", "-s", "8", "-a", ordinary]);
    tools.write("value", &sealed.1.counter.to_be_bytes());
    tools.run("tpm2_nvwrite", &[&index, "-C", "o", "-i", "value"]);
    assert!(matches!(unseal(&swtpm, &sealed), Err(SealError::Foreign)));
    let refused = swtpm.open().increment(INDEX);
    assert!(matches!(refused, Err(TpmError::IndexOccupied { index: INDEX })));
}

#[test]
fn what_is_sealed_to_the_next_value_works_from_the_increment_on() {
    let swtpm = Swtpm::start();
    let mut tpm = swtpm.open();
    let counter = tpm.increment(INDEX).expect("a counter");
    let next = Bound {
        bank: Bank::Sha256,
        pcrs: vec![7],
        index: INDEX,
        counter: counter + 1,
        deadline: None,
    };
    let ahead = (tpm.seal_key(&key(), &next).expect("sealed"), next);
    drop(tpm);
    assert!(matches!(unseal(&swtpm, &ahead), Err(SealError::Void)));
    swtpm.open().increment(INDEX).expect("incremented");
    works(&swtpm, &ahead);
}

#[test]
fn the_tpm_itself_refuses_after_the_deadline_however_late_it_is_said_to_be() {
    let swtpm = Swtpm::start();
    let mut sealed = sealed(&mut swtpm.open(), Bank::Sha256, Some(Duration::from_secs(3)));
    works(&swtpm, &sealed);
    std::thread::sleep(Duration::from_secs(4));
    assert!(matches!(unseal(&swtpm, &sealed), Err(SealError::Expired)));
    sealed.1.deadline = sealed.1.deadline.map(|deadline| deadline + 3_600_000);
    assert!(matches!(unseal(&swtpm, &sealed), Err(SealError::Foreign)));
    sealed.1.deadline = None;
    assert!(matches!(unseal(&swtpm, &sealed), Err(SealError::Foreign)));
}

#[test]
fn another_tpms_an_altered_one_and_one_from_before_a_clear_are_refused() {
    let (swtpm, other) = (Swtpm::start(), Swtpm::start());
    let good = sealed(&mut swtpm.open(), Bank::Sha256, None);
    sealed(&mut other.open(), Bank::Sha256, None);
    assert!(matches!(unseal(&other, &good), Err(SealError::Foreign)));
    for at in [3, 20, good.0.private.len() - 1] {
        let mut altered = good.clone();
        altered.0.private[at] ^= 1;
        assert!(
            matches!(unseal(&swtpm, &altered), Err(SealError::Foreign)),
            "private {at}"
        );
    }
    for at in 0..good.0.public.len() {
        let mut altered = good.clone();
        altered.0.public[at] ^= 1;
        assert!(unseal(&swtpm, &altered).is_err(), "public {at}");
    }
    let mut short = good.clone();
    short.0.private.truncate(10);
    assert!(unseal(&swtpm, &short).is_err());
    works(&swtpm, &good);

    Tools::new(&swtpm).run("tpm2_clear", &["-c", "p"]);
    assert!(matches!(unseal(&swtpm, &good), Err(SealError::Foreign)));
}

#[test]
fn an_authorization_is_no_way_around_the_policy_and_refusals_lock_nobody_out() {
    let swtpm = Swtpm::start();
    let sealed = sealed(&mut swtpm.open(), Bank::Sha256, None);
    let tools = Tools::new(&swtpm);
    let sized = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
    tools.write("public", &sized(&sealed.0.public));
    tools.write("private", &sized(&sealed.0.private));
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";
    let primary = [
        "-C",
        "o",
        "-G",
        "ecc256:null:aes128cfb",
        "-a",
        attributes,
        "-c",
        "primary",
    ];
    for _ in 0..40 {
        tools.make("tpm2_createprimary", &primary);
        tools.make(
            "tpm2_load",
            &["-C", "primary", "-u", "public", "-r", "private", "-c", "object"],
        );
        assert!(!tools.succeeds("tpm2_unseal", &["-c", "object"]));
        tools.run("tpm2_flushcontext", &["-t"]);
    }
    works(&swtpm, &sealed);
}
