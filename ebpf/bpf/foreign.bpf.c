/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Foreign BPF, and our own programs, maps and pins. A BPF program in the context of a protected process
 * reads even memfd_secret pages, so once armed only PID 1 and the guard load programs. What is ours is
 * out of reach from the first moment, to PID 1 as well. Links have no hook of their own, but a link of
 * an LSM program cannot be detached, only unpinned.
 */
#include "verdict.h"

/* Commands on descriptors that are already held, and plain questions; all others, future ones too, are not. */
static __always_inline bool harmless(int cmd)
{
	switch (cmd) {
	case 1: /* MAP_LOOKUP_ELEM */
	case 2: /* MAP_UPDATE_ELEM */
	case 3: /* MAP_DELETE_ELEM */
	case 4: /* MAP_GET_NEXT_KEY */
	case 9: /* PROG_DETACH: tearing down one's own */
	case 11: /* PROG_GET_NEXT_ID */
	case 12: /* MAP_GET_NEXT_ID */
	case 15: /* OBJ_GET_INFO_BY_FD */
	case 16: /* PROG_QUERY */
	case 20: /* TASK_FD_QUERY */
	case 21: /* MAP_LOOKUP_AND_DELETE_ELEM */
	case 23: /* BTF_GET_NEXT_ID */
	case 31: /* LINK_GET_NEXT_ID */
		return true;
	}
	return false;
}

SEC("lsm/bpf")
int BPF_PROG(bpf_command, int cmd, union bpf_attr *attr, unsigned int size)
{
	if (harmless(cmd))
		return 0;
	return judge_machine(V_BPF_LOAD, PID1_MAY);
}

SEC("lsm/bpf_map")
int BPF_PROG(bpf_own_map, struct bpf_map *map, unsigned int fmode)
{
	__u64 key = OWN_KEY(OWN_MAP, BPF_CORE_READ(map, id));

	if (!bpf_map_lookup_elem(&own, &key))
		return 0;
	return judge_own(V_BPF_MAP);
}

SEC("lsm/bpf_prog")
int BPF_PROG(bpf_own_prog, struct bpf_prog *prog)
{
	__u64 key = OWN_KEY(OWN_PROG, BPF_CORE_READ(prog, aux, id));

	if (!bpf_map_lookup_elem(&own, &key))
		return 0;
	return judge_own(V_BPF_PROG);
}

static __always_inline bool is_pin_folder(struct inode *dir)
{
	struct config *cfg = the_config();

	if (!cfg || !cfg->pin_dev)
		return false;
	return BPF_CORE_READ(dir, i_sb, s_dev) == cfg->pin_dev && BPF_CORE_READ(dir, i_ino) == cfg->pin_ino;
}

SEC("lsm/inode_unlink")
int BPF_PROG(pin_unlink, struct inode *dir, struct dentry *dentry)
{
	return is_pin_folder(dir) ? judge_own(V_UNPIN) : 0;
}

SEC("lsm/inode_rename")
int BPF_PROG(pin_rename, struct inode *old_dir, struct dentry *old_dentry, struct inode *new_dir,
	     struct dentry *new_dentry)
{
	struct inode *moved = BPF_CORE_READ(old_dentry, d_inode);
	struct inode *replaced = BPF_CORE_READ(new_dentry, d_inode);

	if (is_pin_folder(old_dir) || is_pin_folder(new_dir))
		return judge_own(V_UNPIN);
	if (moved && is_pin_folder(moved))
		return judge_own(V_UNPIN);
	/* An exchange moves both. */
	if (replaced && is_pin_folder(replaced))
		return judge_own(V_UNPIN);
	return 0;
}

#define MNT_SHARED 0x1000

/*
 * PID 1's own child that sets up a mount namespace for a service: what it unmounts there is unmounted
 * nowhere else, unless the mount is shared and the unmount would travel back.
 */
static __always_inline int sets_up_a_service(struct vfsmount *mnt)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct task_struct *parent = BPF_CORE_READ(current, real_parent);

	if (BPF_CORE_READ(mnt, mnt_flags) & MNT_SHARED)
		return 0;
	if (BPF_CORE_READ(parent, tgid) != 1)
		return 0;
	return BPF_CORE_READ(current, nsproxy, mnt_ns) != BPF_CORE_READ(parent, nsproxy, mnt_ns);
}

/* The last mount of our bpffs takes the pins with it. PID 1 unmounts at shutdown. */
SEC("lsm/sb_umount")
int BPF_PROG(pin_umount, struct vfsmount *mnt, int flags)
{
	struct config *cfg = the_config();

	if (!cfg || !cfg->pin_dev || actor_tgid() == 1 || sets_up_a_service(mnt))
		return 0;
	if (BPF_CORE_READ(mnt, mnt_sb, s_dev) == cfg->pin_dev)
		return judge_own(V_BPFFS_UMOUNT);
	/* A lazy unmount of /sys takes the bpffs below it along. */
	if (cfg->armed && (flags & 2) && BPF_CORE_READ(mnt, mnt_sb, s_magic) == SYSFS_MAGIC)
		return judge_own(V_BPFFS_UMOUNT);
	return 0;
}
