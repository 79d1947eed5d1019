/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The object of the guard that enforces: one file a family of vectors. A program whose hook the running kernel
 * lacks is left out by the guard and takes only its own rows with it.
 *
 * To add a vector: a number in layout.h and its name in ebpf/common/src/vector.rs, the program in its
 * family's file and its line in ebpf/guard/src/programs.rs, the attempt in tests/vm/attack.
 */
#include "label.bpf.c"
#include "memory.bpf.c"
#include "signal.bpf.c"
#include "file.bpf.c"
#include "mount.bpf.c"
#include "leak.bpf.c"

/* The string by which the kernel knows a licence that may call its helpers. */
char LICENSE[] SEC("license") = "Dual BSD/GPL";
