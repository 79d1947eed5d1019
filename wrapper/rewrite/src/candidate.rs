//! A unit that may have opted in, with all its files, and what becomes of it.
//!
//! Must never take a unit for one that has not opted in because a file of it cannot be read.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use rempart_core::unitfile::{SECTION, Source};

use crate::{
    defect::Defect,
    dropin::{self, Judgement},
    units::{Found, Units, unit_type},
};

/// Longest unit file that is read, in bytes; systemd itself stops at lines of 1 MiB.
pub const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Sorts behind what people call their drop-ins.
const NAME: &str = "zzzz-rempart.conf";

/// One unit, or one prefix, whose text mentions our section.
#[derive(Debug)]
pub struct Candidate {
    name: String,
    kind: Kind,
    found: Found,
    texts: Vec<(String, Option<String>)>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A service, or a template of services.
    Service,
    /// The beginning of many names, such as `x-.service`.
    Prefix,
    /// Another type of unit.
    Other,
}

impl Candidate {
    /// All of `units`.
    pub fn all(units: &Units) -> Vec<Self> {
        let named = units.names().into_iter().filter_map(|name| Self::of(units, name));
        let prefixes = units
            .prefixes()
            .filter_map(|name| Self::new(name, units.files_of_prefix(name), Kind::Prefix));
        named.chain(prefixes).collect()
    }

    /// The unit `name` of `units`, no alias; `None` when none of its files mentions the section.
    pub fn of(units: &Units, name: &str) -> Option<Self> {
        let kind = if unit_type(name) == Some(".service") {
            Kind::Service
        } else {
            Kind::Other
        };
        Self::new(name, units.files(name), kind)
    }

    /// `None` when no file mentions the section: then nothing can have opted in.
    fn new(name: &str, found: Found, kind: Kind) -> Option<Self> {
        // A drop-in for all services is a mistake, and refusing them all would take the machine down.
        let own = |path: &PathBuf| {
            path.parent()
                .and_then(Path::file_name)
                .is_none_or(|dir| dir != "service.d")
        };
        let files: Vec<_> = found
            .files
            .iter()
            .filter_map(|path| Some((path, content(path)?)))
            .collect();
        if !files.iter().any(|(path, content)| own(path) && content.mentions) {
            return None;
        }
        let texts = files
            .into_iter()
            .map(|(path, content)| (path.to_string_lossy().into_owned(), content.text))
            .collect();
        Some(Self {
            name: name.to_owned(),
            kind,
            found,
            texts,
        })
    }

    /// The service `name` of `units` as it would be with `text` as its drop-in `path`, which need not be there yet.
    ///
    /// # Errors
    /// A file of the same name that stands elsewhere: only one of the two would count.
    pub fn planned(units: &Units, name: &str, path: &Path, text: &str) -> Result<Self, PathBuf> {
        let mut found = units.files(name);
        let same = |other: &&PathBuf| other.file_name() == path.file_name() && other.as_path() != path;
        if let Some(other) = found.files.iter().find(same) {
            return Err(other.clone());
        }
        let drop_ins = usize::from(found.fragment);
        if !found.files[drop_ins..].iter().any(|other| other == path) {
            let behind = found.files[drop_ins..].partition_point(|other| other.file_name() < path.file_name());
            found.files.insert(drop_ins + behind, path.to_owned());
        }
        let texts = found.files.iter().filter_map(|file| {
            let content = if file == path {
                Some(text.to_owned())
            } else {
                content(file)?.text
            };
            Some((file.to_string_lossy().into_owned(), content))
        });
        Ok(Self {
            name: name.to_owned(),
            kind: Kind::Service,
            texts: texts.collect(),
            found,
        })
    }

    /// Its full name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the name stands for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its files with their texts, the fragment first.
    ///
    /// # Errors
    /// The first one that cannot be read.
    pub fn sources(&self) -> Result<Vec<Source<'_>>, Defect> {
        self.texts
            .iter()
            .map(|(path, text)| match text {
                Some(text) => Ok(Source { path, text }),
                None => Err(Defect::Unreadable(path.clone())),
            })
            .collect()
    }

    /// What becomes of it, where `user` says that a user's manager would start it.
    pub fn judge(&self, user: bool) -> Judgement {
        let judged = match self.sources() {
            Ok(sources) => dropin::judge(&sources),
            Err(defect) => return Judgement::Refuse(defect),
        };
        if judged == Judgement::Leave {
            return judged;
        }
        if user {
            return Judgement::Refuse(Defect::UserManager);
        }
        match (self.kind, &self.found.unclear) {
            (Kind::Other, _) => Judgement::Refuse(Defect::OtherType),
            (Kind::Prefix, _) => Judgement::Refuse(Defect::Prefix),
            (_, Some(name)) => Judgement::Refuse(Defect::SameName(name.clone())),
            _ if !self.found.fragment => Judgement::Refuse(Defect::NoFragment),
            _ => judged,
        }
    }

    /// Where its drop-in stands below the generator's folder: a name that sorts behind every other, because the last one decides.
    pub fn output(&self) -> PathBuf {
        let last = self
            .found
            .files
            .iter()
            .filter_map(|f| f.file_name())
            .filter(|n| n.as_encoded_bytes().ends_with(b".conf"))
            .max();
        let name = match last {
            Some(last) if last.as_encoded_bytes() >= NAME.as_bytes() => {
                format!("{}~rempart.conf", last.to_string_lossy())
            }
            _ => NAME.to_owned(),
        };
        Path::new(&format!("{}.d", self.name)).join(name)
    }

    /// The drop-in under which it says `why` and does not start.
    pub fn refusal(&self, why: &str) -> String {
        if self.kind == Kind::Other {
            dropin::refusing_other()
        } else {
            dropin::refusing(why)
        }
    }
}

/// Whether the file at `path` has our section's name in it; one that cannot be read has not.
pub fn mentioned_in(path: &Path) -> bool {
    read(path).is_ok_and(|content| content.mentions)
}

/// What is known of a unit's file; nothing, when it cannot be read.
#[derive(Default)]
struct Content {
    /// It has our section's name in it.
    mentions: bool,
    /// Its text, if it can be judged.
    text: Option<String>,
}

/// `None`: a dangling link, which is no file for systemd either.
fn content(path: &Path) -> Option<Content> {
    match read(path) {
        Ok(content) => Some(content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => Some(Content::default()),
    }
}

/// Nothing but regular files is read: a pipe would hold up the boot.
fn read(path: &Path) -> io::Result<Content> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("no regular file"));
    }
    let mut file = fs::File::open(path)?;
    let mut bytes = Vec::new();
    let mut mentioned = false;
    let mut first = true;
    loop {
        let read = file.by_ref().take(MAX_FILE).read_to_end(&mut bytes)?;
        mentioned |= mentions(&bytes);
        if first && (read as u64) < MAX_FILE {
            let text = String::from_utf8(bytes).ok();
            return Ok(Content {
                mentions: mentioned,
                text,
            });
        }
        if read == 0 {
            return Ok(Content {
                mentions: mentioned,
                text: None,
            });
        }
        first = false;
        // The end of each part is kept, so that no mention falls between two.
        bytes.drain(..bytes.len() - SECTION.len());
    }
}

/// No false negatives: a section header cannot be written without this word.
fn mentions(bytes: &[u8]) -> bool {
    bytes
        .windows(SECTION.len())
        .any(|w| w.eq_ignore_ascii_case(SECTION.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "[Service]\nExecStart=/bin/a\n";

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Units, PathBuf) {
        let root = tempfile::tempdir().expect("dir");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("dir");
            fs::write(path, text).expect("file");
        }
        let units = Units::read(&[root.path().join("etc"), root.path().join("usr")]);
        let planned = root.path().join("etc/a.service.d/50-rempart.conf");
        (root, units, planned)
    }

    #[test]
    fn a_planned_drop_in_is_judged_in_its_place_among_the_others() {
        let files = [
            ("etc/a.service", UNIT),
            ("etc/a.service.d/10.conf", "[X-Rempart]\nRole=first\n"),
            ("etc/a.service.d/90.conf", "[X-Rempart]\nWrap=no\n"),
        ];
        let (_root, units, path) = tree(&files);
        let planned = Candidate::planned(&units, "a.service", &path, "[X-Rempart]\nWrap=yes\n").expect("alone");
        let order: Vec<_> = planned.texts.iter().map(|(path, _)| path.rsplit('/').next()).collect();
        assert_eq!(
            order,
            [
                Some("a.service"),
                Some("10.conf"),
                Some("50-rempart.conf"),
                Some("90.conf")
            ]
        );
        assert_eq!(planned.judge(false), Judgement::Leave, "a later one says no");
        let (_root, units, path) = tree(&files[..2]);
        let planned = Candidate::planned(&units, "a.service", &path, "[X-Rempart]\nWrap=yes\n").expect("alone");
        assert!(matches!(planned.judge(false), Judgement::Wrap(_)));
    }

    #[test]
    fn a_planned_drop_in_replaces_the_one_that_is_there_and_no_other() {
        let (_root, units, path) = tree(&[
            ("etc/a.service", UNIT),
            ("etc/a.service.d/50-rempart.conf", "[X-Rempart]\nWarp=1\n"),
        ]);
        let planned = Candidate::planned(&units, "a.service", &path, "[X-Rempart]\nWrap=yes\n").expect("alone");
        assert!(planned.texts.len() == 2 && matches!(planned.judge(false), Judgement::Wrap(_)));
        let elsewhere = [
            ("etc/a.service", UNIT),
            ("usr/a.service.d/50-rempart.conf", "[X-Rempart]\nWrap=no\n"),
        ];
        let (root, units, path) = tree(&elsewhere);
        let other = Candidate::planned(&units, "a.service", &path, "").expect_err("hidden");
        assert_eq!(other, root.path().join("usr/a.service.d/50-rempart.conf"));
    }

    #[test]
    fn a_unit_that_is_not_there_cannot_be_planned_for() {
        let (_root, units, path) = tree(&[]);
        let planned = Candidate::planned(&units, "a.service", &path, "[X-Rempart]\nWrap=yes\n").expect("alone");
        assert_eq!(planned.judge(false), Judgement::Refuse(Defect::NoFragment));
    }
}
