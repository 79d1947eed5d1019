//! Appraisals on one thread, beside the bare checks of the same signatures in the same run. Both are counted in the thread's own
//! processor time and take turns, so that what else the machine does falls on neither, or on both alike.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
};
use rempart_attest::ak::VerifiedAk;
use rempart_attest::appraise::appraise;
use rempart_attest::evidence::TeeEvidence;
use rempart_attest::policy::Policy;
use rempart_attest::tee::snp::Generation;
use rempart_attest::tee::testing::snp::{self, Chip};
use rempart_attest::tee::{Endorsements, TeeKind, TeeProvider};
use rempart_attest::testing::{AkKind, Authority, EK, NOW, Node, ORDINARY, SoftTpm, policy};
use rempart_attest::verify::{Context, verify};
use rempart_attest::{Blob, Evidence};
use rustix::time::{ClockId, clock_gettime};

use crate::table::Table;

/// Nodes that take turns, so that no single key or text stays in the processor's caches.
const NODES: usize = 16;
/// One turn of either side.
const TURN: Duration = Duration::from_millis(50);
/// Appraisals with an RSA key and a log of 4 KiB, at least, a second.
const RSA: f64 = 8000.0;
/// Of the bare rate, at least, where a TEE's report is checked too.
const SHARE: f64 = 0.85;
/// Bytes of a SEV-SNP report that its signature covers, and where R and S lie behind them, little endian.
const SIGNED: usize = 0x2a0;
const SCALARS: [usize; 2] = [0x2a0, 0x2e8];

/// One signature and its key, read beforehand.
struct Raw {
    key: ParsedPublicKey,
    message: Vec<u8>,
    signature: Vec<u8>,
}

/// One node's Evidence with all that its Verifier knows.
struct Case {
    node: Node,
    endorsements: Endorsements,
    evidence: Evidence,
    encoded: Vec<u8>,
    remembered: Option<VerifiedAk>,
    raw: Vec<Raw>,
}

/// Measures every kind for `each` seconds.
pub fn measure(each: f64, table: &mut Table) -> Result<()> {
    let each = Duration::from_secs_f64(each);
    let authority = Authority::default();
    for (name, kind, tee) in [
        ("TPM (RSA-2048)", AkKind::RsaSsa, false),
        ("TPM (ECC P-256)", AkKind::P256, false),
        ("TPM (ECC P-256) + SNP", AkKind::P256, true),
        ("TPM (RSA-2048) + SNP", AkKind::RsaSsa, true),
    ] {
        let cases: Result<Vec<Case>> = (0..NODES).map(|_| case(&authority, kind, tee)).collect();
        rows(name, &cases?, tee, kind, each, table)?;
    }
    let log = ORDINARY.uefi.len() + ORDINARY.userspace.len();
    table.note(&format!(
        "appraisals: one thread, its processor time; logs of {log} bytes; baseline: the bare checks of the same signatures"
    ));
    Ok(())
}

fn rows(name: &str, cases: &[Case], tee: bool, kind: AkKind, each: Duration, table: &mut Table) -> Result<()> {
    let policy = policy_for(tee);
    for case in cases {
        ensure!(case.affirmed(&policy), "{name}: the Evidence is not affirmed");
    }
    let raw = || |case: &Case| case.raw.iter().all(Raw::holds);
    let (appraised, bare) = beside(cases, each, |case| case.affirmed(&policy), raw());
    let aim = match (tee, kind) {
        (true, _) => Some(SHARE * bare),
        (false, AkKind::RsaSsa) => Some(RSA),
        (false, _) => None,
    };
    table.at_least(&format!("{name}: appraisals"), appraised, "/s", Some(bare), aim);
    let (decoded, bare) = beside(cases, each, |case| case.decoded_and_affirmed(&policy), raw());
    table.at_least(
        &format!("{name}: with the envelope decoded"),
        decoded,
        "/s",
        Some(bare),
        None,
    );
    if !tee {
        let (first, bare) = beside(cases, each, |case| case.affirmed_for_the_first_time(&policy), raw());
        table.at_least(
            &format!("{name}: AK certificate not seen before"),
            first,
            "/s",
            Some(bare),
            None,
        );
    }
    Ok(())
}

/// Both rates, measured in turns.
fn beside(cases: &[Case], each: Duration, ours: impl Fn(&Case) -> bool, bare: impl Fn(&Case) -> bool) -> (f64, f64) {
    let (mut first, mut second) = (Rate::default(), Rate::default());
    while first.time < each {
        first.turn(cases, &ours);
        second.turn(cases, &bare);
    }
    (first.per_second(), second.per_second())
}

#[derive(Default)]
struct Rate {
    done: u32,
    time: Duration,
}

impl Rate {
    fn turn(&mut self, cases: &[Case], work: impl Fn(&Case) -> bool) {
        let start = processor_time();
        loop {
            for case in cases {
                assert!(black_box(work(black_box(case))), "a good case was refused");
            }
            self.done += u32::try_from(cases.len()).unwrap_or(0);
            let took = processor_time().saturating_sub(start);
            if took > TURN {
                self.time += took;
                return;
            }
        }
    }

    fn per_second(&self) -> f64 {
        f64::from(self.done) / self.time.as_secs_f64()
    }
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

impl Raw {
    fn holds(&self) -> bool {
        self.key.verify_sig(&self.message, &self.signature).is_ok()
    }
}

impl Case {
    fn context<'a>(&'a self, remembered: Option<&'a VerifiedAk>) -> Context<'a> {
        Context {
            ak: remembered,
            endorsements: &self.endorsements,
            ..self.node.context()
        }
    }

    fn affirmed(&self, policy: &Policy) -> bool {
        affirmed(&self.evidence, &self.context(self.remembered.as_ref()), policy)
    }

    fn affirmed_for_the_first_time(&self, policy: &Policy) -> bool {
        affirmed(&self.evidence, &self.context(None), policy)
    }

    fn decoded_and_affirmed(&self, policy: &Policy) -> bool {
        let evidence = Evidence::from_cbor(&self.encoded);
        evidence.is_ok_and(|evidence| affirmed(&evidence, &self.context(self.remembered.as_ref()), policy))
    }
}

fn affirmed(evidence: &Evidence, context: &Context<'_>, policy: &Policy) -> bool {
    verify(evidence, context).is_ok_and(|verified| appraise(&verified, policy, NOW).is_ok())
}

fn policy_for(tee: bool) -> Policy {
    let mut policy = policy();
    if tee {
        for image in &mut policy.images {
            image.snp = Some(snp::policy(Generation::Milan));
        }
    }
    policy
}

fn case(authority: &Authority, kind: AkKind, tee: bool) -> Result<Case> {
    let node = Node::enrolled(authority, "demo-1", EK, SoftTpm::new(kind));
    let mut evidence = node.evidence(&ORDINARY);
    let mut raw = vec![quote_signature(&node, kind, &evidence)?];
    let mut endorsements = Endorsements::default();
    if tee {
        let chip = Chip::new(Generation::Milan);
        let report = chip.report(&node.binding(&evidence));
        raw.push(report_signature(&chip.certificate, &report)?);
        endorsements = chip.endorsements(NOW);
        evidence.tee = Some(TeeEvidence {
            kind: TeeKind::SevSnp,
            provider: TeeProvider::ConfigfsTsm,
            report: Blob(report),
            certificates: Blob::default(),
            runtime_data: Blob::default(),
        });
    }
    let mut case = Case {
        encoded: evidence.to_cbor(),
        node,
        endorsements,
        evidence,
        remembered: None,
        raw,
    };
    let verified = verify(&case.evidence, &case.context(None));
    case.remembered = verified.ok().map(|verified| verified.ak);
    ensure!(case.raw.iter().all(Raw::holds), "a signature does not hold");
    Ok(case)
}

/// The quote's signature out of its TPMT_SIGNATURE: scheme, hash, then one or two sized numbers.
fn quote_signature(node: &Node, kind: AkKind, evidence: &Evidence) -> Result<Raw> {
    let mut signature = Vec::new();
    let mut rest = evidence.tpm.signature.0.get(4..).context("short")?;
    while let Some((len, more)) = rest.split_first_chunk() {
        let (number, more) = more.split_at(usize::from(u16::from_be_bytes(*len)));
        signature.extend_from_slice(number);
        rest = more;
    }
    let bits = node.tpm.key.subject_public_key();
    let key = match kind {
        AkKind::P256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bits)?,
        _ => ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, bits)?,
    };
    Ok(Raw {
        key,
        message: evidence.tpm.quote.0.clone(),
        signature,
    })
}

/// The key is the only P-384 point in the chip's certificate: a BIT STRING of an uncompressed point.
fn report_signature(certificate: &[u8], report: &[u8]) -> Result<Raw> {
    const HEADER: [u8; 4] = [0x03, 0x62, 0x00, 0x04];
    let at = certificate
        .windows(4)
        .position(|window| window == HEADER)
        .context("no P-384 key")?;
    let point = certificate.get(at + 3..at + 100).context("no P-384 key")?;
    let scalar = |at: usize| report[at..at + 48].iter().rev().copied();
    Ok(Raw {
        key: ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)?,
        message: report[..SIGNED].to_vec(),
        signature: SCALARS.into_iter().flat_map(scalar).collect(),
    })
}
