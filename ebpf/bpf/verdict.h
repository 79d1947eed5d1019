/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Who asks, whom it concerns, and what the answer is. The answer is always known before a ring is
 * touched: a full ring loses the record (counted), never the denial.
 */
#ifndef REMPART_VERDICT_H
#define REMPART_VERDICT_H

#include "maps.h"
#include "flood.h"

/*
 * Returns -EPERM from a branch of its own: clang folds `c ? -1 : 0` into a negation, whose range the
 * verifier of 6.12 cannot bound and refuses as an LSM return value.
 */
#define DENIED(err)                                                                                \
	do {                                                                                       \
		(err) = -EPERM;                                                                    \
		asm volatile("" : "+r"(err));                                                      \
	} while (0)

static __always_inline struct config *the_config(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&config, &zero);
}

static __always_inline struct label *label_at(__u64 leader)
{
	struct label *label = bpf_map_lookup_elem(&leaders, &leader);

	return label && label->unit ? label : 0;
}

/* Label of the thread group of `leader`, which the verifier must trust. */
static __always_inline struct label *label_of(struct task_struct *leader)
{
	struct label *label = bpf_task_storage_get(&labels, leader, 0, 0);

	if (label && label->unit)
		return label;
	return label_at((__u64)leader);
}

static __always_inline struct label *actor_label(void)
{
	struct task_struct *current = bpf_get_current_task_btf();

	return label_of(current->group_leader);
}

static __always_inline __u32 actor_tgid(void)
{
	return bpf_get_current_pid_tgid() >> 32;
}

static __always_inline bool actor_is_guard(void)
{
	struct label *actor = actor_label();

	return actor && (actor->flags & LABEL_GUARD);
}

/* PID 1's own child that has no label: what it does, PID 1 does on request. */
static __always_inline bool actor_is_by_init(void)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct label *mine = bpf_task_storage_get(&labels, current->group_leader, 0, 0);

	return mine && (mine->flags & LABEL_BY_INIT);
}

static __always_inline void fill(struct event *e, __u64 seq, __u64 unit, __u32 target, __u32 vector, __u32 verdict)
{
	__u64 ids = bpf_get_current_pid_tgid();

	e->seq = seq;
	e->boottime_ns = bpf_ktime_get_boot_ns();
	e->unit = unit;
	e->vector = vector;
	e->verdict = verdict;
	e->pid = (__u32)ids;
	e->tgid = ids >> 32;
	e->uid = (__u32)bpf_get_current_uid_gid();
	e->target_pid = target;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
}

static __noinline int record(__u64 unit, __u32 target, __u32 vector, __u32 verdict)
{
	__u32 zero = 0, which = verdict == OBSERVED ? 1 : 0;
	__u64 *counter = bpf_map_lookup_elem(&counters, &zero);
	__u64 *missed, seq = 0;
	struct flood *flood = 0;
	__u32 suppressed = 0;
	struct event *e;

	if (verdict == OBSERVED)
		flood = flood_of(unit, vector);
	if (flood) {
		if (held_back(flood, target))
			return 0;
		suppressed = __sync_lock_test_and_set(&flood->held, 0);
	}
	if (counter)
		seq = __sync_fetch_and_add(counter, 1);
	if (which == 0)
		e = bpf_ringbuf_reserve(&ring_deny, sizeof(*e), 0);
	else
		e = bpf_ringbuf_reserve(&ring_observe, sizeof(*e), 0);
	if (e) {
		fill(e, seq, unit, target, vector, verdict);
		e->suppressed = suppressed;
		e->reserved = 0;
		bpf_ringbuf_submit(e, 0);
		return 0;
	}
	if (flood && suppressed)
		__sync_fetch_and_add(&flood->held, suppressed);
	missed = bpf_map_lookup_elem(&lost, &which);
	if (missed)
		__sync_fetch_and_add(missed, 1);
	return 0;
}

/* Denied all the same, but not recorded: what process listings do all day. */
#define QUIET 1
#define PID1_MAY 2
/* Denied and recorded, but nobody is killed for it: ps reads every environ that it may. */
#define SPARED 4

/*
 * Denying comes first: a signal is seen on the way back to user space, after the system call has had its
 * effect. Whoever manages units or protects them lives on, whatever it was made to try.
 */
static __always_inline bool may_be_killed(struct label *actor)
{
	return actor_tgid() != 1 && !(actor && (actor->flags & (LABEL_GUARD | LABEL_AGENT)));
}

/* The refusal in this mode: who tries is killed, or only refused. */
static __always_inline __u32 refusal(__u32 mode, __u32 how, struct label *actor)
{
	if (mode == MODE_KILL && !(how & SPARED) && may_be_killed(actor) && !bpf_send_signal(SIGKILL))
		return KILLED;
	return REFUSED;
}

/* May current do `vector` to a thread group with this label? 0 or -EPERM. */
static __always_inline int judge(struct label *target, __u32 target_pid, __u32 vector, __u32 how)
{
	struct label *actor;
	__u32 verdict;
	int err = 0;
	__u64 unit;

	if (!target)
		return 0;
	if ((how & PID1_MAY) && actor_tgid() == 1)
		return 0;
	actor = actor_label();
	unit = target->unit;
	if (actor && actor->unit == unit)
		return 0;
	if (target->mode == MODE_OBSERVE) {
		if (!(how & QUIET))
			record(unit, target_pid, vector, OBSERVED);
		return 0;
	}
	if (!(how & QUIET)) {
		verdict = refusal(target->mode, how, actor);
		record(unit, target_pid, vector, verdict);
	}
	DENIED(err);
	return err;
}

/* Has the owner's break-glass token lifted this for now? */
static __always_inline bool is_lifted(struct config *cfg, __u32 what)
{
	return (cfg->lifted & what) && bpf_ktime_get_boot_ns() < cfg->lifted_until;
}

/* The answer to an attempt for which nobody is killed: recorded, and refused unless it is only observed. */
static __always_inline int answer(__u64 unit, __u32 target, __u32 vector, bool observed)
{
	int err = 0;

	record(unit, target, vector, observed ? OBSERVED : REFUSED);
	if (observed)
		return 0;
	DENIED(err);
	return err;
}

/* May current do `vector` to the machine? Denied to all but the guard once armed. */
static __always_inline int judge_machine(__u32 vector, __u32 how)
{
	struct config *cfg = the_config();

	if (!cfg || !cfg->armed)
		return 0;
	if ((how & PID1_MAY) && actor_tgid() == 1)
		return 0;
	if (actor_is_guard())
		return 0;
	return answer(0, 0, vector, is_lifted(cfg, LIFT_MACHINE));
}

/* May current touch what belongs to the guard? From the first moment, armed or not. */
static __always_inline int judge_own(__u32 vector)
{
	return actor_is_guard() ? 0 : answer(0, 0, vector, false);
}

#endif
