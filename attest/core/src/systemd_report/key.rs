//! The file by which systemd is told to sign with a node's AK: `/var/lib/systemd/report.sign.tpm2/default.key`. It holds the template of
//! a primary key, from which the TPM makes the same key each time, and the Name that must come out; no secret.

use serde::Serialize;

use crate::bytes::Blob;
use crate::tpm::Name;

/// TPM_RH_ENDORSEMENT (Part 2, 7.4), where the AK's templates live.
const ENDORSEMENT: u32 = 0x4000_000b;
/// The last release that has hierarchies as handles. It reads no Name; later ones have words and demand it.
const NUMBERS: u32 = 262;

#[derive(Serialize)]
struct KeyFile<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    hierarchy: Hierarchy,
    /// TPM2B_PUBLIC.
    template: Blob,
    name: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Hierarchy {
    Handle(u32),
    Word(&'static str),
}

/// The file's text for the key with this Name that the TPM makes by `template` (TPM2B_PUBLIC) in the endorsement hierarchy, as systemd
/// of release `systemd` reads it.
pub fn key_file(template: &[u8], name: &Name, systemd: u32) -> String {
    let file = KeyFile {
        kind: "primary",
        hierarchy: match systemd {
            ..=NUMBERS => Hierarchy::Handle(ENDORSEMENT),
            _ => Hierarchy::Word("endorsement"),
        },
        template: template.into(),
        name: hex::encode(name),
    };
    serde_json::to_string(&file).expect("a map of strings and a number")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tpm::Hash;

    #[test]
    fn each_release_gets_the_hierarchy_as_it_reads_it() {
        let name = Name::of(Hash::Sha256, b"area");
        let file =
            |systemd| serde_json::from_str::<serde_json::Value>(&key_file(&[0, 1, 2], &name, systemd)).expect("json");
        assert_eq!(file(262)["hierarchy"], 1_073_741_835);
        assert_eq!(file(263)["hierarchy"], "endorsement");
        assert_eq!(
            (&file(262)["type"], &file(262)["template"]),
            (&"primary".into(), &"AAEC".into())
        );
        assert_eq!(file(263)["name"], hex::encode(name.as_ref()));
    }
}
