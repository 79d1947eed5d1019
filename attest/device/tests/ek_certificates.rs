//! Endorsement keys and what the manufacturer left in NV for them: swtpm_setup certifies RSA 2048 and ECC P-384; indices for ECC
//! P-256 and for the chain are made here as a manufacturer makes them.

mod common;

use common::{Swtpm, loaded, tools::Tools};
use rempart_device::{EkChoice, EkKind, EndorsementKey, TpmError};
use x509_parser::prelude::{FromDer, X509Certificate};

const ATTRIBUTES: &str = "ppwrite|ppread|ownerread|authread|no_da|platformcreate";

fn endorsement_key(swtpm: &Swtpm, choice: EkChoice) -> Result<EndorsementKey, TpmError> {
    swtpm.open_with(|options| options.ek = choice).endorsement_key()
}

/// Defines an index that holds `content`.
fn manufacture(tools: &Tools, index: u32, content: &[u8]) {
    let index = format!("{index:#x}");
    tools.write("content", content);
    let size = content.len().to_string();
    tools.run("tpm2_nvdefine", &[&index, "-C", "p", "-s", &size, "-a", ATTRIBUTES]);
    tools.run("tpm2_nvwrite", &[&index, "-C", "p", "-i", "content"]);
}

fn remove(tools: &Tools, index: u32) {
    tools.run("tpm2_nvundefine", &["-C", "p", &format!("{index:#x}")]);
}

#[test]
fn each_certificate_is_of_the_endorsement_key_that_it_comes_with() {
    let swtpm = Swtpm::start();
    for kind in [EkKind::Rsa2048, EkKind::EccP384] {
        let key = endorsement_key(&swtpm, EkChoice::Kind(kind)).expect("key");
        let certificate = key.certificate.expect("swtpm_setup made one");
        let (rest, parsed) = X509Certificate::from_der(&certificate).expect("X.509");
        assert!(rest.is_empty());
        // The last bytes of the public area are the modulus, or y behind x.
        let length = if kind == EkKind::Rsa2048 { 256 } else { 48 };
        let own = &key.public[key.public.len() - length..];
        let certified = parsed.public_key().subject_public_key.data.as_ref();
        assert!(
            certified.windows(length).any(|window| window == own),
            "{kind:?}: of another key"
        );
    }
    let uncertified = endorsement_key(&swtpm, EkChoice::Kind(EkKind::EccP256)).expect("key");
    assert_eq!(uncertified.certificate, None);
    assert_eq!(loaded(&swtpm), 0);
}

#[test]
fn auto_takes_the_key_that_the_manufacturer_certified() {
    let swtpm = Swtpm::start();
    let tools = Tools::new(&swtpm);
    let kind = || endorsement_key(&swtpm, EkChoice::Auto).expect("key").kind;
    assert_eq!(kind(), EkKind::Rsa2048);
    remove(&tools, EkKind::Rsa2048.certificate_index());
    assert_eq!(kind(), EkKind::EccP384);
    manufacture(
        &tools,
        EkKind::EccP256.certificate_index(),
        &[0x30, 3, 1, 2, 3, 0xff, 0xff],
    );
    let key = endorsement_key(&swtpm, EkChoice::Auto).expect("key");
    assert_eq!(key.kind, EkKind::EccP256);
    assert_eq!(key.certificate.expect("padded"), [0x30, 3, 1, 2, 3]);
    remove(&tools, EkKind::EccP256.certificate_index());
    remove(&tools, EkKind::EccP384.certificate_index());
    assert_eq!(kind(), EkKind::Rsa2048, "certified or not, something must be enrolled");
}

#[test]
fn a_chain_is_read_over_its_indices_and_rubbish_refused() {
    let swtpm = Swtpm::start();
    let tools = Tools::new(&swtpm);
    assert!(endorsement_key(&swtpm, EkChoice::Auto).expect("key").chain.is_empty());
    let certificate = |fill: u8| [&[0x30, 0x82, 0x02, 0x00][..], &[fill; 512]].concat();
    // The second certificate goes on in the next index.
    let whole = [certificate(1), certificate(2)].concat();
    manufacture(&tools, 0x01c0_0100, &whole[..700]);
    manufacture(&tools, 0x01c0_0101, &whole[700..]);
    // Behind the range: another use.
    manufacture(&tools, 0x01c0_0200, b"other");
    let chain = endorsement_key(&swtpm, EkChoice::Auto).expect("key").chain;
    assert_eq!(chain, [certificate(1), certificate(2)]);
    remove(&tools, 0x01c0_0101);
    assert!(matches!(
        endorsement_key(&swtpm, EkChoice::Auto),
        Err(TpmError::Malformed {
            what: "the EK certificate chain in NV"
        })
    ));
    assert_eq!(loaded(&swtpm), 0);
}
