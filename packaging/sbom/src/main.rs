//! rempart-sbom: writes down what is compiled into each package, as CycloneDX 1.5, for whoever installs it.
//!
//! A tool of the build, in no package itself. Must never name what is not in the programs (build scripts, procedural macros, tests), nor leave
//! out a licence. The same source gives the same bytes: no time, no serial number.

#![forbid(unsafe_code)]

/// The document.
mod bom;
/// Which programs are in which package.
mod packages;
/// What cargo resolved for them.
mod resolved;

use anyhow::{Context, bail};
use std::path::{Path, PathBuf};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [manifest, folder] = arguments.as_slice() else {
        bail!("usage: rempart-sbom CARGO.TOML FOLDER");
    };
    for package in packages::ALL {
        let resolved = resolved::Resolved::of(Path::new(manifest), package.programs)?;
        let document = bom::document(package.name, &resolved)?;
        let file = PathBuf::from(folder).join(format!("{}.cdx.json", package.name));
        std::fs::write(&file, document).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
