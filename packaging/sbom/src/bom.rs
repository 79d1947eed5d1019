//! The document, in the CycloneDX project's own model: one component a crate, with version, package URL, licence and the checksum that
//! Cargo.lock demands, and which needs which.

use anyhow::{Context, ensure};
use cyclonedx_bom::external_models::spdx::SpdxExpression;
use cyclonedx_bom::external_models::uri::Purl;
use cyclonedx_bom::models::bom::{Bom, SpecVersion};
use cyclonedx_bom::models::component::{Classification, Component, Components};
use cyclonedx_bom::models::dependency::{Dependencies, Dependency};
use cyclonedx_bom::models::hash::{Hash, HashAlgorithm, HashValue, Hashes};
use cyclonedx_bom::models::license::{LicenseChoice, Licenses};
use cyclonedx_bom::models::metadata::Metadata;
use cyclonedx_bom::models::tool::{Tool, Tools};
use cyclonedx_bom::validation::Validate;

use crate::resolved::{Id, Known, Resolved};

/// The JSON of the package `name`.
///
/// # Errors
/// A licence that is no SPDX expression, and whatever the specification forbids.
pub fn document(name: &str, resolved: &Resolved) -> anyhow::Result<Vec<u8>> {
    let version = resolved.programs.first().map_or("", |program| program.version.as_str());
    let itself = format!("package:{name}");
    let mut package = Component::new(Classification::Application, name, version, Some(itself.clone()));
    package.purl = Some(Purl::new("generic", name, version)?);
    package.licenses = Some(licences("Apache-2.0")?);
    let components = resolved
        .crates
        .iter()
        .map(|(id, known)| component(id, known, resolved.programs.contains(id)));
    let mut dependencies = vec![Dependency {
        dependency_ref: itself,
        dependencies: resolved.programs.iter().map(reference).collect(),
    }];
    dependencies.extend(resolved.crates.iter().map(|(id, known)| Dependency {
        dependency_ref: reference(id),
        dependencies: known.needs.iter().map(reference).collect(),
    }));
    let bom = Bom {
        spec_version: SpecVersion::V1_5,
        serial_number: None,
        metadata: Some(Metadata {
            tools: Some(Tools::List(vec![Tool::new(
                "Rempart",
                env!("CARGO_PKG_NAME"),
                env!("CARGO_PKG_VERSION"),
            )])),
            component: Some(package),
            ..Metadata::default()
        }),
        components: Some(Components(components.collect::<anyhow::Result<_>>()?)),
        dependencies: Some(Dependencies(dependencies)),
        ..Bom::default()
    };
    let judged = bom.validate_version(SpecVersion::V1_5);
    ensure!(judged.passed(), "{name}: not valid CycloneDX: {judged:?}");
    let mut text = Vec::new();
    bom.output_as_json_v1_5(&mut text)?;
    text.push(b'\n');
    Ok(text)
}

fn component(id: &Id, known: &Known, program: bool) -> anyhow::Result<Component> {
    let kind = if program {
        Classification::Application
    } else {
        Classification::Library
    };
    let mut component = Component::new(kind, &id.name, &id.version, Some(reference(id)));
    // Ours are in no registry, where somebody else's could have their names.
    let from = if known.checksum.is_some() { "cargo" } else { "generic" };
    component.purl = Some(Purl::new(from, &id.name, &id.version)?);
    component.licenses = Some(
        licences(&known.licence).with_context(|| format!("{} {}: licence «{}»", id.name, id.version, known.licence))?,
    );
    component.hashes = known.checksum.as_ref().map(|sum| {
        Hashes(vec![Hash {
            alg: HashAlgorithm::SHA_256,
            content: HashValue(sum.clone()),
        }])
    });
    Ok(component)
}

/// Older crates write a slash for "or".
fn licences(text: &str) -> anyhow::Result<Licenses> {
    Ok(Licenses(vec![LicenseChoice::Expression(SpdxExpression::parse_lax(
        text.to_owned(),
    )?)]))
}

fn reference(id: &Id) -> String {
    format!("crate:{}@{}", id.name, id.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn resolved(licence: &str) -> Resolved {
        let id = Id {
            name: "a".to_owned(),
            version: "1.0.0".to_owned(),
        };
        let known = Known {
            licence: licence.to_owned(),
            checksum: None,
            needs: BTreeSet::new(),
        };
        Resolved {
            programs: BTreeSet::from([id.clone()]),
            crates: BTreeMap::from([(id, known)]),
        }
    }

    #[test]
    fn the_same_crates_give_the_same_bytes() {
        let one = document("p", &resolved("MIT/Apache-2.0")).expect("document");
        assert_eq!(one, document("p", &resolved("MIT/Apache-2.0")).expect("document"));
        assert!(String::from_utf8_lossy(&one).contains("MIT OR Apache-2.0"));
    }

    #[test]
    fn a_licence_that_nobody_knows_is_an_error() {
        assert!(document("p", &resolved("what you like")).is_err());
    }
}
