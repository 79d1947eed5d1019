/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * A flood of observations: of one process, vector and unit FLOOD_PASS a window are recorded one by one, the
 * others are counted, and the next event of theirs carries the number. Nothing is lost by it: every attempt is
 * an event or in the number of one. What no event follows is told when the guard asks (flush_floods).
 *
 * Never for denials: each of those is recorded, or counted as lost by a full ring.
 */
#ifndef REMPART_FLOOD_H
#define REMPART_FLOOD_H

#include "maps.h"

/* The entry for this process, vector and unit; 0 when the table is full, which holds nothing back. */
static __always_inline struct flood *flood_of(__u64 unit, __u32 vector)
{
	struct flood_key key = {
		.unit = unit,
		.vector = vector,
		.tgid = bpf_get_current_pid_tgid() >> 32,
	};
	struct flood *flood = bpf_map_lookup_elem(&floods, &key);
	struct flood first = {};

	if (flood)
		return flood;
	first.since = bpf_ktime_get_boot_ns();
	/* Another thread may have been faster. */
	bpf_map_update_elem(&floods, &key, &first, BPF_NOEXIST);
	return bpf_map_lookup_elem(&floods, &key);
}

/* Is this attempt counted instead of recorded? */
static __always_inline bool held_back(struct flood *flood, __u32 target)
{
	__u64 now = bpf_ktime_get_boot_ns(), since = flood->since;
	__u64 ids = bpf_get_current_pid_tgid();

	/* Only one thread begins a window; another's clock reading may be older than it. */
	if ((__s64)(now - since) >= FLOOD_WINDOW_NS && __sync_val_compare_and_swap(&flood->since, since, now) == since)
		__sync_lock_test_and_set(&flood->passed, 0);
	if (__sync_fetch_and_add(&flood->passed, 1) < FLOOD_PASS)
		return false;
	flood->boottime_ns = now;
	flood->pid = (__u32)ids;
	flood->uid = (__u32)bpf_get_current_uid_gid();
	flood->target_pid = target;
	bpf_get_current_comm(flood->comm, sizeof(flood->comm));
	__sync_fetch_and_add(&flood->held, 1);
	return true;
}

/* One entry in which nothing has happened for two windows: its last attempt becomes an event with the number of the others. */
static long flush_flood(struct bpf_map *map, struct flood_key *key, struct flood *flood, void *context)
{
	__u64 idle = bpf_ktime_get_boot_ns() - flood->since;
	__u32 zero = 0, held;
	__u64 *counter;
	struct event *e;

	if ((__s64)idle < 2 * FLOOD_WINDOW_NS)
		return 0;
	if (!flood->held) {
		/* No program holds on to an entry for so long. */
		if ((__s64)idle >= 10 * FLOOD_WINDOW_NS)
			bpf_map_delete_elem(&floods, key);
		return 0;
	}
	e = bpf_ringbuf_reserve(&ring_observe, sizeof(*e), 0);
	/* A full ring: the next time. */
	if (!e)
		return 1;
	held = __sync_lock_test_and_set(&flood->held, 0);
	counter = bpf_map_lookup_elem(&counters, &zero);
	if (!held || !counter) {
		bpf_ringbuf_discard(e, 0);
		return 0;
	}
	e->seq = __sync_fetch_and_add(counter, 1);
	e->boottime_ns = flood->boottime_ns;
	e->unit = key->unit;
	e->vector = key->vector;
	e->verdict = OBSERVED;
	e->pid = flood->pid;
	e->tgid = key->tgid;
	e->uid = flood->uid;
	e->target_pid = flood->target_pid;
	__builtin_memcpy(e->comm, flood->comm, sizeof(e->comm));
	e->suppressed = held - 1;
	e->reserved = 0;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* The guard asks for it every second (sync_label). */
static __always_inline void flush_floods(void)
{
	bpf_for_each_map_elem(&floods, flush_flood, 0, 0);
}

#endif
