//! tpm2-tools in a folder of their own, against one swtpm: the foreign implementation that ours is compared with.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use super::Swtpm;

/// A folder and a TPM.
pub struct Tools {
    folder: tempfile::TempDir,
    tcti: String,
}

impl Tools {
    /// For `swtpm`.
    pub fn new(swtpm: &Swtpm) -> Self {
        Self {
            folder: tempfile::tempdir().expect("temporary folder"),
            tcti: swtpm.tcti(),
        }
    }

    /// Runs one tool in the folder; what it printed.
    pub fn run(&self, tool: &str, arguments: &[&str]) -> String {
        let output = self.output(tool, arguments);
        assert!(
            output.status.success(),
            "{tool} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether it succeeds.
    pub fn succeeds(&self, tool: &str, arguments: &[&str]) -> bool {
        self.output(tool, arguments).status.success()
    }

    fn output(&self, tool: &str, arguments: &[&str]) -> Output {
        Command::new(tool)
            .args(arguments)
            .current_dir(self.folder.path())
            .env("TPM2TOOLS_TCTI", &self.tcti)
            .output()
            .expect("tpm2-tools must be installed")
    }

    /// Runs one tool that loads objects, and flushes what it leaves: there is no resource manager.
    pub fn make(&self, tool: &str, arguments: &[&str]) {
        self.run(tool, arguments);
        self.run("tpm2_flushcontext", &["-t"]);
    }

    /// A file of the folder.
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("written by a tool")
    }

    /// Puts a file into the folder.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("write");
    }

    /// Its place.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
