/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Cgroups: killed, frozen, starved or moved through their files no signal hook is asked. A cgroup is known
 * by its id, a file by its kernfs node (a dentry that came from a file handle has neither name nor parent).
 * The cgroup never decides who is protected: that is the label, and a process that was moved keeps it.
 *
 * PID 1 manages units and may. A unit may change its own cgroups (Delegate=), never those above.
 */
#ifndef REMPART_CGROUP
#define REMPART_CGROUP

#include "verdict.h"

/* Deeper cgroups than this are taken for protected ones. */
#define CGROUP_DEPTH 32
#define CGROUP_NAME_LEN 24

static __always_inline struct kernfs_node *above(struct kernfs_node *node)
{
	struct kernfs_node___rcu *newer = (void *)node;

	if (bpf_core_field_exists(newer->__parent))
		return BPF_CORE_READ(newer, __parent);
	return BPF_CORE_READ(node, parent);
}

static __always_inline int mark_cgroup(__u64 id, struct label *label, bool is_above)
{
	struct cgroup_label *known = bpf_map_lookup_elem(&cgroups, &id);
	struct cgroup_label entry = {};

	entry.unit = label->unit;
	entry.mode = label->mode;
	entry.above = is_above;
	/* Above several units the strictest counts, and observing one must not open the others. */
	if (is_above && entry.mode != MODE_OBSERVE)
		entry.mode = MODE_ENFORCE;
	if (known && (known->above < entry.above || (known->above == entry.above && known->mode != MODE_OBSERVE)))
		return 0;
	return bpf_map_update_elem(&cgroups, &id, &entry, BPF_ANY);
}

/* Remembers the cgroup of a task that gets a label, and those above. The root is nobody's own. */
static __always_inline int mark_cgroups(struct task_struct *leader, struct label *label)
{
	struct kernfs_node *node = BPF_CORE_READ(leader, cgroups, dfl_cgrp, kn);
	struct kernfs_node *next;
	int i;

	for (i = 0; i < CGROUP_DEPTH; i++) {
		if (!node)
			return 0;
		next = above(node);
		if (mark_cgroup(BPF_CORE_READ(node, id), label, i > 0 || !next))
			return -ENOSPC;
		node = next;
	}
	return -ENOSPC;
}

/* The whole name, its NUL included. */
#define IS(name, text) (__builtin_memcmp(name, text, sizeof(text)) == 0)

/* What writing a file of a cgroup is; 0 for what harms nobody. */
static __always_inline __u32 cgroup_vector(const char *name)
{
	if (IS(name, "cgroup.kill"))
		return V_CGROUP_KILL;
	if (IS(name, "cgroup.freeze"))
		return V_CGROUP_FREEZE;
	if (IS(name, "cgroup.procs") || IS(name, "cgroup.threads"))
		return V_CGROUP_MOVE;
	/* Triggers of pressure stall information. */
	if (IS(name, "memory.pressure") || IS(name, "cpu.pressure") || IS(name, "io.pressure") ||
	    IS(name, "irq.pressure"))
		return 0;
	return V_CGROUP_LIMIT;
}

/* May current kill, freeze or starve a unit from above? The unit itself neither. */
static __always_inline int judge_above(struct cgroup_label *mark, __u32 vector)
{
	return answer(mark->unit, 0, vector, mark->mode == MODE_OBSERVE);
}

/* May current write this file of a cgroup2? */
static __always_inline int cgroup_write(struct inode *inode)
{
	struct kernfs_node *node = BPF_CORE_READ(inode, i_private);
	char name[CGROUP_NAME_LEN] = {};
	struct cgroup_label *mark;
	struct label owner = {};
	__u32 vector;
	__u64 id;
	int i;

	if (!node || actor_tgid() == 1)
		return 0;
	bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(node, name));
	vector = cgroup_vector(name);
	if (!vector)
		return 0;
	/* A service's first process enters its cgroup before it runs what PID 1 was told to run. */
	if (vector == V_CGROUP_MOVE && actor_is_by_init())
		return 0;
	for (i = 0; i < CGROUP_DEPTH; i++) {
		node = above(node);
		if (!node)
			return 0;
		id = BPF_CORE_READ(node, id);
		mark = bpf_map_lookup_elem(&cgroups, &id);
		if (!mark)
			continue;
		if (!mark->above) {
			owner.unit = mark->unit;
			owner.mode = mark->mode;
			return judge(&owner, 0, vector, 0);
		}
		/* Which controllers those below have starves nobody, and container engines set it. */
		if (!i && vector != V_CGROUP_MOVE && !IS(name, "cgroup.subtree_control"))
			return judge_above(mark, vector);
	}
	return judge_own(vector);
}

/*
 * Whom a write to cgroup.procs moves is known here, and refused by cgroup_move, which the kernel asks next
 * in the same thread.
 */
SEC("fexit/cgroup_procs_write_start")
int BPF_PROG(cgroup_mover, char *text, bool threadgroup, void *locked, struct task_struct *moved)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct label *theirs = 0, *mark, none = {};
	__u64 leader;

	/* An error pointer is what cannot be read. */
	if (!moved || (unsigned long)moved >= (unsigned long)-4095)
		return 0;
	leader = (__u64)BPF_CORE_READ(moved, group_leader);
	if (actor_tgid() != 1 && !actor_is_by_init())
		theirs = label_at(leader);
	mark = bpf_task_storage_get(&moves, current, 0, theirs ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	if (mark)
		*mark = theirs ? *theirs : none;
	return 0;
}

/* The kernel asks for write permission on cgroup.procs: a process is moved, or born into a cgroup. */
static __always_inline int cgroup_move(struct inode *inode)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct label *mark = bpf_task_storage_get(&moves, current, 0, 0);
	struct label moved;

	if ((inode->i_mode & S_IFMT) != S_IFREG)
		return 0;
	if (mark && mark->unit) {
		moved = *mark;
		mark->unit = 0;
		if (judge(&moved, 0, V_CGROUP_MOVE, 0)) {
			int err;

			DENIED(err);
			return err;
		}
	}
	return cgroup_write(inode);
}

/* A cgroup that ends makes room in the table. One with a process in it cannot end. */
SEC("lsm/inode_rmdir")
int BPF_PROG(cgroup_ends, struct inode *dir, struct dentry *dentry)
{
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);
	struct kernfs_node *node;
	struct cgroup *cgroup;
	__u64 id;

	if (BPF_CORE_READ(dir, i_sb, s_magic) != CGROUP2_SUPER_MAGIC || !inode)
		return 0;
	node = BPF_CORE_READ(inode, i_private);
	cgroup = BPF_CORE_READ(node, priv);
	if (!cgroup || BPF_CORE_READ(cgroup, nr_populated_csets) ||
	    BPF_CORE_READ(cgroup, nr_populated_domain_children) ||
	    BPF_CORE_READ(cgroup, nr_populated_threaded_children))
		return 0;
	id = BPF_CORE_READ(node, id);
	bpf_map_delete_elem(&cgroups, &id);
	return 0;
}

#endif
