/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The hooks of files, each with one program that asks the file's kind: its super block and type, never a
 * path. What a file is to whom stands in procfs.bpf.c, cgroup.bpf.c and machine.bpf.c.
 */
#include "procfs.bpf.c"
#include "cgroup.bpf.c"
#include "foreign.bpf.c"
#include "machine.bpf.c"
#include "seal.bpf.c"

/*
 * Most files are none of those below, and the programs run at each open, read and write. What they do for
 * the others stands in functions of its own: without them a program saves no register and takes no stack.
 */
static __always_inline bool is_watched(struct inode *inode)
{
	unsigned int type = inode->i_mode & S_IFMT;

	if (type == S_IFIFO || type == S_IFSOCK)
		return false;
	if (type == S_IFCHR)
		return true;
	switch (inode->i_sb->s_magic) {
	case PROC_SUPER_MAGIC:
	case CGROUP2_SUPER_MAGIC:
	case CGROUP_SUPER_MAGIC:
	case TRACEFS_MAGIC:
	case DEBUGFS_MAGIC:
		return true;
	}
	return false;
}

static __noinline int opened(struct file *file, struct inode *inode, unsigned int mode)
{
	switch (inode->i_sb->s_magic) {
	case PROC_SUPER_MAGIC:
		return task_file(file, inode, mode & FMODE_READ, mode & FMODE_WRITE, 0);
	case CGROUP2_SUPER_MAGIC:
		return mode & FMODE_WRITE ? cgroup_write(inode) : 0;
	default:
		return machine_open(inode);
	}
}

SEC("lsm/file_open")
int BPF_PROG(file_opened, struct file *file)
{
	struct inode *inode = file->f_inode;
	struct config *cfg = the_config();

	if (cfg && cfg->learn_tid)
		learn(inode);
	if (is_watched(inode))
		return opened(file, inode, file->f_mode);
	return (file->f_mode & FMODE_WRITE) && cfg && cfg->armed ? sealed_opened(inode) : 0;
}

static __noinline int used(struct file *file, struct inode *inode, int mask)
{
	switch (inode->i_sb->s_magic) {
	case PROC_SUPER_MAGIC:
		return task_file(file, inode, !(mask & MAY_WRITE), mask & MAY_WRITE, V_EARLY_FD);
	case CGROUP2_SUPER_MAGIC:
		return mask & MAY_WRITE ? cgroup_write(inode) : 0;
	default:
		return machine_open(inode);
	}
}

/* Descriptors that were opened before the task was labelled, or before the machine was armed. */
SEC("lsm/file_permission")
int BPF_PROG(file_used, struct file *file, int mask)
{
	struct inode *inode = file->f_inode;

	return is_watched(inode) ? used(file, inode, mask) : 0;
}

static __noinline int asked(struct file *file, struct inode *inode)
{
	return task_file(file, inode, true, false, V_EARLY_FD);
}

SEC("lsm/file_ioctl")
int BPF_PROG(file_asked, struct file *file, unsigned int cmd, unsigned long arg)
{
	struct inode *inode = file->f_inode;

	return inode->i_sb->s_magic == PROC_SUPER_MAGIC ? asked(file, inode) : 0;
}

static __noinline int folder_reached(struct inode *inode, int mask)
{
	return pin_reached(inode, mask);
}

static __noinline int cgroup_reached(struct inode *inode)
{
	return cgroup_move(inode);
}

/*
 * Asked for each folder on each path: the two that matter are told apart by their super block first. For
 * writing, cgroup_move has the last word on a process that is moved.
 */
SEC("lsm/inode_permission")
int BPF_PROG(inode_reached, struct inode *inode, int mask)
{
	unsigned long magic = inode->i_sb->s_magic;

	if (magic == BPF_FS_MAGIC)
		return folder_reached(inode, mask);
	if (magic == CGROUP2_SUPER_MAGIC && (mask & MAY_WRITE))
		return cgroup_reached(inode);
	return 0;
}
