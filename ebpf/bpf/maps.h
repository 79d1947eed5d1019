/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The maps. All are pinned by the guard and outlive it. */
#ifndef REMPART_MAPS_H
#define REMPART_MAPS_H

#include "kernel.h"
#include "layout.h"

/* The label, on the thread group leader. User space sets it with a pidfd as key. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct label);
} labels SEC(".maps");

/*
 * The same label by the leader's address. A procfs inode leads to its task only through raw reads, and
 * task storage wants a pointer that the verifier trusts; before 6.2 task storage may also answer NULL
 * when it is preempted. What cannot be entered here is not forked.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct label);
} leaders SEC(".maps");

/* On a thread: a ptrace check of its has just been denied (memory.bpf.c). */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} marks SEC(".maps");

/* On a thread: the label of the process that it is moving to another cgroup (cgroup.bpf.c). */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct label);
} moves SEC(".maps");

/*
 * Cgroups in which a process was when it was labelled, and all above them. A cgroup's id is not used
 * again before the next boot. What cannot be entered here is not labelled.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct cgroup_label);
} cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} config SEC(".maps");

/* Executables that are labelled when PID 1 starts them: the guard, the agent, systemd's that measure. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32);
	__type(key, struct inode_key);
	__type(value, struct label);
} trusted_exes SEC(".maps");

/* Files and folders that nobody changes once the machine is armed, each with SEAL_*. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct inode_key);
	__type(value, __u32);
} sealed SEC(".maps");

/* Executables that load foreign BPF programs, each with the number of its list. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct inode_key);
	__type(value, __u32);
} loaders SEC(".maps");

/* The foreign BPF programs that they may load. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct listed_key);
	__type(value, __u32);
} listed SEC(".maps");

/* What the guard's user space was told in this boot, by name: digests that must not change. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, char[264]);
	__type(value, char[32]);
} facts SEC(".maps");

/* The pins' folder and all above it: whoever mounts over one hides the pins. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32);
	__type(key, struct exe);
	__type(value, __u32);
} places SEC(".maps");

/* Filled from the table in rempart-bpf-common. A name that is absent is denied. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 128);
	__type(key, char[PROCNAME_LEN]);
	__type(value, struct procfile);
} procfiles SEC(".maps");

/* Ids of our own maps and programs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 128);
	__type(key, __u64);
	__type(value, __u32);
} own SEC(".maps");

/* Unit names by id, for user space: events keep their names when the guard restarts. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, char[256]);
} units SEC(".maps");

/* Denials. Small, and nothing else can fill it. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} ring_deny SEC(".maps");

/* Observations and the noise of process listings. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1024 * 1024);
} ring_observe SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* Observations by process, vector and unit, while there are many (flood.h). */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct flood_key);
	__type(value, struct flood);
} floods SEC(".maps");

/* Events that found no room: index 0 of ring_deny, 1 of ring_observe. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

/* How many units have fingerprints: while none has, nobody is asked anything (leak.bpf.c). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} leak_units SEC(".maps");

/* By unit. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LEAK_UNITS);
	__type(key, __u64);
	__type(value, struct leak_set);
} leak_sets SEC(".maps");

/* By slot: what is no fingerprint of a unit is told apart by one bit, most of the time. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LEAK_UNITS);
	__type(key, __u32);
	__type(value, __u8[LEAK_FILTER_BYTES]);
} leak_filters SEC(".maps");

/* Keyed hashes of windows of secrets, never a secret; the value is the id of their set. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, __u64);
	__type(value, __u64);
} leak_prints SEC(".maps");

/* On a thread of a watched unit: what it is about to write, and room to look at it. */
#define LEAK_CHUNK 1024

struct leak_thread {
	/* What is said below is about a call that has not been asked for yet. */
	__u32 noted;
	/* The last file that it wanted to read was a memory file. */
	__u32 read_memory;
	/* Iovecs that come after the current piece, and how much of the first is done already. */
	__u64 iovs;
	__u64 iov_count;
	__u64 skip;
	/* The current piece, and what may be looked at of all. */
	__u64 at;
	__u64 left;
	__u64 most;
	/* Carried over; and with what came behind it. */
	__u32 have;
	__u32 length;
	/* A batch: where it begins, how far its windows are apart and how long they are, which have passed the filter. */
	__u32 base;
	__u32 stride;
	__u32 window;
	__u32 passed;
	__u32 found;
	__u32 pad;
	/* What is carried over, then a chunk, then room for a batch of windows that begins at their end. */
	__u8 bytes[LEAK_WIDE + LEAK_CHUNK + 160];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct leak_thread);
} leak_threads SEC(".maps");

/*
 * The end of what a watched unit has last written to a file or socket, so that a secret is known over
 * two calls: at most 15 bytes of output that was let through.
 */
struct leak_tail {
	__u8 bytes[LEAK_WIDE];
	__u32 have;
};

struct leak_stream {
	__u64 unit;
	__u64 address;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct leak_stream);
	__type(value, struct leak_tail);
} leak_tails SEC(".maps");

#endif
