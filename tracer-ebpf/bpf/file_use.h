/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/*
 * Uses of files by name: opened, executed, listed. Each file is reported once per container, and once more when it is written.
 *
 * Files on the container's root, on overlayfs and on FUSE (which CVMFS is) are reported; user space decides which of them
 * belong to the container's image or to a CVMFS repository. All other files are only counted.
 */
#pragma once

#include "path.h"
#include "target.h"

static __always_inline bool is_on_overlay(struct dentry *dentry)
{
	return dentry && BPF_CORE_READ(dentry, d_sb, s_magic) == OVERLAYFS_SUPER_MAGIC;
}

/* Whether to report files of this file system. Before the first exec the container's root is not known. */
static __always_inline bool is_relevant_fs(struct super_block *sb, struct target *target)
{
	unsigned long magic = BPF_CORE_READ(sb, s_magic);

	if (magic == OVERLAYFS_SUPER_MAGIC)
		return true;
	if (!target) /* an outside process */
		return false;
	return magic == FUSE_SUPER_MAGIC || !target->first_exec_ns || BPF_CORE_READ(sb, s_dev) == target->root_device;
}

/* Reports a use of the dentry at `address` by the target `id` (0: an outside process). */
static __noinline int record_use(struct event *event, __u64 address, __u64 id, __u64 kind_and_written, __u64 flags)
{
	struct target *target = id ? bpf_map_lookup_elem(&targets, &id) : 0;
	struct dentry *dentry = (void *)address;
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);
	struct super_block *sb = BPF_CORE_READ(dentry, d_sb);
	__u32 kind = kind_and_written >> 1, written = kind_and_written & 1;
	enum fact fact = kind == KIND_LISTED ? FACT_LISTED : written ? FACT_WRITTEN : FACT_USED;
	__u64 number = BPF_CORE_READ(inode, i_ino), fingerprint = fingerprint_of(id, fact, address, (__u64)inode, number);
	struct dedup_set *set = dedup_set_for(fingerprint);

	if (!event || !set || is_reported(set, fingerprint))
		return 0;
	if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) != (kind == KIND_LISTED ? S_IFDIR : S_IFREG))
		return 0;
	if (!has_names(sb))
		return 0;
	if (BPF_CORE_READ(inode, i_nlink) == 0) {
		count(target, COUNT_UNLINKED);
		return 0;
	}
	if (!target && !is_relevant_fs(sb, target))
		return 0;
	set_reported(set, fingerprint);
	if (!is_relevant_fs(sb, target)) {
		count(target, COUNT_OTHER_FS);
		return 0;
	}
	if (!fill_path(event, address, (__u64)BPF_CORE_READ(sb, s_root), target))
		return 0;
	event->inode = number;
	event->device = BPF_CORE_READ(sb, s_dev);
	event->size = BPF_CORE_READ(inode, i_size);
	event->kind = kind;
	event->open_flags = flags;
	event->written = written;
	fill_process(event, id);
	if (send(event, false)) {
		count(target, COUNT_LOST);
		clear_reported(set, fingerprint); /* so that the next use is reported */
	}
	return 0;
}

static __always_inline void record_file(struct event *event, struct file *file, __u64 id, enum kind kind, __u32 flags)
{
	__u32 mode = BPF_CORE_READ(file, f_mode);
	bool written = kind == KIND_OPEN && ((mode & (FMODE_WRITE | FMODE_CREATED)) || (flags & O_TRUNC));

	record_use(event, (__u64)BPF_CORE_READ(file, f_path.dentry), id, (__u64)kind << 1 | written, flags);
}

/* The file behind a descriptor of the current task. */
static __always_inline struct file *file_from_fd(__u32 fd)
{
	struct fdtable *table = ((struct task_struct *)bpf_get_current_task_btf())->files->fdt;
	struct file *file = 0;

	if (fd < table->max_fds)
		bpf_probe_read_kernel(&file, sizeof(file), &table->fd[fd]);
	return file;
}
