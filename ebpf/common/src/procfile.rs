//! The names of procfs: which vector it is to read or write `/proc/PID/NAME` of a protected process, and
//! the machine's own files. A name that is not here is denied by the programs (PROCFS_OTHER,
//! PROCFS_WRITE), so what `ps` and systemd need stands here as allowed.

use crate::Vector;

/// Longest name with its NUL, as in layout.h.
pub const PROCNAME_LEN: usize = 24;

/// Key of the `procfiles` map: the name, filled up with NUL.
pub type ProcKey = [u8; PROCNAME_LEN];

/// One name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcFile {
    /// The file's own name.
    pub name: &'static str,
    /// What reading it is; `None` is allowed.
    pub read: Option<Vector>,
    /// What writing it is; `None` is allowed.
    pub write: Option<Vector>,
    /// Not of a task but of the machine: counts once armed.
    pub machine: bool,
    /// PID 1 may write it.
    pub pid1_writes: bool,
}

impl ProcFile {
    /// Bytes of a value in the map.
    pub const SIZE: usize = 12;

    /// Its key in the map.
    pub fn key(&self) -> ProcKey {
        let mut key = [0; PROCNAME_LEN];
        for (to, from) in key.iter_mut().zip(self.name.bytes()) {
            *to = from;
        }
        key
    }

    /// Its value in the map.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[0..4].copy_from_slice(&self.read.map_or(0, |v| v as u32).to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.write.map_or(0, |v| v as u32).to_ne_bytes());
        let flags = u32::from(self.machine) | (u32::from(self.pid1_writes) << 1);
        bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
        bytes
    }
}

const fn readable(name: &'static str) -> ProcFile {
    ProcFile {
        name,
        read: None,
        write: Some(Vector::ProcfsWrite),
        machine: false,
        pid1_writes: false,
    }
}

const fn closed(name: &'static str, read: Vector) -> ProcFile {
    ProcFile {
        name,
        read: Some(read),
        write: Some(Vector::ProcfsWrite),
        machine: false,
        pid1_writes: false,
    }
}

const fn writing(name: &'static str, read: Option<Vector>, write: Vector, pid1_writes: bool) -> ProcFile {
    ProcFile {
        name,
        read,
        write: Some(write),
        machine: false,
        pid1_writes,
    }
}

const fn machine(name: &'static str, read: Option<Vector>, write: Option<Vector>) -> ProcFile {
    ProcFile {
        name,
        read,
        write,
        machine: true,
        pid1_writes: false,
    }
}

/// The table.
pub const PROCFILES: &[ProcFile] = &[
    writing("mem", Some(Vector::ProcmemRead), Vector::ProcmemWrite, false),
    closed("environ", Vector::EnvironRead),
    closed("maps", Vector::MapsRead),
    closed("smaps", Vector::SmapsRead),
    closed("smaps_rollup", Vector::SmapsRead),
    closed("pagemap", Vector::PagemapRead),
    closed("auxv", Vector::AuxvRead),
    closed("numa_maps", Vector::NumaMapsRead),
    closed("syscall", Vector::SyscallRead),
    closed("stack", Vector::StackRead),
    closed("wchan", Vector::WchanRead),
    closed("io", Vector::IoRead),
    writing("coredump_filter", None, Vector::CoredumpFilter, false),
    writing("oom_score_adj", None, Vector::OomAdj, true),
    writing("oom_adj", None, Vector::OomAdj, true),
    readable("stat"),
    readable("statm"),
    readable("status"),
    readable("cmdline"),
    readable("comm"),
    readable("cgroup"),
    readable("cpuset"),
    readable("sessionid"),
    readable("loginuid"),
    readable("oom_score"),
    readable("limits"),
    readable("mountinfo"),
    readable("mounts"),
    readable("mountstats"),
    readable("sched"),
    readable("schedstat"),
    readable("autogroup"),
    readable("children"),
    readable("uid_map"),
    readable("gid_map"),
    readable("projid_map"),
    readable("setgroups"),
    readable("timens_offsets"),
    readable("cpu_resctrl_groups"),
    readable("arch_status"),
    readable("current"),
    readable("prev"),
    readable("exec"),
    machine("kcore", Some(Vector::Kcore), Some(Vector::Kcore)),
    machine("vmcore", Some(Vector::Kcore), Some(Vector::Kcore)),
    machine("kallsyms", Some(Vector::Kallsyms), None),
    machine("kpageflags", Some(Vector::Kpage), None),
    machine("kpagecount", Some(Vector::Kpage), None),
    machine("kpagecgroup", Some(Vector::Kpage), None),
    machine("sysrq-trigger", None, Some(Vector::Sysrq)),
    machine("core_pattern", None, Some(Vector::CorePattern)),
    machine("core_pipe_limit", None, Some(Vector::CorePattern)),
    machine("modprobe", None, Some(Vector::ModprobePath)),
];

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::HashSet;

    fn named(name: &str) -> &'static ProcFile {
        PROCFILES.iter().find(|f| f.name == name).expect("in the table")
    }

    #[test]
    fn each_name_stands_once_and_leaves_room_for_its_nul() {
        let names: HashSet<_> = PROCFILES.iter().map(|f| f.name).collect();
        assert_eq!(names.len(), PROCFILES.len());
        assert!(PROCFILES.iter().all(|f| f.name.len() < PROCNAME_LEN));
    }

    #[test]
    fn what_process_listings_need_stays_readable() {
        for name in ["stat", "status", "cmdline", "comm", "cgroup"] {
            assert_eq!(named(name).read, None, "{name}");
            assert!(named(name).write.is_some(), "{name}");
        }
    }

    #[test]
    fn what_holds_or_locates_memory_is_closed() {
        for name in ["mem", "environ", "maps", "smaps", "pagemap", "auxv"] {
            assert!(named(name).read.is_some(), "{name}");
        }
    }

    #[test]
    fn key_and_value_have_the_layout_of_the_map() {
        let file = named("oom_score_adj");
        assert_eq!(&file.key()[..14], b"oom_score_adj\0");
        assert_eq!(file.encode()[8], 2);
        assert_eq!(
            u32::from_ne_bytes(file.encode()[4..8].try_into().expect("four")),
            Vector::OomAdj as u32
        );
    }
}
