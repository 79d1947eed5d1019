/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Another process's memory and descriptors: everything that the kernel guards with ptrace_may_access.
 * The system call's number serves to name the vector in the record, never to decide.
 */
#include "verdict.h"

static __always_inline __u32 ptrace_vector(void)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct pt_regs___x86 *regs = (void *)bpf_task_pt_regs(current);
	long nr = -1;

	if (bpf_core_field_exists(regs->orig_ax))
		nr = BPF_CORE_READ(regs, orig_ax);
	switch (nr) {
	case 101:
		return V_PTRACE_ATTACH;
	case 310:
		return V_PROCESS_VM_READ;
	case 311:
		return V_PROCESS_VM_WRITE;
	case 438:
		return V_PIDFD_GETFD;
	case 312:
		return V_KCMP;
	case 279:
		return V_MOVE_PAGES;
	case 274:
		return V_GET_ROBUST_LIST;
	case 440:
		return V_PROCESS_MADVISE;
	case 308:
		return V_SETNS;
	case 2:
	case 85:
	case 257:
	case 437:
		return V_FD_REOPEN;
	case 89:
	case 267:
		return V_PROC_LINK;
	}
	return V_PTRACE_OTHER;
}

#define MARK_DENIED 1
#define MARK_PERFMON 2

/* The denial must outlast the second question of 6.18; see perfmon_override. */
static __always_inline void mark_denied(void)
{
	__u32 *mark = bpf_task_storage_get(&marks, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (mark)
		*mark = MARK_DENIED;
}

SEC("lsm/ptrace_access_check")
int BPF_PROG(ptrace_access, struct task_struct *child, unsigned int mode)
{
	struct label *target = label_of(child->group_leader);
	__u32 how = 0, vector;

	/* PID 1 itself: whoever holds it holds every unit. */
	if (!target) {
		if (child->tgid == 1 && (mode & PTRACE_MODE_ATTACH) && actor_tgid() != 1)
			return judge_machine(ptrace_vector(), 0);
		return 0;
	}
	vector = ptrace_vector();
	/* ps asks for every process's addresses, journald for every sender's exe; both take no for an answer. */
	if ((mode & PTRACE_MODE_NOAUDIT) || vector == V_PROC_LINK)
		how |= QUIET;
	/* systemd reads links of its own units; it has no need to attach. */
	if (!(mode & PTRACE_MODE_ATTACH))
		how |= PID1_MAY;
	if (judge(target, child->tgid, vector, how)) {
		int err;

		if (!(mode & PTRACE_MODE_ATTACH) && !(how & QUIET))
			mark_denied();
		DENIED(err);
		return err;
	}
	return 0;
}

/*
 * Since 6.18 a denied read access to an address space is asked again as perfmon_capable(): CAP_PERFMON,
 * then CAP_SYS_ADMIN. Both are denied to a thread whose access has just been denied. A thread that did
 * not ask that way loses at most its next use of CAP_PERFMON.
 */
SEC("lsm/capable")
int BPF_PROG(perfmon_override, const struct cred *cred, void *ns, int cap, unsigned int opts)
{
	__u32 *mark;
	int err = 0;

	if (cap != CAP_PERFMON && cap != CAP_SYS_ADMIN)
		return 0;
	mark = bpf_task_storage_get(&marks, bpf_get_current_task_btf(), 0, 0);
	if (!mark)
		return 0;
	if (cap == CAP_PERFMON && *mark == MARK_DENIED)
		*mark = MARK_PERFMON;
	else if (cap == CAP_SYS_ADMIN && *mark == MARK_PERFMON)
		*mark = 0;
	else
		return 0;
	DENIED(err);
	return err;
}

SEC("lsm/ptrace_traceme")
int BPF_PROG(ptrace_traceme, struct task_struct *parent)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct label *mine = label_of(current->group_leader);
	struct label *tracer;

	if (!mine)
		return 0;
	tracer = label_of(parent->group_leader);
	if (tracer && tracer->unit == mine->unit)
		return 0;
	/* The protected process itself was made to ask: nobody is killed for it. */
	return answer(mine->unit, current->tgid, V_PTRACE_TRACEME, mine->mode == MODE_OBSERVE);
}
