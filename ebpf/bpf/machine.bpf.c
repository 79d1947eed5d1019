/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Code for the kernel, and its performance counters: closed once armed, to PID 1 as well. */
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
