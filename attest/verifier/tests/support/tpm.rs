//! A software TPM (swtpm) with an EK certificate, and the commands of tpm2-tools as a node would use them.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rempart_attest::eventlog::{uefi, userspace};
use rempart_attest::{Bank, Digest};
use tempfile::TempDir;

use super::run;

pub const UEFI_LOG: &[u8] = include_bytes!("../../../../tests/fixtures/boot/uefi.log");
pub const USERSPACE_LOG: &[u8] = include_bytes!("../../../../tests/fixtures/boot/userspace.log");
const AK_ATTRIBUTES: &str = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign";
const SELECTION: &str = "sha256:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14";

pub struct Tpm {
    dir: TempDir,
    swtpm: Child,
    tcti: String,
}

impl Tpm {
    /// A fresh TPM with EK, EK certificate and AK.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let path = |name: &str| dir.path().join(name).display().to_string();
        fs::create_dir(path("state")).expect("dir");
        fs::write(
            path("localca.conf"),
            format!(
                "statedir = {0}\nsigningkey = {0}/sign.pem\nissuercert = {0}/issuer.pem\ncertserial = {0}/serial\n",
                dir.path().display()
            ),
        )
        .expect("file");
        fs::write(
            path("localca.options"),
            "--tpm-manufacturer id:00001014\n--tpm-model swtpm\n--tpm-version 2.0\n",
        )
        .expect("file");
        let tool = ["/usr/bin/swtpm_localca", "/usr/share/swtpm/swtpm-localca"]
            .into_iter()
            .find(|p| fs::exists(p).unwrap_or(false))
            .expect("swtpm_localca");
        fs::write(
            path("setup.conf"),
            format!(
                "create_certs_tool = {tool}\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = {}\n",
                path("localca.conf"),
                path("localca.options")
            ),
        )
        .expect("file");
        run(
            "swtpm_setup",
            &[
                "--tpm2",
                "--create-ek-cert",
                "--pcr-banks",
                "sha256",
                "--tpm-state",
                &path("state"),
                "--config",
                &path("setup.conf"),
            ],
            &[],
            dir.path(),
        );
        let swtpm = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args([
                "--tpmstate",
                &format!("dir={}", path("state")),
                "--server",
                &format!("type=unixio,path={}", path("s")),
            ])
            .args(["--ctrl", &format!("type=unixio,path={}", path("s.ctrl"))])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("swtpm");
        let tcti = format!("swtpm:path={}", path("s"));
        while !fs::exists(path("s.ctrl")).unwrap_or(false) || !fs::exists(path("s")).unwrap_or(false) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let tpm = Self { dir, swtpm, tcti };
        tpm.tool("tpm2_createek", &["-c", "ek.ctx", "-G", "rsa", "-u", "ek.pub"]);
        tpm.tool(
            "tpm2_createprimary",
            &[
                "-C",
                "e",
                "-G",
                "ecc256:ecdsa-sha256:null",
                "-a",
                AK_ATTRIBUTES,
                "-c",
                "ak.ctx",
            ],
        );
        tpm.tool("tpm2_readpublic", &["-c", "ak.ctx", "-o", "ak.pub"]);
        tpm.tool("tpm2_nvread", &["0x01c00002", "-o", "ek.der"]);
        tpm
    }

    /// Replays the recorded boot into the registers.
    pub fn boot(&self) {
        let mut events = uefi::parse(UEFI_LOG, Bank::Sha256).expect("log");
        events.extend(userspace::parse(USERSPACE_LOG, Bank::Sha256).expect("log"));
        let extends: Vec<String> = events
            .iter()
            .map(|e| format!("{}:sha256={}", e.pcr, e.digest))
            .collect();
        self.tool(
            "tpm2_pcrextend",
            &extends.iter().map(String::as_str).collect::<Vec<_>>(),
        );
    }

    pub fn extend(&self, pcr: u8, digest: &str) {
        self.tool("tpm2_pcrextend", &[&format!("{pcr}:sha256={digest}")]);
    }

    pub fn pcrs(&self) -> Vec<(u8, Digest)> {
        self.tool("tpm2_pcrread", &[SELECTION, "-o", "pcrs"]);
        let values = self.file("pcrs");
        (0u8..)
            .zip(values.chunks_exact(32))
            .map(|(i, v)| (i, Digest::from_bytes(v).expect("32 bytes")))
            .collect()
    }

    /// TPMS_ATTEST and TPMT_SIGNATURE.
    pub fn quote(&self, qualifying_data: &[u8], selection: Option<&str>) -> (Vec<u8>, Vec<u8>) {
        let data = qualifying_data.iter().map(|b| format!("{b:02x}")).collect::<String>();
        self.tool(
            "tpm2_quote",
            &[
                "-c",
                "ak.ctx",
                "-l",
                selection.unwrap_or(SELECTION),
                "-q",
                &data,
                "-m",
                "quote",
                "-s",
                "sig",
                "-g",
                "sha256",
            ],
        );
        (self.file("quote"), self.file("sig"))
    }

    /// TPM2_ActivateCredential.
    pub fn activate(&self, blob: &[u8], encrypted_secret: &[u8]) -> Vec<u8> {
        // The container of tpm2-tools: magic, version, both structures.
        let file = [
            &0xbadc_c0deu32.to_be_bytes(),
            &1u32.to_be_bytes(),
            blob,
            encrypted_secret,
        ]
        .concat();
        fs::write(self.path("credential"), file).expect("file");
        self.tool("tpm2_startauthsession", &["--policy-session", "-S", "session"]);
        self.tool("tpm2_policysecret", &["-S", "session", "-c", "e"]);
        self.tool(
            "tpm2_activatecredential",
            &[
                "-c",
                "ak.ctx",
                "-C",
                "ek.ctx",
                "-i",
                "credential",
                "-o",
                "secret",
                "-P",
                "session:session",
            ],
        );
        self.tool("tpm2_flushcontext", &["session"]);
        self.file("secret")
    }

    pub fn ek_public(&self) -> Vec<u8> {
        self.file("ek.pub")
    }

    pub fn ak_public(&self) -> Vec<u8> {
        self.file("ak.pub")
    }

    pub fn ek_certificate(&self) -> Vec<u8> {
        self.file("ek.der")
    }

    /// The manufacturer's certificates.
    pub fn roots(&self) -> [PathBuf; 2] {
        [self.path("issuer.pem"), self.path("swtpm-localca-rootca-cert.pem")]
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("a file that a tool made")
    }

    /// There is no resource manager, so what a tool leaves loaded is flushed.
    fn tool(&self, name: &str, args: &[&str]) {
        let tcti = [("TPM2TOOLS_TCTI", self.tcti.as_str())];
        run(name, args, &tcti, self.dir.path());
        run("tpm2_flushcontext", &["-t"], &tcti, self.dir.path());
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        let _gone = self.swtpm.kill();
        let _waited = self.swtpm.wait();
    }
}
