//! The crates that are compiled into some programs, as cargo itself resolves them: Cargo.lock, the features of these programs, this
//! target, normal dependencies. `cargo metadata` knows licences but unites the features of all members and their tests, so what is
//! reached is asked of `cargo tree`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use cargo_metadata::{MetadataCommand, Package};

/// What the packages are built for.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// One crate in one version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What is known of it.
#[derive(Debug)]
pub struct Known {
    /// As its author writes it.
    pub licence: String,
    /// SHA-256 of its archive in the registry; ours have none.
    pub checksum: Option<String>,
    /// What it links.
    pub needs: BTreeSet<Id>,
}

/// All that some programs consist of.
#[derive(Debug)]
pub struct Resolved {
    /// The programs themselves.
    pub programs: BTreeSet<Id>,
    /// Them, and all below them.
    pub crates: BTreeMap<Id, Known>,
}

impl Resolved {
    /// # Errors
    /// Cargo's own, and a crate that says nothing of its licence.
    pub fn of(manifest: &Path, programs: &[&str]) -> anyhow::Result<Self> {
        let edges = edges(&tree(manifest, programs)?)?;
        let metadata = MetadataCommand::new()
            .manifest_path(manifest)
            .other_options(["--locked", "--filter-platform", TARGET].map(str::to_owned))
            .exec()?;
        let checksums = checksums(manifest)?;
        let known: BTreeMap<Id, &Package> = metadata.packages.iter().map(|package| (id(package), package)).collect();
        let mut crates = BTreeMap::new();
        for (id, needs) in edges {
            let Some(package) = known.get(&id) else {
                bail!("cargo tree names {} {}, cargo metadata does not", id.name, id.version);
            };
            let Some(licence) = package.license.clone() else {
                bail!("{} {} says nothing of its licence", id.name, id.version);
            };
            let checksum = package.source.as_ref().and_then(|_| checksums.get(&id).cloned());
            crates.insert(
                id,
                Known {
                    licence,
                    checksum,
                    needs,
                },
            );
        }
        let programs: BTreeSet<_> = crates
            .keys()
            .filter(|id| programs.contains(&id.name.as_str()))
            .cloned()
            .collect();
        Ok(Self { programs, crates })
    }
}

fn id(package: &Package) -> Id {
    Id {
        name: package.name.to_string(),
        version: package.version.to_string(),
    }
}

/// `cargo tree`, each line with its depth before it.
fn tree(manifest: &Path, programs: &[&str]) -> anyhow::Result<String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "tree",
        "--locked",
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "depth",
        "--format",
        "{p}",
        "--target",
        TARGET,
    ]);
    cargo.arg("--manifest-path").arg(manifest);
    for program in programs {
        cargo.args(["--package", program]);
    }
    let output = cargo.output().context("cargo cannot be started")?;
    ensure!(
        output.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8(output.stdout).context("cargo tree")
}

/// Which crate needs which. What was printed before comes without what is below it; it has that from the first time.
fn edges(tree: &str) -> anyhow::Result<BTreeMap<Id, BTreeSet<Id>>> {
    let mut edges: BTreeMap<Id, BTreeSet<Id>> = BTreeMap::new();
    let mut above: Vec<Id> = Vec::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let digits = line.find(|c: char| !c.is_ascii_digit()).unwrap_or(line.len());
        let (depth, text) = line.split_at(digits);
        let mut words = text.split(' ');
        let (Ok(depth), Some(name), Some(version)) = (
            depth.parse::<usize>(),
            words.next(),
            words.next().and_then(|word| word.strip_prefix('v')),
        ) else {
            bail!("cargo tree: what is «{line}»?");
        };
        ensure!(depth <= above.len(), "cargo tree: «{line}» has nothing above it");
        let id = Id {
            name: name.to_owned(),
            version: version.to_owned(),
        };
        above.truncate(depth);
        if let Some(parent) = above.last() {
            edges.entry(parent.clone()).or_default().insert(id.clone());
        }
        edges.entry(id.clone()).or_default();
        above.push(id);
    }
    Ok(edges)
}

/// Of the archives in the registry.
fn checksums(manifest: &Path) -> anyhow::Result<BTreeMap<Id, String>> {
    let lock = manifest.with_file_name("Cargo.lock");
    let text = std::fs::read_to_string(&lock).with_context(|| format!("{} cannot be read", lock.display()))?;
    let table: toml::Table = text.parse().context("Cargo.lock")?;
    let packages = table
        .get("package")
        .and_then(toml::Value::as_array)
        .context("Cargo.lock has no packages")?;
    let word = |package: &toml::Value, key: &str| package.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    Ok(packages
        .iter()
        .filter_map(|package| {
            let id = Id {
                name: word(package, "name")?,
                version: word(package, "version")?,
            };
            Some((id, word(package, "checksum")?))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, version: &str) -> Id {
        Id {
            name: name.to_owned(),
            version: version.to_owned(),
        }
    }

    #[test]
    fn a_crate_printed_twice_keeps_what_is_below_it() {
        let tree = "0a v1.0.0 (/src/a)\n1b v2.0.0\n2c v3.0.0\n1c v3.0.0\n\n0d v1.0.0 (/src/d)\n1b v2.0.0 (*)\n";
        let edges = edges(tree).expect("a tree");
        assert_eq!(edges.len(), 4);
        assert_eq!(
            edges[&named("a", "1.0.0")],
            [named("b", "2.0.0"), named("c", "3.0.0")].into()
        );
        assert_eq!(edges[&named("b", "2.0.0")], [named("c", "3.0.0")].into());
        assert_eq!(edges[&named("d", "1.0.0")], [named("b", "2.0.0")].into());
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        for text in ["a v1.0.0", "0a", "0a 1.0.0", "1a v1.0.0", "0a v1.0.0\n2b v1.0.0"] {
            assert!(edges(text).is_err(), "{text}");
        }
    }

    #[test]
    fn this_workspace_is_resolved_without_its_build_and_test_dependencies() {
        let manifest = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"));
        let resolved = Resolved::of(manifest, &["rempart-generator"]).expect("resolved");
        let names: Vec<_> = resolved.crates.keys().map(|id| id.name.as_str()).collect();
        assert!(
            names.contains(&"rempart-rewrite") && names.contains(&"thiserror"),
            "{names:?}"
        );
        assert!(
            !names.contains(&"tempfile") && !names.contains(&"thiserror-impl"),
            "{names:?}"
        );
        assert_eq!(resolved.programs.len(), 1);
    }
}
