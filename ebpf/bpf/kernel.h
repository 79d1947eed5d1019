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

struct pid_namespace;

struct upid {
	struct pid_namespace *ns;
};

struct pid {
	struct hlist_head tasks[4];
	struct upid numbers[1];
};

struct task_struct;

struct pid_namespace {
	struct task_struct *child_reaper;
};

struct mnt_namespace;

struct nsproxy {
	struct mnt_namespace *mnt_ns;
};

/* A directory of cgroup2 is a cgroup, and the directory's id is the cgroup's. */
struct kernfs_node {
	struct kernfs_node *parent;
	const char *name;
	__u64 id;
	void *priv;
};

/* The name since 6.15. */
struct kernfs_node___rcu {
	struct kernfs_node *__parent;
};

struct cgroup {
	int nr_populated_csets;
	int nr_populated_domain_children;
	int nr_populated_threaded_children;
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct notification;

struct seccomp_filter {
	struct seccomp_filter *prev;
	struct notification *notif;
};

struct seccomp {
	struct seccomp_filter *filter;
};

struct mm_struct {
	struct file *exe_file;
};

struct task_struct {
	struct mm_struct *mm;
	int pid;
	int tgid;
	unsigned int ptrace;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct nsproxy *nsproxy;
	struct pid *thread_pid;
	struct css_set *cgroups;
	struct seccomp seccomp;
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
	__u32 i_generation;
	unsigned int i_nlink;
	long long i_size;
	struct super_block *i_sb;
	void *i_private;
};

struct vfsmount {
	struct super_block *mnt_sb;
	int mnt_flags;
};

struct mount {
	struct mount *mnt_parent;
	struct vfsmount mnt;
	struct mnt_namespace *mnt_ns;
};

/* Where it is told since 6.17 that a mount is shared. */
struct mount___types {
	int mnt_t_flags;
};

struct path {
	struct vfsmount *mnt;
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

struct linux_binprm {
	struct file *file;
	/* Argument and environment strings lie from p up to exec. */
	unsigned long p;
	unsigned long exec;
	int argc;
};

struct vm_area_struct {
	struct file *vm_file;
};

struct bpf_map {
	__u32 id;
};

struct bpf_prog_aux {
	__u32 id;
};

struct bpf_prog {
	/* Not a __u32: the field is not found again in the kernel then, and the program is refused. */
	enum bpf_prog_type type;
	__u8 tag[8];
	struct bpf_prog_aux *aux;
};

struct iovec {
	void *iov_base;
	__u64 iov_len;
};

/* The kernel's copy of what io_submit(2) is given. */
struct iocb {
	__u64 aio_buf;
	__u64 aio_nbytes;
};

/* Where user data comes from. Names and places of members moved in 6.0 and 6.4. */
struct iov_iter {
	__u8 iter_type;
	__u64 iov_offset;
	__u64 count;
	void *ubuf;
	const struct iovec *iov;
	unsigned long nr_segs;
};

/* Since 6.4. */
struct iov_iter___newer {
	const struct iovec *__iov;
};

struct msghdr {
	struct iov_iter msg_iter;
};

struct socket;

/* Flavour: the name up to ___ is the kernel's. Absent on other machines than x86. */
struct pt_regs___x86 {
	unsigned long orig_ax;
};

#pragma clang attribute pop

struct kernel_siginfo;
struct cred;

/* The numbers moved between kernels: used through bpf_core_enum_value only. */
enum lockdown_reason {
	LOCKDOWN_DEV_MEM = 2,
	LOCKDOWN_PCI_ACCESS = 6,
	LOCKDOWN_IOPORT = 7,
	LOCKDOWN_MSR = 8,
	LOCKDOWN_ACPI_TABLES = 9,
	LOCKDOWN_KPROBES = 23,
};

enum iter_type {
	ITER_IOVEC = 0,
	ITER_UBUF = 6,
};

#define EPERM 1
#define SIGKILL 9
#define ENOMEM 12
#define ENOSPC 28

#define S_IFMT 0170000
#define S_IFDIR 0040000
#define S_IFREG 0100000
#define S_IFCHR 0020000
#define S_IFIFO 0010000
#define S_IFSOCK 0140000

#define FMODE_READ 0x1
#define FMODE_WRITE 0x2
#define PROT_EXEC 0x4
#define MAY_EXEC 0x1
#define MAY_WRITE 0x2

#define PROC_SUPER_MAGIC 0x9fa0
#define TMPFS_MAGIC 0x01021994
#define SYSFS_MAGIC 0x62656572
#define BPF_FS_MAGIC 0xcafe4a11
#define CGROUP_SUPER_MAGIC 0x27e0eb
#define CGROUP2_SUPER_MAGIC 0x63677270
#define DEBUGFS_MAGIC 0x64626720
#define TRACEFS_MAGIC 0x74726163

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
