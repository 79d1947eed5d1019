//! The programs of the object and the LSM hooks they belong to. A hook that the kernel lacks disables
//! its own row only; without an essential one nothing counts as enforced.

/// One program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Name in the object.
    pub(crate) name: &'static str,
    /// LSM hook, without `bpf_lsm_`.
    pub(crate) hook: &'static str,
    /// Protection means nothing without it.
    pub(crate) essential: bool,
}

const fn essential(name: &'static str, hook: &'static str) -> Row {
    Row {
        name,
        hook,
        essential: true,
    }
}

const fn optional(name: &'static str, hook: &'static str) -> Row {
    Row {
        name,
        hook,
        essential: false,
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
    essential("procfs_open", "file_open"),
    essential("procfs_use", "file_permission"),
    optional("procfs_ioctl", "file_ioctl"),
    essential("signal_task", "task_kill"),
    essential("limit_task", "task_setrlimit"),
    essential("bpf_command", "bpf"),
    essential("bpf_own_map", "bpf_map"),
    essential("bpf_own_prog", "bpf_prog"),
    essential("pin_unlink", "inode_unlink"),
    essential("pin_rename", "inode_rename"),
    essential("pin_umount", "sb_umount"),
    essential("read_code", "kernel_read_file"),
    essential("load_code", "kernel_load_data"),
    optional("perf_open", "perf_event_open"),
];

#[cfg(test)]
mod tests {
    use super::PROGRAMS;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_and_the_sources_name_the_same_programs() {
        let mut written = BTreeSet::new();
        for entry in std::fs::read_dir("../bpf").expect("the sources").flatten() {
            let text = std::fs::read_to_string(entry.path()).expect("text");
            let mut hook = None;
            for line in text.lines() {
                if let Some(rest) = line.strip_prefix("SEC(\"lsm/") {
                    hook = rest.strip_suffix("\")").map(str::to_owned);
                } else if let (Some(found), Some(rest)) = (hook.take(), line.strip_prefix("int BPF_PROG(")) {
                    let name = rest.split([',', ')']).next().expect("a name");
                    written.insert((name.to_owned(), found));
                }
            }
        }
        let listed = PROGRAMS
            .iter()
            .map(|row| (row.name.to_owned(), row.hook.to_owned()))
            .collect();
        assert_eq!(written, listed);
    }
}
