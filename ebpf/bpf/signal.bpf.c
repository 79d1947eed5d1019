/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Signals to the agent, the guard and wrapped units, their limits and their share of the machine: a CPU
 * limit kills, a core limit brings core dumps back, a changed policy or mask starves. The kernel's own signals do not pass this hook; PID 1 must be able to stop a
 * unit and set its limits. Signal 0 delivers nothing.
 */
#include "verdict.h"

SEC("lsm/task_kill")
int BPF_PROG(signal_task, struct task_struct *task, struct kernel_siginfo *info, int sig, const struct cred *cred)
{
	if (!sig)
		return 0;
	/* ExecReload= and ExecStop=. */
	if (actor_is_by_init())
		return 0;
	return judge(label_of(task->group_leader), task->tgid, V_AGENT_KILL, PID1_MAY);
}

SEC("lsm/task_setrlimit")
int BPF_PROG(limit_task, struct task_struct *task, unsigned int resource)
{
	return judge(label_of(task->group_leader), task->tgid, V_PRLIMIT, PID1_MAY);
}

/* Policy, priority and the CPUs it may use. */
SEC("lsm/task_setscheduler")
int BPF_PROG(schedule_task, struct task_struct *task)
{
	return judge(label_of(task->group_leader), task->tgid, V_SCHED, PID1_MAY);
}

SEC("lsm/task_setnice")
int BPF_PROG(nice_task, struct task_struct *task, int nice)
{
	return judge(label_of(task->group_leader), task->tgid, V_NICE, PID1_MAY);
}

SEC("lsm/task_setioprio")
int BPF_PROG(ioprio_task, struct task_struct *task, int ioprio)
{
	return judge(label_of(task->group_leader), task->tgid, V_IO_PRIO, PID1_MAY);
}
