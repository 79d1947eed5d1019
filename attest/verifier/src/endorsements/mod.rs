//! Endorsements (RFC 9334): what a vendor says of the key that signed a TEE's report. Sources in this order: what this process has
//! verified before; the table that the host supplied with the report; the offline store; the vendor's service. All are believed alike,
//! that is only as far as their signatures reach a pinned root.
//!
//! A key's certificate is kept for ever, because what it says never changes; revocation lists are kept apart and have a freshness of their
//! own. It must never ask the vendor twice at once about one chip, nor ask at all for a node whose TPM has not spoken authentically.

/// Verified keys in memory.
mod cache;
/// Revocation lists and their renewal.
mod crls;
/// One asker for many who want the same.
mod flights;
/// A directory of certificates.
mod offline;
/// `[endorsements]`.
mod settings;
/// Certificates as they come.
mod supplied;
/// TDX: statements and lists of Intel, from the directory.
mod tdx;
/// AMD's service, or a cache that speaks as it does.
mod vendor;

use std::sync::Arc;

use rempart_attest::Finding;
use rempart_attest::Fixed;
use rempart_attest::evidence::TeeEvidence;
use rempart_attest::tee::snp::bits::SigningKey;
use rempart_attest::tee::snp::chain::{self, Certificates};
use rempart_attest::tee::snp::table;
use rempart_attest::tee::snp::{ChainError, Generation, Report, VerifiedVek};
use rempart_attest::tee::{Endorsements, Roots, TeeKind, Vek};

pub use settings::{Fragment, Settings};

use cache::{Cache, Key};
use crls::Crls;
use flights::Flights;
use offline::Offline;
use supplied::{Chain, Supplied, chain_of};
use vendor::{Vendor, VendorError};

use crate::error::Error;

/// Seconds for which a failure is remembered, so that a node that asks again and again does not make us ask as often.
const REMEMBERED: u64 = 30;

/// Gathers and keeps endorsements.
pub struct Endorser {
    roots: Arc<Roots>,
    offline: Offline,
    vendor: Option<Vendor>,
    crls: Crls,
    cache: Cache,
    /// By who asks, too: what a node's own host supplied decides what it is told, and no other node may be told the same for it.
    flights: Flights<(String, Key), Vek>,
    tdx: tdx::Kept,
}

impl Endorser {
    /// Reads the operator's own roots; nothing is asked of anybody yet.
    pub fn new(settings: &Settings) -> Result<Arc<Self>, Error> {
        let vendor = settings.kds.as_ref().map(Vendor::new).transpose()?;
        Ok(Arc::new(Self {
            roots: Arc::new(settings.roots.clone()),
            offline: Offline::new(&settings.offline),
            tdx: tdx::Kept::new(&settings.offline),
            vendor,
            crls: Crls::default(),
            cache: Cache::default(),
            flights: Flights::default(),
        }))
    }

    /// What is known of the key of this report at `now`. To be asked only for a node whose TPM part is authentic.
    pub async fn gather(self: &Arc<Self>, who: &str, tee: &TeeEvidence, now: u64) -> Endorsements {
        let snp = match tee.kind {
            TeeKind::SevSnp => self.vek(who, tee, now).await,
            TeeKind::Tdx => Vek::None,
        };
        self.with(snp, tee.kind, now).await
    }

    /// Renews revocation lists for as long as the process lives.
    pub async fn renew_lists(self: Arc<Self>) {
        loop {
            tokio::time::sleep(crls::LOOK).await;
            self.renew_due(crate::clock::now()).await;
        }
    }

    async fn renew_due(&self, now: u64) {
        for (generation, key) in self.crls.due(now) {
            match self.fetch_list(generation, key, now).await {
                Ok(()) => tracing::debug!("{generation} {key}: revocation list renewed"),
                Err(why) => {
                    tracing::warn!("{generation} {key}: the revocation list could not be renewed: {why}");
                    self.crls.postpone(generation, key, now);
                }
            }
        }
    }

    async fn vek(self: &Arc<Self>, who: &str, tee: &TeeEvidence, now: u64) -> Vek {
        // A report that cannot be read is refused by verification, in its words.
        let Ok(report) = Report::parse(&tee.report.0) else {
            return Vek::None;
        };
        let table = match table::parse(&tee.certificates.0) {
            Ok(table) => table,
            Err(e) => return Vek::Refused(table_finding(who, &e.to_string())),
        };
        let Some(key) = Key::of(&report, &table) else {
            return Vek::None;
        };
        if let Some(vek) = self.known(&key, now) {
            return vek;
        }
        if let Some(refused) = self.cache.refused(who, &key, now) {
            return Vek::Refused(refused);
        }
        let (endorser, supplied) = (self.clone(), Supplied::from(&table));
        let node = who.to_owned();
        let flight = self.flights.ask((node.clone(), key.clone()), move || async move {
            // Somebody else may have brought it while we waited for our turn.
            if let Some(vek) = endorser.known(&key, now) {
                return vek;
            }
            let found = endorser.search(&node, &key, &supplied, now).await;
            match &found {
                Ok(vek) => endorser.cache.keep(&key, vek, now, REMEMBERED),
                Err(refused) => endorser.cache.let_wait(&node, &key, refused, now, REMEMBERED),
            }
            found.map_or_else(Vek::Refused, Vek::Verified)
        });
        flight
            .await
            .unwrap_or_else(|| Vek::Refused(missing("too many other nodes are being asked about")))
    }

    /// What is known already of the key of this report; none where somebody would have to be asked.
    pub async fn remembered(&self, tee: &TeeEvidence, now: u64) -> Option<Endorsements> {
        let snp = match tee.kind {
            TeeKind::Tdx => Vek::None,
            TeeKind::SevSnp => {
                let report = Report::parse(&tee.report.0).ok()?;
                let table = table::parse(&tee.certificates.0).ok()?;
                self.known(&Key::of(&report, &table)?, now)?
            }
        };
        Some(self.with(snp, tee.kind, now).await)
    }

    async fn with(&self, snp: Vek, kind: TeeKind, now: u64) -> Endorsements {
        let tdx = match kind {
            TeeKind::Tdx => self.tdx.current(now).await,
            TeeKind::SevSnp => Arc::default(),
        };
        Endorsements {
            snp,
            roots: self.roots.clone(),
            tdx,
        }
    }

    /// From memory, as long as neither certificates nor list have lapsed and no newer list has come.
    fn known(&self, key: &Key, now: u64) -> Option<Vek> {
        let newest = |vek: &VerifiedVek| self.crls.this_update(vek.generation, key.kind);
        self.cache.get(key, now, newest)
    }

    async fn search(&self, who: &str, key: &Key, supplied: &Supplied, now: u64) -> Result<Arc<VerifiedVek>, Finding> {
        let (mut bad, mut reasons) = (None, Vec::new());
        let mut generations = key.generations();
        // A report of version 2 does not say what it is of; the host's root does, and a lie costs only time.
        let root = supplied
            .ark
            .as_ref()
            .and_then(|ark| chain::root_generation(ark, &self.roots).ok());
        generations.sort_by_key(|generation| Some(*generation) != root);
        for generation in generations {
            match self.search_in(who, key, generation, supplied, now).await {
                Ok(vek) => return Ok(Arc::new(vek)),
                Err(Failure::Bad(finding)) => bad = bad.or(Some(finding)),
                Err(Failure::None(reason)) => reasons.push(format!("{generation}: {reason}")),
            }
        }
        Err(bad.unwrap_or_else(|| missing(&reasons.join("; "))))
    }

    /// Each certificate that can be had, under each chain that can be had, until one counts and is the one that the report names. A
    /// host often supplies the certificate of the firmware before the last update: then the next source is asked.
    async fn search_in(
        &self,
        who: &str,
        key: &Key,
        generation: Generation,
        supplied: &Supplied,
        now: u64,
    ) -> Result<VerifiedVek, Failure> {
        let (mut bad, mut reason) = (None, None);
        for source in Source::ALL {
            let leaf = match self.leaf(source, key, generation, supplied).await {
                Ok(Some(leaf)) => leaf,
                Ok(None) => continue,
                Err(e) => {
                    reason = Some(e.to_string());
                    continue;
                }
            };
            match self.verify(&leaf, key.kind, generation, supplied, now).await {
                Ok(vek) if key.fits(&vek) => {
                    if source != Source::Offline && key.kind == SigningKey::Vcek {
                        self.offline.keep_vcek(&key.chip, key.tcb, generation, &leaf).await;
                    }
                    return Ok(vek);
                }
                Ok(_) => {}
                Err(Unverified::Chain(e)) => {
                    bad = bad.or_else(|| Some(e.finding(who)));
                }
                Err(Unverified::NoChain(why)) => reason = Some(why),
            }
        }
        match (bad, reason) {
            (Some(finding), _) => Err(Failure::Bad(finding)),
            (None, Some(reason)) => Err(Failure::None(reason)),
            (None, None) => Err(Failure::None(self.without_source(key.kind))),
        }
    }

    /// Under the host's own intermediate and root, else the store's, else the vendor's.
    async fn verify(
        &self,
        leaf: &[u8],
        kind: SigningKey,
        generation: Generation,
        supplied: &Supplied,
        now: u64,
    ) -> Result<VerifiedVek, Unverified> {
        let (mut last, mut reason) = (None, None);
        for source in Source::ALL {
            let (ask, ark) = match self.chain(source, generation, kind, supplied).await {
                Ok(Some(chain)) => chain,
                Ok(None) => continue,
                Err(e) => {
                    reason = Some(e.to_string());
                    continue;
                }
            };
            let list = self.list(generation, kind, &ark, supplied, now).await;
            let certificates = Certificates {
                vek: leaf,
                ask: &ask,
                ark: &ark,
                crl: list.as_deref(),
            };
            match chain::verify(&certificates, &self.roots, now) {
                Ok(vek) => return Ok(vek),
                Err(e) => last = Some(e),
            }
        }
        Err(match (last, reason) {
            (Some(e), _) => Unverified::Chain(e),
            (None, why) => {
                Unverified::NoChain(why.unwrap_or_else(|| "nobody supplied the intermediate and the root".into()))
            }
        })
    }

    fn without_source(&self, kind: SigningKey) -> String {
        let vendor = match (&self.vendor, kind) {
            (_, SigningKey::Vlek) => "a VLEK is not to be had from AMD's service",
            (None, _) => "no vendor service is configured",
            (Some(_), _) => "the vendor's service has none for this chip and TCB",
        };
        format!("the host supplied no fitting certificate, the offline store has none, and {vendor}")
    }

    async fn leaf(
        &self,
        source: Source,
        key: &Key,
        generation: Generation,
        supplied: &Supplied,
    ) -> Result<Option<Vec<u8>>, VendorError> {
        match (source, key.kind, &self.vendor) {
            (Source::Host, SigningKey::Vcek, _) => Ok(supplied.vcek.clone()),
            (Source::Host, SigningKey::Vlek, _) => Ok(supplied.vlek.clone()),
            (Source::Offline, SigningKey::Vcek, _) => Ok(self.offline.vcek(&key.chip, key.tcb, generation).await),
            (Source::Vendor, SigningKey::Vcek, Some(vendor)) => {
                none_is_none(vendor.vcek(&key.chip, key.tcb, generation).await)
            }
            _ => Ok(None),
        }
    }

    async fn chain(
        &self,
        source: Source,
        generation: Generation,
        kind: SigningKey,
        supplied: &Supplied,
    ) -> Result<Option<Chain>, VendorError> {
        let is_its = |chain: &Chain| chain::root_generation(&chain.1, &self.roots) == Ok(generation);
        match (source, &self.vendor) {
            (Source::Host, _) => Ok(supplied.chain().filter(is_its)),
            (Source::Offline, _) => {
                let pem = self.offline.chain(generation, kind).await;
                Ok(pem.and_then(|pem| chain_of(&pem)).filter(is_its))
            }
            (Source::Vendor, Some(vendor)) => {
                let Some(pem) = none_is_none(vendor.chain(generation, kind).await)? else {
                    return Ok(None);
                };
                let chain = chain_of(&pem).filter(is_its);
                if chain.is_some() {
                    self.offline.keep_chain(generation, kind, &pem).await;
                }
                Ok(chain)
            }
            (Source::Vendor, None) => Ok(None),
        }
    }

    /// The newest list: from memory, the store, the vendor, or the host.
    async fn list(
        &self,
        generation: Generation,
        kind: SigningKey,
        ark: &[u8],
        supplied: &Supplied,
        now: u64,
    ) -> Option<Vec<u8>> {
        if let Some(list) = self.crls.current(generation, kind, now) {
            return Some(list);
        }
        let kept = self.offline.list(generation, kind).await;
        if let Some(list) = &kept {
            let verified = chain::verify_crl(list, ark, &self.roots, now);
            if let Ok(crl) = verified {
                self.crls.put(generation, kind, ark, list, &crl, now);
                return kept;
            }
        }
        self.crls.want(generation, kind, ark);
        if let Err(why) = self.fetch_list(generation, kind, now).await {
            tracing::debug!("{generation} {kind}: no revocation list from the vendor: {why}");
        }
        // A list that was kept and has lapsed is still given: it says why nothing counts.
        self.crls
            .current(generation, kind, now)
            .or_else(|| supplied.crl.clone())
            .or(kept)
    }

    async fn fetch_list(&self, generation: Generation, kind: SigningKey, now: u64) -> Result<(), String> {
        let vendor = self.vendor.as_ref().ok_or("no vendor service is configured")?;
        let ark = self.crls.ark(generation, kind).ok_or("its root is not known yet")?;
        let list = vendor.list(generation, kind).await.map_err(|e| e.to_string())?;
        let crl = chain::verify_crl(&list, &ark, &self.roots, now).map_err(|e| e.to_string())?;
        if self.crls.put(generation, kind, &ark, &list, &crl, now) {
            self.offline.keep_list(generation, kind, &list).await;
        }
        Ok(())
    }
}

const HOST: &str = "the host withholds or mixes up the chip's certificates: give the Verifier the right ones (endorsements), or move the guest";

fn table_finding(who: &str, why: &str) -> Finding {
    Finding::new("snp-certificate-table", who, why, HOST)
}

fn missing(why: &str) -> Finding {
    let what = format!("there is no endorsement by AMD for the key of this report: {why}");
    let remedy = "let the host supply its certificates, put them into the offline store, or let the Verifier reach a vendor service";
    Finding::new("snp-endorsement", "verifier", what, remedy)
}

/// Where something can be had, in the order of asking.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Host,
    Offline,
    Vendor,
}

impl Source {
    const ALL: [Self; 3] = [Self::Host, Self::Offline, Self::Vendor];
}

/// Why a search brought nothing.
enum Failure {
    /// There is one, and it does not count.
    Bad(Finding),
    /// There is none.
    None(String),
}

/// Why a certificate does not count.
enum Unverified {
    /// By its chain.
    Chain(ChainError),
    /// There is no chain to hold it against.
    NoChain(String),
}

fn none_is_none(answer: Result<Vec<u8>, VendorError>) -> Result<Option<Vec<u8>>, VendorError> {
    match answer {
        Ok(bytes) => Ok(Some(bytes)),
        Err(VendorError::None(_)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// A chip's id as the vendor names it: without the zeros that pad it.
fn chip_name(chip: &Fixed<64>, generation: Generation) -> String {
    hex::encode(&chip.0[..generation.chip_id_len()])
}

#[cfg(test)]
mod tests;
