//! Fingerprints of units' secrets in the maps that ebpf/bpf/leak.bpf.c reads. A set is whole before it counts, and one that it replaces
//! goes afterwards; a unit without a living process loses its own.
//!
//! Must never write a fingerprint or a key anywhere but into the maps.

use crate::{
    install::fnv1a,
    maps::{MapsError, on, pinned},
};
use aya::maps::{Array, HashMap, Map, MapData};
use rempart_bpf_common::{FILTER_BYTES, LeakKey, LeakSet, MAX_PRINTS, MAX_WATCHED, Mode};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::FileExt},
    path::Path,
};

/// Why fingerprints are not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeakError {
    /// The descriptor is not what the request said.
    #[error(
        "not watched: {0} fingerprints were announced, but their file cannot be read ({1}); bring agent and guard to the same release"
    )]
    File(u32, io::Error),
    /// Too many for one unit.
    #[error("not watched: {0} fingerprints are more than {MAX_PRINTS}; except the longest secrets by LeakExcept=")]
    TooMany(u32),
    /// A stride that there is not.
    #[error("not watched: narrow windows go by 1, 2, 4 or 8 bytes, not by {0}")]
    Step(u32),
    /// No slot is free.
    #[error("not watched: the output of {MAX_WATCHED} units is watched already; set Leak=off for some")]
    NoSlot,
    /// The fingerprints of all units are too many.
    #[error("not watched: no room for {0} more fingerprints ({1}); set Leak=off for units with long secrets")]
    NoRoom(u32, String),
    /// A program that looks is not there.
    #[error("not watched: this kernel does not take program {0}; set Leak=observe or Leak=off")]
    Program(String),
    /// The maps failed.
    #[error(transparent)]
    Maps(#[from] MapsError),
}

/// What the agent sent for one unit.
pub(crate) struct Prints {
    key: [u8; LeakKey::SIZE],
    filter: Box<[u8; FILTER_BYTES]>,
    prints: Vec<u64>,
    wide: bool,
    step: u32,
}

impl Prints {
    /// Reads key, filter and `count` fingerprints.
    pub(crate) fn read(file: OwnedFd, count: u32, wide: bool, step: u32) -> Result<Self, LeakError> {
        let room = usize::try_from(count).ok().filter(|count| *count <= MAX_PRINTS);
        let room = room.ok_or(LeakError::TooMany(count))?;
        if !matches!(step, 0 | 1 | 2 | 4 | 8) {
            return Err(LeakError::Step(step));
        }
        let (file, failed) = (File::from(file), |error| LeakError::File(count, error));
        let (mut key, mut filter) = ([0; LeakKey::SIZE], Box::new([0; FILTER_BYTES]));
        let mut bytes = vec![0; room * 8];
        let (filter_at, prints_at) = (LeakKey::SIZE as u64, (LeakKey::SIZE + FILTER_BYTES) as u64);
        // By position: a pipe or a socket, which could keep us waiting, is an error.
        file.read_exact_at(&mut key, 0).map_err(failed)?;
        file.read_exact_at(&mut filter[..], filter_at).map_err(failed)?;
        file.read_exact_at(&mut bytes, prints_at).map_err(failed)?;
        let words = bytes.chunks_exact(8).filter_map(|word| word.try_into().ok());
        Ok(Prints {
            key,
            filter,
            prints: words.map(u64::from_le_bytes).collect(),
            wide,
            step,
        })
    }
}

/// The maps.
pub(crate) struct Watch {
    units: Array<MapData, u32>,
    sets: HashMap<MapData, u64, [u8; LeakSet::SIZE]>,
    filters: Array<MapData, [u8; FILTER_BYTES]>,
    prints: HashMap<MapData, u64, u64>,
    /// Units that had no process when last looked for.
    ended: BTreeSet<u64>,
}

impl Watch {
    pub(crate) fn open(pins: &Path) -> Result<Self, MapsError> {
        let hash = |name| pinned(pins, name).map(Map::HashMap);
        let array = |name| pinned(pins, name).map(Map::Array);
        Ok(Watch {
            units: Array::try_from(array("leak_units")?).map_err(on("leak_units"))?,
            sets: HashMap::try_from(hash("leak_sets")?).map_err(on("leak_sets"))?,
            filters: Array::try_from(array("leak_filters")?).map_err(on("leak_filters"))?,
            prints: HashMap::try_from(hash("leak_prints")?).map_err(on("leak_prints"))?,
            ended: BTreeSet::new(),
        })
    }

    /// Id and slot of the set of each unit.
    fn places(&self) -> Result<BTreeMap<u64, (u64, u32)>, MapsError> {
        let mut places = BTreeMap::new();
        for entry in self.sets.iter() {
            let (unit, set) = entry.map_err(on("leak_sets"))?;
            places.insert(unit, LeakSet::place(&set).ok_or(MapsError::Layout)?);
        }
        Ok(places)
    }

    /// From now on what `unit` puts out is compared with these.
    pub(crate) fn put(&mut self, unit: u64, mode: Mode, prints: &Prints) -> Result<(), LeakError> {
        let places = self.places()?;
        let taken: BTreeSet<u32> = places.values().map(|(_, slot)| *slot).collect();
        let slot = (0..MAX_WATCHED)
            .find(|slot| !taken.contains(slot))
            .ok_or(LeakError::NoSlot)?;
        let set = LeakSet {
            // Not secret, only different: keys are random.
            id: fnv1a(&prints.key),
            key: prints.key,
            slot,
            mode: Some(mode),
            wide: prints.wide,
            step: prints.step,
        };
        self.filters.set(slot, *prints.filter, 0).map_err(on("leak_filters"))?;
        for print in &prints.prints {
            if let Err(error) = self.prints.insert(*print, set.id, 0) {
                self.sweep_prints()?;
                let count = u32::try_from(prints.prints.len()).unwrap_or(u32::MAX);
                return Err(LeakError::NoRoom(count, error.to_string()));
            }
        }
        self.sets.insert(unit, set.encode(), 0).map_err(on("leak_sets"))?;
        self.count()?;
        self.sweep_prints()?;
        Ok(())
    }

    /// `unit` is watched no longer.
    pub(crate) fn lift(&mut self, unit: u64) -> Result<(), MapsError> {
        if !self.places()?.contains_key(&unit) {
            return Ok(());
        }
        self.sets.remove(&unit).map_err(on("leak_sets"))?;
        self.count()?;
        self.sweep_prints()
    }

    /// Lifts what units have that are not among the `living`, this time and the time before: a process that ends while its child
    /// is born may be missed once.
    pub(crate) fn lift_ended(&mut self, living: impl FnOnce() -> BTreeSet<u64>) -> Result<(), MapsError> {
        let watched: BTreeSet<u64> = self.places()?.into_keys().collect();
        if watched.is_empty() {
            return Ok(());
        }
        let living = living();
        let ended: BTreeSet<u64> = watched.difference(&living).copied().collect();
        for unit in ended.intersection(&std::mem::take(&mut self.ended)) {
            self.lift(*unit)?;
        }
        self.ended = ended;
        Ok(())
    }

    fn count(&mut self) -> Result<(), MapsError> {
        let units = u32::try_from(self.places()?.len()).unwrap_or(u32::MAX);
        self.units.set(0, units, 0).map_err(on("leak_units"))
    }

    /// Removes fingerprints of no set: of one that was replaced, lifted, or never finished.
    fn sweep_prints(&mut self) -> Result<(), MapsError> {
        let known: BTreeSet<u64> = self.places()?.into_values().map(|(id, _)| id).collect();
        let strays: Vec<u64> = self
            .prints
            .iter()
            .flatten()
            .filter_map(|(print, id)| (!known.contains(&id)).then_some(print))
            .collect();
        for print in strays {
            // Only ENOENT can be the answer, and then it is gone.
            let _ = self.prints.remove(&print);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: usize) -> OwnedFd {
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(&vec![7; bytes], 0).expect("written");
        file.into()
    }

    const WHOLE: usize = LeakKey::SIZE + FILTER_BYTES + 3 * 8;

    #[test]
    fn what_was_announced_is_read() {
        let prints = Prints::read(file(WHOLE), 3, true, 4).expect("whole");
        assert_eq!((prints.prints.len(), prints.step, prints.wide), (3, 4, true));
    }

    #[test]
    fn a_short_file_a_pipe_too_many_and_a_wrong_stride_are_refused() {
        assert!(matches!(
            Prints::read(file(WHOLE - 1), 3, true, 0),
            Err(LeakError::File(3, _))
        ));
        let (pipe, _) = io::pipe().expect("a pipe");
        assert!(matches!(
            Prints::read(pipe.into(), 3, true, 0),
            Err(LeakError::File(3, _))
        ));
        let many = u32::try_from(MAX_PRINTS).expect("fits") + 1;
        assert!(matches!(
            Prints::read(file(WHOLE), many, true, 0),
            Err(LeakError::TooMany(_))
        ));
        assert!(matches!(Prints::read(file(WHOLE), 3, true, 3), Err(LeakError::Step(3))));
    }
}
