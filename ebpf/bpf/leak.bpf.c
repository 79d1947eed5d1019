/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Secrets in what a protected unit itself puts out: a log line, a dumped configuration, a reply that holds
 * more than it should. What is about to leave is compared with fingerprints of the unit's secrets; the
 * secrets are not in here. Sockets are asked about their data by the kernel; files and pipes are not, so
 * the functions of the kernel that write note where the data is, and file_permission, which they ask next in
 * the same thread, looks there.
 *
 * A run of LEAK_WIDE + LEAK_STRIDE - 1 bytes of a secret, at any place, holds one wide window that begins
 * on the stride; what one call leaves over at its end is carried to the next on the same file or socket.
 */
#include "verdict.h"

/* One call is looked at up to here: 4 MiB take some two milliseconds. */
#define LEAK_MOST (4 << 20)
/* Chunks end at pages, and an iovec may be empty: more rounds than chunks. */
#define LEAK_ROUNDS (2 * LEAK_MOST / LEAK_CHUNK + 1024)
#define LEAK_PAGE 4096

/*
 * What a round is given. How far it has come stands in the thread's own map value: on the stack, each round
 * would be another state to the verifier.
 */
struct leak_scan {
	struct leak_set *set;
	const __u8 *filter;
	struct leak_thread *thread;
};

/* Keeps the compiler from computing all places first, for which it has not the registers. */
#define IN_ORDER(at) asm volatile("" : "+r"(at))

/* Windows that are looked at in a row. */
#define LEAK_BATCH 16

#define ROTATE(x, by) (((x) << (by)) | ((x) >> (64 - (by))))
#define SIP_ROUND                                                                                  \
	do {                                                                                       \
		v0 += v1;                                                                          \
		v1 = ROTATE(v1, 13) ^ v0;                                                          \
		v0 = ROTATE(v0, 32);                                                               \
		v2 += v3;                                                                          \
		v3 = ROTATE(v3, 16) ^ v2;                                                          \
		v0 += v3;                                                                          \
		v3 = ROTATE(v3, 21) ^ v0;                                                          \
		v2 += v1;                                                                          \
		v1 = ROTATE(v1, 17) ^ v2;                                                          \
		v2 = ROTATE(v2, 32);                                                               \
	} while (0)
#define SIP_WORD(word)                                                                             \
	do {                                                                                       \
		v3 ^= (word);                                                                      \
		SIP_ROUND;                                                                         \
		SIP_ROUND;                                                                         \
		v0 ^= (word);                                                                      \
	} while (0)

/* Is this window, which has passed the filter, a fingerprint of the set? SipHash-2-4 of its one or two words. */
static __noinline bool leak_known(struct leak_set *set, __u64 first, __u64 second, __u32 bytes)
{
	__u64 v0, v1, v2, v3, hash, *known;

	if (!set)
		return false;
	v0 = set->key[0] ^ 0x736f6d6570736575ULL;
	v1 = set->key[1] ^ 0x646f72616e646f6dULL;
	v2 = set->key[0] ^ 0x6c7967656e657261ULL;
	v3 = set->key[1] ^ 0x7465646279746573ULL;
	SIP_WORD(first);
	if (bytes == LEAK_WIDE)
		SIP_WORD(second);
	SIP_WORD((__u64)bytes << 56);
	v2 ^= 0xff;
	SIP_ROUND;
	SIP_ROUND;
	SIP_ROUND;
	SIP_ROUND;
	hash = v0 ^ v1 ^ v2 ^ v3;
	known = bpf_map_lookup_elem(&leak_prints, &hash);
	return known && *known == set->id;
}

static __always_inline __u64 leak_word(struct leak_thread *thread, __u64 at)
{
	__u64 word;

	/* One load: the compiler would make eight of what it cannot know to be aligned. */
	asm volatile("%0 = *(u64 *)(%1 + 0)" : "=r"(word) : "r"(&thread->bytes[at]) : "memory");
	return word;
}

/* 1 when the filter has this bit. */
static __always_inline __u32 leak_passes(const __u8 *filter, __u64 sum)
{
	__u32 bit = sum >> (64 - LEAK_FILTER_BITS);

	return (filter[(bit >> 3) & (LEAK_FILTER_BYTES - 1)] >> (bit & 7)) & 1;
}

/* 1 when `bytes` from `at` on are there. Without a branch: each would double what the verifier looks at. */
static __always_inline __u32 leak_whole(__u64 at, __u32 bytes, __u32 length)
{
	return (__u64)((__s64)at + bytes - 1 - (__s64)length) >> 63;
}

/* Is the window of this number, if it has passed the filter, a fingerprint? */
static long leak_confirm(__u32 number, struct leak_scan *scan)
{
	struct leak_thread *thread = scan->thread;
	__u64 at = thread->base + number * thread->stride;

	IN_ORDER(at);
	if (!((thread->passed >> (number & 31)) & 1) || at > LEAK_CHUNK + LEAK_WIDE - LEAK_NARROW)
		return 0;
	if (!leak_known(scan->set, leak_word(thread, at), leak_word(thread, at + 8), thread->window))
		return 0;
	thread->found = 1;
	return 1;
}

/* Wide windows, from where `round` batches lead to. */
static long leak_wide(__u32 round, struct leak_scan *scan)
{
	struct leak_thread *thread = scan->thread;
	__u32 base = round * LEAK_BATCH * LEAK_STRIDE, length = thread->length, passed = 0, i;
	__u64 factor[2] = {scan->set->factor[0], scan->set->factor[1]};
	const __u8 *filter = scan->filter;
	__u64 first, second, at = base;

	IN_ORDER(at);
	if (at > LEAK_CHUNK || at >= length)
		return 1;
	first = leak_word(thread, at);
#pragma unroll
	for (i = 0; i < LEAK_BATCH; i++) {
		second = leak_word(thread, at + 8);
		passed |= (leak_passes(filter, first * factor[0] + second * factor[1]) &
			   leak_whole(at, LEAK_WIDE, length))
			  << i;
		first = second;
		at += LEAK_STRIDE;
		IN_ORDER(at);
	}
	if (!passed)
		return 0;
	thread->passed = passed;
	thread->base = base;
	thread->stride = LEAK_STRIDE;
	thread->window = LEAK_WIDE;
	bpf_loop(LEAK_BATCH, leak_confirm, scan, 0);
	return thread->found ? 1 : 0;
}

/* The same for narrow ones. */
static long leak_narrow(__u32 round, struct leak_scan *scan)
{
	struct leak_thread *thread = scan->thread;
	__u32 step = scan->set->step & 15, base = round * LEAK_BATCH * step, length = thread->length, passed = 0, i;
	const __u8 *filter = scan->filter;
	__u64 factor = scan->set->factor[0], at = base;

	IN_ORDER(at);
	if (at > LEAK_CHUNK + LEAK_WIDE || at >= length || step > LEAK_STRIDE)
		return 1;
#pragma unroll
	for (i = 0; i < LEAK_BATCH; i++) {
		passed |= (leak_passes(filter, leak_word(thread, at) * factor) &
			   leak_whole(at, LEAK_NARROW, length))
			  << i;
		at += step;
		IN_ORDER(at);
	}
	if (!passed)
		return 0;
	thread->passed = passed;
	thread->base = base;
	thread->stride = step;
	thread->window = LEAK_NARROW;
	bpf_loop(LEAK_BATCH, leak_confirm, scan, 0);
	return thread->found ? 1 : 0;
}

/* All windows of what lies in thread->bytes. Moves what is left over to the front. */
static __always_inline void leak_look(struct leak_scan *scan)
{
	struct leak_thread *thread = scan->thread;
	__u64 length = thread->length, at = 0;

	if (scan->set->step)
		bpf_loop(LEAK_WIDE + LEAK_CHUNK, leak_narrow, scan, 0);
	if (scan->set->wide && !thread->found)
		bpf_loop(LEAK_CHUNK, leak_wide, scan, 0);
	/* The first window that begins on the stride and has not all its bytes yet. */
	if (length >= LEAK_WIDE)
		at = (length - LEAK_WIDE + LEAK_STRIDE) & ~(LEAK_STRIDE - 1);
	IN_ORDER(at);
	if (at > LEAK_CHUNK)
		at = LEAK_CHUNK;
	*(__u64 *)&thread->bytes[0] = leak_word(thread, at);
	*(__u64 *)&thread->bytes[8] = leak_word(thread, at + 8);
	thread->have = (length - at) & (LEAK_WIDE - 1);
}

/* The next piece: by an iovec of the kernel's, or of the process's. */
static __always_inline bool leak_next(struct leak_thread *thread, bool kernels)
{
	struct iovec iov = {};

	if (!thread->iov_count)
		return false;
	if (kernels)
		bpf_probe_read_kernel(&iov, sizeof(iov), (void *)thread->iovs);
	else
		bpf_probe_read_user(&iov, sizeof(iov), (void *)thread->iovs);
	thread->iovs += sizeof(iov);
	thread->iov_count--;
	thread->at = (__u64)iov.iov_base + thread->skip;
	thread->left = iov.iov_len > thread->skip ? iov.iov_len - thread->skip : 0;
	thread->skip = 0;
	return true;
}

/* Sockets may wait for a page, and their iovecs are the kernel's. */
static __always_inline long leak_chunk(struct leak_scan *scan, bool socket)
{
	struct leak_thread *thread = scan->thread;
	__u64 bytes = LEAK_PAGE - (thread->at & (LEAK_PAGE - 1));
	__u32 have = thread->have & (LEAK_WIDE - 1);
	long failed;

	if (!thread->left)
		return leak_next(thread, socket) ? 0 : 1;
	if (bytes > thread->left)
		bytes = thread->left;
	if (bytes > thread->most)
		bytes = thread->most;
	if (bytes > LEAK_CHUNK)
		bytes = LEAK_CHUNK;
	if (!bytes)
		return 1;
	if (socket)
		failed = bpf_copy_from_user(&thread->bytes[have], bytes, (void *)thread->at);
	else
		failed = bpf_probe_read_user(&thread->bytes[have], bytes, (void *)thread->at);
	thread->at += bytes;
	thread->left -= bytes;
	thread->most -= bytes;
	if (failed) {
		/* Not in memory now, or nowhere: then the kernel will fail as well. */
		thread->have = 0;
		return 0;
	}
	thread->length = have + bytes;
	leak_look(scan);
	return thread->found ? 1 : 0;
}

static long leak_chunk_written(__u32 round, struct leak_scan *scan)
{
	return leak_chunk(scan, false);
}

static long leak_chunk_sent(__u32 round, struct leak_scan *scan)
{
	return leak_chunk(scan, true);
}

/* Sets out on the data of an iov_iter; false for data that is not a process's memory. */
static __always_inline bool leak_iter(struct leak_thread *thread, struct iov_iter *iter)
{
	struct iov_iter___newer *newer = (void *)iter;
	__u8 type = BPF_CORE_READ(iter, iter_type);

	thread->iov_count = 0;
	thread->left = 0;
	thread->most = BPF_CORE_READ(iter, count);
	thread->skip = BPF_CORE_READ(iter, iov_offset);
	if (bpf_core_enum_value_exists(enum iter_type, ITER_UBUF) && type == bpf_core_enum_value(enum iter_type, ITER_UBUF)) {
		thread->at = (__u64)BPF_CORE_READ(iter, ubuf) + thread->skip;
		thread->left = thread->most;
		return true;
	}
	if (type != bpf_core_enum_value(enum iter_type, ITER_IOVEC))
		return false;
	if (bpf_core_field_exists(newer->__iov))
		thread->iovs = (__u64)BPF_CORE_READ(newer, __iov);
	else
		thread->iovs = (__u64)BPF_CORE_READ(iter, iov);
	thread->iov_count = BPF_CORE_READ(iter, nr_segs);
	return true;
}

/* Is a secret of the unit in what it is about to put into `stream`? */
static __always_inline bool leak_in(struct leak_scan *scan, struct leak_stream *stream, bool socket)
{
	struct leak_thread *thread = scan->thread;
	struct leak_tail *tail, fresh = {};
	__u32 slot = scan->set->slot;

	scan->filter = bpf_map_lookup_elem(&leak_filters, &slot);
	if (!scan->filter)
		return false;
	if (thread->most > LEAK_MOST)
		thread->most = LEAK_MOST;
	thread->found = 0;
	thread->have = 0;
	tail = bpf_map_lookup_elem(&leak_tails, stream);
	if (tail) {
		__builtin_memcpy(thread->bytes, tail->bytes, LEAK_WIDE);
		thread->have = tail->have;
	}
	if (socket)
		bpf_loop(LEAK_ROUNDS, leak_chunk_sent, scan, 0);
	else
		bpf_loop(LEAK_ROUNDS, leak_chunk_written, scan, 0);
	if (thread->found)
		thread->have = 0;
	if (tail) {
		__builtin_memcpy(tail->bytes, thread->bytes, LEAK_WIDE);
		tail->have = thread->have;
	} else if (thread->have) {
		__builtin_memcpy(fresh.bytes, thread->bytes, LEAK_WIDE);
		fresh.have = thread->have;
		bpf_map_update_elem(&leak_tails, stream, &fresh, BPF_ANY);
	}
	return thread->found;
}

/* Whether any unit is watched: the one question that an unprotected machine pays for. */
static __always_inline bool leak_watches(void)
{
	__u32 zero = 0, *units = bpf_map_lookup_elem(&leak_units, &zero);

	return units && *units;
}

static __always_inline struct leak_set *leak_set_of(struct label *actor)
{
	__u64 unit;

	if (!actor)
		return 0;
	unit = actor->unit;
	return bpf_map_lookup_elem(&leak_sets, &unit);
}

static __always_inline struct leak_thread *leak_thread(void)
{
	return bpf_task_storage_get(&leak_threads, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
}

/* Refused first, then killed, as for any other attempt; here the unit itself is the one who tries. */
static __always_inline int leak_judge(struct label *actor, struct leak_set *set, __u32 vector, __u32 how)
{
	__u32 verdict;
	int err = 0;

	if (set->mode == MODE_OBSERVE) {
		record(actor->unit, actor_tgid(), vector, OBSERVED);
		return 0;
	}
	verdict = refusal(set->mode, how, actor);
	record(actor->unit, actor_tgid(), vector, verdict);
	DENIED(err);
	return err;
}

static __always_inline void leak_note(__u64 buffer, __u64 bytes, __u64 iovs, __u64 iov_count)
{
	struct leak_thread *thread;

	if (!leak_watches() || !leak_set_of(actor_label()))
		return;
	thread = leak_thread();
	if (!thread)
		return;
	thread->noted = 1;
	thread->at = buffer;
	thread->left = bytes;
	thread->most = iovs ? LEAK_MOST : bytes;
	thread->iovs = iovs;
	thread->iov_count = iov_count;
	thread->skip = 0;
}

/* write(2), pwrite(2). */
SEC("fentry/vfs_write")
int BPF_PROG(leak_write, struct file *file, const char *buffer, __u64 bytes)
{
	leak_note((__u64)buffer, bytes, 0, 0);
	return 0;
}

/* writev(2), pwritev(2), pwritev2(2). The iovecs are 64-bit ones: a 32-bit process's are not understood. */
SEC("fentry/vfs_writev")
int BPF_PROG(leak_writev, struct file *file, const struct iovec *iovs, unsigned long count)
{
	leak_note(0, 0, (__u64)iovs, count);
	return 0;
}

/* io_submit(2). */
SEC("fentry/aio_write")
int BPF_PROG(leak_aio, void *request, const struct iocb *iocb, bool vectored)
{
	__u64 buffer = BPF_CORE_READ(iocb, aio_buf), bytes = BPF_CORE_READ(iocb, aio_nbytes);

	if (vectored)
		leak_note(0, 0, buffer, bytes);
	else
		leak_note(buffer, bytes, 0, 0);
	return 0;
}

/* A memory file without a name (memfd_create(2)), as secrets are delivered in: writing there puts nothing out. */
static __always_inline bool is_memory_file(struct file *file, struct inode *inode)
{
	char name[8] = {};

	if (BPF_CORE_READ(inode, i_sb, s_magic) != TMPFS_MAGIC || BPF_CORE_READ(inode, i_nlink))
		return false;
	bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(file, f_path.dentry, d_name.name));
	return __builtin_memcmp(name, "memfd:", 6) == 0;
}

/* Data that is allocated, not written: file_permission is asked the same. */
SEC("fentry/vfs_fallocate")
int BPF_PROG(leak_allocated)
{
	struct leak_thread *thread;

	if (!leak_watches())
		return 0;
	thread = bpf_task_storage_get(&leak_threads, bpf_get_current_task_btf(), 0, 0);
	if (thread)
		thread->read_memory = 0;
	return 0;
}

SEC("lsm/file_permission")
int BPF_PROG(leak_file, struct file *file, int mask)
{
	struct inode *inode = file->f_inode;
	struct leak_stream stream = {};
	struct leak_scan scan = {};
	struct leak_thread *thread;
	struct label *actor;
	__u32 read_memory, noted;

	if (!leak_watches())
		return 0;
	actor = actor_label();
	scan.set = leak_set_of(actor);
	if (!actor || !scan.set)
		return 0;
	thread = leak_thread();
	if (!thread) {
		/* No memory to look with: closed. Reading harms nobody. */
		return mask & MAY_WRITE ? leak_judge(actor, scan.set, V_SECRET_LEAK, SPARED) : 0;
	}
	if (!(mask & MAY_WRITE)) {
		thread->read_memory = is_memory_file(file, inode);
		return 0;
	}
	read_memory = thread->read_memory;
	noted = thread->noted;
	thread->read_memory = 0;
	thread->noted = 0;
	/* From one file to another without passing through the process: sendfile(2), copy_file_range(2). */
	if (!noted)
		return read_memory ? leak_judge(actor, scan.set, V_SECRET_LEAK, 0) : 0;
	/* A socket is asked with its data. */
	if ((inode->i_mode & S_IFMT) == S_IFSOCK || is_memory_file(file, inode))
		return 0;
	scan.thread = thread;
	stream.unit = actor->unit;
	stream.address = (__u64)file;
	return leak_in(&scan, &stream, false) ? leak_judge(actor, scan.set, V_SECRET_LEAK, 0) : 0;
}

/* All that a process sends, however it does. May sleep: pages that are elsewhere are brought in, as sending would. */
SEC("lsm.s/socket_sendmsg")
int BPF_PROG(leak_socket, struct socket *sock, struct msghdr *msg, int size)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct leak_stream stream = {};
	struct leak_scan scan = {};
	struct leak_thread *thread;
	struct label *actor;

	if (!leak_watches())
		return 0;
	/* Where a program may sleep, task storage takes no leader that was followed to. */
	actor = label_at((__u64)BPF_CORE_READ(current, group_leader));
	scan.set = leak_set_of(actor);
	if (!actor || !scan.set)
		return 0;
	thread = leak_thread();
	if (!thread)
		return leak_judge(actor, scan.set, V_SECRET_LEAK, SPARED);
	thread->noted = 0;
	thread->read_memory = 0;
	scan.thread = thread;
	if (!leak_iter(thread, (void *)msg + bpf_core_field_offset(struct msghdr, msg_iter)))
		return 0;
	stream.unit = actor->unit;
	stream.address = (__u64)sock;
	return leak_in(&scan, &stream, true) ? leak_judge(actor, scan.set, V_SECRET_LEAK, 0) : 0;
}

/* A ring's writes to files are noted by nobody: no ring for a unit that must not leak. Nobody is killed for asking. */
SEC("lsm/inode_init_security_anon")
int BPF_PROG(leak_ring, struct inode *inode, const struct qstr *qstr)
{
	char name[12] = {};
	struct leak_set *set;
	struct label *actor;

	if (!leak_watches())
		return 0;
	bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(qstr, name));
	if (__builtin_memcmp(name, "[io_uring]", 11))
		return 0;
	actor = actor_label();
	set = leak_set_of(actor);
	return actor && set ? leak_judge(actor, set, V_IO_URING, SPARED) : 0;
}
