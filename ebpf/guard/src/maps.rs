//! Our view of the pinned maps. A freshly installed set and one that an earlier guard left are opened the
//! same way, by their pins.

use crate::{foreign::Foreign, leak::Watch};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use nix::sys::stat::{major, minor, stat};
use rempart_bpf_common::{
    Config, EXE_AGENT_UNIT, EXE_GUARD_UNIT, Label, OwnKind, PROCFILES, PROCNAME_LEN, ProcFile, own_key,
};
use std::{
    collections::{self, BTreeSet},
    os::fd::AsFd,
    path::Path,
};

/// Bytes of a unit's name in the `units` map, its NUL included.
pub(crate) const UNIT_NAME_LEN: usize = 256;

/// Bytes of a fact's name in the `facts` map, its NUL included.
pub(crate) const FACT_NAME_LEN: usize = 264;

/// Bytes of `struct inode_key`.
pub(crate) const INODE_KEY: usize = 24;

/// A fact: SHA-256, or whatever else of that length the agent compares.
pub(crate) type Digest = [u8; 32];
/// Unit names since boot, as in maps.h: some 4 MiB of the guard's memory when all are taken.
const MAX_UNITS: usize = 16384;

/// Names in the object, in the order of their use here.
pub(crate) const NAMES: &[&str] = &[
    "labels",
    "leaders",
    "marks",
    "moves",
    "cgroups",
    "config",
    "trusted_exes",
    "places",
    "sealed",
    "facts",
    "loaders",
    "listed",
    "procfiles",
    "own",
    "units",
    "counters",
    "floods",
    "lost",
    "ring_deny",
    "ring_observe",
    "leak_units",
    "leak_sets",
    "leak_filters",
    "leak_prints",
    "leak_threads",
    "leak_tails",
];

/// Name of a map's pin.
pub(crate) fn pin_name(map: &str) -> String {
    format!("map_{map}")
}

/// What is wrong with the maps.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MapsError {
    /// A map cannot be opened or used.
    #[error("map {name}: {}", system_cause(.error))]
    Map {
        /// Which.
        name: &'static str,
        /// What the kernel said.
        error: MapError,
    },
    /// The config map does not have our layout.
    #[error("the pinned maps have another layout than this guard; reboot to install this version's")]
    Layout,
    /// The pin folder cannot be looked at.
    #[error("the pin folder cannot be read: {0}")]
    Folder(#[from] nix::Error),
    /// A fact's name does not fit.
    #[error("a fact's name may have at most {} bytes", FACT_NAME_LEN - 1)]
    FactName,
    /// All unit ids are taken.
    #[error("no room for another unit: {MAX_UNITS} names since boot; what is protected stays so; reboot to begin anew")]
    Units,
}

/// aya's errors name the call only; the operator needs the errno too.
fn system_cause(error: &MapError) -> String {
    match error {
        MapError::SyscallError(call) => format!("{}: {}", call.call, call.io_error),
        other => other.to_string(),
    }
}

impl MapsError {
    /// The kernel (most likely our own programs) did not let us.
    pub(crate) fn is_denial(&self) -> bool {
        let MapsError::Map {
            error: MapError::SyscallError(call),
            ..
        } = self
        else {
            return false;
        };
        matches!(call.io_error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
    }
}

pub(crate) fn on(name: &'static str) -> impl FnOnce(MapError) -> MapsError {
    move |error| MapsError::Map { name, error }
}

/// Labels by the address of their process.
pub(crate) type Leaders = HashMap<MapData, u64, [u8; Label::SIZE]>;

/// Units that have a labelled process.
pub(crate) fn units_of(leaders: &Leaders) -> BTreeSet<u64> {
    let labels = leaders.iter().flatten();
    labels
        .filter_map(|(_, label)| Label::decode(&label).map(|label| label.unit))
        .collect()
}

/// The maps but for the rings.
pub(crate) struct Maps {
    /// Task storage: set by [`crate::raw::set_label`].
    pub(crate) labels: MapData,
    /// Labels by address.
    pub(crate) leaders: Leaders,
    config: Array<MapData, [u8; Config::SIZE]>,
    trusted_exes: HashMap<MapData, [u8; INODE_KEY], [u8; Label::SIZE]>,
    places: HashMap<MapData, [u8; 16], u32>,
    procfiles: HashMap<MapData, [u8; PROCNAME_LEN], [u8; ProcFile::SIZE]>,
    own: HashMap<MapData, u64, u32>,
    sealed: HashMap<MapData, [u8; INODE_KEY], u32>,
    facts: HashMap<MapData, [u8; FACT_NAME_LEN], Digest>,
    units: HashMap<MapData, u64, [u8; UNIT_NAME_LEN]>,
    /// The ids of the names that may still be given; what the map holds beyond is kept for events.
    ids: collections::HashMap<String, u64>,
    lost: PerCpuArray<MapData, u64>,
    /// Fingerprints of secrets.
    pub(crate) watch: Watch,
    /// Foreign BPF programs.
    pub(crate) foreign: Foreign,
}

/// The two rings, denials first.
pub(crate) struct Rings {
    /// Denials; none where nothing is denied.
    pub(crate) deny: Option<RingBuf<MapData>>,
    /// All else.
    pub(crate) observe: RingBuf<MapData>,
}

/// Stands in the map of names where an epoch begins; no unit has this name.
const EPOCH: &str = "";

fn outlives_epochs(name: &str) -> bool {
    matches!(name, EXE_GUARD_UNIT | EXE_AGENT_UNIT)
}

/// Of all names since boot, those that may still be given.
fn current(names: Vec<(u64, String)>) -> collections::HashMap<String, u64> {
    let epochs = names.iter().filter(|(_, name)| name == EPOCH);
    let epoch = epochs.map(|(id, _)| *id).max().unwrap_or_default();
    let counts = |(id, name): &(u64, String)| *id > epoch || outlives_epochs(name);
    names.into_iter().filter(counts).map(|(id, name)| (name, id)).collect()
}

fn name_of(bytes: &[u8; UNIT_NAME_LEN]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// Device and inode of a folder on sysfs or a bpffs, as the kernel numbers them: it keeps devices as
/// major << 20 | minor, stat(2) gives another packing.
fn inode(folder: &Path) -> Result<(u64, u64), MapsError> {
    let stat = stat(folder)?;
    Ok(((major(stat.st_dev) << 20) | minor(stat.st_dev), stat.st_ino))
}

pub(crate) fn pinned(pins: &Path, name: &'static str) -> Result<MapData, MapsError> {
    MapData::from_pin(pins.join(pin_name(name))).map_err(on(name))
}

fn fact_key(name: &str) -> Result<[u8; FACT_NAME_LEN], MapsError> {
    let mut key = [0; FACT_NAME_LEN];
    // One NUL at least stays.
    let room = key[..FACT_NAME_LEN - 1]
        .get_mut(..name.len())
        .ok_or(MapsError::FactName)?;
    room.copy_from_slice(name.as_bytes());
    Ok(key)
}

impl Rings {
    pub(crate) fn open(pins: &Path) -> Result<Self, MapsError> {
        let ring = |name| {
            let map = Map::RingBuf(pinned(pins, name)?);
            RingBuf::try_from(map).map_err(on(name))
        };
        Ok(Rings {
            deny: Some(ring("ring_deny")?),
            observe: ring("ring_observe")?,
        })
    }
}

impl Maps {
    pub(crate) fn open(pins: &Path) -> Result<Self, MapsError> {
        let hash = |name| pinned(pins, name).map(Map::HashMap);
        let mut maps = Maps {
            labels: pinned(pins, "labels")?,
            leaders: HashMap::try_from(hash("leaders")?).map_err(on("leaders"))?,
            config: Array::try_from(Map::Array(pinned(pins, "config")?)).map_err(|_| MapsError::Layout)?,
            trusted_exes: HashMap::try_from(hash("trusted_exes")?).map_err(on("trusted_exes"))?,
            places: HashMap::try_from(hash("places")?).map_err(on("places"))?,
            procfiles: HashMap::try_from(hash("procfiles")?).map_err(on("procfiles"))?,
            own: HashMap::try_from(hash("own")?).map_err(on("own"))?,
            sealed: HashMap::try_from(hash("sealed")?).map_err(on("sealed"))?,
            facts: HashMap::try_from(hash("facts")?).map_err(on("facts"))?,
            units: HashMap::try_from(hash("units")?).map_err(on("units"))?,
            ids: collections::HashMap::new(),
            lost: PerCpuArray::try_from(Map::PerCpuArray(pinned(pins, "lost")?)).map_err(on("lost"))?,
            watch: Watch::open(pins)?,
            foreign: Foreign::open(pins)?,
        };
        maps.ids = maps.index()?;
        Ok(maps)
    }

    /// The ids by name, from the map; those from before the last [`Maps::begin_anew`] but for the guard's and the agent's are
    /// left out.
    fn index(&self) -> Result<collections::HashMap<String, u64>, MapsError> {
        let mut names = Vec::new();
        for entry in self.units.iter() {
            let (id, bytes) = entry.map_err(on("units"))?;
            names.push((id, name_of(&bytes)));
        }
        Ok(current(names))
    }

    /// From now on a name gets a new id. Before the machine was armed anybody could label any process as any unit: those keep
    /// what protects them, and have no standing in a unit that is labelled later.
    pub(crate) fn begin_anew(&mut self) -> Result<(), MapsError> {
        self.new_id(EPOCH)?;
        self.ids.retain(|name, _| outlives_epochs(name));
        Ok(())
    }

    pub(crate) fn config(&self) -> Result<Config, MapsError> {
        let bytes = self.config.get(&0, 0).map_err(on("config"))?;
        Config::decode(&bytes).ok_or(MapsError::Layout)
    }

    pub(crate) fn set_config(&mut self, config: &Config) -> Result<(), MapsError> {
        self.config.set(0, config.encode(), 0).map_err(on("config"))
    }

    /// Fills what the programs look up: procfs names, our own maps and programs, the pin folder.
    pub(crate) fn fill(&mut self, pins: &Path, programs: &[u32]) -> Result<(), MapsError> {
        for file in PROCFILES {
            self.procfiles
                .insert(file.key(), file.encode(), 0)
                .map_err(on("procfiles"))?;
        }
        for name in NAMES {
            let id = pinned(pins, name)?.info().map_err(on(name))?.id();
            self.own.insert(own_key(OwnKind::Map, id), 1, 0).map_err(on("own"))?;
        }
        for id in programs {
            self.own
                .insert(own_key(OwnKind::Program, *id), 1, 0)
                .map_err(on("own"))?;
        }
        // A mount over the root of all hides nothing: processes keep the root that they have.
        for folder in pins.ancestors().filter(|folder| folder.parent().is_some()) {
            let (dev, ino) = inode(folder)?;
            let mut key = [0; 16];
            key[..8].copy_from_slice(&dev.to_ne_bytes());
            key[8..].copy_from_slice(&ino.to_ne_bytes());
            self.places.insert(key, 1, 0).map_err(on("places"))?;
        }
        let mut config = Config::EMPTY;
        (config.pin_dev, config.pin_ino) = inode(pins)?;
        self.set_config(&config)
    }

    /// Id of a unit, if it has one.
    pub(crate) fn known(&self, name: &str) -> Option<u64> {
        self.ids.get(name).copied()
    }

    /// Id of a unit, a new one if it has none yet.
    pub(crate) fn unit(&mut self, name: &str) -> Result<u64, MapsError> {
        if let Some(id) = self.known(name) {
            return Ok(id);
        }
        let id = self.new_id(name)?;
        self.ids.insert(name.to_owned(), id);
        Ok(id)
    }

    fn new_id(&mut self, name: &str) -> Result<u64, MapsError> {
        let mut bytes = [0u8; UNIT_NAME_LEN];
        if name.len() >= UNIT_NAME_LEN {
            return Err(MapsError::Units);
        }
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        let mut config = self.config()?;
        let id = config.next_unit;
        self.units.insert(id, bytes, 0).map_err(|_| MapsError::Units)?;
        config.next_unit += 1;
        self.set_config(&config)?;
        Ok(id)
    }

    /// Name of a unit id; empty for the machine, a number in words for one that has no name.
    pub(crate) fn unit_name(&self, id: u64) -> String {
        if id == 0 {
            return String::new();
        }
        match self.units.get(&id, 0) {
            Ok(bytes) => name_of(&bytes),
            Err(_) => format!("unit {id}"),
        }
    }

    /// Whether the table by address holds this unit: the programs have run and copied the label.
    pub(crate) fn is_synced(&self, unit: u64) -> bool {
        self.leaders
            .iter()
            .flatten()
            .any(|(_, label)| Label::decode(&label).is_some_and(|l| l.unit == unit))
    }

    /// What was told first under this name in this boot.
    pub(crate) fn fact(&self, name: &str) -> Result<Option<Digest>, MapsError> {
        match self.facts.get(&fact_key(name)?, 0) {
            Ok(digest) => Ok(Some(digest)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(on("facts")(error)),
        }
    }

    pub(crate) fn set_fact(&mut self, name: &str, digest: Digest) -> Result<(), MapsError> {
        self.facts.insert(fact_key(name)?, digest, 0).map_err(on("facts"))
    }

    /// All facts whose names begin so, by what comes behind.
    pub(crate) fn facts_of(&self, prefix: &str) -> Vec<(String, Digest)> {
        let name = |key: &[u8; FACT_NAME_LEN]| {
            let bytes = key.split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        let facts = self.facts.iter().flatten();
        facts
            .filter_map(|(key, digest)| Some((name(&key).strip_prefix(prefix)?.to_owned(), digest)))
            .collect()
    }

    /// Files and folders that are sealed.
    pub(crate) fn sealed(&self) -> usize {
        self.sealed.keys().flatten().count()
    }

    /// Forgets which executables get a label at exec, before they are learnt anew.
    pub(crate) fn forget_executables(&mut self) {
        let known: Vec<[u8; INODE_KEY]> = self.trusted_exes.keys().flatten().collect();
        for key in known {
            // Only ENOENT can be the answer, and then it is gone.
            let _ = self.trusted_exes.remove(&key);
        }
        self.foreign.forget_executables();
    }

    /// Whether a process becomes the agent by being started, so that none needs to say that it is.
    pub(crate) fn knows_the_agent(&self) -> bool {
        let labels = self.trusted_exes.iter().flatten();
        labels
            .filter_map(|(_, label)| Label::decode(&label))
            .any(|label| label.is_agent())
    }

    /// Events that found no room, of both rings and all CPUs.
    pub(crate) fn lost(&self) -> u64 {
        (0..2)
            .filter_map(|index| self.lost.get(&index, 0).ok())
            .flat_map(|cpus| cpus.to_vec())
            .sum()
    }

    /// Descriptor of the label map.
    pub(crate) fn labels_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.labels.fd().as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[(u64, &str)]) -> collections::HashMap<String, u64> {
        current(names.iter().map(|(id, name)| (*id, (*name).to_owned())).collect())
    }

    #[test]
    fn a_name_from_before_an_epoch_leads_to_nothing_but_the_guards_and_the_agents_do() {
        let found = names(&[
            (1, EXE_GUARD_UNIT),
            (2, EXE_AGENT_UNIT),
            (3, "db.service"),
            (4, EPOCH),
            (5, "web.service"),
        ]);
        assert_eq!(found.get("db.service"), None);
        assert_eq!(found.get("web.service"), Some(&5));
        assert_eq!((found[EXE_GUARD_UNIT], found[EXE_AGENT_UNIT]), (1, 2));
        assert!(!found.contains_key(EPOCH));
    }

    #[test]
    fn both_halves_have_room_for_the_same_number_of_names() {
        let text = include_str!("../../bpf/maps.h");
        let (before, _) = text.split_once("} units SEC").expect("the map of names");
        let map = before.rsplit("struct {").next().expect("its definition");
        assert!(map.contains(&format!("__uint(max_entries, {MAX_UNITS});")), "{map}");
    }
}
