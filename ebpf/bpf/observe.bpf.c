/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Observation only, an object of its own: for kernels that load tracepoint programs but no LSM programs. A
 * tracepoint has no say, so nothing here denies anything, and much passes unseen: what is asked by a pidfd, by a
 * relative path, by a thread's id, or from another pid namespace. A path is read before the kernel reads it, and may
 * be another one then. Never loaded beside rempart.bpf.c.
 */
#include "kernel.h"
#include "layout.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* A flavour, as in kernel.h: absent on other machines than x86, where no system call is seen. */
struct pt_regs___arguments {
	unsigned long di;
	unsigned long si;
};

#pragma clang attribute pop

/* The units' processes by their ids. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u64);
} observed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} ring_observe SEC(".maps");

/* Index 0: the next event's number. 1: events that found no room. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} observe_counts SEC(".maps");

static __always_inline __u64 count(__u32 which)
{
	__u64 *counter = bpf_map_lookup_elem(&observe_counts, &which);

	return counter ? __sync_fetch_and_add(counter, 1) : 0;
}

/* An attempt on the process with this id, if it is one of a unit's and current is none of the same. */
static __always_inline void observe(__u32 target, __u32 vector)
{
	__u64 ids = bpf_get_current_pid_tgid();
	__u32 tgid = ids >> 32;
	__u64 *unit = bpf_map_lookup_elem(&observed, &target);
	__u64 *own = bpf_map_lookup_elem(&observed, &tgid);
	struct event *e;
	__u64 seq;

	if (!unit || tgid == 1 || (own && *own == *unit))
		return;
	seq = count(0);
	e = bpf_ringbuf_reserve(&ring_observe, sizeof(*e), 0);
	if (!e) {
		count(1);
		return;
	}
	e->seq = seq;
	e->boottime_ns = bpf_ktime_get_boot_ns();
	e->unit = *unit;
	e->vector = vector;
	e->verdict = OBSERVED;
	e->pid = (__u32)ids;
	e->tgid = tgid;
	e->uid = (__u32)bpf_get_current_uid_gid();
	e->target_pid = target;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	e->suppressed = 0;
	e->reserved = 0;
	bpf_ringbuf_submit(e, 0);
}

#define PATH_LEN 40
/* The whole rest of the path, its NUL included. */
#define ENDS(path, at, text) (__builtin_memcmp((path) + (at), text, sizeof(text)) == 0)

/* Opens that name /proc/PID/mem, environ or maps in full. */
static __always_inline void observe_path(const char *user)
{
	char path[PATH_LEN] = {};
	__u32 pid = 0, i;

	if (bpf_probe_read_user_str(path, sizeof(path), user) < 0 || __builtin_memcmp(path, "/proc/", 6))
		return;
#pragma unroll
	for (i = 6; i < 14; i++) {
		if (path[i] == '/') {
			if (ENDS(path, i, "/mem"))
				observe(pid, V_PROCMEM_READ);
			else if (ENDS(path, i, "/environ"))
				observe(pid, V_ENVIRON_READ);
			else if (ENDS(path, i, "/maps"))
				observe(pid, V_MAPS_READ);
			return;
		}
		if (path[i] < '0' || path[i] > '9')
			return;
		pid = pid * 10 + (path[i] - '0');
	}
}

SEC("raw_tp/sys_enter")
int observe_call(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs___arguments *regs = (void *)ctx->args[0];
	unsigned long first, second;

	if (!bpf_core_field_exists(regs->di))
		return 0;
	first = BPF_CORE_READ(regs, di);
	second = BPF_CORE_READ(regs, si);
	switch (ctx->args[1]) {
	case 101: /* ptrace */
		observe(second, V_PTRACE_ATTACH);
		break;
	case 310:
		observe(first, V_PROCESS_VM_READ);
		break;
	case 311:
		observe(first, V_PROCESS_VM_WRITE);
		break;
	case 312:
		observe(first, V_KCMP);
		observe(second, V_KCMP);
		break;
	case 279:
		observe(first, V_MOVE_PAGES);
		break;
	case 302: /* prlimit64 */
		observe(first, V_PRLIMIT);
		break;
	case 62: /* kill, tkill, tgkill; signal 0 delivers nothing */
	case 200:
		if (second)
			observe(first, V_AGENT_KILL);
		break;
	case 234:
		observe(first, V_AGENT_KILL);
		break;
	case 2: /* open, openat, openat2 */
		observe_path((const char *)first);
		break;
	case 257:
	case 437:
		observe_path((const char *)second);
		break;
	}
	return 0;
}

/* Children belong to the unit too. */
SEC("raw_tp/sched_process_fork")
int observe_fork(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *parent = (void *)ctx->args[0], *child = (void *)ctx->args[1];
	__u32 from = BPF_CORE_READ(parent, tgid), to = BPF_CORE_READ(child, tgid);
	__u64 *unit = bpf_map_lookup_elem(&observed, &from);

	if (unit && from != to)
		bpf_map_update_elem(&observed, &to, unit, BPF_ANY);
	return 0;
}

SEC("raw_tp/sched_process_exit")
int observe_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];
	__u32 tgid = BPF_CORE_READ(task, tgid);

	if (BPF_CORE_READ(task, pid) == tgid)
		bpf_map_delete_elem(&observed, &tgid);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
