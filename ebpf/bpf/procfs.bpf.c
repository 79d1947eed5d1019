/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * /proc/PID/…, in whichever mount of procfs: the file is known by its super block, the task by the
 * inode, the meaning by the name in its dentry. Since 6.18 the ptrace hook alone stops only mem.
 * Also the machine's own files in procfs.
 */
#ifndef REMPART_PROCFS
#define REMPART_PROCFS

#include "verdict.h"

/* The table's word on `file`; a name that it does not know is not allowed. */
static __always_inline struct procfile *procfile_of(struct file *file)
{
	char name[PROCNAME_LEN] = {};
	const unsigned char *text = BPF_CORE_READ(file, f_path.dentry, d_name.name);

	bpf_probe_read_kernel_str(name, sizeof(name), text);
	return bpf_map_lookup_elem(&procfiles, name);
}

/* Leader of the task that a procfs inode is about, as an address; 0 when it is about no task. */
static __always_inline __u64 leader_of(struct inode *inode, bool *of_task)
{
	struct proc_inode *proc = (void *)inode - bpf_core_field_offset(struct proc_inode, vfs_inode);
	struct pid *pid = BPF_CORE_READ(proc, pid);
	struct task_struct *task;
	void *link;

	*of_task = pid != 0;
	if (!pid)
		return 0;
	link = BPF_CORE_READ(pid, tasks[0].first);
	if (!link)
		return 0;
	task = link - bpf_core_field_offset(struct task_struct, pid_links);
	return (__u64)BPF_CORE_READ(task, group_leader);
}

static __always_inline int machine_file(struct file *file, bool writes)
{
	struct procfile *known = procfile_of(file);
	__u32 vector;

	if (!known || !(known->flags & PROCFILE_MACHINE))
		return 0;
	vector = writes ? known->write : known->read;
	return vector ? judge_machine(vector, PID1_MAY) : 0;
}

static __always_inline int task_file(struct file *file, struct inode *inode, bool reads, bool writes, __u32 early)
{
	struct procfile *known;
	struct label *target;
	__u32 vector = 0, target_pid;
	bool of_task;
	__u64 leader = leader_of(inode, &of_task);

	if (!of_task)
		return machine_file(file, writes);
	if (!leader)
		return 0;
	target = label_at(leader);
	if (!target)
		return 0;
	if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) == S_IFDIR)
		return 0;
	known = procfile_of(file);
	if (!known || (known->flags & PROCFILE_MACHINE)) {
		vector = writes ? V_PROCFS_WRITE : V_PROCFS_OTHER;
	} else {
		if (writes && !((known->flags & PROCFILE_PID1_WRITES) && actor_tgid() == 1))
			vector = known->write;
		if (!vector && reads)
			vector = known->read;
	}
	if (!vector)
		return 0;
	if (early)
		vector = early;
	target_pid = BPF_CORE_READ((struct task_struct *)leader, tgid);
	return judge(target, target_pid, vector, vector == V_ENVIRON_READ ? SPARED : 0);
}

static __noinline int learn(struct inode *inode)
{
	struct config *cfg = the_config();
	struct exe exe = {};
	struct label copy;

	if (!cfg || !cfg->learn_tgid || cfg->learn_tgid != actor_tgid() || !actor_is_guard())
		return 0;
	exe.dev = BPF_CORE_READ(inode, i_sb, s_dev);
	exe.ino = BPF_CORE_READ(inode, i_ino);
	copy = cfg->learn;
	bpf_map_update_elem(&trusted_exes, &exe, &copy, BPF_ANY);
	return 0;
}

#endif
