//! The registry: one file a vector, named as in docs/attacks.md.
//!
//! To add one: a file with `pub(super) const VECTOR: Vector`, whose function really obtains the thing and
//! undoes it again, and a line in [`ALL`].

use crate::{
    attempt::{Attempt, word},
    target::Target,
};
use serde_json::json;
use std::process::ExitCode;

/// Whom a vector reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// A process.
    Process,
    /// The machine: denied once armed.
    Machine,
    /// The guard's own things: denied from the first moment.
    Guard,
    /// What a protected process itself puts out.
    Leak,
}

impl Scope {
    fn name(self) -> &'static str {
        match self {
            Scope::Process => "process",
            Scope::Machine => "machine",
            Scope::Guard => "agent",
            Scope::Leak => "leak",
        }
    }
}

/// One vector: a row of docs/attacks.md.
pub(crate) struct Vector {
    /// Name, also that of its test.
    pub(crate) name: &'static str,
    /// What is tried, in one sentence.
    pub(crate) title: &'static str,
    /// Where it is described.
    pub(crate) source: &'static str,
    /// LSM hook that stops it.
    pub(crate) hook: &'static str,
    /// Whom it reaches.
    pub(crate) scope: Scope,
    /// Its name in the guard's record; empty for one that is denied without a record.
    pub(crate) recorded_as: &'static str,
    /// Whether this version stops it.
    pub(crate) stopped: bool,
    /// What else the reader must know.
    pub(crate) note: &'static str,
    /// The attempt.
    pub(crate) attempt: fn(&Target) -> Attempt,
}

/// What the cgroup vectors do the same way.
mod cgroup;
/// What several vectors do the same way.
mod common;
/// The family of leaks.
mod leak;
/// What the vectors on Rempart's own files do the same way.
mod own_file;
pub(crate) use leak::SECRET;
/// What the mount vectors do the same way.
mod place;
/// What the tracing vectors do the same way.
mod tracing;

macro_rules! registry {
    ($($file:ident),* $(,)?; leak: $($way:ident),* $(,)?) => {
        $(mod $file;)*
        /// All vectors.
        pub(crate) const ALL: &[&Vector] = &[$(&$file::VECTOR,)* $(&leak::$way,)*];
    };
}

registry! {
    // Memory and descriptors
    ptrace_attach, ptrace_seize, process_vm_read, process_vm_write, pidfd_getfd, kcmp, move_pages,
    get_robust_list, process_madvise, setns, proc_link, fd_reopen, map_files,
    // procfs
    procmem_read, procmem_task, procmem_mount, procmem_write, environ_read, maps_read, smaps_read,
    pagemap_read, auxv_read, numa_maps_read, syscall_read, stack_read, wchan_read, io_read, fdinfo_read,
    procfs_other, procfs_write, coredump_filter, oom_adj, prlimit, early_fd, ptrace_traceme,
    // Signals
    agent_kill, pidfd_signal, tgkill,
    // The share of the machine
    affinity, sched, nice, io_prio,
    // Cgroups
    cgroup_kill, cgroup_freeze, cgroup_above, cgroup_limit, cgroup_move_out, cgroup_move_in, cgroup_threads,
    cgroup_clone, cgroup_handle, cgroup_early,
    // The machine
    bpf_load, bpf_obj_pin, module_load, init_module, kcore, kallsyms, dev_mem, kpage, core_pattern, kexec, perf,
    cgroup_v1, sysrq, modprobe_path, kpagecount, kcore_early, kprobe, uprobe, trace_read, debugfs, port, iopl,
    pci_config, msr, tpm_open, packet_capture,
    // Rempart's own files
    file_write, file_truncate, file_mode, file_xattr, file_replace, file_unlink, file_new, file_link, file_folder, file_mount,
    ld_so_preload, ld_so_preload_rename,
    // The guard's own
    bpf_map, bpf_prog, pin_get, link_pin_get, link_detach, unpin, pin_rename, bpffs_umount, umount_ns,
    mount_over, mount_bind, mount_move, move_mount, fsmount, open_tree, mount_ns, pivot_root;
    leak:
    WRITE, PWRITE, WRITEV, WRITEV_LATER, DEEP, PIPE, SPLIT, DRIBBLE, SENDFILE, AIO, RING,
    UNIX, TCP, SENDMSG, SENDMMSG, ABSENT_SEND,
    ENCODED, ABSENT, MAPPED, SPLICE, ARGUMENTS,
}

/// Prints the registry: `NAME SCOPE RECORDED-AS VERDICT` a line (`-` for no record), or JSON with all columns.
pub(crate) fn list(as_json: bool) -> Result<ExitCode, String> {
    if as_json {
        let rows: Vec<_> = ALL
            .iter()
            .map(|v| {
                json!({"vector": v.name, "title": v.title, "source": v.source, "hook": v.hook, "scope": v.scope.name(),
                    "recorded_as": v.recorded_as, "verdict": if v.stopped {"denied"} else {"not stopped"}, "note": v.note})
            })
            .collect();
        println!("{}", json!(rows));
        return Ok(ExitCode::SUCCESS);
    }
    for vector in ALL {
        let record = if vector.recorded_as.is_empty() {
            "-"
        } else {
            vector.recorded_as
        };
        let verdict = if vector.stopped { "denied" } else { "not-stopped" };
        println!("{} {} {record} {verdict}", vector.name, vector.scope.name());
    }
    Ok(ExitCode::SUCCESS)
}

/// Tries one.
pub(crate) fn run<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<ExitCode, String> {
    let name = words.next().ok_or("run wants a vector; see list")?;
    let vector = ALL
        .iter()
        .find(|vector| vector.name == name)
        .ok_or_else(|| format!("no vector {name}; see list"))?;
    let mut target = Target {
        pins: "/sys/fs/bpf/rempart".into(),
        ..Target::default()
    };
    let mut as_json = false;
    while let Some(word) = words.next() {
        if word == "--json" {
            as_json = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
        match word {
            "--pid" => target.pid = value.parse().map_err(|_| format!("{value} is no pid"))?,
            "--addr" => target.addr = u64::from_str_radix(value.trim_start_matches("0x"), 16).ok(),
            "--after" => target.after = Some(value.into()),
            "--module" => target.module = Some(value.into()),
            "--pins" => target.pins = value.into(),
            _ => return Err(format!("unknown word {word}")),
        }
    }
    if vector.scope == Scope::Process && target.pid <= 0 {
        return Err(format!("{name} wants --pid"));
    }
    // The process must be protected before it tries.
    if vector.scope == Scope::Leak && target.after.is_some() {
        target.wait().map_err(|failure| failure.detail)?;
    }
    let attempt = (vector.attempt)(&target);
    let outcome = word(&attempt);
    let (errno, detail) = match &attempt {
        Ok(detail) => (None, detail),
        Err(failure) => (failure.errno, &failure.detail),
    };
    if as_json {
        println!(
            "{}",
            json!({"vector": name, "outcome": outcome, "errno": errno, "detail": detail})
        );
    } else {
        println!("{name}: {outcome}: {detail}");
    }
    Ok(ExitCode::from(match outcome {
        "obtained" => 0,
        "denied" => 1,
        _ => 2,
    }))
}

#[cfg(test)]
mod tests {
    use super::ALL;
    use std::collections::HashSet;

    #[test]
    fn each_name_stands_once() {
        let names: HashSet<_> = ALL.iter().map(|vector| vector.name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
