//! The programs of the object and the hooks they belong to. A hook that the kernel lacks disables
//! its own row only, and what that leaves open is named; without an essential one nothing counts as enforced.

use rempart_api::guard::Program;

/// Where a program is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// An LSM hook, without `bpf_lsm_`: its answer counts.
    Lsm(&'static str),
    /// Before a kernel function: it only learns.
    FEntry(&'static str),
    /// After a kernel function: it only learns.
    FExit(&'static str),
}

/// One program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Name in the object.
    pub(crate) name: &'static str,
    /// Where it is called.
    pub(crate) hook: Hook,
    /// Protection means nothing without it.
    pub(crate) essential: bool,
    /// Only where that one cannot be loaded: the same for a hook that had other arguments once.
    pub(crate) instead_of: Option<&'static str>,
    /// The rows of docs/attacks.md that it stops, alone or with others; none for what only labels.
    pub(crate) stops: &'static [&'static str],
}

const fn essential(name: &'static str, hook: &'static str, stops: &'static [&'static str]) -> Row {
    Row {
        name,
        hook: Hook::Lsm(hook),
        essential: true,
        instead_of: None,
        stops,
    }
}

const fn optional(name: &'static str, hook: &'static str, stops: &'static [&'static str]) -> Row {
    Row {
        name,
        hook: Hook::Lsm(hook),
        essential: false,
        instead_of: None,
        stops,
    }
}

const fn after(name: &'static str, function: &'static str, stops: &'static [&'static str]) -> Row {
    Row {
        name,
        hook: Hook::FExit(function),
        essential: false,
        instead_of: None,
        stops,
    }
}

const fn before(name: &'static str, function: &'static str) -> Row {
    Row {
        name,
        hook: Hook::FEntry(function),
        essential: false,
        instead_of: None,
        stops: &[],
    }
}

/// In the order in which they are attached: labels first.
pub(crate) const PROGRAMS: &[Row] = &[
    essential("inherit_label", "task_alloc", &[]),
    essential("forget_label", "task_free", &[]),
    essential("sync_label", "task_getpgid", &[]),
    essential("label_exec", "bprm_committed_creds", &[]),
    essential(
        "ptrace_access",
        "ptrace_access_check",
        &[
            "PTRACE_ATTACH",
            "PTRACE_SEIZE",
            "PROCESS_VM_READ",
            "PROCESS_VM_WRITE",
            "PIDFD_GETFD",
            "KCMP",
            "MOVE_PAGES",
            "GET_ROBUST_LIST",
            "PROCESS_MADVISE",
            "SETNS",
            "PROC_LINK",
            "FD_REOPEN",
            "MAP_FILES",
            "FDINFO_READ",
        ],
    ),
    essential("perfmon_override", "capable", &[]),
    essential("ptrace_traceme", "ptrace_traceme", &["PTRACE_TRACEME"]),
    essential(
        "file_opened",
        "file_open",
        &[
            "PROCMEM_READ",
            "PROCMEM_TASK",
            "PROCMEM_MOUNT",
            "PROCMEM_WRITE",
            "ENVIRON_READ",
            "MAPS_READ",
            "SMAPS_READ",
            "PAGEMAP_READ",
            "AUXV_READ",
            "NUMA_MAPS_READ",
            "SYSCALL_READ",
            "STACK_READ",
            "WCHAN_READ",
            "IO_READ",
            "PROCFS_OTHER",
            "PROCFS_WRITE",
            "COREDUMP_FILTER",
            "OOM_ADJ",
            "CGROUP_KILL",
            "CGROUP_FREEZE",
            "CGROUP_ABOVE",
            "CGROUP_LIMIT",
            "CGROUP_HANDLE",
            "KCORE",
            "KALLSYMS",
            "DEV_MEM",
            "KPAGE",
            "CORE_PATTERN",
            "CGROUP_V1",
            "SYSRQ",
            "MODPROBE_PATH",
            "KPAGECOUNT",
            "KPROBE",
            "UPROBE",
            "TRACE_READ",
            "DEBUGFS",
            "MSR",
            "TPM_OPEN",
            "FILE_WRITE",
        ],
    ),
    essential(
        "file_used",
        "file_permission",
        &["EARLY_FD", "CGROUP_EARLY", "KCORE_EARLY"],
    ),
    optional("file_asked", "file_ioctl", &["EARLY_FD"]),
    essential(
        "inode_reached",
        "inode_permission",
        &[
            "CGROUP_MOVE_OUT",
            "CGROUP_MOVE_IN",
            "CGROUP_THREADS",
            "CGROUP_CLONE",
            "PIN_GET",
            "LINK_PIN_GET",
            "UNPIN",
        ],
    ),
    after("cgroup_mover", "cgroup_procs_write_start", &["CGROUP_MOVE_OUT"]),
    essential("cgroup_ends", "inode_rmdir", &[]),
    essential("signal_task", "task_kill", &["AGENT_KILL", "PIDFD_SIGNAL", "TGKILL"]),
    essential("limit_task", "task_setrlimit", &["PRLIMIT"]),
    optional("schedule_task", "task_setscheduler", &["AFFINITY", "SCHED"]),
    optional("nice_task", "task_setnice", &["NICE"]),
    optional("ioprio_task", "task_setioprio", &["IO_PRIO"]),
    essential("bpf_command", "bpf", &["BPF_LOAD", "BPF_OBJ_PIN", "LINK_DETACH"]),
    essential("bpf_own_map", "bpf_map", &["BPF_MAP"]),
    essential("bpf_own_prog", "bpf_prog", &["BPF_PROG"]),
    essential("pin_unlink", "inode_unlink", &["FILE_UNLINK"]),
    essential(
        "pin_rename",
        "inode_rename",
        &["PIN_RENAME", "FILE_REPLACE", "LD_SO_PRELOAD_MV"],
    ),
    essential("pin_umount", "sb_umount", &["BPFFS_UMOUNT", "UMOUNT_NS"]),
    essential(
        "mount_over",
        "sb_mount",
        &["MOUNT_OVER", "MOUNT_BIND", "MOUNT_MOVE", "MOUNT_NS", "FILE_MOUNT"],
    ),
    essential("mount_moved", "move_mount", &["MOVE_MOUNT", "FSMOUNT", "OPEN_TREE"]),
    essential("root_changed", "sb_pivotroot", &["PIVOT_ROOT"]),
    essential("read_code", "kernel_read_file", &["MODULE_LOAD"]),
    essential("load_code", "kernel_load_data", &["INIT_MODULE", "KEXEC"]),
    essential("seal_create", "inode_create", &["FILE_NEW", "LD_SO_PRELOAD"]),
    essential("seal_mkdir", "inode_mkdir", &["FILE_FOLDER"]),
    essential("seal_mknod", "inode_mknod", &[]),
    essential("seal_symlink", "inode_symlink", &["FILE_LINK"]),
    essential("seal_link", "inode_link", &[]),
    optional("seal_attributes", "inode_setattr", &["FILE_TRUNCATE", "FILE_MODE"]),
    Row {
        instead_of: Some("seal_attributes"),
        ..optional("seal_attributes_2", "inode_setattr", &["FILE_TRUNCATE", "FILE_MODE"])
    },
    essential("seal_xattr", "inode_setxattr", &["FILE_XATTR"]),
    essential("seal_xattr_gone", "inode_removexattr", &[]),
    essential("code_mapped", "mmap_file", &[]),
    essential("code_allowed", "file_mprotect", &[]),
    optional("perf_open", "perf_event_open", &["PERF"]),
    optional("lock_down", "locked_down", &["PORT", "IOPL", "PCI_CONFIG"]),
    // Without them fingerprints are refused, see warden.rs.
    before("leak_write", "vfs_write"),
    before("leak_writev", "vfs_writev"),
    before("leak_aio", "aio_write"),
    before("leak_allocated", "vfs_fallocate"),
    optional(
        "leak_file",
        "file_permission",
        &[
            "LEAK_WRITE",
            "LEAK_PWRITE",
            "LEAK_WRITEV",
            "LEAK_WRITEV_LATER",
            "LEAK_DEEP",
            "LEAK_PIPE",
            "LEAK_SPLIT",
            "LEAK_DRIBBLE",
            "LEAK_SENDFILE",
            "LEAK_AIO",
        ],
    ),
    optional(
        "leak_socket",
        "socket_sendmsg",
        &[
            "LEAK_UNIX",
            "LEAK_TCP",
            "LEAK_SENDMSG",
            "LEAK_SENDMMSG",
            "LEAK_ABSENT_SEND",
        ],
    ),
    optional("leak_ring", "inode_init_security_anon", &["LEAK_IO_URING"]),
];

/// The rows of docs/attacks.md that are open because a program of theirs is not attached. Each once, in the table's order.
pub(crate) fn missing(programs: &[Program]) -> Vec<String> {
    let mut open: Vec<String> = Vec::new();
    for row in PROGRAMS.iter().filter(|row| row.instead_of.is_none()) {
        let attached = programs.iter().any(|one| one.name == row.name && one.attached);
        for name in row.stops.iter().filter(|_| !attached) {
            if !open.iter().any(|known| known == name) {
                open.push((*name).to_owned());
            }
        }
    }
    open
}

/// The degraded mode in which some programs are not attached, in words; `None` when all are.
pub(crate) fn hooks_missing(programs: &[Program]) -> Option<String> {
    let absent: Vec<String> = PROGRAMS
        .iter()
        .filter(|row| row.instead_of.is_none())
        .filter(|row| !programs.iter().any(|one| one.name == row.name && one.attached))
        .map(|row| format!("{} ({})", row.name, row.stops.join(", ")))
        .collect();
    (!absent.is_empty()).then(|| format!("hooks-missing: this kernel does not call {}", absent.join("; ")))
}

/// The programs as the status lists them; two for one hook count as one.
pub(crate) fn listed(is_attached: impl Fn(&str) -> bool) -> Vec<Program> {
    let rows = PROGRAMS.iter().filter(|row| row.instead_of.is_none());
    rows.map(|row| {
        let stand_ins = PROGRAMS.iter().filter(|other| other.instead_of == Some(row.name));
        Program {
            name: row.name.into(),
            attached: is_attached(row.name) || stand_ins.into_iter().any(|other| is_attached(other.name)),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::{Hook, PROGRAMS, Row, hooks_missing, missing};
    use rempart_api::guard::Program;
    use std::collections::{BTreeMap, BTreeSet};

    /// As if all programs but these were attached.
    fn without(names: &[&str]) -> Vec<Program> {
        let listed = |row: &Row| Program {
            name: row.name.into(),
            attached: !names.contains(&row.name),
        };
        PROGRAMS.iter().map(listed).collect()
    }

    #[test]
    fn a_program_that_is_not_attached_names_the_attacks_that_it_leaves_open() {
        assert_eq!(missing(&without(&[])), [""; 0]);
        assert_eq!(hooks_missing(&without(&[])), None);
        let absent = without(&["nice_task", "schedule_task"]);
        assert_eq!(missing(&absent), ["AFFINITY", "SCHED", "NICE"]);
        let why = hooks_missing(&absent).expect("some are missing");
        assert!(
            why.ends_with("schedule_task (AFFINITY, SCHED); nice_task (NICE)"),
            "{why}"
        );
        assert!(missing(&[]).len() > 80);
    }

    #[test]
    fn what_may_be_missing_has_something_to_name() {
        // What only learns is told by the program that acts on it.
        let learns = |row: &Row| matches!(row.hook, Hook::FEntry(_));
        assert!(
            PROGRAMS
                .iter()
                .all(|row| row.essential || learns(row) || !row.stops.is_empty())
        );
    }

    #[test]
    fn the_document_and_the_table_name_the_same_attacks_at_each_hook() {
        let text = std::fs::read_to_string("../../docs/attacks.md").expect("the document");
        let mut written: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, name, _, _, hooks, "denied", ..] = cells[..] else {
                continue;
            };
            for hook in hooks.split(", ") {
                written.entry(hook).or_default().insert(name.trim_matches('`'));
            }
        }
        let mut listed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for row in PROGRAMS.iter().filter(|row| !row.stops.is_empty()) {
            let (Hook::Lsm(hook) | Hook::FExit(hook) | Hook::FEntry(hook)) = row.hook;
            listed.entry(hook).or_default().extend(row.stops);
        }
        assert_eq!(written, listed);
    }

    /// Programs that may sleep: the section says so, the hook is the same.
    const SLEEPING: &[&str] = &["leak_socket"];

    #[test]
    fn the_table_and_the_sources_name_the_same_programs() {
        let mut written = BTreeSet::new();
        for entry in std::fs::read_dir("../bpf").expect("the sources").flatten() {
            let text = std::fs::read_to_string(entry.path()).expect("text");
            let mut hook = None;
            for line in text.lines() {
                if let Some(rest) = line.strip_prefix("SEC(\"") {
                    hook = rest.strip_suffix("\")").map(str::to_owned);
                } else if let (Some(found), Some(rest)) = (hook.take(), line.strip_prefix("int BPF_PROG(")) {
                    let name = rest.split([',', ')']).next().expect("a name");
                    written.insert((name.to_owned(), found));
                }
            }
        }
        let listed = PROGRAMS
            .iter()
            .map(|row| {
                let section = match row.hook {
                    Hook::Lsm(name) if SLEEPING.contains(&row.name) => format!("lsm.s/{name}"),
                    Hook::Lsm(name) => format!("lsm/{name}"),
                    Hook::FEntry(name) => format!("fentry/{name}"),
                    Hook::FExit(name) => format!("fexit/{name}"),
                };
                (row.name.to_owned(), section)
            })
            .collect();
        assert_eq!(written, listed);
    }
}
