/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Our own files: programs, configuration, unit files. Who replaces one of them is the agent at its next start. A file is known by
 * its inode and generation as the guard has seen it at start, never by a path; once armed its content, attributes and name stay,
 * for PID 1 as well, and its folder takes no other. Where a name itself decides (ld.so.preload), the folder's inode and the name do.
 *
 * The second half: what runs under the label of the guard or the agent. Its code comes from files that were mapped before the machine
 * was armed, and from nowhere else.
 */
#ifndef REMPART_SEAL
#define REMPART_SEAL

#include "verdict.h"

static __always_inline void key_of(struct inode *inode, struct inode_key *key)
{
	key->dev = BPF_CORE_READ(inode, i_sb, s_dev);
	key->ino = BPF_CORE_READ(inode, i_ino);
	key->generation = BPF_CORE_READ(inode, i_generation);
	key->size = (BPF_CORE_READ(inode, i_mode) & S_IFMT) == S_IFREG ? (__u32)BPF_CORE_READ(inode, i_size) : 0;
}

static __always_inline __u32 seal_of(struct inode *inode)
{
	struct inode_key key = {};
	__u32 *seal;

	if (!inode)
		return 0;
	key_of(inode, &key);
	seal = bpf_map_lookup_elem(&sealed, &key);
	return seal ? *seal : 0;
}

/* Somebody changes what is sealed: once armed, the answer. */
static __noinline int judge_sealed(__u32 vector)
{
	struct config *cfg = the_config();

	if (!cfg || !cfg->armed)
		return 0;
	return answer(0, 0, vector, cfg->files_mode == MODE_OBSERVE || is_lifted(cfg, LIFT_FILES));
}

static __always_inline bool is_armed(void)
{
	struct config *cfg = the_config();

	return cfg && cfg->armed;
}

#define CHANGED (SEAL_FILE | SEAL_CODE)
#define RENAMED (SEAL_FILE | SEAL_FOLDER | SEAL_NAME)

/* Opened for writing, on an armed machine. */
static __noinline int sealed_opened(struct inode *inode)
{
	struct inode_key key = {};
	__u32 *seal;

	/* Not by key_of: this is done at each such open, and the pointer is one that may be followed without a helper. */
	key.dev = inode->i_sb->s_dev;
	key.ino = inode->i_ino;
	key.generation = inode->i_generation;
	key.size = (inode->i_mode & S_IFMT) == S_IFREG ? (__u32)inode->i_size : 0;
	seal = bpf_map_lookup_elem(&sealed, &key);
	return seal && (*seal & CHANGED) ? judge_sealed(V_FILE_TAMPER) : 0;
}

static __always_inline bool is_preload(struct dentry *dentry)
{
	const char wanted[] = "ld.so.preload";
	char name[16] = {};

	bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(dentry, d_name.name));
	return __builtin_memcmp(name, wanted, sizeof(wanted)) == 0;
}

/* An entry comes into a folder. */
static __always_inline int entry_comes(struct inode *dir, struct dentry *dentry)
{
	__u32 seal;

	if (!is_armed())
		return 0;
	seal = seal_of(dir);
	if ((seal & SEAL_FOLDER) || ((seal & SEAL_PRELOAD) && is_preload(dentry)))
		return judge_sealed(V_FILE_TAMPER);
	return 0;
}

/* An entry leaves a folder. */
static __always_inline int entry_goes(struct inode *dir, struct dentry *dentry)
{
	if (!is_armed())
		return 0;
	if ((seal_of(dir) & SEAL_FOLDER) || (seal_of(BPF_CORE_READ(dentry, d_inode)) & RENAMED))
		return judge_sealed(V_FILE_TAMPER);
	return 0;
}

SEC("lsm/inode_create")
int BPF_PROG(seal_create, struct inode *dir, struct dentry *dentry)
{
	return entry_comes(dir, dentry);
}

SEC("lsm/inode_mkdir")
int BPF_PROG(seal_mkdir, struct inode *dir, struct dentry *dentry)
{
	return entry_comes(dir, dentry);
}

SEC("lsm/inode_mknod")
int BPF_PROG(seal_mknod, struct inode *dir, struct dentry *dentry)
{
	return entry_comes(dir, dentry);
}

SEC("lsm/inode_symlink")
int BPF_PROG(seal_symlink, struct inode *dir, struct dentry *dentry)
{
	return entry_comes(dir, dentry);
}

SEC("lsm/inode_link")
int BPF_PROG(seal_link, struct dentry *old, struct inode *dir, struct dentry *dentry)
{
	return entry_comes(dir, dentry);
}

static __always_inline int attributes(struct dentry *dentry)
{
	if (!is_armed() || !(seal_of(BPF_CORE_READ(dentry, d_inode)) & CHANGED))
		return 0;
	return judge_sealed(V_FILE_TAMPER);
}

/* Mode, owner, times, and the length: truncate(2) comes here too. The hook has three arguments since 6.9. */
SEC("lsm/inode_setattr")
int BPF_PROG(seal_attributes, void *idmap, struct dentry *dentry, void *attributes_, int before)
{
	/* The answer so far lies behind the last argument; where the hook has two, so far behind is nothing, and the kernel refuses this one. */
	int err = 0;

	if (before) {
		DENIED(err);
		return err;
	}
	return attributes(dentry);
}

SEC("lsm/inode_setattr")
int BPF_PROG(seal_attributes_2, struct dentry *dentry)
{
	return attributes(dentry);
}

SEC("lsm/inode_setxattr")
int BPF_PROG(seal_xattr, void *idmap, struct dentry *dentry)
{
	return attributes(dentry);
}

SEC("lsm/inode_removexattr")
int BPF_PROG(seal_xattr_gone, void *idmap, struct dentry *dentry)
{
	return attributes(dentry);
}

/* What the guard opens while it learns. */
static __noinline int learn(struct inode *inode)
{
	struct config *cfg = the_config();
	struct inode_key key = {};
	__u32 seal, *known;
	struct label copy;

	if (!cfg || !cfg->learn_tid || cfg->learn_tid != (__u32)bpf_get_current_pid_tgid() || !actor_is_guard())
		return 0;
	key_of(inode, &key);
	copy = cfg->learn;
	if (copy.unit)
		bpf_map_update_elem(&trusted_exes, &key, &copy, BPF_ANY);
	if (cfg->learn_loader) {
		seal = cfg->learn_loader;
		bpf_map_update_elem(&loaders, &key, &seal, BPF_ANY);
	}
	seal = cfg->learn_seal;
	known = bpf_map_lookup_elem(&sealed, &key);
	if (known)
		seal |= *known;
	if (seal)
		bpf_map_update_elem(&sealed, &key, &seal, BPF_ANY);
	return 0;
}

/* Programs of ours that no other code is to run in. */
static __always_inline bool is_closed(struct label *label)
{
	return label && (label->flags & (LABEL_GUARD | LABEL_AGENT | LABEL_TPM));
}

static __always_inline int judge_code(struct inode *inode)
{
	struct inode_key key = {};
	__u32 seal = SEAL_CODE, *known;
	struct config *cfg;

	if (!inode)
		return is_armed() ? judge_sealed(V_EXEC_MEM) : 0;
	key_of(inode, &key);
	known = bpf_map_lookup_elem(&sealed, &key);
	if (known && (*known & (SEAL_CODE | SEAL_FILE)))
		return 0;
	cfg = the_config();
	if (cfg && cfg->armed && !is_lifted(cfg, LIFT_FILES))
		return judge_sealed(V_LIBRARY_INJECT);
	if (known)
		seal |= *known;
	bpf_map_update_elem(&sealed, &key, &seal, BPF_ANY);
	return 0;
}

SEC("lsm/mmap_file")
int BPF_PROG(code_mapped, struct file *file, unsigned long reqprot, unsigned long prot)
{
	if (!(prot & PROT_EXEC) || !is_closed(actor_label()))
		return 0;
	return judge_code(file ? BPF_CORE_READ(file, f_inode) : 0);
}

SEC("lsm/file_mprotect")
int BPF_PROG(code_allowed, struct vm_area_struct *vma, unsigned long reqprot, unsigned long prot)
{
	if (!(prot & PROT_EXEC) || !is_closed(actor_label()))
		return 0;
	return judge_code(BPF_CORE_READ(vma, vm_file, f_inode));
}

#define ENVIRONMENT_STRINGS 96
#define ENVIRONMENT_PIECE 200

#define BEGINS(text, with) (__builtin_memcmp(text, with, sizeof(with) - 1) == 0)

/*
 * Has who started it put something into its environment that the loader runs or obeys? The strings lie on the new stack. More of them
 * than systemd gives are taken for a yes.
 */
static __noinline bool has_loader_words(struct linux_binprm *bprm)
{
	unsigned long at = BPF_CORE_READ(bprm, p), end = BPF_CORE_READ(bprm, exec);
	char text[ENVIRONMENT_PIECE];
	bool at_start = true;
	long length;
	int i;

	for (i = 0; i < ENVIRONMENT_STRINGS; i++) {
		if (at >= end)
			return false;
		length = bpf_probe_read_user_str(text, sizeof(text), (void *)at);
		if (length <= 0)
			return true;
		if (at_start && (BEGINS(text, "LD_") || BEGINS(text, "GLIBC_TUNABLES")))
			return true;
		at_start = length < ENVIRONMENT_PIECE;
		/* A piece that was cut ends with a NUL that is not there. */
		at += at_start ? length : ENVIRONMENT_PIECE - 1;
	}
	return true;
}

#endif
