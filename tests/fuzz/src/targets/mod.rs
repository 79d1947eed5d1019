//! One file for each kind of foreign bytes. To add a target: write its function, add it to the file's `TARGETS`, run
//! `./x fuzz --minimize NAME`, and commit the folder that appears below `tests/fuzz/corpus`. A new file is one more line in [`all`].

use crate::meter;

/// Evidence through verify and appraise.
mod appraisal;
/// X.509: AK and EK certificates.
mod certificate;
/// What the Verifier's HTTP interface takes and gives.
mod exchange;
/// The kernel's list of measured files.
mod ima;
/// Firmware's and systemd's measurement logs.
mod log;
/// What the agent reads on the node.
mod node;
/// Policies, their signatures and the images that they are predicted from.
mod policy;
/// systemd's own signed report.
mod systemd_report;
/// Reports of TEEs and what comes with them.
mod tee;
/// TPM structures.
mod tpm;

/// One parser, or one way through several.
pub struct Target {
    /// Its name, and that of its folder below `corpus`.
    pub name: &'static str,
    /// Where the bytes come from, in a few words.
    pub from: &'static str,
    /// The longest input worth trying, bytes.
    pub max_len: usize,
    /// How much memory an input may cost.
    pub memory: Memory,
    /// Mutations in the smoke run.
    pub runs: u32,
    run: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
}

/// A bound on memory by the input's length.
#[derive(Clone, Copy)]
pub struct Memory {
    base: usize,
    factor: usize,
}

impl Memory {
    /// A parser written by us: some messages, and what the input itself is turned into.
    const OURS: Self = Self {
        base: 64 << 10,
        factor: 32,
    };
    /// Behind serde, which may reserve up to 1 MiB for a sequence before it has seen the first element.
    const SERDE: Self = Self {
        base: 5 << 20,
        factor: 160,
    };

    fn allows(self, len: usize) -> usize {
        self.base + self.factor * len
    }
}

impl Target {
    /// Runs it on `data`; panics when a promise is broken.
    pub fn check(&self, data: &[u8]) {
        let allowed = self.memory.allows(data.len());
        if meter::peak_of(|| (self.run)(data)) <= allowed {
            return;
        }
        // Keys and certificates that a target makes once are no input's memory: the second time counts.
        let peak = meter::peak_of(|| (self.run)(data));
        assert!(
            peak <= allowed,
            "{}: an input of {} bytes cost {peak} bytes of memory, {allowed} are allowed",
            self.name,
            data.len()
        );
    }

    /// The inputs that the corpus grew from, made from our own fixtures.
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        (self.seeds)()
    }
}

/// All targets by family.
pub fn all() -> impl Iterator<Item = &'static Target> {
    [
        log::TARGETS,
        ima::TARGETS,
        tpm::TARGETS,
        tee::TARGETS,
        systemd_report::TARGETS,
        certificate::TARGETS,
        appraisal::TARGETS,
        exchange::TARGETS,
        policy::TARGETS,
        node::TARGETS,
    ]
    .into_iter()
    .flatten()
}

/// The target of that name.
pub fn named(name: &str) -> Option<&'static Target> {
    all().find(|target| target.name == name)
}
