//! Foreign BPF programs that the owner has listed: each by its tag, and by the executable that loads it. The programs learn the
//! executables' inodes as they learn our own files (seal.rs), and look tags up as the kernel has computed them.
//!
//! Must never take an entry into a list that is closed.

use crate::maps::{INODE_KEY, Maps, MapsError, on, pinned};
use aya::maps::{HashMap, Map, MapData};
use rempart_api::guard::Loader;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// Before the names of loaders among the facts, whose value is the number of their list.
const LOADER: &str = "loader:";
/// Bytes of `struct listed_key`.
const LISTED_KEY: usize = 16;

/// `struct listed_key`: the number of a list, and a tag in it.
type Entry = (u32, [u8; 8]);

/// Both maps.
pub(crate) struct Foreign {
    loaders: HashMap<MapData, [u8; INODE_KEY], u32>,
    listed: HashMap<MapData, [u8; LISTED_KEY], u32>,
}

impl Foreign {
    pub(crate) fn open(pins: &Path) -> Result<Self, MapsError> {
        let hash = |name| pinned(pins, name).map(Map::HashMap);
        Ok(Self {
            loaders: HashMap::try_from(hash("loaders")?).map_err(on("loaders"))?,
            listed: HashMap::try_from(hash("listed")?).map_err(on("listed"))?,
        })
    }

    /// Forgets which executables are loaders, before they are learnt anew.
    pub(crate) fn forget_executables(&mut self) {
        let known: Vec<[u8; INODE_KEY]> = self.loaders.keys().flatten().collect();
        for key in known {
            // Only ENOENT can be the answer, and then it is gone.
            let _ = self.loaders.remove(&key);
        }
    }

    fn entries(&self) -> BTreeSet<Entry> {
        self.listed.keys().flatten().map(|key| decode(&key)).collect()
    }

    fn keep_loaders(&mut self, lists: &BTreeSet<u32>) -> Result<(), MapsError> {
        let known: Vec<_> = self.loaders.iter().flatten().collect();
        for (key, _) in known.iter().filter(|(_, list)| !lists.contains(list)) {
            self.loaders.remove(key).map_err(on("loaders"))?;
        }
        Ok(())
    }

    fn remove(&mut self, entry: Entry) -> Result<(), MapsError> {
        self.listed.remove(&encode(entry)).map_err(on("listed"))
    }

    fn add(&mut self, entry: Entry) -> Result<(), MapsError> {
        self.listed.insert(encode(entry), 1, 0).map_err(on("listed"))
    }
}

fn encode((list, tag): Entry) -> [u8; LISTED_KEY] {
    let mut key = [0; LISTED_KEY];
    key[..4].copy_from_slice(&list.to_ne_bytes());
    key[8..].copy_from_slice(&tag);
    key
}

fn decode(key: &[u8; LISTED_KEY]) -> Entry {
    let (mut list, mut tag) = ([0; 4], [0; 8]);
    list.copy_from_slice(&key[..4]);
    tag.copy_from_slice(&key[8..]);
    (u32::from_ne_bytes(list), tag)
}

/// Every loader of this boot with the number of its list.
pub(crate) fn numbers(maps: &Maps) -> BTreeMap<String, u32> {
    let number = |digest: [u8; 32]| u32::from_ne_bytes([digest[0], digest[1], digest[2], digest[3]]);
    maps.facts_of(LOADER)
        .into_iter()
        .map(|(path, digest)| (path, number(digest)))
        .collect()
}

/// What may be loaded, for people.
pub(crate) fn loaders(maps: &Maps) -> Vec<Loader> {
    let entries = maps.foreign.entries();
    let tags = |number| {
        let own = entries.iter().filter(|(list, _)| *list == number);
        own.map(|(_, tag)| hex::encode(tag)).collect::<Vec<_>>()
    };
    let all = numbers(maps).into_iter().map(|(path, number)| Loader {
        path,
        tags: tags(number),
    });
    all.filter(|loader| !loader.tags.is_empty()).collect()
}

/// Makes `wanted` the list; where it is closed, only what is not wanted any more goes. Says whether a loader is new.
pub(crate) fn list(maps: &mut Maps, wanted: &[Loader], closed: bool) -> Result<bool, MapsError> {
    let mut numbers = numbers(maps);
    let mut news = false;
    if !closed {
        for loader in wanted {
            if numbers.contains_key(&loader.path) {
                continue;
            }
            let number = numbers.values().max().map_or(1, |last| last + 1);
            let mut value = [0; 32];
            value[..4].copy_from_slice(&number.to_ne_bytes());
            maps.set_fact(&format!("{LOADER}{}", loader.path), value)?;
            numbers.insert(loader.path.clone(), number);
            news = true;
        }
    }
    let wanted: BTreeSet<Entry> = wanted
        .iter()
        .filter_map(|loader| Some((*numbers.get(&loader.path)?, loader)))
        .flat_map(|(number, loader)| loader.digests().map(move |tag| (number, tag)))
        .collect();
    let known = maps.foreign.entries();
    for entry in known.difference(&wanted) {
        maps.foreign.remove(*entry)?;
    }
    // Who may load nothing is no loader.
    maps.foreign
        .keep_loaders(&wanted.iter().map(|(list, _)| *list).collect())?;
    if !closed {
        for entry in wanted.difference(&known) {
            maps.foreign.add(*entry)?;
        }
    }
    Ok(news)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_the_map() {
        let entry = (7, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(decode(&encode(entry)), entry);
        assert_eq!(encode(entry)[8..], [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
