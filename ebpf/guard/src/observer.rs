//! What can still be seen where nothing can be enforced: tracepoint programs that record attempts on the units' processes. They
//! never deny, see less than the LSM programs would (observe.bpf.c says what), and end with this process.

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, RingBuf},
    programs::RawTracePoint,
};
use std::collections;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/observe.bpf.o"));

/// The programs and the tracepoints that they sit on.
const PROGRAMS: &[(&str, &str)] = &[
    ("observe_call", "sys_enter"),
    ("observe_fork", "sched_process_fork"),
    ("observe_exit", "sched_process_exit"),
];

/// As many names as with enforcement.
const MAX_UNITS: usize = 16384;

/// The programs, attached.
pub(crate) struct Observer {
    #[expect(dead_code, reason = "held: without it the programs are detached")]
    ebpf: Ebpf,
    observed: HashMap<MapData, u32, u64>,
    counts: Array<MapData, u64>,
    ring: Option<RingBuf<MapData>>,
    names: Vec<String>,
    ids: collections::HashMap<String, u64>,
}

impl Observer {
    /// Attaches them; why not is for the journal, nothing rests on it.
    pub(crate) fn start() -> Result<Self, Box<dyn std::error::Error>> {
        let btf = Btf::from_sys_fs()?;
        let mut ebpf = EbpfLoader::new().btf(Some(&btf)).load(OBJECT)?;
        for (name, tracepoint) in PROGRAMS {
            let program: &mut RawTracePoint = ebpf.program_mut(name).ok_or("not in the object")?.try_into()?;
            program.load()?;
            program.attach(tracepoint)?;
        }
        let mut map = |name: &str| -> Result<Map, String> {
            ebpf.take_map(name)
                .ok_or_else(|| format!("map {name} is not in the object"))
        };
        let ring = RingBuf::try_from(map("ring_observe")?)?;
        let observed = HashMap::try_from(map("observed")?)?;
        let counts = Array::try_from(map("observe_counts")?)?;
        Ok(Observer {
            ebpf,
            observed,
            counts,
            ring: Some(ring),
            names: Vec::new(),
            ids: collections::HashMap::new(),
        })
    }

    /// From now on attempts on this process, and on all that it starts, are recorded.
    pub(crate) fn watch(&mut self, pid: u32, unit: &str) {
        let next = self.names.len() as u64 + 1;
        let id = match self.ids.get(unit) {
            Some(id) => *id,
            None if self.names.len() >= MAX_UNITS => return,
            None => {
                self.names.push(unit.to_owned());
                self.ids.insert(unit.to_owned(), next);
                next
            }
        };
        if let Err(error) = self.observed.insert(pid, id, 0) {
            eprintln!("<4>rempart-guard: attempts on {unit} are not observed: {error}");
        }
    }

    /// Name of a unit.
    pub(crate) fn unit_name(&self, id: u64) -> String {
        let index = id.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        index
            .and_then(|index| self.names.get(index))
            .cloned()
            .unwrap_or_default()
    }

    /// Events that found no room.
    pub(crate) fn lost(&self) -> u64 {
        self.counts.get(&1, 0).unwrap_or_default()
    }

    /// The ring, for the one thread that reads it.
    pub(crate) fn ring(&mut self) -> Option<RingBuf<MapData>> {
        self.ring.take()
    }
}
