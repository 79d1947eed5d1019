/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Kernel structures, only the members we read. CO-RE moves each access to where the running kernel has
 * the member (5.15 to 6.18), so neither order nor size here means anything.
 */
#ifndef REMPART_KERNEL_H
#define REMPART_KERNEL_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

struct pid {
	struct hlist_head tasks[4];
};

struct mnt_namespace;

struct nsproxy {
	struct mnt_namespace *mnt_ns;
};

struct task_struct {
	int pid;
	int tgid;
	unsigned int ptrace;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct nsproxy *nsproxy;
	struct hlist_node pid_links[4];
};

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct qstr d_name;
	struct inode *d_inode;
};

struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
};

struct inode {
	unsigned short i_mode;
	__u32 i_rdev;
	unsigned long i_ino;
	struct super_block *i_sb;
};

struct path {
	struct dentry *dentry;
};

struct file {
	unsigned int f_mode;
	struct inode *f_inode;
	struct path f_path;
};

struct proc_inode {
	struct pid *pid;
	struct inode vfs_inode;
};

struct vfsmount {
	struct super_block *mnt_sb;
	int mnt_flags;
};

struct linux_binprm {
	struct file *file;
};

struct bpf_map {
	__u32 id;
};

struct bpf_prog_aux {
	__u32 id;
};

struct bpf_prog {
	struct bpf_prog_aux *aux;
};

/* Flavour: the name up to ___ is the kernel's. Absent on other machines than x86. */
struct pt_regs___x86 {
	unsigned long orig_ax;
};

#pragma clang attribute pop

struct kernel_siginfo;
struct cred;

#define EPERM 1
#define ENOMEM 12
#define ENOSPC 28

#define S_IFMT 0170000
#define S_IFDIR 0040000
#define S_IFCHR 0020000

#define FMODE_READ 0x1
#define FMODE_WRITE 0x2
#define MAY_WRITE 0x2

#define PROC_SUPER_MAGIC 0x9fa0
#define SYSFS_MAGIC 0x62656572

/* include/linux/ptrace.h */
#define PTRACE_MODE_NOAUDIT 0x04
#define PTRACE_MODE_ATTACH 0x02

#define CAP_SYS_ADMIN 21
#define CAP_PERFMON 38

/* include/linux/kernel_read_file.h; the same numbers serve kernel_load_data. */
#define READING_MODULE 2
#define READING_KEXEC_IMAGE 3
#define READING_KEXEC_INITRAMFS 4

#define MKDEV(major, minor) (((major) << 20) | (minor))

#endif
