//! Secure Boot keys of a test: one self-signed certificate as platform key, exchange key and signature database, and sbsign with it.
//! UEFI 2.10, 32.4 (signature lists).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::nvram::{Guid, Nvram};
use crate::run;

/// EFI_CERT_X509_GUID.
const X509: [u8; 16] = [
    0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72,
];

/// The keys, in files.
#[derive(Debug)]
pub struct SecureBootKeys {
    certificate: PathBuf,
    key: PathBuf,
    der: Vec<u8>,
}

impl SecureBootKeys {
    /// Makes them in `folder`.
    pub fn make(folder: &Path) -> Result<Self> {
        let (certificate, key) = (folder.join("secure-boot.pem"), folder.join("secure-boot.key"));
        run(Command::new("openssl")
            .args([
                "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", "3650",
            ])
            .args(["-subj", "/CN=Rempart test Secure Boot/", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate))?;
        let out = folder.join("secure-boot.der");
        run(Command::new("openssl")
            .args(["x509", "-outform", "DER", "-in"])
            .arg(&certificate)
            .arg("-out")
            .arg(&out))?;
        Ok(Self {
            certificate,
            key,
            der: fs::read(out)?,
        })
    }

    /// Enrols them: the platform key puts the firmware into user mode, in which it enforces.
    pub fn enrol(&self, nvram: &mut Nvram) -> Result<()> {
        let list = self.signature_list();
        nvram
            .set_authenticated(Guid::DATABASE, "db", &list)?
            .set_authenticated(Guid::GLOBAL, "KEK", &list)?
            .set_authenticated(Guid::GLOBAL, "PK", &list)?;
        Ok(())
    }

    /// Signs an EFI image.
    pub fn sign(&self, image: &Path, out: &Path) -> Result<()> {
        run(Command::new("sbsign")
            .arg("--cert")
            .arg(&self.certificate)
            .arg("--key")
            .arg(&self.key)
            .arg("--output")
            .arg(out)
            .arg(image))?;
        Ok(())
    }

    /// EFI_SIGNATURE_LIST of one EFI_SIGNATURE_DATA.
    fn signature_list(&self) -> Vec<u8> {
        let entry = u32::try_from(self.der.len() + 16).expect("a certificate is small");
        let mut list = X509.to_vec();
        for field in [28 + entry, 0, entry] {
            list.extend(field.to_le_bytes());
        }
        list.extend(Guid::HOST.0);
        list.extend(&self.der);
        list
    }
}
