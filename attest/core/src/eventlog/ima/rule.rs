//! `[image.ima]` of a policy: which files may have been measured. Without the section PCR 10 is not judged; with it, everything that
//! the policy does not name is refused. IMA says what was opened under which name; names come from mount tables that root of a
//! container may have made, so a rule by name binds the digest, never the name alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::signature::{self, FileSignatureError, Signer};
use super::{Content, Measurement, PCR, measured};
use crate::bytes::{Fixed, sha256};
use crate::eventlog::printable;
use crate::finding::Finding;
use crate::pcr::{PcrValue, Pcrs};

/// Findings about one list, count: a wrong image differs in thousands of files.
const SHOWN: usize = 16;
const NAME_LEN: usize = 200;
/// Hashes whose digests count.
const HASHES: [(&str, usize); 3] = [("sha256", 32), ("sha384", 48), ("sha512", 64)];
const AGGREGATE: &str = "boot_aggregate";

/// What may have been measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImaRule {
    /// Path to accepted digests, each `sha256:HEX` (or sha384, sha512).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allow: BTreeMap<String, Vec<String>>,
    /// PEM certificates: a file that one of their keys signed (template ima-sig) is accepted under any path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signers: Vec<String>,
    /// Keyring (or another label of the template ima-buf) to SHA-256 of what may have been put there, such as a DER certificate.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keyrings: BTreeMap<String, Vec<Fixed<32>>>,
    /// Beginnings of paths that are not judged, each with a slash at both ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
}

impl ImaRule {
    /// Judges the rule itself, when a policy is read.
    pub fn judge(&self) -> Result<(), String> {
        let digests = self
            .allow
            .iter()
            .flat_map(|(path, digests)| digests.iter().map(move |d| (path, d)));
        for (path, digest) in digests {
            let (hash, hex) = digest.split_once(':').unwrap_or_default();
            let counts = HASHES.iter().any(|(name, len)| *name == hash && hex.len() == 2 * len);
            if !counts || hex.bytes().any(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(format!(
                    "ima.allow.\"{path}\": \"{digest}\" is not sha256:, sha384: or sha512: and small hex digits"
                ));
            }
        }
        if let Some((path, _)) = self.allow.iter().find(|(_, digests)| digests.is_empty()) {
            return Err(format!("ima.allow.\"{path}\" accepts no digest"));
        }
        let prefix = |path: &&String| path.len() < 3 || !path.starts_with('/') || !path.ends_with('/');
        if let Some(path) = self.exclude.iter().find(prefix) {
            return Err(format!(
                "ima.exclude: \"{path}\" is no folder below the root with a slash at both ends"
            ));
        }
        self.signers().map(drop)
    }

    fn signers(&self) -> Result<Vec<Signer>, String> {
        let read = |pem: &String| Signer::from_pem(pem).map_err(|e| format!("ima.signers: {e}"));
        self.signers.iter().map(read).collect()
    }

    /// Every way in which `list` of `node` is not what the rule accepts, under the quoted registers.
    pub fn failures(&self, node: &str, list: &[u8], pcrs: &Pcrs) -> Vec<Finding> {
        let remedy = "the kernel must be 5.10 or later with IMA on, and the node must send the list of this boot";
        let fail = |what: String| vec![Finding::new("ima-log", node, what, remedy).pcr(PCR)];
        let signers = match self.signers() {
            Ok(signers) => signers,
            Err(what) => {
                return vec![Finding::new(
                    "policy",
                    "policy",
                    what,
                    "mend the policy and sign it again",
                )];
            }
        };
        let Some(quoted) = pcrs.value(PCR) else {
            return fail("there is no PCR 10".into());
        };
        let measurements = match measured(list, pcrs.bank, &quoted) {
            Ok(measurements) => measurements,
            Err(e) => return fail(e.to_string()),
        };
        if measurements.is_empty() {
            return fail("nothing was measured into PCR 10: IMA is off".into());
        }
        let judge = Judge {
            rule: self,
            signers,
            pcrs,
            node,
        };
        let mut findings = Vec::new();
        let mut more = 0usize;
        for (at, measurement) in measurements.iter().enumerate() {
            match judge.refuses(at, measurement) {
                Some(finding) if findings.len() < SHOWN => findings.push(finding),
                Some(_) => more += 1,
                None => {}
            }
        }
        if let Some(last) = findings.last_mut().filter(|_| more > 0) {
            last.what.push_str(&format!(" (and {more} more entries are refused)"));
        }
        findings
    }
}

struct Judge<'a> {
    rule: &'a ImaRule,
    signers: Vec<Signer>,
    pcrs: &'a Pcrs,
    node: &'a str,
}

impl Judge<'_> {
    fn refuses(&self, at: usize, measurement: &Measurement<'_>) -> Option<Finding> {
        if measurement.violation {
            let what = "a file was written while it was measured: what was read is not known";
            return Some(self.finding("ima-violation", what, measurement));
        }
        if at == 0 && measurement.name == AGGREGATE {
            return self.aggregate(measurement);
        }
        if let Content::Buffer(buffer) = measurement.content {
            return self.buffer(measurement, buffer);
        }
        if !self.is_excluded(measurement.name) {
            return self.file(measurement);
        }
        None
    }

    /// PCRs 0 to 9 as IMA saw them when it started. Only comparable when IMA hashes by the quoted bank's hash; else PCR 10 alone
    /// holds the list to this boot.
    fn aggregate(&self, measurement: &Measurement<'_>) -> Option<Finding> {
        if measurement.algorithm != self.pcrs.bank.name() {
            return None;
        }
        let registers: Vec<PcrValue> = (0..10).filter_map(|index| self.pcrs.value(index)).collect();
        let parts: Vec<&[u8]> = registers.iter().map(PcrValue::as_bytes).collect();
        let expected = self.pcrs.bank.hash(&parts);
        (expected.as_bytes() != measurement.digest).then(|| {
            let what = "IMA began under other registers than the quoted PCRs 0 to 9";
            self.finding("ima-boot-aggregate", what, measurement)
                .expected(expected.to_string())
        })
    }

    fn buffer(&self, measurement: &Measurement<'_>, buffer: &[u8]) -> Option<Finding> {
        let found = sha256(buffer);
        let accepted = self.rule.keyrings.get(measurement.name);
        if accepted.is_some_and(|digests| digests.contains(&found)) {
            return None;
        }
        let what = "something was put into a keyring, or another buffer was measured, that the policy does not name";
        Some(self.finding("ima-keyring", what, measurement).found(found.to_string()))
    }

    fn is_excluded(&self, path: &str) -> bool {
        let plain = !path.split('/').any(|part| part == "..");
        plain && self.rule.exclude.iter().any(|prefix| path.starts_with(prefix.as_str()))
    }

    fn file(&self, measurement: &Measurement<'_>) -> Option<Finding> {
        let found = format!("{}:{}", measurement.algorithm, hex::encode(measurement.digest));
        let counts = |(name, len): &(&str, usize)| *name == measurement.algorithm && *len == measurement.digest.len();
        if !HASHES.iter().any(counts) {
            let what =
                "a file was measured by a hash that does not count: set ima_hash=sha256 and a template with d-ng";
            return Some(self.finding("ima-hash", what, measurement).found(found));
        }
        let accepted = self.rule.allow.get(measurement.name);
        if accepted.is_some_and(|digests| digests.contains(&found)) {
            return None;
        }
        let signed = match measurement.content {
            Content::Signed(signature) => {
                signature::verify(signature, measurement.algorithm, measurement.digest, &self.signers)
            }
            Content::File | Content::Buffer(_) => Err(FileSignatureError::None),
        };
        match (signed, accepted) {
            (Ok(()), _) => None,
            (Err(_), Some(digests)) => {
                let what = "a file has another content than the policy accepts";
                let finding = self.finding("ima-digest", what, measurement);
                Some(finding.expected(digests.join(" or ")).found(found))
            }
            (Err(FileSignatureError::None), None) => {
                let what = "a file was measured that the policy does not name and nobody signed";
                Some(self.finding("ima-file", what, measurement).found(found))
            }
            (Err(e), None) => {
                let what = format!("a file was measured whose signature does not count: {e}");
                Some(self.finding("ima-signature", what, measurement).found(found))
            }
        }
    }

    fn finding(&self, check: &str, what: impl Into<String>, measurement: &Measurement<'_>) -> Finding {
        let remedy = "find out where it comes from; if it is yours, name it in [image.ima] of the policy and sign that";
        Finding::new(check, self.node, what, remedy)
            .pcr(PCR)
            .event(printable(measurement.name, NAME_LEN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcr::Bank;
    use crate::testing::{Entry, ORDINARY, Template};

    fn digest(content: &[u8]) -> String {
        format!("sha256:{}", sha256(content))
    }

    fn rule() -> ImaRule {
        ImaRule {
            allow: [("/usr/bin/env".to_owned(), vec![digest(b"env")])].into(),
            keyrings: [(".ima".to_owned(), vec![sha256(b"key")])].into(),
            exclude: vec!["/var/log/".into()],
            ..ImaRule::default()
        }
    }

    fn buffer(name: &str, content: &[u8]) -> Entry {
        Entry {
            template: Template::ImaBuf,
            extra: content.to_vec(),
            ..Entry::file(name, content)
        }
    }

    fn judged(entries: &[Entry]) -> Vec<String> {
        let (list, register) = Entry::list(Bank::Sha256, entries);
        let mut pcrs = ORDINARY.pcrs();
        pcrs.values.insert(PCR, register);
        let findings = rule().failures("n", &list, &pcrs);
        findings.into_iter().map(|f| f.check).collect()
    }

    #[test]
    fn what_is_named_passes_and_everything_else_is_refused_by_its_own_check() {
        let env = Entry::file("/usr/bin/env", b"env");
        assert!(judged(&[env.clone(), buffer(".ima", b"key"), Entry::file("/var/log/x", b"?")]).is_empty());
        assert_eq!(judged(&[Entry::file("/usr/bin/env", b"other")]), ["ima-digest"]);
        assert_eq!(judged(&[env.clone(), Entry::file("/usr/bin/nc", b"nc")]), ["ima-file"]);
        assert_eq!(judged(&[env.clone(), buffer(".ima", b"other")]), ["ima-keyring"]);
        assert_eq!(judged(&[env.clone(), buffer("kexec-cmdline", b"x")]), ["ima-keyring"]);
        let violation = Entry {
            violation: true,
            ..Entry::file("/var/log/x", b"")
        };
        assert_eq!(
            judged(&[env.clone(), violation]),
            ["ima-violation"],
            "an excluded path too"
        );
        let sha1 = Entry {
            algorithm: "sha1",
            digest: vec![1; 20],
            ..env.clone()
        };
        assert_eq!(judged(&[sha1]), ["ima-hash"]);
        let forged = Entry {
            template: Template::ImaSig,
            extra: vec![3, 2, 4, 0, 0, 0, 1, 0, 1, 9],
            ..Entry::file("/usr/bin/nc", b"nc")
        };
        assert_eq!(judged(&[env, forged]), ["ima-signature"]);
        assert_eq!(judged(&[]), ["ima-log"], "IMA is off");
    }

    #[test]
    fn an_excluded_folder_is_not_left_by_dots_nor_by_a_longer_name() {
        assert_eq!(judged(&[Entry::file("/var/log/../../usr/bin/nc", b"nc")]), ["ima-file"]);
        assert_eq!(judged(&[Entry::file("/var/logs", b"x")]), ["ima-file"]);
    }

    #[test]
    fn the_boot_aggregate_is_that_of_the_quoted_registers() {
        let pcrs = ORDINARY.pcrs();
        let registers: Vec<PcrValue> = (0..10).filter_map(|i| pcrs.value(i)).collect();
        let parts: Vec<&[u8]> = registers.iter().map(PcrValue::as_bytes).collect();
        let aggregate = Entry {
            digest: pcrs.bank.hash(&parts).as_bytes().to_vec(),
            ..Entry::file(AGGREGATE, b"")
        };
        assert!(judged(std::slice::from_ref(&aggregate)).is_empty());
        assert_eq!(judged(&[Entry::file(AGGREGATE, b"")]), ["ima-boot-aggregate"]);
        assert_eq!(
            judged(&[aggregate.clone(), aggregate]),
            ["ima-file"],
            "there is only one"
        );
    }

    #[test]
    fn a_list_with_thousands_of_differences_gives_few_findings() {
        let entries: Vec<_> = (0..100).map(|i| Entry::file(&format!("/x/{i}"), b"")).collect();
        assert_eq!(judged(&entries).len(), SHOWN);
    }

    #[test]
    fn a_rule_that_could_not_be_meant_is_refused() {
        assert_eq!(rule().judge(), Ok(()));
        let allow = |digest: &str| ImaRule {
            allow: [("/x".to_owned(), vec![digest.to_owned()])].into(),
            ..ImaRule::default()
        };
        assert!(allow(&digest(b"").to_uppercase()).judge().is_err());
        assert!(allow(&format!("sha1:{}", "00".repeat(20))).judge().is_err());
        assert!(allow("sha256:00").judge().is_err());
        for exclude in ["/", "/usr", "usr/", ""] {
            let rule = ImaRule {
                exclude: vec![exclude.into()],
                ..ImaRule::default()
            };
            assert!(rule.judge().is_err(), "{exclude}");
        }
        let signers = ImaRule {
            signers: vec!["PEM".into()],
            ..ImaRule::default()
        };
        assert!(signers.judge().is_err());
    }
}
