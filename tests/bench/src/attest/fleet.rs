//! Nodes with keys of their own: a software AK each (ECDSA P-256: a hundred thousand RSA keys would take hours), certified by the
//! Verifier's authority, with the logs of one real boot.

use std::net::Ipv4Addr;
use std::thread;

use anyhow::{Context, Result};
use rempart_attest::bytes::sha256;
use rempart_attest::evidence::{Evidence, VERSION};
use rempart_attest::testing::{AkKind, Authority, Node, ORDINARY, SoftTpm};
use rempart_attest::{Binding, Blob, ChallengeToken, Fixed, GuardClaim, TpmEvidence};

/// The fleet.
pub struct Fleet(Vec<Node>);

/// The name of the node with that number.
pub fn name(number: usize) -> String {
    format!("node-{number:07}")
}

/// The fingerprint of its EK, which never leaves the registry and the certificate.
pub fn ek(number: usize) -> Fixed<32> {
    sha256(name(number).as_bytes())
}

/// Its own address in 127.0.0.0/8, away from those that servers use.
pub fn address(number: usize) -> Ipv4Addr {
    let low = u32::try_from(number % (1 << 22)).unwrap_or(0);
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 64, 0, 0)) + low)
}

impl Fleet {
    /// The first `count` nodes of the registry.
    pub fn make(count: usize, authority: &Authority) -> Result<Self> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let share = count.div_ceil(threads).max(1);
        let parts: Result<Vec<Vec<Node>>> = thread::scope(|scope| {
            let parts: Vec<_> = (0..count)
                .step_by(share)
                .map(|from| {
                    scope.spawn(move || {
                        let one = |at| Node::enrolled(authority, &name(at), ek(at), SoftTpm::new(AkKind::P256));
                        (from..count.min(from + share)).map(one).collect()
                    })
                })
                .collect();
            parts
                .into_iter()
                .map(|part| part.join().ok().context("a thread panicked"))
                .collect()
        });
        Ok(Self(parts?.into_iter().flatten().collect()))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What the node with that number sends as Evidence.
    pub fn evidence(
        &self,
        number: usize,
        challenge: ChallengeToken,
        verifier: &str,
        exporter: &Fixed<32>,
        ephemeral: Fixed<32>,
    ) -> Evidence {
        let node = &self.0[number];
        let pcrs = ORDINARY.pcrs();
        let guard = GuardClaim {
            enforcing: true,
            why: None,
        };
        let binding = Binding {
            challenge: challenge.as_bytes(),
            ephemeral: &ephemeral,
            verifier,
            exporter,
            boot_id: &Fixed([7; 16]),
            audit_head: &Fixed::ZERO,
            ak: &node.tpm.key.id(),
            claims: &guard.digest(),
        };
        let mut attested = Vec::new();
        let quote = node
            .tpm
            .quote(&binding.qualifying_data().0, &pcrs, &mut attested)
            .bytes();
        let signature = node.tpm.sign(&quote);
        Evidence {
            v: VERSION,
            node: node.name.clone(),
            challenge,
            ephemeral,
            boot_id: Fixed([7; 16]),
            audit_head: Fixed::ZERO,
            tpm: TpmEvidence {
                bank: pcrs.bank,
                quote: Blob(quote),
                signature: Blob(signature),
                pcrs: pcrs.values.iter().map(|(index, value)| (*index, *value)).collect(),
                ak_certificate: node.certificate.clone(),
                uefi_log: ORDINARY.uefi.into(),
                userspace_log: ORDINARY.userspace.into(),
                ima_log: Blob::default(),
                pcr_signatures: Blob::default(),
                os_release: Blob::default(),
                tls_key: None,
            },
            tee: None,
            systemd_report: Blob::default(),
            guard,
        }
    }
}
