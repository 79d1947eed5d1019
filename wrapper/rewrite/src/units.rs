//! Units and drop-ins as systemd finds them: the unit load path, masks, aliases, templates, prefixes.
//!
//! Only reads. Must never miss a file that systemd would read; where the order between two of them is not certain the
//! unit is reported as [`Found::unclear`]. Follows systemd.unit(5), "Unit File Load Path".

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

const SYSTEM: [&str; 10] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const USER: [&str; 5] = [
    "/etc/systemd/user",
    "/run/systemd/user",
    "/usr/local/lib/systemd/user",
    "/usr/lib/systemd/user",
    "/lib/systemd/user",
];
const TYPES: [&str; 10] = [
    ".service",
    ".socket",
    ".mount",
    ".timer",
    ".path",
    ".target",
    ".slice",
    ".swap",
    ".automount",
    ".scope",
];
/// Aliases of aliases that are followed.
const MAX_ALIASES: usize = 8;

/// Whose units.
#[derive(Debug)]
pub struct Scope {
    /// Folders, highest precedence first.
    pub folders: Vec<PathBuf>,
    /// A user's manager runs us: nothing can be wrapped there.
    pub user: bool,
}

impl Scope {
    /// Where units of users come from that are not in one user's home.
    pub fn users() -> Self {
        Self {
            folders: distinct(USER.map(PathBuf::from).to_vec()),
            user: true,
        }
    }

    /// As systemd tells it: `$SYSTEMD_SCOPE` (251 and later), and `$SYSTEMD_UNIT_PATH`, which the manager obeys too.
    pub fn from_environment() -> Self {
        let user = std::env::var_os("SYSTEMD_SCOPE").is_some_and(|scope| scope == "user");
        let mut folders: Vec<PathBuf> = Vec::new();
        let given = std::env::var("SYSTEMD_UNIT_PATH").unwrap_or_default();
        folders.extend(given.split(':').filter(|f| !f.is_empty()).map(PathBuf::from));
        if given.is_empty() || given.ends_with(':') {
            if user {
                let home = std::env::var_os("HOME").map(PathBuf::from);
                let own = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
                folders.extend(
                    own.or_else(|| home.map(|h| h.join(".config")))
                        .map(|c| c.join("systemd/user")),
                );
                folders.extend(USER.map(PathBuf::from));
            } else {
                folders.extend(SYSTEM.map(PathBuf::from));
            }
        }
        Self {
            folders: distinct(folders),
            user,
        }
    }
}

/// /lib and /usr/lib are one folder on merged systems: a file must not seem to stand in two.
fn distinct(mut folders: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    folders.retain(|f| fs::canonicalize(f).is_ok_and(|real| seen.insert(real)));
    folders
}

/// Everything of the load path.
#[derive(Debug, Default)]
pub struct Units {
    fragments: BTreeMap<String, Fragment>,
    /// By the folder's own name (`x.service.d`), highest precedence first.
    drop_ins: BTreeMap<String, Vec<PathBuf>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Fragment {
    File(PathBuf),
    Alias(String),
    Masked,
}

/// The files of one unit.
#[derive(Debug, Default)]
pub struct Found {
    /// Fragment, then drop-ins in systemd's order.
    pub files: Vec<PathBuf>,
    /// Whether there is a fragment.
    pub fragment: bool,
    /// Drop-ins of the same file name in folders whose order we do not want to guess.
    pub unclear: Option<String>,
}

impl Units {
    /// Reads the folders.
    pub fn read(folders: &[PathBuf]) -> Self {
        let mut units = Self::default();
        for folder in folders {
            let Ok(listing) = fs::read_dir(folder) else { continue };
            for entry in listing.flatten() {
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let path = entry.path();
                if let Some(unit) = name.strip_suffix(".d") {
                    if (unit_type(unit).is_some() || TYPES.contains(&format!(".{unit}").as_str())) && path.is_dir() {
                        units.drop_ins.entry(name).or_default().push(path);
                    }
                } else if unit_type(&name).is_some() && !path.is_dir() {
                    let fragment = || fragment(&path, &name, folders);
                    units.fragments.entry(name.clone()).or_insert_with(fragment);
                }
            }
        }
        units
    }

    /// Every unit that could be started by its own name: no alias, no mask, no prefix.
    pub fn names(&self) -> BTreeSet<&str> {
        let drop_ins = self
            .drop_ins
            .keys()
            .filter_map(|d| d.strip_suffix(".d"))
            .filter(|n| unit_type(n).is_some());
        let all = self.fragments.keys().map(String::as_str).chain(drop_ins);
        all.filter(|n| !is_prefix(n))
            .map(|n| self.resolve(n))
            .filter(|n| self.fragments.get(*n) != Some(&Fragment::Masked))
            .collect()
    }

    /// Folders such as `x-.service.d`: they concern units that need not exist yet.
    pub fn prefixes(&self) -> impl Iterator<Item = &str> {
        self.drop_ins
            .keys()
            .filter_map(|d| d.strip_suffix(".d"))
            .filter(|n| unit_type(n).is_some() && is_prefix(n))
    }

    /// The drop-ins that concern every service.
    pub fn for_all_services(&self) -> Vec<PathBuf> {
        let mut found = Found::default();
        self.collect_drop_ins(&["service.d".to_owned()], &mut found);
        found.files
    }

    /// The files of `unit` (which [`Self::names`] gave).
    pub fn files(&self, unit: &str) -> Found {
        let mut found = Found::default();
        if let Some(fragment) = self.fragment_of(unit) {
            found.files.push(fragment.to_owned());
            found.fragment = true;
        }
        let aliases = self.fragments.keys().filter(|n| *n != unit && self.resolve(n) == unit);
        let mut folders: Vec<String> = Vec::new();
        for name in std::iter::once(unit).chain(aliases.map(String::as_str)) {
            for folder in drop_in_names(name) {
                if !folders.contains(&folder) {
                    folders.push(folder);
                }
            }
        }
        self.collect_drop_ins(&folders, &mut found);
        found
    }

    /// The files in the drop-in folder of one name alone, for prefixes.
    pub fn files_of_prefix(&self, prefix: &str) -> Found {
        let mut found = Found::default();
        self.collect_drop_ins(&[format!("{prefix}.d")], &mut found);
        found
    }

    fn collect_drop_ins(&self, folders: &[String], found: &mut Found) {
        let mut by_name: BTreeMap<Vec<u8>, (PathBuf, &str)> = BTreeMap::new();
        for folder in folders {
            for path in self.drop_ins.get(folder).into_iter().flatten() {
                let Ok(listing) = fs::read_dir(path) else { continue };
                for entry in listing
                    .flatten()
                    .filter(|e| e.path().extension() == Some(OsStr::new("conf")))
                    // systemd passes over hidden files: what one says is not what runs.
                    .filter(|e| !e.file_name().as_encoded_bytes().starts_with(b"."))
                {
                    let name = entry.file_name();
                    match by_name.get(name.as_encoded_bytes()) {
                        None => {
                            by_name.insert(name.into_encoded_bytes(), (entry.path(), folder));
                        }
                        Some((_, first)) if first != folder => {
                            found.unclear = Some(name.to_string_lossy().into_owned())
                        }
                        Some(_) => {}
                    }
                }
            }
        }
        found.files.extend(
            by_name
                .into_values()
                .map(|(path, _)| path)
                .filter(|path| !is_masked(path)),
        );
    }

    fn fragment_of(&self, unit: &str) -> Option<&Path> {
        match self.fragments.get(unit) {
            Some(Fragment::File(path)) => Some(path),
            Some(_) => None,
            None => template(unit).and_then(|t| match self.fragments.get(self.resolve(&t)) {
                Some(Fragment::File(path)) => Some(path.as_path()),
                _ => None,
            }),
        }
    }

    /// The unit that `name` is an alias of; itself, when it is none.
    pub fn resolve<'a>(&'a self, name: &'a str) -> &'a str {
        let mut name = name;
        for _ in 0..MAX_ALIASES {
            match self.fragments.get(name) {
                Some(Fragment::Alias(target)) => name = target,
                _ => break,
            }
        }
        name
    }
}

fn fragment(path: &Path, name: &str, folders: &[PathBuf]) -> Fragment {
    if is_masked(path) {
        return Fragment::Masked;
    }
    let Ok(target) = fs::read_link(path) else {
        return Fragment::File(path.to_owned());
    };
    let target = path.parent().unwrap_or(Path::new("/")).join(target);
    let real = |p: &Path| fs::canonicalize(p).ok();
    let inside = target
        .parent()
        .and_then(real)
        .is_some_and(|dir| folders.iter().any(|f| real(f).as_ref() == Some(&dir)));
    match target.file_name().and_then(OsStr::to_str) {
        // An instance that points to its template is the template's instance, not another name for the template.
        Some(other)
            if inside
                && other != name
                && unit_type(other) == unit_type(name)
                && template(name).as_deref() != Some(other) =>
        {
            Fragment::Alias(other.to_owned())
        }
        _ => Fragment::File(path.to_owned()),
    }
}

/// A link to /dev/null or an empty file.
fn is_masked(path: &Path) -> bool {
    fs::canonicalize(path).is_ok_and(|real| real == Path::new("/dev/null"))
        || fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() == 0)
}

/// The type of a unit's name, such as `.service`.
pub fn unit_type(name: &str) -> Option<&'static str> {
    TYPES.into_iter().find(|t| name.len() > t.len() && name.ends_with(t))
}

/// `a-.service`, `a-b-@.service`: not a unit, but the beginning of many.
pub fn is_prefix(name: &str) -> bool {
    let stem = unit_type(name).map_or(name, |t| &name[..name.len() - t.len()]);
    stem.split('@').next().unwrap_or(stem).ends_with('-') && stem != "-"
}

/// `a@.service` of `a@b.service`.
fn template(name: &str) -> Option<String> {
    let suffix = unit_type(name)?;
    let (stem, instance) = name[..name.len() - suffix.len()].split_once('@')?;
    (!instance.is_empty()).then(|| format!("{stem}@{suffix}"))
}

/// All drop-in folders that concern a unit of this name.
fn drop_in_names(name: &str) -> Vec<String> {
    let mut names = Vec::new();
    let Some(suffix) = unit_type(name) else { return names };
    let stem = &name[..name.len() - suffix.len()];
    let (mut base, instance) = stem.split_once('@').map_or((stem, None), |(b, i)| (b, Some(i)));
    loop {
        match instance {
            None => names.push(format!("{base}{suffix}.d")),
            Some(instance) => {
                names.push(format!("{base}@{instance}{suffix}.d"));
                if !instance.is_empty() {
                    names.push(format!("{base}@{suffix}.d"));
                }
            }
        }
        match base.trim_end_matches('-').rfind('-') {
            Some(at) => base = &base[..=at],
            None => break,
        }
    }
    names.push(format!("{}.d", &suffix[1..]));
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let root = tempfile::tempdir().expect("dir");
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("dir");
            match content.strip_prefix("->") {
                Some(target) => symlink(target, path).expect("link"),
                None => fs::write(path, content).expect("file"),
            }
        }
        let folders = ["etc", "run", "usr"].map(|f| root.path().join(f)).to_vec();
        (root, folders)
    }

    fn names(found: &Found) -> Vec<String> {
        let tail = |p: &PathBuf| {
            let parts: Vec<_> = p
                .components()
                .rev()
                .take(3)
                .map(|c| c.as_os_str().to_string_lossy())
                .collect();
            parts.into_iter().rev().collect::<Vec<_>>().join("/")
        };
        found
            .files
            .iter()
            .map(tail)
            .map(|t| t.split_once('/').expect("slash").1.to_owned())
            .collect()
    }

    #[test]
    fn precedence_masks_and_drop_in_order() {
        let (_root, folders) = tree(&[
            ("usr/a.service", "x"),
            ("etc/a.service", "y"),
            ("usr/a.service.d/20.conf", "x"),
            ("usr/a.service.d/30.conf", "x"),
            ("etc/a.service.d/30.conf", ""),
            ("run/service.d/10.conf", "x"),
            ("run/a.service.d/.99.conf", "x"),
            ("etc/masked.service", "->/dev/null"),
            ("usr/masked.service", "x"),
        ]);
        let units = Units::read(&folders);
        let found = units.files("a.service");
        assert_eq!(
            names(&found),
            ["etc/a.service", "service.d/10.conf", "a.service.d/20.conf"]
        );
        assert!(found.fragment && found.unclear.is_none());
        assert_eq!(units.names().into_iter().collect::<Vec<_>>(), ["a.service"]);
    }

    #[test]
    fn aliases_bring_their_drop_ins_to_the_real_unit() {
        let (_root, folders) = tree(&[
            ("usr/real.service", "x"),
            ("etc/alias.service", "->../usr/real.service"),
            ("etc/alias.service.d/a.conf", "x"),
        ]);
        let units = Units::read(&folders);
        assert_eq!(units.names().into_iter().collect::<Vec<_>>(), ["real.service"]);
        assert_eq!(
            names(&units.files("real.service")),
            ["usr/real.service", "alias.service.d/a.conf"]
        );
    }

    #[test]
    fn instances_see_template_and_prefix_folders() {
        let (_root, folders) = tree(&[
            ("usr/a-b@.service", "x"),
            ("etc/a-b@.service.d/t.conf", "x"),
            ("etc/a-b@i.service.d/i.conf", "x"),
            ("etc/a-@.service.d/p.conf", "x"),
        ]);
        let units = Units::read(&folders);
        let found = units.files("a-b@i.service");
        assert_eq!(
            names(&found),
            [
                "usr/a-b@.service",
                "a-b@i.service.d/i.conf",
                "a-@.service.d/p.conf",
                "a-b@.service.d/t.conf"
            ]
        );
        assert_eq!(units.prefixes().collect::<Vec<_>>(), ["a-@.service"]);
    }

    #[test]
    fn the_same_name_in_two_kinds_of_folder_is_unclear() {
        let (_root, folders) = tree(&[("usr/a.service.d/x.conf", "1"), ("etc/service.d/x.conf", "2")]);
        assert_eq!(
            Units::read(&folders).files("a.service").unclear.as_deref(),
            Some("x.conf")
        );
    }
}
