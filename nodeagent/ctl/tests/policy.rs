//! `rempart policy` as an operator runs it: the real program, real ssh-keygen, Evidence with the logs of two real boots.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rempart_attest::testing::{CMDLINE, Node, ORDINARY, SMBIOS};
use serde_json::Value;

/// Images made here.
#[path = "../../../attest/core/tests/support/uki.rs"]
mod uki;

const REFUSED: i32 = 77;
const DATA: i32 = 65;
const USAGE: i32 = 64;
/// The recorded boots are older than some of the demanded arguments.
const ACCEPT: [&str; 2] = ["--accept", "unseen-command-line"];

struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), content).expect("write");
        self.path(name)
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rempart"));
        command.arg("policy").args(words).current_dir(self.folder.path());
        command.output().expect("runs")
    }

    /// Standard output of a run that ends with `code`; what goes wrong is one line on standard error.
    fn says(&self, code: i32, words: &[&str]) -> String {
        let output = self.run(words);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {error}");
        if code == DATA {
            assert_eq!(error.lines().count(), 1, "{error}");
            assert!(error.starts_with("rempart: "), "{error}");
        }
        String::from_utf8(output.stdout).expect("text")
    }

    fn json(&self, code: i32, words: &[&str]) -> Value {
        serde_json::from_str(&self.says(code, words)).expect("JSON")
    }

    fn error(&self, code: i32, words: &[&str]) -> String {
        self.says(code, words);
        String::from_utf8(self.run(words).stderr).expect("text")
    }

    /// A policy learnt from the ordinary boot.
    fn learnt(&self) -> PathBuf {
        self.evidence();
        let text = self.says(0, &["learn", "ordinary.cbor", "--name", "trixie", ACCEPT[0], ACCEPT[1]]);
        self.write("learnt.toml", text)
    }

    fn evidence(&self) {
        let node = Node::new();
        for (name, boot) in [("ordinary", &ORDINARY), ("smbios", &SMBIOS)] {
            let evidence = node.evidence(boot);
            self.write(&format!("{name}.cbor"), evidence.to_cbor());
            self.write(&format!("{name}.json"), evidence.to_json());
        }
    }

    fn image(&self, name: &str, initrd: &[u8], cmdline: &str) -> PathBuf {
        let sections: [(&str, &[u8]); 4] = [
            (".linux", &uki::pe(&[(".text", b"kernel")])),
            (".osrel", b"ID=test\n"),
            (".cmdline", cmdline.as_bytes()),
            (".initrd", initrd),
        ];
        self.write(name, uki::unified(&sections))
    }

    fn key(&self, name: &str) -> String {
        let path = self.path(name);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
            .arg(&path)
            .output()
            .expect("ssh-keygen (openssh-client) must be installed");
        assert!(made.status.success());
        std::fs::read_to_string(path.with_extension("pub")).expect("public key")
    }
}

fn checks(verdict: &Value) -> Vec<(String, Option<u64>)> {
    let findings = verdict["findings"].as_array().expect("findings");
    let check = |finding: &Value| {
        (
            finding["check"].as_str().expect("check").to_owned(),
            finding["pcr"].as_u64(),
        )
    };
    findings.iter().map(check).collect()
}

#[test]
fn a_learnt_policy_affirms_its_boot_in_both_formats_and_refuses_the_other_with_reasons() {
    let desk = Desk::new();
    desk.learnt();
    for file in ["ordinary.cbor", "ordinary.json"] {
        assert!(
            desk.says(0, &["test", "learnt.toml", file])
                .contains("affirmed as image \"trixie\"")
        );
    }
    let verdicts = desk.json(
        REFUSED,
        &["test", "learnt.toml", "ordinary.json", "smbios.json", "--json"],
    );
    assert_eq!(verdicts[0]["affirmed"], true);
    assert_eq!(verdicts[1]["affirmed"], false);
    assert_eq!(
        checks(&verdicts[1]),
        [("pcr".to_owned(), Some(9)), ("pcr".to_owned(), Some(12))]
    );
    let not_verified = verdicts[0]["not_verified"].as_array().expect("list");
    assert!(not_verified.contains(&"signature".into()) && not_verified.contains(&"binding".into()));
    let text = desk.says(REFUSED, &["explain", "learnt.toml", "smbios.cbor"]);
    for part in [
        "Image \"trixie\"",
        "PCR 12",
        "refused, 2 finding(s)",
        "systemd.import_credentials=yes",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn what_was_learnt_is_said_loudly_and_what_is_dangerous_needs_its_name() {
    let desk = Desk::new();
    desk.evidence();
    let loud = desk.run(&["learn", "ordinary.cbor", ACCEPT[0], ACCEPT[1], "--pcr", "0,1"]);
    let warnings = String::from_utf8(loud.stderr).expect("text");
    assert!(
        warnings.contains("LEARNT, not predicted") && warnings.contains("PCR 1 "),
        "{warnings}"
    );
    assert!(
        desk.error(DATA, &["learn", "ordinary.cbor"])
            .contains("unseen-command-line")
    );
    let outside = desk.error(DATA, &["learn", "smbios.cbor", ACCEPT[0], ACCEPT[1]]);
    assert!(outside.contains("configured from outside"), "{outside}");
    let json = desk.json(0, &["learn", "ordinary.cbor", ACCEPT[0], ACCEPT[1], "--json"]);
    assert!(json["warnings"].as_array().is_some_and(|w| w.len() > 5));
    assert_eq!(json["policy"]["image"][0]["accepted_risks"][0], "unseen-command-line");
}

#[test]
fn the_time_of_a_judgement_can_be_given() {
    let desk = Desk::new();
    let path = desk.learnt();
    let text = std::fs::read_to_string(path).expect("policy");
    let windowed = text.replace(
        "name = \"trixie\"\nbank",
        "name = \"trixie\"\nnot_after = \"2027-01-15T08:00:00Z\"\nbank",
    );
    assert_ne!(windowed, text);
    desk.write("windowed.toml", windowed);
    let at = |time| ["test", "windowed.toml", "ordinary.cbor", "--json", "--at", time];
    desk.says(0, &at("2027-01-15T08:00:00Z"));
    let late = desk.json(REFUSED, &at("2027-01-15T08:00:01Z"));
    assert_eq!(checks(&late[0]), [("window".to_owned(), None)]);
    desk.says(USAGE, &at("yesterday"));
}

#[test]
fn several_images_in_either_bank_are_predicted_and_their_difference_is_named_by_part() {
    let desk = Desk::new();
    desk.image("one.efi", b"first initrd", uki::CMDLINE);
    desk.image("two.efi", b"second initrd", &format!("{} debug", uki::CMDLINE));
    let both = desk.json(
        0,
        &[
            "predict",
            "one.efi",
            "two.efi",
            "--json",
            "--bank",
            "sha384",
            "--not-after",
            "2027-01-15T08:00:00Z",
        ],
    );
    assert_eq!(both["image"][0]["name"], "one");
    assert_eq!(both["image"][1]["name"], "two");
    assert_eq!(both["image"][1]["pcr4"][0].as_str().map(str::len), Some(96));
    assert_eq!(both["image"][1]["not_after"], "2027-01-15T08:00:00Z");
    for (image, policy) in [("one.efi", "one.toml"), ("two.efi", "two.toml")] {
        let text = desk.says(0, &["predict", image, "--phases", "ready"]);
        desk.write(policy, text);
    }
    let changes = desk.json(0, &["diff", "one.toml", "two.toml", "--json"]);
    let what: Vec<&str> = changes
        .as_array()
        .expect("list")
        .iter()
        .filter_map(|c| c["what"].as_str())
        .collect();
    for part in [
        "command line",
        "PCR 9, the initrd",
        "PCR 11, section .initrd",
        "PCR 4, the unified kernel image",
    ] {
        assert!(what.contains(&part), "{part} in {what:?}");
    }
    assert!(!what.contains(&"PCR 4, the kernel in it"), "{what:?}");
    assert!(
        desk.says(0, &["diff", "one.toml", "one.toml"])
            .contains("both accept the same")
    );
    let twice = desk.error(DATA, &["predict", "one.efi", "one.efi"]);
    assert!(twice.contains("twice"), "{twice}");
}

#[test]
fn an_image_that_its_host_can_configure_is_not_predicted_unasked() {
    let desk = Desk::new();
    desk.image("open.efi", b"initrd", CMDLINE.trim());
    let refused = desk.error(DATA, &["predict", "open.efi"]);
    assert!(refused.contains("accept the risk by the name"), "{refused}");
    let accept = [
        "--accept",
        "efi-options",
        "--accept",
        "gpt-auto",
        "--accept",
        "hibernation",
    ];
    let policy = desk.says(0, &[&["predict", "open.efi"][..], &accept].concat());
    assert!(
        policy.contains("efi-options") && policy.contains("hibernation"),
        "{policy}"
    );
    assert!(
        desk.error(DATA, &["predict", "open.efi", "--accept", "all"])
            .contains("no risk")
    );
}

#[test]
fn signatures_add_up_and_those_over_an_older_text_are_dropped() {
    let desk = Desk::new();
    let (alice, bob) = (desk.key("alice"), desk.key("bob"));
    desk.write("allowed", format!("alice@example {alice}bob@example {bob}"));
    desk.image("one.efi", b"initrd", uki::CMDLINE);
    let text = desk.says(0, &["predict", "one.efi"]);
    desk.write("p.toml", &text);
    let verify = ["verify", "p.toml", "--allowed-signers", "allowed", "--required", "2"];
    desk.says(DATA, &verify);
    desk.says(0, &["sign", "p.toml", "--key", "alice"]);
    assert!(desk.error(REFUSED, &verify).contains("1 of 2 signers"));
    let signed = desk.json(0, &["sign", "p.toml", "--key", "bob", "--json"]);
    assert_eq!(signed["signatures"], 2);
    assert_eq!(
        desk.json(0, &[&verify[..], &["--json"]].concat())["signers"][1],
        "bob@example"
    );
    // Signing again is no third signature.
    assert_eq!(
        desk.json(0, &["sign", "p.toml", "--key", "bob", "--json"])["signatures"],
        2
    );
    desk.write("p.toml", text.replace("counter = 1", "counter = 2"));
    assert!(
        desk.error(REFUSED, &verify)
            .contains("was changed after alice@example signed it")
    );
    let again = desk.json(0, &["sign", "p.toml", "--key", "alice", "--json"]);
    assert_eq!((&again["signatures"], &again["dropped"]), (&1.into(), &2.into()));
    desk.write("broken.toml", "version = 1\n");
    desk.says(DATA, &["sign", "broken.toml", "--key", "alice"]);
    desk.says(71, &["sign", "p.toml", "--key", "nobody"]);
}

#[test]
fn a_policy_goes_out_as_corim_and_comes_back() {
    let desk = Desk::new();
    desk.image("one.efi", b"initrd", uki::CMDLINE);
    let text = desk.says(
        0,
        &[
            "predict",
            "one.efi",
            "--name",
            "release",
            "--counter",
            "4",
            "--not-after",
            "2099-01-15T08:00:00Z",
        ],
    );
    desk.write("p.toml", &text);
    desk.says(0, &["corim", "export", "p.toml", "-o", "p.corim"]);
    let back = desk.says(0, &["corim", "import", "p.corim"]);
    desk.write("back.toml", &back);
    let changes = desk.json(0, &["diff", "p.toml", "back.toml", "--json"]);
    let what: Vec<&str> = changes
        .as_array()
        .expect("list")
        .iter()
        .filter_map(|c| c["what"].as_str())
        .collect();
    assert_eq!(what, ["command line"], "words that explain are left out, no value is");
    desk.write(
        "guarded.toml",
        text.replace("require_guard = false", "require_guard = true"),
    );
    assert!(
        desk.error(DATA, &["corim", "export", "guarded.toml", "-o", "g.corim"])
            .contains("--values-only")
    );
    assert!(!desk.path("g.corim").exists());
    desk.says(
        0,
        &["corim", "export", "guarded.toml", "-o", "g.corim", "--values-only"],
    );
    let guarded = desk.says(0, &["corim", "import", "g.corim", "--require-guard"]);
    assert!(guarded.contains("require_guard = true"));
    desk.says(DATA, &["corim", "import", "p.toml"]);
}

#[test]
fn what_cannot_be_read_is_one_line_and_a_code() {
    let desk = Desk::new();
    desk.write("empty", "");
    desk.write("noise", [0xff; 64]);
    for file in ["empty", "noise", "absent"] {
        for words in [
            vec!["predict", file],
            vec!["learn", file],
            vec!["diff", file, file],
            vec!["explain", file],
            vec!["test", file, file],
            vec!["sign", file, "--key", "x"],
            vec!["verify", file, "--allowed-signers", file],
            vec!["corim", "export", file, "-o", "out"],
            vec!["corim", "import", file],
        ] {
            desk.says(DATA, &words);
        }
    }
    assert!(!Path::new("out").exists());
}
