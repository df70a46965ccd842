/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/*
 * Uses of files by name: opened, executed, listed. Each is told once for a container, and once more when it is written.
 *
 * Told are files on the container's root, on overlayfs and on FUSE (CVMFS is one); which of these belong to the
 * container's image or to a CVMFS repository, user space knows. All others are only counted.
 */
#pragma once

#include "path.h"
#include "target.h"

static __always_inline bool is_on_overlay(struct dentry *dentry)
{
	return dentry && BPF_CORE_READ(dentry, d_sb, s_magic) == OVERLAYFS_SUPER_MAGIC;
}

/* Whether a file system may be of interest to the container; before it has begun, its root is not known yet. */
static __always_inline bool may_matter(struct super_block *sb, struct target *target)
{
	unsigned long magic = BPF_CORE_READ(sb, s_magic);

	if (magic == OVERLAYFS_SUPER_MAGIC)
		return true;
	if (!target) /* a process outside */
		return false;
	return magic == FUSE_SUPER_MAGIC || !target->began_ns || BPF_CORE_READ(sb, s_dev) == target->root_device;
}

/* Arguments: a dentry, the id of the target or 0, the rest as in struct event. */
static __noinline int use(struct event *event, __u64 address, __u64 id, __u64 kind_and_written, __u64 flags)
{
	struct target *target = id ? bpf_map_lookup_elem(&targets, &id) : 0;
	struct dentry *dentry = (void *)address;
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);
	struct super_block *sb = BPF_CORE_READ(dentry, d_sb);
	__u32 kind = kind_and_written >> 1, written = kind_and_written & 1;
	enum told_as as = kind == KIND_LISTED ? TOLD_LISTED : written ? TOLD_WRITTEN : TOLD_USED;
	__u64 number = BPF_CORE_READ(inode, i_ino), mark = mark_of(id, as, address, (__u64)inode, number);
	struct told_set *set = told_set_of(mark);

	if (!event || !set || is_told(set, mark))
		return 0;
	if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) != (kind == KIND_LISTED ? S_IFDIR : S_IFREG))
		return 0;
	if (!has_names(sb))
		return 0;
	if (BPF_CORE_READ(inode, i_nlink) == 0) {
		count(target, COUNT_UNLINKED);
		return 0;
	}
	if (!target && !may_matter(sb, target))
		return 0;
	mark_told(set, mark);
	if (!may_matter(sb, target)) {
		count(target, COUNT_ELSEWHERE);
		return 0;
	}
	if (!tell_path(event, address, (__u64)BPF_CORE_READ(sb, s_root), target))
		return 0;
	event->inode = number;
	event->device = BPF_CORE_READ(sb, s_dev);
	event->size = BPF_CORE_READ(inode, i_size);
	event->kind = kind;
	event->open_flags = flags;
	event->written = written;
	sign(event, id);
	if (send(event, false)) {
		count(target, COUNT_LOST);
		forget_told(set, mark); /* the next use may have more luck */
	}
	return 0;
}

static __always_inline void use_file(struct event *event, struct file *file, __u64 id, enum kind kind, __u32 flags)
{
	__u32 mode = BPF_CORE_READ(file, f_mode);
	bool written = kind == KIND_OPEN && ((mode & (FMODE_WRITE | FMODE_CREATED)) || (flags & O_TRUNC));

	use(event, (__u64)BPF_CORE_READ(file, f_path.dentry), id, (__u64)kind << 1 | written, flags);
}

/* What the current task has as a descriptor. */
static __always_inline struct file *file_of(__u32 fd)
{
	struct fdtable *table = ((struct task_struct *)bpf_get_current_task_btf())->files->fdt;
	struct file *file = 0;

	if (fd < table->max_fds)
		bpf_probe_read_kernel(&file, sizeof(file), &table->fd[fd]);
	return file;
}
