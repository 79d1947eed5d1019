//! Packages with test data, fetched by their own clients, and their files, each judged by its SHA-256 before it is used.

use std::path::PathBuf;
use std::process::Command;

use rempart_attest::bytes::sha256;

/// A published package at one version.
#[derive(Clone, Copy)]
pub enum Package {
    /// A Go module.
    Go(&'static str),
    /// A crate and its version.
    Crate(&'static str, &'static str),
}

/// Where a package lies.
pub struct Files(PathBuf);

impl Package {
    /// Has the client fetch it, unless it has it already.
    pub fn fetch(self) -> Result<Files, String> {
        match self {
            Self::Go(module) => {
                let json = run(Command::new("go")
                    .args(["mod", "download", "-json", module])
                    .current_dir("/"))?;
                let dir = json["Dir"].as_str().ok_or("go names no directory")?;
                Ok(Files(dir.into()))
            }
            Self::Crate(name, version) => {
                let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
                let manifest = format!(
                    "[package]\nname = \"vectors\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[dependencies]\n{name} = {{ version = \"={version}\", default-features = false }}\n[workspace]\n"
                );
                std::fs::write(dir.path().join("Cargo.toml"), manifest).map_err(|e| e.to_string())?;
                std::fs::create_dir(dir.path().join("src")).map_err(|e| e.to_string())?;
                std::fs::write(dir.path().join("src/lib.rs"), "").map_err(|e| e.to_string())?;
                let json = run(Command::new("cargo")
                    .args(["metadata", "--format-version=1"])
                    .current_dir(dir.path()))?;
                let packages = json["packages"].as_array().ok_or("cargo names no package")?;
                let found = packages.iter().find(|p| p["name"] == name);
                let manifest = found.and_then(|p| p["manifest_path"].as_str());
                let manifest = PathBuf::from(manifest.ok_or("cargo does not name the package")?);
                Ok(Files(manifest.parent().ok_or("no directory")?.into()))
            }
        }
    }
}

fn run(command: &mut Command) -> Result<serde_json::Value, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let out = command.output().map_err(|e| format!("{program}: {e}"))?;
    if !out.status.success() {
        let why = String::from_utf8_lossy(&out.stderr).trim().replace('\n', "; ");
        return Err(format!("{program} could not fetch the package: {why}"));
    }
    serde_json::from_slice(&out.stdout).map_err(|e| format!("{program}: {e}"))
}

impl Files {
    /// A file's bytes. Others than expected are a failure and not a skip: somebody changed published data.
    pub fn read(&self, path: &str, digest: &str) -> Vec<u8> {
        let bytes = std::fs::read(self.0.join(path)).expect("the package has the file");
        assert_eq!(
            sha256(&bytes).to_string(),
            digest,
            "{path} is not the file that was pinned"
        );
        bytes
    }

    /// A file's text, not pinned: what is read out of it is signed by its vendor.
    pub fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.0.join(path)).expect("the package has the file")
    }
}
