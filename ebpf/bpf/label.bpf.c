/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Labels: how they are inherited, how the guard and the agent get theirs at exec, and how a label that
 * user space has set reaches the table by address. Never refuses anything but a fork that could not be
 * labelled.
 */
#include "cgroup.bpf.c"
#include "seal.bpf.c"

static __always_inline int put(struct task_struct *task, struct label *label)
{
	struct label *stored = bpf_task_storage_get(&labels, task, label, BPF_LOCAL_STORAGE_GET_F_CREATE);
	__u64 address = (__u64)task;

	if (!stored)
		return -ENOMEM;
	*stored = *label;
	if (bpf_map_update_elem(&leaders, &address, label, BPF_ANY))
		return -ENOSPC;
	return 0;
}

/*
 * Every new task gets the label, threads too: a thread that execs becomes the leader. The new task's
 * own group_leader is not set yet here.
 */
SEC("lsm/task_alloc")
int BPF_PROG(inherit_label, struct task_struct *task, unsigned long clone_flags)
{
	struct label *mine = actor_label();
	struct label copy = {};

	if (!mine) {
		copy.flags = LABEL_BY_INIT;
		/* Without it a restarted guard is a stranger: closed, so nothing to refuse here. */
		if (actor_tgid() == 1)
			bpf_task_storage_get(&labels, task, &copy, BPF_LOCAL_STORAGE_GET_F_CREATE);
		return 0;
	}
	copy.unit = mine->unit;
	copy.mode = mine->mode;
	copy.flags = 0;
	if (clone_flags & 0x10000) /* CLONE_THREAD */
		copy.flags = mine->flags;
	/*
	 * A full table must not keep the guard and the agent from answering. Only leaders are looked up in it, and
	 * their threads, which never exec, become none.
	 */
	if (put(task, &copy) && !(copy.flags & (LABEL_GUARD | LABEL_AGENT)))
		return -ENOMEM;
	return 0;
}

SEC("lsm/task_free")
int BPF_PROG(forget_label, struct task_struct *task)
{
	__u64 address = (__u64)task;

	bpf_map_delete_elem(&leaders, &address);
	return 0;
}

/* Another process answers the system calls of such a task, and can put descriptors into it (seccomp_unotify(2)). */
static __always_inline bool is_supervised(struct task_struct *task)
{
	struct seccomp_filter *filter = BPF_CORE_READ(task, seccomp.filter);
	int i;

	for (i = 0; i < 256; i++) {
		if (!filter)
			return false;
		if (BPF_CORE_READ(filter, notif))
			return true;
		filter = BPF_CORE_READ(filter, prev);
	}
	return true;
}

/*
 * The guard calls getpgid(pid) after it has set a label, to bring it into the table by address, and on itself to have its own doing
 * recorded. The agent calls it on who answers at the guard's socket: only the guard itself is one it may ask about, so that a
 * socket put in the guard's place is found out.
 */
SEC("lsm/task_getpgid")
int BPF_PROG(sync_label, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	struct label *set, *actor = actor_label();
	__u64 address = (__u64)leader;
	struct config *cfg;

	if (!actor)
		return 0;
	if (actor->flags & LABEL_AGENT) {
		set = label_of(leader);
		return set && (set->flags & LABEL_GUARD) ? 0 : -EPERM;
	}
	if (!(actor->flags & LABEL_GUARD))
		return 0;
	cfg = the_config();
	if (cfg && cfg->announce && leader->tgid == actor_tgid()) {
		record(0, 0, cfg->announce, OBSERVED);
		cfg->announce = 0;
	}
	/* About itself it asks every second. */
	if (actor_tgid() == leader->tgid)
		flush_floods();
	set = bpf_task_storage_get(&labels, leader, 0, 0);
	if (!set || !set->unit)
		return 0;
	/* Who traces or supervises it from before the label is asked nothing more by any hook: such a task gets no secret. */
	if (leader->ptrace || is_supervised(leader))
		return -EPERM;
	if (mark_cgroups(leader, set))
		return -ENOSPC;
	if (bpf_map_update_elem(&leaders, &address, set, BPF_ANY))
		return -ENOSPC;
	return 0;
}

/*
 * PID 1 starts the guard or the agent: a restarted one is known without asking anybody. The task must be
 * PID 1's own child, not traced, without arguments and without a word for the loader in its environment: whoever asks PID 1 for
 * a start under other conditions gets a process that is nobody.
 */
SEC("lsm/bprm_committed_creds")
int BPF_PROG(label_exec, struct linux_binprm *bprm)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct inode *inode = BPF_CORE_READ(bprm, file, f_inode);
	struct inode_key exe = {};
	struct label *trusted, *mine, copy;

	mine = bpf_task_storage_get(&labels, current, 0, 0);
	if (!mine || !(mine->flags & LABEL_BY_INIT) || current->ptrace || is_supervised(current))
		return 0;
	key_of(inode, &exe);
	trusted = bpf_map_lookup_elem(&trusted_exes, &exe);
	if (!trusted)
		return 0;
	copy = *trusted;
	if ((!(copy.flags & LABEL_TPM) && BPF_CORE_READ(bprm, argc) != 1) || has_loader_words(bprm)) {
		record(copy.unit, current->tgid, V_PRELOAD, REFUSED);
		return 0;
	}
	put(current, &copy);
	/* A full table leaves the cgroup open; the label stands. */
	mark_cgroups(current, &copy);
	return 0;
}
