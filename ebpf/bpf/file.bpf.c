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

SEC("lsm/file_open")
int BPF_PROG(file_opened, struct file *file)
{
	struct inode *inode = file->f_inode;
	unsigned int mode = file->f_mode;
	int err = 0;

	learn(inode);
	switch (inode->i_sb->s_magic) {
	case PROC_SUPER_MAGIC:
		return task_file(file, inode, mode & FMODE_READ, mode & FMODE_WRITE, 0);
	case CGROUP2_SUPER_MAGIC:
		return mode & FMODE_WRITE ? cgroup_write(inode) : 0;
	default:
		if ((mode & FMODE_WRITE) && seal_open(inode))
			break;
		return machine_open(inode);
	}
	DENIED(err);
	return err;
}

/* Descriptors that were opened before the task was labelled, or before the machine was armed. */
SEC("lsm/file_permission")
int BPF_PROG(file_used, struct file *file, int mask)
{
	struct inode *inode = file->f_inode;

	switch (inode->i_sb->s_magic) {
	case PROC_SUPER_MAGIC:
		return task_file(file, inode, !(mask & MAY_WRITE), mask & MAY_WRITE, V_EARLY_FD);
	case CGROUP2_SUPER_MAGIC:
		return mask & MAY_WRITE ? cgroup_write(inode) : 0;
	default:
		return machine_open(inode);
	}
}

SEC("lsm/file_ioctl")
int BPF_PROG(file_asked, struct file *file, unsigned int cmd, unsigned long arg)
{
	struct inode *inode = file->f_inode;

	if (inode->i_sb->s_magic != PROC_SUPER_MAGIC)
		return 0;
	return task_file(file, inode, true, false, V_EARLY_FD);
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
		return pin_reached(inode, mask);
	if (magic == CGROUP2_SUPER_MAGIC && (mask & MAY_WRITE))
		return cgroup_move(inode);
	return 0;
}
