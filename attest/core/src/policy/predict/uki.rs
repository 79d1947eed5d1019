//! A Unified Kernel Image (UAPI group specification) as systemd-stub sees it. An image whose boot this code was not proven for is
//! refused by reason; nothing is guessed.

use super::PredictError;
use super::pe::{Pe, PeError, Section};

/// The stub's own marker (section .sdmagic) begins so.
const STUB_MARK: &str = "#### LoaderInfo: systemd-stub ";
/// The stub whose behaviour this code follows, by major version.
const PROVEN_STUBS: [&str; 1] = ["257"];
/// Makes the boot depend on choices at run time that cannot be known from the image.
const UNSUPPORTED: [&str; 3] = [".dtbauto", ".hwids", ".efifw"];

/// Whether this code ever looks into a section; the stub's own code and data it only hashes as they lie in the file.
fn is_read(name: &str) -> bool {
    super::registers::MEASURED.contains(&name) || [".pcrsig", ".sdmagic"].contains(&name)
}

pub(super) struct Uki<'a> {
    pub(super) pe: Pe<'a>,
}

impl<'a> Uki<'a> {
    pub(super) fn parse(image: &'a [u8]) -> Result<Self, PredictError> {
        let uki = Self { pe: Pe::parse(image)? };
        if uki.pe.sections.iter().any(|s| is_read(s.name) && !s.is_filled()) {
            return Err(PeError::Malformed("a section is larger in memory than in the file").into());
        }
        uki.check_stub()?;
        if let Some(name) = UNSUPPORTED.into_iter().find(|name| uki.section(name).is_some()) {
            return Err(PredictError::Unsupported { section: name });
        }
        if uki.pe.sections.iter().filter(|s| s.name == ".profile").count() > 1 {
            return Err(PredictError::Unsupported {
                section: "several .profile",
            });
        }
        Ok(uki)
    }

    fn section(&self, name: &str) -> Option<Section<'a>> {
        self.pe.sections.iter().find(|s| s.name == name).copied()
    }

    /// A section's content in memory; an empty one counts as absent, as it does for the stub.
    pub(super) fn content(&self, name: &str) -> Option<Vec<u8>> {
        self.section(name).map(|s| s.content()).filter(|c| !c.is_empty())
    }

    pub(super) fn demand(&self, name: &'static str) -> Result<Vec<u8>, PredictError> {
        self.content(name).ok_or(PredictError::Missing { section: name })
    }

    fn check_stub(&self) -> Result<(), PredictError> {
        let mark = self.demand(".sdmagic")?;
        let mark = String::from_utf8_lossy(&mark);
        let version = mark
            .strip_prefix(STUB_MARK)
            .and_then(|m| m.split_whitespace().next())
            .unwrap_or("unknown");
        let major = version.split(['.', '~', '-']).next().unwrap_or_default();
        if PROVEN_STUBS.contains(&major) {
            Ok(())
        } else {
            Err(PredictError::Stub {
                found: version.chars().take(40).collect(),
            })
        }
    }

    /// The command line as the kernel gets it. The stub turns control characters into spaces and drops trailing ones; anything
    /// but a line end at the end is refused rather than followed.
    pub(super) fn command_line(&self) -> Result<String, PredictError> {
        let bytes = self.demand(".cmdline")?;
        let text = bytes.split(|b| *b == 0).next().unwrap_or_default();
        let text = std::str::from_utf8(text).map_err(|_| PredictError::CommandLine("it is not ASCII"))?;
        let text = text.trim_end_matches(['\n', ' ']);
        if text.is_empty() || text.starts_with(' ') {
            return Err(PredictError::CommandLine("it is empty or begins with a space"));
        }
        if !text.bytes().all(|b| (b' '..0x7f).contains(&b)) {
            return Err(PredictError::CommandLine("it has control characters or is not ASCII"));
        }
        Ok(text.to_owned())
    }
}
