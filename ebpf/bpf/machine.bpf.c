/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Code for the kernel, its performance counters, its tracing, its devices: closed once armed, most of it to
 * PID 1 as well.
 */
#ifndef REMPART_MACHINE
#define REMPART_MACHINE

#include "verdict.h"

static __always_inline int code(int id)
{
	if (id == READING_MODULE)
		return judge_machine(V_MODULE_LOAD, 0);
	if (id == READING_KEXEC_IMAGE || id == READING_KEXEC_INITRAMFS)
		return judge_machine(V_KEXEC, 0);
	return 0;
}

SEC("lsm/kernel_read_file")
int BPF_PROG(read_code, struct file *file, int id, bool contents)
{
	return code(id);
}

SEC("lsm/kernel_load_data")
int BPF_PROG(load_code, int id, bool contents)
{
	return code(id);
}

/* Samples of a CPU hold pieces of every stack. The arguments moved over time and do not matter. */
SEC("lsm/perf_event_open")
int BPF_PROG(perf_open)
{
	return judge_machine(V_PERF, PID1_MAY);
}

/*
 * Who can use the TPM can have a quote signed for a Verifier, as the agent does: once armed it is the agent's alone, and of those programs of
 * systemd that measure. A descriptor from before is of no more use.
 */
static __always_inline int tpm(struct config *cfg)
{
	struct label *actor;

	if (!cfg->tpm_exclusive)
		return 0;
	actor = actor_label();
	if (actor && (actor->flags & (LABEL_AGENT | LABEL_TPM)))
		return 0;
	return judge_machine(V_TPM_OPEN, 0);
}

#define TPM0 MKDEV(10, 224)

static __always_inline int device(struct inode *inode)
{
	__u32 rdev = inode->i_rdev;
	struct config *cfg = the_config();

	if (rdev == MKDEV(1, 1) || rdev == MKDEV(1, 2) || rdev == MKDEV(1, 4))
		return judge_machine(V_DEV_MEM, 0);
	if (rdev >> 20 == 202)
		return judge_machine(V_MSR, 0);
	if (cfg && (rdev == TPM0 || (cfg->tpm_major && rdev >> 20 == cfg->tpm_major)))
		return tpm(cfg);
	return 0;
}

/*
 * A probe set through tracefs copies arguments and memory of whatever passes it, and reading there shows
 * what others have traced. debugfs has no rules at all. Folders may be listed.
 */
static __always_inline int machine_open(struct inode *inode)
{
	unsigned long magic = inode->i_sb->s_magic;
	unsigned int type = inode->i_mode & S_IFMT;

	if (type == S_IFCHR)
		return device(inode);
	if (type == S_IFDIR)
		return 0;
	if (magic == TRACEFS_MAGIC)
		return judge_machine(V_TRACEFS, PID1_MAY);
	if (magic == DEBUGFS_MAGIC)
		return judge_machine(V_DEBUGFS, PID1_MAY);
	/* A hierarchy of version 1 has no rule for moves that could be asked; its freezer stops what it holds. */
	if (magic == CGROUP_SUPER_MAGIC)
		return judge_machine(V_CGROUP_V1, PID1_MAY);
	return 0;
}

#define REASON(name) bpf_core_enum_value(enum lockdown_reason, name)

/* What lockdown would close too, whether or not this kernel was booted with it. */
SEC("lsm/locked_down")
int BPF_PROG(lock_down, int what)
{
	if (what == REASON(LOCKDOWN_DEV_MEM))
		return judge_machine(V_DEV_MEM, 0);
	if (what == REASON(LOCKDOWN_IOPORT))
		return judge_machine(V_PORT, 0);
	if (what == REASON(LOCKDOWN_PCI_ACCESS))
		return judge_machine(V_PCI, 0);
	if (what == REASON(LOCKDOWN_MSR))
		return judge_machine(V_MSR, 0);
	if (what == REASON(LOCKDOWN_ACPI_TABLES))
		return judge_machine(V_ACPI, 0);
	if (what == REASON(LOCKDOWN_KPROBES))
		return judge_machine(V_TRACEFS, PID1_MAY);
	return 0;
}

#endif
