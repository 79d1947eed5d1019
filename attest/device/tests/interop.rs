//! The device crate and tpm2-tools on one TPM: what one makes, the other must take, and each must refuse what was changed.

mod common;

use common::{Swtpm, loaded, tools::Tools};
use rempart_attest::pcr::{Bank, Digest};
use rempart_device::{AkKind, AkSource, EkChoice, EkKind, Quoted, Tpm};

/// Of the quotes' qualifying data.
const NONCE: [u8; 32] = [0x5a; 32];
const AK_KINDS: [AkKind; 3] = [AkKind::EccP256, AkKind::Rsa2048, AkKind::EccP384];

fn open(swtpm: &Swtpm, ak: AkKind, ek: EkKind, bank: Bank) -> Tpm {
    swtpm.open_with(|options| {
        (options.ak, options.ek, options.bank) = (AkSource::Template(ak), EkChoice::Kind(ek), bank);
    })
}

/// As tpm2-tools name the hash of a key's signatures.
fn hash(kind: AkKind) -> &'static str {
    match kind {
        AkKind::EccP256 | AkKind::Rsa2048 => "sha256",
        AkKind::EccP384 => "sha384",
    }
}

/// The file in which tpm2_quote gives PCRs (`serialized`): selection and values as structures in memory, little endian, the values in
/// lists of eight. Its other form, `values`, is refused by tpm2_checkquote 5.4 itself when there are more than eight.
fn serialized(quoted: &Quoted) -> Vec<u8> {
    let word = |value: usize| u32::try_from(value).expect("few").to_le_bytes();
    let mut selections = [&word(1)[..], &quoted.bank.tpm_alg().to_le_bytes(), &[3, 0xff, 0x7f, 0]].concat();
    selections.resize(4 + 16 * 8, 0);
    let lists: Vec<&[(u8, Digest)]> = quoted.pcrs.chunks(8).collect();
    let mut out = [&selections[..], &word(lists.len())].concat();
    for list in lists {
        let end = out.len() + 4 + 8 * 66;
        out.extend(word(list.len()));
        for (_, value) in list {
            let mut entry = (value.as_bytes().len() as u16).to_le_bytes().to_vec();
            entry.extend(value.as_bytes());
            entry.resize(66, 0);
            out.extend(entry);
        }
        out.resize(end, 0);
    }
    out
}

fn check_quote(tools: &Tools, quoted: &Quoted, kind: AkKind, nonce: &[u8]) -> bool {
    tools.write("message", &quoted.attest);
    tools.write("signature", &quoted.signature);
    tools.write("pcrs", &serialized(quoted));
    tools.write("nonce", nonce);
    let mut arguments = vec!["-u", "ak.pub", "-g", hash(kind), "-m", "message"];
    arguments.extend(["-s", "signature", "-f", "pcrs", "-q", "nonce"]);
    tools.succeeds("tpm2_checkquote", &arguments)
}

#[test]
fn tpm2_checkquote_takes_our_quotes_and_refuses_changed_ones() {
    let swtpm = Swtpm::start();
    let tools = Tools::new(&swtpm);
    tools.run(
        "tpm2_pcrextend",
        &[&format!("11:sha256={},sha384={}", "11".repeat(32), "22".repeat(48))],
    );
    for bank in [Bank::Sha256, Bank::Sha384] {
        for kind in AK_KINDS {
            let mut tpm = open(&swtpm, kind, EkKind::Rsa2048, bank);
            tools.write("ak.pub", &tpm.attestation_key().expect("ak"));
            let quoted = tpm.quote(&NONCE).expect("quote");
            assert!(check_quote(&tools, &quoted, kind, &NONCE), "{kind} {bank}");

            assert!(!check_quote(&tools, &quoted, kind, &[0x5b; 32]), "another challenge");
            let mut other_value = quoted.clone();
            other_value.pcrs[11].1 = bank.zero();
            assert!(!check_quote(&tools, &other_value, kind, &NONCE), "another value");
            let mut other_attest = quoted;
            *other_attest.attest.last_mut().expect("a digest") ^= 1;
            assert!(!check_quote(&tools, &other_attest, kind, &NONCE), "another quote");
        }
    }
}

#[test]
fn tpm2_createek_makes_our_endorsement_keys() {
    let swtpm = Swtpm::start();
    let tools = Tools::new(&swtpm);
    for (kind, name) in EkKind::ALL.into_iter().zip(["rsa", "ecc", "ecc384"]) {
        tools.make("tpm2_createek", &["-G", name, "-c", "ek", "-u", "ek.pub"]);
        let ours = open(&swtpm, AkKind::EccP256, kind, Bank::Sha256)
            .endorsement_key()
            .expect("ek");
        assert_eq!(tools.read("ek.pub"), ours.public, "{name}");
    }
}

/// The whole public area is compared, hence the Name. Our AKs are primaries, which tpm2_createak does not make.
#[test]
fn tpm2_createprimary_makes_our_attestation_keys_by_their_templates() {
    const ATTRIBUTES: &str = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|sign";
    let swtpm = Swtpm::start();
    let tools = Tools::new(&swtpm);
    for (kind, algorithm) in AK_KINDS.into_iter().zip([
        "ecc256:ecdsa-sha256:null",
        "rsa2048:rsassa-sha256:null",
        "ecc384:ecdsa-sha384:null",
    ]) {
        // Without unique data, the tool fills it with zeros of the key's size; a template of the profile for AKs has none.
        let empty: &[u8] = if kind == AkKind::Rsa2048 { &[0; 2] } else { &[0; 4] };
        tools.write("unique", empty);
        tools.make(
            "tpm2_createprimary",
            &[
                "-C",
                "e",
                "-G",
                algorithm,
                "-g",
                hash(kind),
                "-a",
                ATTRIBUTES,
                "-u",
                "unique",
                "-c",
                "ak",
            ],
        );
        tools.make("tpm2_readpublic", &["-c", "ak", "-o", "ak.pub"]);
        let ours = open(&swtpm, kind, EkKind::Rsa2048, Bank::Sha256)
            .attestation_key()
            .expect("ak");
        assert_eq!(tools.read("ak.pub"), ours, "{algorithm}");
    }
}

/// tpm2_makecredential writes magic, version, TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET into one file.
fn parts(file: &[u8]) -> (&[u8], &[u8]) {
    let (head, rest) = file.split_at(8);
    assert_eq!(head, [0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1]);
    rest.split_at(2 + usize::from(u16::from_be_bytes([rest[0], rest[1]])))
}

#[test]
fn credentials_by_tpm2_makecredential_open_for_every_kind_of_key_and_for_no_other() {
    let swtpm = Swtpm::start();
    let tools = Tools::new(&swtpm);
    for ek in EkKind::ALL {
        for ak in AK_KINDS {
            let mut tpm = open(&swtpm, ak, ek, Bank::Sha256);
            tools.write("ek.pub", &tpm.endorsement_key().expect("ek").public);
            tools.write("ak.pub", &tpm.attestation_key().expect("ak"));
            drop(tpm);
            tools.write("secret", b"credential");
            tools.make(
                "tpm2_loadexternal",
                &["-C", "n", "-u", "ak.pub", "-c", "ak", "-n", "ak.name"],
            );
            let name: String = tools.read("ak.name").iter().map(|byte| format!("{byte:02x}")).collect();
            let credential = |name: &str| {
                tools.make(
                    "tpm2_makecredential",
                    &["-u", "ek.pub", "-s", "secret", "-n", name, "-o", "blob"],
                );
                tools.read("blob")
            };
            let (good, foreign) = (credential(&name), credential(&format!("{}00", &name[..name.len() - 2])));
            let mut tpm = open(&swtpm, ak, ek, Bank::Sha256);
            // More rounds than the TPM has slots for objects or sessions, with failures between: all is flushed.
            for _ in 0..3 {
                let (blob, secret) = parts(&good);
                assert_eq!(tpm.activate_credential(blob, secret).expect("opens"), b"credential");
                assert!(tpm.activate_credential(&blob[1..], secret).is_err());
                let (blob, secret) = parts(&foreign);
                assert!(tpm.activate_credential(blob, secret).is_err(), "made for another key");
            }
            drop(tpm);
            assert_eq!(loaded(&swtpm), 0, "{ek:?} {ak}");
        }
    }
}

/// Whether the TPM verifies the files of [`check_quote`].
fn verifies(tools: &Tools, hash: &str) -> bool {
    tools.make("tpm2_loadexternal", &["-C", "n", "-u", "ak.pub", "-c", "external"]);
    let arguments = ["-c", "external", "-g", hash, "-m", "message", "-s", "signature"];
    let verifies = tools.succeeds("tpm2_verifysignature", &arguments);
    tools.run("tpm2_flushcontext", &["-t"]);
    verifies
}

#[test]
fn a_key_by_tpm2_createak_serves_when_it_is_persistent() {
    let swtpm = Swtpm::start();
    let tools = Tools::new(&swtpm);
    let kinds = [
        ("ecc", "sha256", "ecdsa", AkKind::EccP256),
        ("rsa", "sha256", "rsassa", AkKind::Rsa2048),
        ("rsa", "sha256", "rsapss", AkKind::Rsa2048),
        ("ecc384", "sha384", "ecdsa", AkKind::EccP384),
    ];
    for (index, (algorithm, hash, scheme, kind)) in kinds.into_iter().enumerate() {
        let handle = format!("{:#010x}", 0x8101_0040 + index);
        tools.make("tpm2_createek", &["-G", "rsa", "-c", "ek"]);
        tools.run("tpm2_flushcontext", &["-s"]);
        tools.make(
            "tpm2_createak",
            &[
                "-C", "ek", "-c", "ak", "-G", algorithm, "-g", hash, "-s", scheme, "-u", "ak.pub",
            ],
        );
        tools.make("tpm2_evictcontrol", &["-c", "ak", &handle]);
        let mut tpm = swtpm.open_with(|options| options.ak = format!("persistent:{handle}").parse().expect("handle"));
        assert_eq!(tpm.attestation_key().expect("ak"), tools.read("ak.pub"));
        let quoted = tpm.quote(&NONCE).expect("quote");
        drop(tpm);
        // tpm2_checkquote 5.4 takes every RSA signature for PKCS1-v1_5; there the TPM itself is asked.
        let taken = check_quote(&tools, &quoted, kind, &NONCE) || verifies(&tools, hash);
        assert!(taken, "{algorithm} {scheme}");
    }
}
