/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Mounts that would take the pins away or hide them from the next guard: over their folder or one above,
 * by mount(2) or move_mount(2), moved elsewhere, or another root for everybody. A mount in a namespace of
 * one's own is one's own affair as long as it does not travel back. PID 1 may: it shuts the machine down.
 */
#include "foreign.bpf.c"

#define MNT_SHARED 0x1000
/* Since 6.17, in mnt_t_flags. */
#define T_SHARED 1

static __always_inline struct mount *real(struct vfsmount *mnt)
{
	return (void *)mnt - bpf_core_field_offset(struct mount, mnt);
}

/* What happens on this mount happens on its peers in other namespaces too. */
static __always_inline bool is_shared(struct mount *mount)
{
	struct mount___types *newer = (void *)mount;

	if (bpf_core_field_exists(newer->mnt_t_flags))
		return BPF_CORE_READ(newer, mnt_t_flags) & T_SHARED;
	return BPF_CORE_READ(mount, mnt.mnt_flags) & MNT_SHARED;
}

static __always_inline struct mnt_namespace *machines_mounts(void)
{
	struct task_struct *current = bpf_get_current_task_btf();

	return BPF_CORE_READ(current, thread_pid, numbers[0].ns, child_reaper, nsproxy, mnt_ns);
}

static __always_inline bool in_machines_mounts(void)
{
	struct task_struct *current = bpf_get_current_task_btf();

	return BPF_CORE_READ(current, nsproxy, mnt_ns) == machines_mounts();
}

static __always_inline bool is_place(const struct path *path)
{
	struct inode *inode = BPF_CORE_READ(path, dentry, d_inode);
	struct exe place = {};

	if (!inode)
		return false;
	place.dev = BPF_CORE_READ(inode, i_sb, s_dev);
	place.ino = BPF_CORE_READ(inode, i_ino);
	return bpf_map_lookup_elem(&places, &place);
}

/* May current put a mount here? */
static __always_inline int judge_cover(const struct path *over)
{
	bool place, file;

	if (actor_tgid() == 1)
		return 0;
	place = is_place(over);
	file = is_armed() && (seal_of(BPF_CORE_READ(over, dentry, d_inode)) & (RENAMED | SEAL_PRELOAD));
	if (!place && !file)
		return 0;
	if (!in_machines_mounts() && !is_shared(real(BPF_CORE_READ(over, mnt))))
		return 0;
	return place ? judge_own(V_MOVE_MOUNT) : judge_sealed(V_FILE_TAMPER);
}

#define MS_REMOUNT 32
#define MS_BIND 4096
#define MS_MOVE 8192
/* UNBINDABLE, PRIVATE, SLAVE, SHARED */
#define MS_PROPAGATION (15 << 17)

SEC("lsm/sb_mount")
int BPF_PROG(mount_over, const char *dev, const struct path *path, const char *type, unsigned long flags, void *data)
{
	if (flags & MS_REMOUNT)
		return 0;
	if (!(flags & MS_BIND)) {
		if (flags & MS_PROPAGATION)
			return 0;
		/* What is moved is only a name here, so nothing is. move_mount(2) tells. */
		if ((flags & MS_MOVE) && actor_tgid() != 1 && in_machines_mounts())
			return judge_own(V_MOVE_MOUNT);
	}
	return judge_cover(path);
}

SEC("lsm/move_mount")
int BPF_PROG(mount_moved, const struct path *from, const struct path *to)
{
	struct mount *moved = real(BPF_CORE_READ(from, mnt));

	/* Moved away, not a copy that open_tree(2) has made. */
	if (actor_tgid() != 1 && is_place(from) && BPF_CORE_READ(moved, mnt_ns) == machines_mounts())
		return judge_own(V_MOVE_MOUNT);
	return judge_cover(to);
}

SEC("lsm/sb_pivotroot")
int BPF_PROG(root_changed, const struct path *old, const struct path *new)
{
	if (actor_tgid() == 1 || !in_machines_mounts())
		return 0;
	return judge_own(V_MOVE_MOUNT);
}

/* PID 1's own child that sets up a mount namespace for a service. */
static __always_inline bool sets_up_a_service(struct vfsmount *mnt)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct mount *mount = real(mnt);

	/* An unmount travels with the mount below. */
	if (is_shared(mount) || is_shared(BPF_CORE_READ(mount, mnt_parent)))
		return false;
	return BPF_CORE_READ(current, real_parent, tgid) == 1 && !in_machines_mounts();
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
