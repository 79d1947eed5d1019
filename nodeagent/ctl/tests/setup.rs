//! `rempart setup` and `rempart doctor` as an operator runs them: the real program, on a tree of files in the place of the machine's.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

const USAGE: i32 = 64;
const DATA: i32 = 65;
const CONFIG: i32 = 78;

/// A machine with GRUB and no bpf among its security modules, and an authority that lies with its operator.
struct Machine {
    root: tempfile::TempDir,
    desk: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let (root, desk) = (
            tempfile::tempdir().expect("folder"),
            tempfile::tempdir().expect("folder"),
        );
        let machine = Self { root, desk };
        machine.write("proc/sys/kernel/osrelease", "6.12.1-amd64\n");
        machine.write("proc/sys/kernel/hostname", "host-1\n");
        machine.write("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/vda1 ro quiet\n");
        machine.write("sys/kernel/security/lsm", "lockdown,capability,yama\n");
        machine.write("etc/os-release", "ID=debian\nVERSION_ID=\"13\"\n");
        machine.write(
            "etc/default/grub",
            "GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX=\"console=ttyS0\"\n",
        );
        machine.write("usr/sbin/update-grub", "");
        machine.write("etc/systemd/system/billing.service", "[Service]\nExecStart=/bin/true\n");
        machine.write(
            "etc/systemd/system/billing.service.d/50-rempart.conf",
            "[X-Rempart]\nWrap=yes\nRole=billing\nSecret=PW=kv/billing#pw\n",
        );
        let pem = authority();
        fs::write(machine.desk.path().join("ca.pem"), pem).expect("written");
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        fs::write(path, text).expect("written");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn there(&self, path: &str) -> bool {
        self.root.path().join(path).exists()
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rempart"));
        command
            .arg("setup")
            .arg("--root")
            .arg(self.root.path())
            .args(words)
            .current_dir(self.desk.path());
        command.stdin(std::process::Stdio::null()).output().expect("runs")
    }

    fn says(&self, code: i32, words: &[&str]) -> (String, String) {
        let output = self.run(words);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let (said, error) = (text(output.stdout), text(output.stderr));
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}{error}");
        (said, error)
    }

    fn backups(&self, folder: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.path().join(folder)).expect("a folder");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "bak"))
            .collect()
    }
}

/// A certificate that is valid now, by the tool that operators have.
fn authority() -> String {
    let folder = tempfile::tempdir().expect("folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=ca",
            "-days",
            "30",
        ])
        .args(["-keyout", &at("key"), "-out", &at("ca.pem")])
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::read_to_string(Path::new(&at("ca.pem"))).expect("made")
}

const ALL: [&str; 10] = [
    "--node",
    "web-1",
    "--verifier",
    "https://verifier.test:8443",
    "--verifier-ca",
    "ca.pem",
    "--vault",
    "openbao",
    "--vault-url",
    "https://vault.test:8200",
];

fn with(more: &[&'static str]) -> Vec<&'static str> {
    [&ALL[..], more].concat()
}

#[test]
fn a_dry_run_shows_file_and_line_and_writes_nothing() {
    let machine = Machine::new();
    let (said, _) = machine.says(0, &with(&["--dry-run"]));
    for words in [
        "FAILED    bpf security module",
        "/etc/default/grub:2",
        "- GRUB_CMDLINE_LINUX=\"console=ttyS0\"",
        "+ GRUB_CMDLINE_LINUX=\"console=ttyS0 lsm=lockdown,yama,bpf systemd.import_credentials=no",
        "update-grub",
        "apt-get install -y libtss2-tcti-device0t64",
        "| name = \"web-1\"",
        "rempart-billing.hcl",
        "path \"kv/data/billing\"",
        "rempart-verifier node add 'web-1' --role 'billing'",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!machine.there("etc/rempart") && machine.backups("etc/default").is_empty());
    assert!(!machine.desk.path().join("rempart-owner").exists());
    assert!(machine.read("etc/default/grub").contains("LINUX=\"console=ttyS0\"\n"));
}

#[test]
fn nothing_is_written_into_a_folder_that_others_can_change() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let machine = Machine::new();
    let owner = machine.desk.path().join("rempart-owner");
    fs::create_dir(&owner).expect("folder");
    fs::set_permissions(&owner, fs::Permissions::from_mode(0o777)).expect("mode");
    let (_, error) = machine.says(71, &with(&["--yes"]));
    assert!(error.contains("others can change this folder"), "{error}");
    assert_eq!(fs::read_dir(&owner).expect("folder").count(), 0);

    fs::remove_dir(&owner).expect("empty");
    let elsewhere = tempfile::tempdir().expect("folder");
    symlink(elsewhere.path(), &owner).expect("a link");
    let (_, error) = machine.says(71, &with(&["--yes"]));
    assert!(error.contains("or it is a link"), "{error}");
    assert_eq!(fs::read_dir(elsewhere.path()).expect("folder").count(), 0);
}

#[test]
fn yes_writes_the_configuration_and_the_owners_files_and_leaves_the_machine() {
    let machine = Machine::new();
    let (said, _) = machine.says(0, &with(&["--yes"]));
    assert!(said.contains("left as it was"), "{said}");
    let text = machine.read("etc/rempart/rempart.toml");
    assert!(
        text.contains("name = \"web-1\"") && text.contains("ca = \"/etc/rempart/verifier-ca.pem\""),
        "{text}"
    );
    assert_eq!(
        machine.read("etc/rempart/verifier-ca.pem"),
        fs::read_to_string(machine.desk.path().join("ca.pem")).expect("ca")
    );
    assert!(
        machine.read("etc/default/grub").contains("LINUX=\"console=ttyS0\"\n"),
        "only --apply does that"
    );
    let owner = machine.desk.path().join("rempart-owner");
    for file in [
        "vault.sh",
        "verifier.sh",
        "policies/rempart-billing.hcl",
        "policies/rempart_verifier.hcl",
        "verifier-ca.pem",
    ] {
        assert!(owner.join(file).is_file(), "{file}");
    }
    // A second time there is nothing to do, and nothing to ask for.
    let (_, error) = machine.says(0, &["--yes"]);
    assert_eq!(error, "");
    assert_eq!(
        (
            machine.read("etc/rempart/rempart.toml"),
            machine.backups("etc/rempart").len()
        ),
        (text, 0)
    );
}

#[test]
fn apply_changes_the_command_line_once_and_keeps_what_was_there() {
    let machine = Machine::new();
    machine.says(0, &with(&["--yes", "--apply"]));
    let after = machine.read("etc/default/grub");
    assert!(
        after.contains("GRUB_TIMEOUT=5\n") && after.contains("lsm=lockdown,yama,bpf"),
        "{after}"
    );
    let kept = machine.backups("etc/default");
    assert!(
        kept.len() == 1
            && fs::read_to_string(&kept[0])
                .expect("kept")
                .contains("\"console=ttyS0\"\n")
    );
    machine.says(0, &["--yes", "--apply"]);
    assert_eq!(
        (machine.read("etc/default/grub"), machine.backups("etc/default").len()),
        (after, 1)
    );
}

#[test]
fn a_file_that_says_something_else_is_replaced_only_when_that_is_said() {
    let machine = Machine::new();
    let mine = "# mine\n[node]\nname = \"old\"\n[guard]\nfiles = \"observe\"\n";
    machine.write("etc/rempart/rempart.toml", mine);
    let (_, error) = machine.says(CONFIG, &with(&["--yes"]));
    assert!(
        error.contains("rempart.toml") && error.contains("--force") && error.lines().count() == 1,
        "{error}"
    );
    assert_eq!(machine.read("etc/rempart/rempart.toml"), mine);
    assert!(
        !machine.there("etc/rempart/verifier-ca.pem"),
        "nothing is written by halves"
    );
    machine.says(0, &with(&["--yes", "--force"]));
    let text = machine.read("etc/rempart/rempart.toml");
    assert!(text.contains("web-1") && text.contains("files = \"observe\""), "{text}");
    let kept = machine.backups("etc/rempart");
    assert!(kept.len() == 1 && fs::read_to_string(&kept[0]).expect("kept") == mine);
}

#[test]
fn what_cannot_be_used_is_one_line_and_nothing_is_written() {
    let machine = Machine::new();
    fs::write(machine.desk.path().join("none.pem"), "no certificate").expect("written");
    let replaced = |from: &str, to: &'static str| {
        with(&["--yes"])
            .into_iter()
            .map(|word| if word == from { to } else { word })
            .collect::<Vec<_>>()
    };
    for (code, words, part) in [
        (USAGE, with(&[]), "--yes"),
        (USAGE, vec!["--yes", "--node", "n"], "--vault is missing"),
        (
            USAGE,
            replaced("https://verifier.test:8443", "http://verifier.test"),
            "https://",
        ),
        (USAGE, replaced("web-1", "two words"), "--node"),
        (USAGE, with(&["--yes", "--role", "a b"]), "--role"),
        (CONFIG, with(&["--yes", "--role", "rempart-verifier"]), "Verifier's own"),
        (DATA, replaced("ca.pem", "none.pem"), "no certificate"),
        (DATA, replaced("ca.pem", "absent.pem"), "not there"),
    ] {
        let (_, error) = machine.says(code, &words);
        assert!(error.contains(part) && error.lines().count() == 1, "{words:?}: {error}");
    }
    assert!(!machine.there("etc/rempart"));
}

#[test]
fn the_json_object_has_what_was_found_and_what_was_done() {
    let machine = Machine::new();
    let (said, _) = machine.says(0, &with(&["--yes", "--json"]));
    let told: Value = serde_json::from_str(&said).expect("one JSON object");
    assert_eq!(told["v"], 1);
    let state = |name: &str| {
        let list = told["machine"].as_array().expect("checks");
        list.iter().find(|check| check["name"] == name).expect(name)["state"].clone()
    };
    assert_eq!(
        (state("kernel"), state("bpf security module"), state("uefi")),
        ("ok".into(), "failed".into(), "failed".into())
    );
    let steps = told["steps"].as_array().expect("steps");
    let step = |end: &str| {
        let named = |step: &&Value| step["path"].as_str().is_some_and(|path| path.ends_with(end));
        steps.iter().find(named).unwrap_or_else(|| panic!("{end}"))
    };
    assert_eq!(
        (step("/rempart.toml")["done"].as_str(), step("/grub")["done"].as_str()),
        (Some("written"), Some("left"))
    );
    assert_eq!(step("/grub")["line"]["number"], 2);
    let again = machine.says(0, &["--yes", "--json"]).0;
    let again: Value = serde_json::from_str(&again).expect("one JSON object");
    let files = again["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .filter(|step| step["part"] == "configuration");
    assert!(
        files.clone().count() > 0 && files.clone().all(|step| step["done"] == "same"),
        "{again}"
    );
}

#[test]
fn a_machine_alone_needs_no_server_and_a_unified_image_no_grub() {
    let machine = Machine::new();
    machine.says(0, &["--yes", "--node", "alone", "--vault", "tpm"]);
    let text = machine.read("etc/rempart/rempart.toml");
    assert!(text.contains("kind = \"tpm\"") && !text.contains("verifier"), "{text}");
    assert!(!machine.desk.path().join("rempart-owner").exists());

    let image = Machine::new();
    image.write(
        "sys/firmware/efi/efivars/StubInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f",
        "x",
    );
    let (said, _) = image.says(0, &["--dry-run", "--node", "alone", "--vault", "tpm"]);
    assert!(
        said.contains("was not built on it") && !said.contains("update-grub"),
        "{said}"
    );
    for file in ["usr/bin/kernel-install", "usr/bin/ukify", "boot/vmlinuz-6.12.1-amd64"] {
        image.write(file, "");
    }
    let (said, _) = image.says(0, &["--dry-run", "--node", "alone", "--vault", "tpm"]);
    assert!(said.contains("may have arguments of the host"), "{said}");
    image.write("etc/kernel/cmdline", "root=/dev/vda1 ro quiet\n");
    image.says(0, &["--yes", "--apply", "--node", "alone", "--vault", "tpm"]);
    let line = image.read("etc/kernel/cmdline");
    assert!(
        line.starts_with("root=/dev/vda1 ro quiet lsm=") && line.lines().count() == 1,
        "{line}"
    );
}

#[test]
fn doctor_without_an_agent_says_what_it_could_not_see_and_ends_with_its_code() {
    let doctor = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rempart"));
        command
            .args(["--bus", "unix:path=/nonexistent/bus", "doctor"])
            .args(words);
        let began = std::time::Instant::now();
        let output = command.output().expect("runs");
        assert!(began.elapsed() < std::time::Duration::from_secs(10), "quick");
        output
    };
    let output = doctor(&["--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(
        (told["v"].as_u64(), told["state"].as_str(), output.status.code()),
        (Some(1), Some("failed"), Some(71))
    );
    let check = |name: &str| {
        let list = told["checks"].as_array().expect("checks");
        list.iter().find(|check| check["name"] == name).expect(name).clone()
    };
    assert_eq!(check("agent")["state"], "failed");
    for unseen in ["systemd", "ek certificate", "bus name"] {
        assert_eq!(check(unseen)["state"], "unseen", "{told}");
        assert!(check(unseen)["do"].is_string());
    }
    let text = String::from_utf8(doctor(&[]).stdout).expect("text");
    assert!(
        text.contains("FAILED    agent") && text.lines().last().is_some_and(|line| line.contains("failed")),
        "{text}"
    );
}
