/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Foreign BPF, and our own programs, maps and pins. A BPF program in the context of a protected process
 * reads even memfd_secret pages, so once armed only PID 1, the guard, and the loaders that the owner has listed load programs: these
 * only the programs listed for them, known by tag. Whoever makes a loader do his will gets no further than that. What is ours is
 * out of reach from the first moment, to PID 1 as well. Links have no hook of their own: the pins' folder
 * is closed, and descriptors by id are refused.
 */
#ifndef REMPART_FOREIGN
#define REMPART_FOREIGN

#include "seal.bpf.c"

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

#define LINK_GET_FD_BY_ID 30
/* The last command that a listed loader may use: the next creates tokens, by which others may use it. */
#define PROG_BIND_MAP 35

/* The list of programs for what current runs; 0 for none. */
static __always_inline __u32 loader(void)
{
	struct inode *exe = BPF_CORE_READ(bpf_get_current_task_btf(), mm, exe_file, f_inode);
	struct inode_key key = {};
	__u32 *list;

	if (!exe)
		return 0;
	key_of(exe, &key);
	list = bpf_map_lookup_elem(&loaders, &key);
	return list ? *list : 0;
}

SEC("lsm/bpf")
int BPF_PROG(bpf_command, int cmd, union bpf_attr *attr, unsigned int size)
{
	if (harmless(cmd))
		return 0;
	/* From the first moment: a link's descriptor can detach or exchange what the link holds. */
	if (cmd == LINK_GET_FD_BY_ID && actor_tgid() != 1)
		return judge_own(V_LINK_GET);
	/* Which program it is, bpf_own_prog asks. */
	if (cmd <= PROG_BIND_MAP && loader())
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

/* Somebody is about to get a descriptor of a program: a new one, or one by its id or pin. */
SEC("lsm/bpf_prog")
int BPF_PROG(bpf_own_prog, struct bpf_prog *prog)
{
	__u64 key = OWN_KEY(OWN_PROG, BPF_CORE_READ(prog, aux, id));
	struct listed_key listing = {};

	if (bpf_map_lookup_elem(&own, &key))
		return judge_own(V_BPF_PROG);
	listing.loader = loader();
	/* A kprobe can be put on any function, also on many at once and without perf_event_open: none is listed. */
	if (listing.loader && BPF_CORE_READ(prog, type) != BPF_PROG_TYPE_KPROBE) {
		BPF_CORE_READ_INTO(&listing.tag, prog, tag);
		if (bpf_map_lookup_elem(&listed, &listing))
			return 0;
	}
	return judge_machine(V_BPF_LOAD, PID1_MAY);
}

static __always_inline bool is_pin_folder(struct inode *dir)
{
	struct config *cfg = the_config();

	if (!cfg || !cfg->pin_dev)
		return false;
	return BPF_CORE_READ(dir, i_sb, s_dev) == cfg->pin_dev && BPF_CORE_READ(dir, i_ino) == cfg->pin_ino;
}

/* Nobody but the guard gets to a pin by its name, for whatever purpose: maps and programs have hooks of their own, links have none. */
static __always_inline int pin_reached(struct inode *inode, int mask)
{
	return (mask & (MAY_EXEC | MAY_WRITE)) && is_pin_folder(inode) ? judge_own(V_PIN_OPEN) : 0;
}

SEC("lsm/inode_unlink")
int BPF_PROG(pin_unlink, struct inode *dir, struct dentry *dentry)
{
	return is_pin_folder(dir) ? judge_own(V_UNPIN) : entry_goes(dir, dentry);
}

SEC("lsm/inode_rename")
int BPF_PROG(pin_rename, struct inode *old_dir, struct dentry *old_dentry, struct inode *new_dir,
	     struct dentry *new_dentry)
{
	struct inode *moved = BPF_CORE_READ(old_dentry, d_inode);
	struct inode *replaced = BPF_CORE_READ(new_dentry, d_inode);
	int err = 0;

	if (is_pin_folder(old_dir) || is_pin_folder(new_dir))
		return judge_own(V_UNPIN);
	if (moved && is_pin_folder(moved))
		return judge_own(V_UNPIN);
	/* An exchange moves both. */
	if (replaced && is_pin_folder(replaced))
		return judge_own(V_UNPIN);
	if (entry_goes(old_dir, old_dentry) || entry_goes(new_dir, new_dentry) || entry_comes(new_dir, new_dentry))
		DENIED(err);
	return err;
}

#endif
