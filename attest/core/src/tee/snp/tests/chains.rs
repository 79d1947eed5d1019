//! Chains that a root really signed, wrong in one place.

use super::*;

fn check(certificates: &Certificates<'_>, roots: &Roots) -> &'static str {
    verify_chain(certificates, roots, NOW).expect_err("refused").check()
}

#[test]
fn a_root_that_is_not_configured_is_refused_whatever_its_name() {
    let chip = Chip::new(Generation::Milan);
    let stranger = Pki::stranger(Generation::Milan);
    let certificates = chip.certificates(None);
    assert_eq!(check(&certificates, &Roots::default()), "snp-root");
    assert_eq!(check(&certificates, &stranger.roots()), "snp-root");
}

#[test]
fn the_root_of_another_generation_is_refused() {
    // Root and intermediate are Milan's by their names and signatures; the key's certificate says Genoa.
    let chip = Chip::endorsed(Arc::new(Pki::new(Generation::Milan)), |claims| {
        claims.product = "Genoa-B1".into();
    });
    assert_eq!(
        check(&chip.certificates(None), &chip.pki().roots()),
        "snp-root-generation"
    );
}

#[test]
fn an_intermediate_or_a_key_by_another_root_is_refused() {
    let chip = Chip::new(Generation::Milan);
    let roots = chip.pki().roots();
    let stranger = Pki::stranger(Generation::Milan);
    let strange = Chip::endorsed(Arc::new(Pki::stranger(Generation::Milan)), |_| {});
    let good = chip.certificates(None);
    assert_eq!(
        check(
            &Certificates {
                ask: &stranger.ask,
                ..good
            },
            &roots
        ),
        "snp-ask"
    );
    assert_eq!(
        check(
            &Certificates {
                vek: &strange.certificate,
                ..good
            },
            &roots
        ),
        "snp-vek"
    );
    assert_eq!(check(&Certificates { ark: good.ask, ..good }, &roots), "snp-root");
    assert_eq!(
        check(&Certificates { ask: good.ark, ..good }, &roots),
        "snp-vek",
        "a key right under the root"
    );
    for part in ["ark", "ask", "vek"] {
        let rubbish = b"rubbish".as_slice();
        let certificates = match part {
            "ark" => Certificates { ark: rubbish, ..good },
            "ask" => Certificates { ask: rubbish, ..good },
            _ => Certificates { vek: rubbish, ..good },
        };
        assert_eq!(check(&certificates, &roots), format!("snp-{part}"));
    }
}

#[test]
fn a_changed_certificate_is_refused() {
    let chip = Chip::new(Generation::Milan);
    let good = chip.certificates(None);
    let mut changed = good.vek.to_vec();
    *changed.last_mut().expect("signature") ^= 1;
    assert_eq!(
        check(&Certificates { vek: &changed, ..good }, &chip.pki().roots()),
        "snp-vek"
    );
}

#[test]
fn out_of_its_time_nothing_counts() {
    let chip = Chip::new(Generation::Milan);
    let roots = chip.pki().roots();
    let at = |now| verify_chain(&chip.certificates(None), &roots, now).map(|v| v.valid_until);
    assert_eq!(at(NOW), Ok(NOW + 4000 * 86_400));
    assert_eq!(at(NOW + 4001 * 86_400).expect_err("refused").check(), "snp-vek");
    assert_eq!(at(NOW - 4001 * 86_400).expect_err("refused").check(), "snp-vek");
    assert_eq!(at(NOW + 5001 * 86_400).expect_err("refused").check(), "snp-ark");
}

#[test]
fn a_vlek_under_the_veks_intermediate_and_a_mixed_certificate_are_refused() {
    let rented = Chip::of_provider(Generation::Milan, "cloud.test");
    let roots = rented.pki().roots();
    let good = rented.certificates(None);
    // Same key in both intermediates: only the names differ.
    let ask = Certificates {
        ask: &rented.pki().ask,
        ..good
    };
    assert_eq!(check(&ask, &roots), "snp-vek", "its issuer has another name");
    let forged = Chip::endorsed(Arc::new(Pki::new(Generation::Milan)), |claims| {
        claims.chip = None;
        claims.provider = Some("cloud.test".into());
    });
    assert_eq!(
        check(&forged.certificates(None), &roots),
        "snp-vek-kind",
        "a VLEK's extensions under a VCEK's name"
    );
    let forged = Chip::endorsed(Arc::new(Pki::new(Generation::Milan)), |claims| {
        claims.kind = SigningKey::Vlek
    });
    assert_eq!(
        check(&forged.certificates(None), &roots),
        "snp-vek-kind",
        "a VCEK's extensions under a VLEK's name"
    );
    let both = Chip::endorsed(Arc::new(Pki::new(Generation::Milan)), |claims| {
        claims.provider = Some("x".into())
    });
    assert_eq!(check(&both.certificates(None), &roots), "snp-vek-extensions");
    let neither = Chip::endorsed(Arc::new(Pki::new(Generation::Milan)), |claims| claims.chip = None);
    assert_eq!(check(&neither.certificates(None), &roots), "snp-vek-extensions");
}

#[test]
fn extensions_that_are_not_well_formed_are_refused() {
    let edits: [fn(&mut Claims); 4] = [
        |c| c.product = "Naples".into(),
        |c| c.product = "\u{e9}".into(),
        |c| c.chip = Some(vec![1; 63]),
        |c| c.chip = Some(vec![1; 65]),
    ];
    for edit in edits {
        let chip = Chip::endorsed(Arc::new(Pki::new(Generation::Milan)), edit);
        assert_eq!(
            check(&chip.certificates(None), &chip.pki().roots()),
            "snp-vek-extensions"
        );
    }
    // A Turin certificate must have fmcSPL, a Milan one has none.
    let chip = Chip::endorsed(Arc::new(Pki::new(Generation::Milan)), |c| c.product = "Turin-B0".into());
    assert_eq!(
        check(&chip.certificates(None), &chip.pki().roots()),
        "snp-vek-extensions"
    );
}

#[test]
fn a_chip_id_may_be_padded_or_wrapped_but_not_cut() {
    let pki = Arc::new(Pki::new(Generation::Turin));
    let padded = Chip::endorsed(pki.clone(), |c| c.chip.as_mut().expect("id").resize(64, 0));
    assert_eq!(
        judged(&padded, padded.report(&REPORT_DATA), &policy(Generation::Turin)),
        [""; 0]
    );
    let wrapped = Chip::endorsed(pki, |c| {
        let id = c.chip.take().expect("id");
        c.chip = Some([&[4, 8], id.as_slice()].concat());
    });
    assert_eq!(
        judged(&wrapped, wrapped.report(&REPORT_DATA), &policy(Generation::Turin)),
        [""; 0]
    );
}

#[test]
fn a_revoked_key_or_intermediate_is_refused() {
    let chip = Chip::new(Generation::Milan);
    let roots = chip.pki().roots();
    for serial in [VEK_SERIAL, ASK_SERIAL, 0x01_0000] {
        let crl = chip.pki().crl(NOW, &[1, serial, 9]);
        assert_eq!(
            check(&chip.certificates(Some(&crl)), &roots),
            "snp-revoked",
            "{serial:#x}"
        );
    }
    let others = chip.pki().crl(NOW, &[1, 2, 3]);
    let vek = verify_chain(&chip.certificates(Some(&others)), &roots, NOW).expect("counts");
    assert_eq!(vek.crl, Some((NOW - 86_400, NOW + 30 * 86_400)));
    assert_eq!(vek.valid_until, NOW + 30 * 86_400, "no longer than its list");
}

#[test]
fn a_list_that_is_stale_from_the_future_foreign_or_rubbish_is_refused() {
    let chip = Chip::new(Generation::Milan);
    let roots = chip.pki().roots();
    let refused = |crl: &[u8]| check(&chip.certificates(Some(crl)), &roots);
    let day = 86_400;
    assert_eq!(
        refused(&chip.pki().crl_between(NOW - 9 * day, NOW - 1, &[])),
        "snp-crl-stale"
    );
    assert_eq!(
        refused(&chip.pki().crl_between(NOW + day, NOW + 9 * day, &[])),
        "snp-crl"
    );
    let stranger = Pki::stranger(Generation::Milan);
    assert_eq!(
        refused(&stranger.crl(NOW, &[])),
        "snp-crl-signature",
        "a list by another key"
    );
    let genoa = Pki::new(Generation::Genoa);
    assert_eq!(
        refused(&genoa.crl(NOW, &[])),
        "snp-crl-signature",
        "a list of another generation"
    );
    assert_eq!(refused(b"rubbish"), "snp-crl");
    let mut changed = chip.pki().crl(NOW, &[]);
    *changed.last_mut().expect("signature") ^= 1;
    assert_eq!(refused(&changed), "snp-crl-signature");
}
