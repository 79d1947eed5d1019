/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What both halves read: the same layouts stand in ebpf/common/src/lib.rs, and a test there compares the
 * numbers of this file with its own. Add a vector at the end; a number is never used again.
 */
#ifndef REMPART_LAYOUT_H
#define REMPART_LAYOUT_H

#include <linux/types.h>

enum vector {
	V_PTRACE_ATTACH = 1,
	V_PTRACE_TRACEME = 2,
	V_PROCESS_VM_READ = 3,
	V_PROCESS_VM_WRITE = 4,
	V_PIDFD_GETFD = 5,
	V_KCMP = 6,
	V_MOVE_PAGES = 7,
	V_GET_ROBUST_LIST = 8,
	V_PROCESS_MADVISE = 9,
	V_SETNS = 10,
	V_PROC_LINK = 11,
	V_FD_REOPEN = 12,
	V_PTRACE_OTHER = 13,
	V_PROCMEM_READ = 20,
	V_PROCMEM_WRITE = 21,
	V_ENVIRON_READ = 22,
	V_MAPS_READ = 23,
	V_SMAPS_READ = 24,
	V_PAGEMAP_READ = 25,
	V_AUXV_READ = 26,
	V_NUMA_MAPS_READ = 27,
	V_SYSCALL_READ = 28,
	V_STACK_READ = 29,
	V_WCHAN_READ = 30,
	V_IO_READ = 31,
	V_PROCFS_OTHER = 32,
	V_PROCFS_WRITE = 33,
	V_COREDUMP_FILTER = 34,
	V_OOM_ADJ = 35,
	V_EARLY_FD = 36,
	V_AGENT_KILL = 50,
	V_PRLIMIT = 51,
	V_CGROUP_KILL = 52,
	V_CGROUP_FREEZE = 53,
	V_CGROUP_MOVE = 54,
	V_CGROUP_LIMIT = 55,
	V_CGROUP_V1 = 56,
	V_SCHED = 57,
	V_NICE = 58,
	V_IO_PRIO = 59,
	V_BPF_LOAD = 60,
	V_BPF_MAP = 61,
	V_BPF_PROG = 62,
	V_UNPIN = 63,
	V_BPFFS_UMOUNT = 64,
	V_MOVE_MOUNT = 65,
	V_PIN_OPEN = 66,
	V_LINK_GET = 67,
	V_MODULE_LOAD = 70,
	V_KEXEC = 71,
	V_KCORE = 72,
	V_DEV_MEM = 73,
	V_MSR = 74,
	V_KALLSYMS = 75,
	V_KPAGE = 76,
	V_SYSRQ = 77,
	V_CORE_PATTERN = 78,
	V_MODPROBE_PATH = 79,
	V_PERF = 80,
	V_TRACEFS = 81,
	V_DEBUGFS = 82,
	V_PORT = 83,
	V_PCI = 84,
	V_ACPI = 85,
	V_FILE_TAMPER = 86,
	V_TPM_OPEN = 87,
	V_LIBRARY_INJECT = 88,
	V_EXEC_MEM = 89,
	V_SECRET_LEAK = 90,
	V_IO_URING = 91,
	V_PRELOAD = 100,
	V_BREAK_GLASS = 101,
};

/* Label of a thread group: which unit it belongs to. unit 0 is no label. */
struct label {
	__u64 unit;
	__u32 mode;
	__u32 flags;
};

/* Anything but observe denies, so that a broken label is a closed one. */
#define MODE_ENFORCE 1
#define MODE_OBSERVE 2
/* Denies, then kills who tried. */
#define MODE_KILL 3

/* What became of an attempt. */
#define OBSERVED 0
#define REFUSED 1
#define KILLED 2

/* The guard itself: may use its own maps, programs and pins. Not inherited. */
#define LABEL_GUARD 1
/* The agent: the guard takes orders from it. Not inherited. */
#define LABEL_AGENT 2
/* Forked by PID 1 itself, no label yet (unit 0). An orphan, whose parent is PID 1 as well, has not got it. */
#define LABEL_BY_INIT 4
/* One of systemd's own programs that measure the boot into the TPM. Not inherited. */
#define LABEL_TPM 8

/* Whose cgroup it is. */
struct cgroup_label {
	__u64 unit;
	__u32 mode;
	/* Not the unit's own cgroup but one above it, through which it can be killed or starved. */
	__u32 above;
};

struct event {
	__u64 seq;
	__u64 boottime_ns;
	__u64 unit;
	__u32 vector;
	__u32 verdict;
	__u32 pid;
	__u32 tgid;
	__u32 uid;
	__u32 target_pid;
	char comm[16];
	/* Observations before this one that were counted only (flood.h). */
	__u32 suppressed;
	__u32 reserved;
};

#define FLOOD_WINDOW_NS 1000000000LL
/* Observations of one process, vector and unit that are recorded one by one in a window. */
#define FLOOD_PASS 16

struct flood_key {
	__u64 unit;
	__u32 vector;
	__u32 tgid;
};

struct flood {
	/* When the window began. */
	__u64 since;
	/* Attempts in it. */
	__u32 passed;
	/* Attempts that no event has told of yet, and the last of them. */
	__u32 held;
	__u64 boottime_ns;
	__u32 pid;
	__u32 uid;
	__u32 target_pid;
	char comm[16];
	__u32 reserved;
};

struct config {
	/* Where our pins lie, as the kernel numbers devices. 0: nowhere yet. */
	__u64 pin_dev;
	__u64 pin_ino;
	/* While learn_tid is not 0, what it opens is learnt: as an executable that gets this label if it has a unit, and as sealed. */
	struct label learn;
	__u32 learn_tid;
	__u32 armed;
	/* User space only: the next unit id, and which object is loaded. */
	__u64 next_unit;
	__u64 object;
	/* Break-glass: nanoseconds of CLOCK_BOOTTIME until which `lifted` counts, and what was lifted ever. */
	__u64 lifted_until;
	__u32 lifted;
	__u32 was_lifted;
	/* How what is learnt is sealed: SEAL_*. */
	__u32 learn_seal;
	/* MODE_OBSERVE: changes of sealed files are recorded only. */
	__u32 files_mode;
	/* Major number of the TPM's devices, 0 for none. */
	__u32 tpm_major;
	/* TPM devices are the agent's alone. */
	__u32 tpm_exclusive;
	/* The guard has this vector recorded: what it does itself stands among what others tried. */
	__u32 announce;
	/* What is learnt is the executable of this loader of foreign programs, 0 for none. */
	__u32 learn_loader;
};

/* What a break-glass token lifts. */
#define LIFT_FILES 1
#define LIFT_MACHINE 2

/* Content, attributes and name stay. */
#define SEAL_FILE 1
/* No entry comes or goes. */
#define SEAL_FOLDER 2
/* It is not renamed, and nothing is mounted over it. */
#define SEAL_NAME 4
/* No entry ld.so.preload comes. */
#define SEAL_PRELOAD 8
/* Content and attributes stay; a new file may take its name. */
#define SEAL_CODE 16

/*
 * A file: the generation tells one that was given the number of a deleted one. An overlay has one device and no generation for files of
 * two file systems, which number alike; what is sealed keeps its size, and another file of that number and size is rare.
 */
struct inode_key {
	__u64 dev;
	__u64 ino;
	__u32 generation;
	/* Of a regular file, its low half. */
	__u32 size;
};

/* A foreign BPF program and who may load it. */
struct listed_key {
	__u32 loader;
	__u32 zero;
	/* Digest over its instructions, as the running kernel computes it. */
	__u8 tag[8];
};

/* Device and inode of an executable or a folder. */
struct exe {
	__u64 dev;
	__u64 ino;
};

#define PROCNAME_LEN 24

/* What a file of procfs is: the vector that reading or writing it is, 0 for allowed. */
struct procfile {
	__u32 read;
	__u32 write;
	__u32 flags;
};

/* Not of a task but of the machine: counts once armed. */
#define PROCFILE_MACHINE 1
/* PID 1 may write it. */
#define PROCFILE_PID1_WRITES 2

#define OWN_MAP 1
#define OWN_PROG 2
/* Key of the `own` map. */
#define OWN_KEY(kind, id) (((__u64)(kind) << 32) | (id))

#define COUNT_SEQ 0

/* Windows of a secret: long secrets are known by wide ones, short ones by narrow ones. */
#define LEAK_WIDE 16
#define LEAK_NARROW 8
/* Output is looked at every so many bytes for wide windows; for narrow ones every leak_set.step. */
#define LEAK_STRIDE 8
/* Bits of a unit's filter, as a power of two, and its bytes. */
#define LEAK_FILTER_BITS 17
#define LEAK_FILTER_BYTES 16384
/* Units whose output is watched at the same time. */
#define LEAK_UNITS 128

/* How the secrets of one unit are known in its output. */
struct leak_set {
	/* Value of its fingerprints in leak_prints: those of an earlier set do not count. */
	__u64 id;
	/* Of the filter: odd. */
	__u64 factor[2];
	/* Of SipHash-2-4. */
	__u64 key[2];
	/* Index of its filter. */
	__u32 slot;
	__u32 mode;
	/* There are wide windows. */
	__u32 wide;
	/* Stride for narrow windows: 0 for none, else 1, 2, 4 or 8. */
	__u32 step;
};

#endif
