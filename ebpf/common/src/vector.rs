//! The vectors: numbers as in `enum vector` of layout.h, names as in docs/attacks.md. A number is never
//! used again.

macro_rules! vectors {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        /// A way to reach a protected process or the machine.
        #[allow(missing_docs, reason = "each variant's name is the text beside it, documented in docs/attacks.md")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Vector { $($name = $number,)* }

        impl Vector {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Vector] = &[$(Vector::$name,)*];

            /// The name in records and in docs/attacks.md.
            pub const fn name(self) -> &'static str {
                match self { $(Vector::$name => $text,)* }
            }

            /// The vector with this number; `None` for one that this version does not know.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Vector::$name),)* _ => None }
            }
        }
    };
}

vectors! {
    PtraceAttach = 1, "PTRACE_ATTACH";
    PtraceTraceme = 2, "PTRACE_TRACEME";
    ProcessVmRead = 3, "PROCESS_VM_READ";
    ProcessVmWrite = 4, "PROCESS_VM_WRITE";
    PidfdGetfd = 5, "PIDFD_GETFD";
    Kcmp = 6, "KCMP";
    MovePages = 7, "MOVE_PAGES";
    GetRobustList = 8, "GET_ROBUST_LIST";
    ProcessMadvise = 9, "PROCESS_MADVISE";
    Setns = 10, "SETNS";
    ProcLink = 11, "PROC_LINK";
    FdReopen = 12, "FD_REOPEN";
    PtraceOther = 13, "PTRACE_OTHER";
    ProcmemRead = 20, "PROCMEM_READ";
    ProcmemWrite = 21, "PROCMEM_WRITE";
    EnvironRead = 22, "ENVIRON_READ";
    MapsRead = 23, "MAPS_READ";
    SmapsRead = 24, "SMAPS_READ";
    PagemapRead = 25, "PAGEMAP_READ";
    AuxvRead = 26, "AUXV_READ";
    NumaMapsRead = 27, "NUMA_MAPS_READ";
    SyscallRead = 28, "SYSCALL_READ";
    StackRead = 29, "STACK_READ";
    WchanRead = 30, "WCHAN_READ";
    IoRead = 31, "IO_READ";
    ProcfsOther = 32, "PROCFS_OTHER";
    ProcfsWrite = 33, "PROCFS_WRITE";
    CoredumpFilter = 34, "COREDUMP_FILTER";
    OomAdj = 35, "OOM_ADJ";
    EarlyFd = 36, "EARLY_FD";
    AgentKill = 50, "AGENT_KILL";
    Prlimit = 51, "PRLIMIT";
    CgroupKill = 52, "CGROUP_KILL";
    CgroupFreeze = 53, "CGROUP_FREEZE";
    CgroupMove = 54, "CGROUP_MOVE";
    CgroupLimit = 55, "CGROUP_LIMIT";
    CgroupV1 = 56, "CGROUP_V1";
    Sched = 57, "SCHED";
    Nice = 58, "NICE";
    IoPrio = 59, "IO_PRIO";
    BpfLoad = 60, "BPF_LOAD";
    BpfMap = 61, "BPF_MAP";
    BpfProg = 62, "BPF_PROG";
    Unpin = 63, "UNPIN";
    BpffsUmount = 64, "BPFFS_UMOUNT";
    MoveMount = 65, "MOVE_MOUNT";
    PinOpen = 66, "PIN_OPEN";
    LinkGet = 67, "LINK_GET";
    ModuleLoad = 70, "MODULE_LOAD";
    Kexec = 71, "KEXEC";
    Kcore = 72, "KCORE";
    DevMem = 73, "DEV_MEM";
    Msr = 74, "MSR";
    Kallsyms = 75, "KALLSYMS";
    Kpage = 76, "KPAGE";
    Sysrq = 77, "SYSRQ";
    CorePattern = 78, "CORE_PATTERN";
    ModprobePath = 79, "MODPROBE_PATH";
    Perf = 80, "PERF";
    Tracefs = 81, "TRACEFS";
    Debugfs = 82, "DEBUGFS";
    Port = 83, "PORT";
    Pci = 84, "PCI";
    Acpi = 85, "ACPI";
    FileTamper = 86, "FILE_TAMPER";
    TpmOpen = 87, "TPM_OPEN";
    LibraryInject = 88, "LIBRARY_INJECT";
    ExecMem = 89, "EXEC_MEM";
    SecretLeak = 90, "SECRET_LEAK";
    IoUring = 91, "IO_URING";
    Preload = 100, "PRELOAD";
    BreakGlass = 101, "BREAK_GLASS";
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::Vector;
    use std::{collections::BTreeMap, string::String};

    const LAYOUT: &str = include_str!("../../bpf/layout.h");

    #[test]
    fn both_halves_give_each_vector_the_same_number() {
        let theirs: BTreeMap<u32, String> = LAYOUT
            .lines()
            .filter_map(|line| line.trim().strip_prefix("V_")?.strip_suffix(',')?.split_once(" = "))
            .map(|(name, number)| (number.parse().expect("a number"), String::from(name)))
            .collect();
        let ours: BTreeMap<u32, String> = Vector::ALL
            .iter()
            .map(|v| (*v as u32, String::from(v.name())))
            .collect();
        assert_eq!(theirs, ours);
    }

    #[test]
    fn a_number_leads_back_to_its_vector_and_an_unknown_one_to_none() {
        for vector in Vector::ALL {
            assert_eq!(Vector::from_number(*vector as u32), Some(*vector));
        }
        assert_eq!(Vector::from_number(0), None);
    }
}
