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

/* Executables that are labelled when PID 1 starts them: the guard and the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, struct exe);
	__type(value, struct label);
} trusted_exes SEC(".maps");

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

#endif
