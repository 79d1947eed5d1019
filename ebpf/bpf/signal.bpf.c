/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Signals to the agent, the guard and wrapped units, and their limits: a CPU limit kills, a core limit
 * brings core dumps back. The kernel's own signals do not pass this hook; PID 1 must be able to stop a
 * unit and set its limits. Signal 0 delivers nothing.
 */
#include "verdict.h"

SEC("lsm/task_kill")
int BPF_PROG(signal_task, struct task_struct *task, struct kernel_siginfo *info, int sig, const struct cred *cred)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct label *mine;

	if (!sig)
		return 0;
	/* ExecReload= and ExecStop= are PID 1's own children; what they may send, PID 1 sends on request. */
	mine = bpf_task_storage_get(&labels, current->group_leader, 0, 0);
	if (mine && (mine->flags & LABEL_BY_INIT))
		return 0;
	return judge(label_of(task->group_leader), task->tgid, V_AGENT_KILL, PID1_MAY);
}

SEC("lsm/task_setrlimit")
int BPF_PROG(limit_task, struct task_struct *task, unsigned int resource)
{
	return judge(label_of(task->group_leader), task->tgid, V_PRLIMIT, PID1_MAY);
}
