//! The programs of the object and the hooks they belong to. A hook that the kernel lacks disables
//! its own row only; without an essential one nothing counts as enforced.

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
}

const fn essential(name: &'static str, hook: &'static str) -> Row {
    Row {
        name,
        hook: Hook::Lsm(hook),
        essential: true,
        instead_of: None,
    }
}

const fn optional(name: &'static str, hook: &'static str) -> Row {
    Row {
        name,
        hook: Hook::Lsm(hook),
        essential: false,
        instead_of: None,
    }
}

const fn after(name: &'static str, function: &'static str) -> Row {
    Row {
        name,
        hook: Hook::FExit(function),
        essential: false,
        instead_of: None,
    }
}

const fn before(name: &'static str, function: &'static str) -> Row {
    Row {
        name,
        hook: Hook::FEntry(function),
        essential: false,
        instead_of: None,
    }
}

/// In the order in which they are attached: labels first.
pub(crate) const PROGRAMS: &[Row] = &[
    essential("inherit_label", "task_alloc"),
    essential("forget_label", "task_free"),
    essential("sync_label", "task_getpgid"),
    essential("label_exec", "bprm_committed_creds"),
    essential("ptrace_access", "ptrace_access_check"),
    essential("perfmon_override", "capable"),
    essential("ptrace_traceme", "ptrace_traceme"),
    essential("file_opened", "file_open"),
    essential("file_used", "file_permission"),
    optional("file_asked", "file_ioctl"),
    essential("inode_reached", "inode_permission"),
    after("cgroup_mover", "cgroup_procs_write_start"),
    essential("cgroup_ends", "inode_rmdir"),
    essential("signal_task", "task_kill"),
    essential("limit_task", "task_setrlimit"),
    optional("schedule_task", "task_setscheduler"),
    optional("nice_task", "task_setnice"),
    optional("ioprio_task", "task_setioprio"),
    essential("bpf_command", "bpf"),
    essential("bpf_own_map", "bpf_map"),
    essential("bpf_own_prog", "bpf_prog"),
    essential("pin_unlink", "inode_unlink"),
    essential("pin_rename", "inode_rename"),
    essential("pin_umount", "sb_umount"),
    essential("mount_over", "sb_mount"),
    essential("mount_moved", "move_mount"),
    essential("root_changed", "sb_pivotroot"),
    essential("read_code", "kernel_read_file"),
    essential("load_code", "kernel_load_data"),
    essential("seal_create", "inode_create"),
    essential("seal_mkdir", "inode_mkdir"),
    essential("seal_mknod", "inode_mknod"),
    essential("seal_symlink", "inode_symlink"),
    essential("seal_link", "inode_link"),
    optional("seal_attributes", "inode_setattr"),
    Row {
        instead_of: Some("seal_attributes"),
        ..optional("seal_attributes_2", "inode_setattr")
    },
    essential("seal_xattr", "inode_setxattr"),
    essential("seal_xattr_gone", "inode_removexattr"),
    essential("code_mapped", "mmap_file"),
    essential("code_allowed", "file_mprotect"),
    optional("perf_open", "perf_event_open"),
    optional("lock_down", "locked_down"),
    // Without them fingerprints are refused, see warden.rs.
    before("leak_write", "vfs_write"),
    before("leak_writev", "vfs_writev"),
    before("leak_aio", "aio_write"),
    before("leak_allocated", "vfs_fallocate"),
    optional("leak_file", "file_permission"),
    optional("leak_socket", "socket_sendmsg"),
    optional("leak_ring", "inode_init_security_anon"),
];

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
    use super::{Hook, PROGRAMS};
    use std::collections::BTreeSet;

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
