//! Named maxima for everything that arrives from outside, each with its unit and its reason.

/// Evidence as CBOR, bytes: three logs at their own maxima plus a quote, a report and certificates.
pub const EVIDENCE: usize = 8 * 1024 * 1024;
/// JSON request bodies, bytes: the largest is an enrolment with an EK certificate and its chain, each at its maximum and in base64.
pub const JSON_BODY: usize = 160 * 1024;
/// UEFI event log, bytes: firmware reserves 64 KiB to 256 KiB for it; vendors with long variable lists reach several hundred KiB.
pub const UEFI_LOG: usize = 1024 * 1024;
/// systemd user space log, bytes: a dozen records of about 400 bytes on an ordinary boot.
pub const USERSPACE_LOG: usize = 256 * 1024;
/// IMA list, bytes: the tcb policy gives some 2,000 entries of about 150 bytes on a server; long-lived machines have more.
pub const IMA_LOG: usize = 5 * 1024 * 1024;
/// Entries in one IMA list, count: 5 MiB hold some 35,000 of ordinary size.
pub const IMA_ENTRIES: usize = 50_000;
/// Name of an IMA template, bytes: the longest that the kernel has are `ima-modsig` and `evm-sig`.
pub const IMA_TEMPLATE_NAME: usize = 64;
/// One IMA entry's data, bytes: a digest, a path of PATH_MAX and a signature, or a buffer such as a certificate or a command line.
pub const IMA_TEMPLATE_DATA: usize = 64 * 1024;
/// Report of a TEE, bytes: SEV-SNP 1,184, a TDX quote with its certificates some 5,000, a paravisor's runtime data a few thousand.
pub const TEE_REPORT: usize = 16 * 1024;
/// Certificate table beside a TEE's report, bytes: the kernel's own maximum for SEV-SNP (SEV_FW_BLOB_MAX_SIZE).
pub const TEE_CERTIFICATES: usize = 16 * 1024;
/// Signatures over an image's PCR 11 (.pcrsig), bytes: some 1 KiB for each phase path and bank.
pub const PCR_SIGNATURES: usize = 64 * 1024;
/// An image's os-release, bytes: under 1 KiB.
pub const OS_RELEASE: usize = 16 * 1024;
/// A vault token's accessor, bytes: OpenBao's have 24.
pub const ACCESSOR: usize = 128;
/// Seconds for which a question about the policy in force is held.
pub const WATCH_HOLD: u64 = 240;
/// Held questions about the policy in force, count: one a node of a fleet of middle size; larger ones learn by their interval.
pub const WATCHERS: usize = 10_000;
/// systemd's report, bytes: the Basic metrics are 3 KiB, a signature 20 KiB for a boot of 50 measurements, most of it the event log,
/// and systemd may sign with several keys.
pub const SYSTEMD_REPORT: usize = 256 * 1024;
/// Records of systemd's report, count: the report, a signature for each mechanism and key.
pub const SYSTEMD_RECORDS: usize = 16;
/// Metrics in systemd's report, count: the Basic ones are 34 on a machine with one disk; some stand once for each disk.
pub const SYSTEMD_METRICS: usize = 4096;
/// Attestations in one signature of systemd's report, count: a quote, an audit, one for each NvPCR (systemd 262 defines three).
pub const SYSTEMD_COMPONENTS: usize = 32;
/// Name of an NvPCR, bytes: it is a file's name on the node, and short ones are in use.
pub const SYSTEMD_NVPCR_NAME: usize = 64;
/// One fact of systemd's report that a result repeats, bytes: a kernel's version.
pub const SYSTEMD_FACT: usize = 128;
/// How long before the quote systemd's report may have been begun, milliseconds of the TPM's clock: a slow TPM needs a second for each
/// attestation and most of a minute for an RSA key.
pub const SYSTEMD_REPORT_AGE: u64 = 120_000;
/// Events in one log, count: an ordinary boot has 40 to 150.
pub const EVENTS: usize = 4096;
/// One event's data, bytes: the largest seen are Secure Boot variables (dbx, some 24 KiB).
pub const EVENT_DATA: usize = 256 * 1024;
/// Digest algorithms declared by one event log, count (TCG PFP 10.4.5.1: one per active bank).
pub const LOG_ALGORITHMS: usize = 8;
/// Any TPM2B structure that we read, bytes: the largest is a TPMT_PUBLIC of an RSA-4096 key.
pub const TPM2B: usize = 2048;
/// PEM or DER certificate, bytes: EK certificates are 1 to 2 KiB.
pub const CERTIFICATE: usize = 16 * 1024;
/// Certificates in one chain, count: EK, two intermediates, root, and one to spare.
pub const CHAIN: usize = 5;
/// A node's name, bytes: it becomes a certificate's common name (X.520 ub-common-name).
pub const NODE_NAME: usize = 64;
/// Challenge token, bytes: four short fields and a MAC.
pub const CHALLENGE: usize = 512;
/// Identifier of a Verifier (a URL), bytes.
pub const VERIFIER_ID: usize = 256;
/// Free text that a node says about its guard, bytes: one line.
pub const GUARD_WHY: usize = 512;
/// Policy file, bytes: one image is under 2 KiB.
pub const POLICY: usize = 1024 * 1024;
/// Names in one request for secrets, count: as many as a unit may have.
pub const SECRET_NAMES: usize = 256;
/// One secret's name, bytes.
pub const SECRET_NAME: usize = 256;
/// One secret's value, bytes: mostly a key or a token, at most a bundle.
pub const SECRET_VALUE: usize = 1024 * 1024;
/// All values of one answer together, bytes: sealed and in base64 it fits into what a node takes for an answer.
pub const SECRET_ANSWER: usize = 4 * 1024 * 1024;
/// A UKI that reference values are predicted from, bytes: kernel and initrd with a whole root file system.
pub const IMAGE: usize = 1024 * 1024 * 1024;
/// Entries of a TEE's certificate table, count: five kinds are defined (GHCB 4.1.8.1).
pub const TEE_TABLE_ENTRIES: usize = 16;
/// Certificate revocation list, bytes: AMD's hold a few entries, Intel's for PCKs some thousands.
pub const CRL: usize = 1024 * 1024;
/// A vendor's signed JSON about platforms, bytes: TDX TCB info is some 30 KiB.
pub const TEE_COLLATERAL: usize = 256 * 1024;
/// Signatures under one policy, count: every signer of a large owner.
pub const POLICY_SIGNATURES: usize = 32;
/// A policy's signature file, bytes: an SSH signature is under 1 KiB, an RSA one under 2.
pub const POLICY_SIGNATURE_FILE: usize = 64 * 1024;
/// Lines of an allowed-signers file, count.
pub const ALLOWED_SIGNERS: usize = 1024;
/// Signatures over one image's PCR 11, count: four phases in two banks by a few keys.
pub const PCR_SIGNATURE_ENTRIES: usize = 64;
/// CoRIM, bytes: one image is some 500 bytes for each combination of its values.
pub const CORIM: usize = 1024 * 1024;
/// Combinations of register values in one image of a CoRIM, count: two phases of one image are two.
pub const CORIM_RECORDS: usize = 256;
