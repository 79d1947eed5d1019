//! What a TPM makes, by this crate or by tpm2-tools, judged by the Verifier's parsers and signatures; and the Verifier's
//! credentials opened by the TPM.

mod common;

use common::{Swtpm, loaded, tools::Tools};
use rempart_attest::{
    Pcrs, certificate,
    ek::EkRoots,
    pcr::{Bank, Digest, QUOTED},
    tpm::{AkPublic, EkPublic, Quote, certify, credential, signature::Signature},
};
use rempart_device::{AkKind, AkSource, EkChoice, EkKind, Tpm};

const NONCE: [u8; 32] = [0x5a; 32];
const SECRET: [u8; 32] = [0xc5; 32];
const AK_KINDS: [AkKind; 3] = [AkKind::EccP256, AkKind::Rsa2048, AkKind::EccP384];
const BANKS: [Bank; 2] = [Bank::Sha256, Bank::Sha384];

fn open(swtpm: &Swtpm, ak: AkKind, ek: EkKind, bank: Bank) -> Tpm {
    swtpm.open_with(|options| {
        (options.ak, options.ek, options.bank) = (AkSource::Template(ak), EkChoice::Kind(ek), bank);
    })
}

fn extend(tools: &Tools) {
    tools.run(
        "tpm2_pcrextend",
        &[&format!("11:sha256={},sha384={}", "11".repeat(32), "22".repeat(48))],
    );
}

/// Every check of a quote by itself: selection, bank, signature, challenge, and the values that it is over.
fn check(ak: &[u8], attest: &[u8], signature: &[u8], bank: Bank, pcrs: &[(u8, Digest)]) {
    let ak = AkPublic::parse(ak).expect("attestation key");
    let quote = Quote::parse(attest, bank).expect("quote");
    assert_eq!(quote.extra_data, NONCE);
    let signature = Signature::parse(signature).expect("signature");
    signature
        .verify(ak.key(), attest)
        .expect("signed by the attestation key");
    let pcrs = Pcrs::collect(bank, pcrs.iter().copied()).expect("one bank");
    assert_eq!(pcrs.digest(quote.pcr_digest.bank()), quote.pcr_digest);

    let other = if bank == Bank::Sha256 {
        Bank::Sha384
    } else {
        Bank::Sha256
    };
    assert!(Quote::parse(attest, other).is_err(), "a quote over another bank");
    let mut changed = attest.to_vec();
    *changed.last_mut().expect("a digest") ^= 1;
    assert!(signature.verify(ak.key(), &changed).is_err(), "a changed quote");
}

#[test]
fn our_quotes_verify() {
    let swtpm = Swtpm::start();
    extend(&Tools::new(&swtpm));
    for bank in BANKS {
        for kind in AK_KINDS {
            let mut tpm = open(&swtpm, kind, EkKind::Rsa2048, bank);
            let ak = tpm.attestation_key().expect("ak");
            let quoted = tpm.quote(&NONCE).expect("quote");
            check(&ak, &quoted.attest, &quoted.signature, bank, &quoted.pcrs);
        }
    }
}

#[test]
fn quotes_by_tpm2_quote_verify() {
    let swtpm = Swtpm::start();
    let tools = Tools::new(&swtpm);
    extend(&tools);
    tools.write("nonce", &NONCE);
    tools.make("tpm2_createek", &["-G", "rsa", "-c", "ek"]);
    tools.run("tpm2_flushcontext", &["-s"]);
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign";
    for (algorithm, hash, scheme) in [
        ("ecc", "sha256", "ecdsa"),
        ("rsa", "sha256", "rsassa"),
        ("rsa", "sha256", "rsapss"),
        ("ecc384", "sha384", "ecdsa"),
    ] {
        let child = ["-C", "ek", "-c", "child", "-G", algorithm, "-g", hash, "-s", scheme];
        tools.make("tpm2_createak", &child);
        tools.run("tpm2_flushcontext", &["-s"]);
        let template = format!("{algorithm}:{scheme}-{hash}:null");
        let primary = [
            "-C", "e", "-c", "primary", "-G", &template, "-g", hash, "-a", attributes,
        ];
        tools.make("tpm2_createprimary", &primary);
        for key in ["child", "primary"] {
            tools.make("tpm2_readpublic", &["-c", key, "-o", "ak.pub"]);
            for bank in BANKS {
                let indices: Vec<String> = QUOTED.iter().map(u8::to_string).collect();
                let list = format!("{bank}:{}", indices.join(","));
                let mut arguments = vec!["-c", key, "-l", &list, "-q", "nonce", "-g", hash, "-m", "message"];
                arguments.extend(["-s", "signature", "-o", "pcrs", "-F", "values", "--scheme", scheme]);
                tools.make("tpm2_quote", &arguments);
                let values = tools.read("pcrs");
                let digests = values
                    .chunks(bank.size())
                    .map(|value| Digest::from_bytes(value).expect("size"));
                let pcrs: Vec<(u8, Digest)> = QUOTED.into_iter().zip(digests).collect();
                check(
                    &tools.read("ak.pub"),
                    &tools.read("message"),
                    &tools.read("signature"),
                    bank,
                    &pcrs,
                );
            }
        }
    }
}

#[test]
fn a_certified_tls_key_is_accepted_by_every_kind_of_attestation_key() {
    let swtpm = Swtpm::start();
    for kind in AK_KINDS {
        let mut tpm = open(&swtpm, kind, EkKind::Rsa2048, Bank::Sha256);
        let key = tpm.tls_key().expect("key");
        let ak = AkPublic::parse(&tpm.attestation_key().expect("ak")).expect("attestation key");
        let certified = tpm.certify_tls_key(&NONCE).expect("certification");
        let judge = |public: &[u8], nonce: &[u8]| {
            certify::verify(public, &certified.attest.0, &certified.signature.0, ak.key(), nonce)
        };
        assert_eq!(judge(&key.public, &NONCE).expect("accepted").spki, key.spki);
        assert!(judge(&key.public, &[1; 32]).is_err(), "another round's");
        let mut other = key.public.clone();
        *other.last_mut().expect("y") ^= 1;
        assert!(judge(&other, &NONCE).is_err(), "another key");
        // A quote is no certification, by the same key over the same data.
        let quoted = tpm.quote(&NONCE).expect("quote");
        assert!(certify::verify(&key.public, &quoted.attest, &quoted.signature, ak.key(), &NONCE).is_err());
    }
}

#[test]
fn certified_endorsement_keys_are_traced_to_their_manufacturer() {
    let swtpm = Swtpm::start();
    let anchors = swtpm.manufacturer().into_iter().flat_map(|path| {
        let pem = std::fs::read(path).expect("the manufacturer's certificate");
        certificate::pem_to_ders(&pem).expect("PEM")
    });
    let roots = EkRoots::new(anchors.collect()).expect("certificates");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let key = |kind| {
        let key = open(&swtpm, AkKind::EccP256, kind, Bank::Sha256)
            .endorsement_key()
            .expect("ek");
        (EkPublic::parse(&key.public).expect("template"), key.certificate)
    };
    let (rsa, rsa_certificate) = key(EkKind::Rsa2048);
    let (ecc, ecc_certificate) = key(EkKind::EccP384);
    let (rsa_certificate, ecc_certificate) = (rsa_certificate.expect("RSA"), ecc_certificate.expect("ECC"));
    assert_eq!(roots.verify(&rsa_certificate, &rsa, now), Ok(()));
    assert_eq!(roots.verify(&ecc_certificate, &ecc, now), Ok(()));
    assert!(roots.verify(&rsa_certificate, &ecc, now).is_err(), "of the other key");
    let (uncertified, none) = key(EkKind::EccP256);
    assert_eq!(none, None);
    assert!(roots.verify(&ecc_certificate, &uncertified, now).is_err());
}

#[test]
fn our_credentials_open_for_every_kind_of_key_and_for_no_other() {
    let swtpm = Swtpm::start();
    for ek in EkKind::ALL {
        for (index, ak) in AK_KINDS.into_iter().enumerate() {
            let mut tpm = open(&swtpm, ak, ek, Bank::Sha256);
            let public = EkPublic::parse(&tpm.endorsement_key().expect("ek").public).expect("template");
            let own = AkPublic::parse(&tpm.attestation_key().expect("ak")).expect("attestation key");
            let made = credential::make(&public, own.name(), &SECRET).expect("credential");
            let secret = tpm.activate_credential(&made.blob.0, &made.encrypted_secret.0);
            assert_eq!(secret.expect("opens"), SECRET, "{ek:?} {ak}");
            let mut changed = made.blob.0.clone();
            *changed.last_mut().expect("ciphertext") ^= 1;
            assert!(tpm.activate_credential(&changed, &made.encrypted_secret.0).is_err());
            drop(tpm);

            let other = AK_KINDS[(index + 1) % AK_KINDS.len()];
            let mut foreign = open(&swtpm, other, ek, Bank::Sha256);
            assert!(
                foreign
                    .activate_credential(&made.blob.0, &made.encrypted_secret.0)
                    .is_err()
            );
        }
    }
    assert_eq!(loaded(&swtpm), 0);
}

#[test]
fn our_credentials_open_by_tpm2_activatecredential() {
    let swtpm = Swtpm::start();
    let tools = Tools::new(&swtpm);
    for (name, low_range) in [("rsa", true), ("ecc", true), ("ecc384", false)] {
        tools.make("tpm2_createek", &["-G", name, "-c", "ek", "-u", "ek.pub"]);
        tools.make(
            "tpm2_createak",
            &[
                "-C", "ek", "-c", "ak", "-G", "ecc", "-g", "sha256", "-s", "ecdsa", "-u", "ak.pub",
            ],
        );
        tools.run("tpm2_flushcontext", &["-s"]);
        let ek = EkPublic::parse(&tools.read("ek.pub")).expect("template");
        let ak = AkPublic::parse(&tools.read("ak.pub")).expect("attestation key");
        let made = credential::make(&ek, ak.name(), &SECRET).expect("credential");
        let head = [0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1];
        tools.write("blob", &[&head[..], &made.blob.0, &made.encrypted_secret.0].concat());
        let mut arguments = vec!["-c", "ak", "-C", "ek", "-i", "blob", "-o", "secret"];
        // Low-range templates are used by their policy alone; the high range also by its empty authorization.
        if low_range {
            tools.run("tpm2_startauthsession", &["--policy-session", "-S", "session"]);
            tools.run("tpm2_policysecret", &["-S", "session", "-c", "e"]);
            arguments.extend(["-P", "session:session"]);
        }
        tools.make("tpm2_activatecredential", &arguments);
        if low_range {
            tools.run("tpm2_flushcontext", &["session"]);
        }
        assert_eq!(tools.read("secret"), SECRET, "{name}");
    }
}
