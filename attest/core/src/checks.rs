//! The names of all checks, one list for each place that makes findings: what an operator may grep for, what the negative matrix must have
//! a case for, and what a program may match on. A name never changes its meaning and is never used again for another check; a finding
//! whose name is in no list does not survive a debug build.

/// Checks of *verify* on the exchange, the node's identity, its quote, its logs and its TLS key.
pub const VERIFY: &[&str] = &[
    "challenge",
    "binding",
    "ak-certificate",
    "ek",
    "quote",
    "quote-selection",
    "quote-bank",
    "signature",
    "pcr-list",
    "pcr-digest",
    "uefi-log",
    "userspace-log",
    "event-log",
    "tls-key-public",
    "tls-key-certification",
    "tls-key-name",
    "tls-key-hierarchy",
    "tls-key-binding",
    "tls-key-signature",
    "systemd-report",
];

/// Checks of *appraise* on a machine with or without a TEE.
pub const APPRAISE: &[&str] = &[
    "policy",
    "identity",
    "guard",
    "counters-restart",
    "counters-clock",
    "tpm-firmware",
    "pcr",
    "window",
    "bank",
    "secure-boot",
    "pcr11-signature",
    "pcr11-revoked",
    "image-counter",
    "ima-log",
    "ima-violation",
    "ima-boot-aggregate",
    "ima-keyring",
    "ima-hash",
    "ima-digest",
    "ima-file",
    "ima-signature",
];

/// Checks on the TEE's part, whichever environment it is.
pub const TEE: &[&str] = &[
    "tee",
    "tee-provider",
    "tee-report-data",
    "tee-runtime-digest",
    "tee-runtime-data",
    "tee-ak",
    "tee-test-root",
    "tee-file-provider",
    "tee-boot-time-report",
    "tee-crl-missing",
];

/// Checks on SEV-SNP reports and the chain of their keys.
pub const SNP: &[&str] = &[
    "snp-report",
    "snp-endorsement",
    "snp-endorsement-lapsed",
    "snp-root",
    "snp-root-generation",
    "snp-ark",
    "snp-ask",
    "snp-vek",
    "snp-vek-extensions",
    "snp-vek-kind",
    "snp-crl",
    "snp-crl-stale",
    "snp-crl-signature",
    "snp-revoked",
    "snp-mask-chip-key",
    "snp-signing-key",
    "snp-chip-id",
    "snp-generation",
    "snp-tcb-endorsed",
    "snp-signature",
    "snp-debug",
    "snp-migration-agent",
    "snp-vmpl",
    "snp-abi",
    "snp-smt",
    "snp-cxl",
    "snp-single-socket",
    "snp-alias-check",
    "snp-ciphertext-hiding",
    "snp-rapl",
    "snp-aes-256-xts",
    "snp-ecc",
    "snp-page-swap",
    "snp-provisional-firmware",
    "snp-tcb-uncommitted",
    "snp-guest-svn",
    "snp-measurement",
    "snp-family-id",
    "snp-image-id",
    "snp-id-key",
    "snp-author-key",
    "snp-host-data",
    "snp-chip",
    "snp-vlek",
    "snp-mitigations",
    "snp-generation-refused",
    "snp-tcb-reported",
    "snp-tcb-committed",
    "snp-tcb-launch",
    "snp-tcb-current",
];

/// Checks on TDX quotes, the chain of their keys, and what Intel says of the platform.
pub const TDX: &[&str] = &[
    "tdx-quote",
    "tdx-chain",
    "tdx-root",
    "tdx-pck",
    "tdx-crl",
    "tdx-crl-stale",
    "tdx-revoked",
    "tdx-qe",
    "tdx-qe-signature",
    "tdx-qe-report-data",
    "tdx-qe-identity",
    "tdx-signature",
    "tdx-collateral",
    "tdx-collateral-stale",
    "tdx-tcb-unknown",
    "tdx-tcb-unchecked",
    "tdx-tcb-status",
    "tdx-debug",
    "tdx-attributes",
    "tdx-sept-ve-disable",
    "tdx-migratable",
    "tdx-perfmon",
    "tdx-xfam",
    "tdx-seam-attributes",
    "tdx-tee-tcb-svn",
    "tdx-mrtd",
    "tdx-rtmr0",
    "tdx-rtmr1",
    "tdx-rtmr2",
    "tdx-rtmr3",
    "tdx-mrconfigid",
    "tdx-mrowner",
    "tdx-mrownerconfig",
    "tdx-mrseam",
    "tdx-mrsignerseam",
];

/// What only a running Verifier can find: it keeps the registry, the last round's counters and the endorsements.
pub const VERIFIER: &[&str] = &[
    "enrolment",
    "enrolment-pending",
    "drift-latched",
    "counters-continuity",
    "snp-certificate-table",
];

/// All lists but the Verifier's: what a case of the negative matrix can show without one.
pub const PURE: [&[&str]; 5] = [VERIFY, APPRAISE, TEE, SNP, TDX];

/// Whether some list has the name.
pub fn is_known(check: &str) -> bool {
    let mut lists = PURE.into_iter().chain([VERIFIER]);
    lists.any(|list| list.contains(&check))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_stands_once() {
        let mut names: Vec<_> = PURE.into_iter().chain([VERIFIER]).flatten().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    #[should_panic(expected = "is in no list of checks")]
    fn a_finding_with_a_name_of_its_own_does_not_survive_a_debug_build() {
        let _made = crate::Finding::new("colour", "demo-1", "it is green", "paint it");
    }
}
