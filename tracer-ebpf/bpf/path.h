/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Paths, collected by walking dentries from the file up to the root of its file system. */
#pragma once

#include "kernel.h"
#include "maps.h"

/* Whether the files of a file system have paths. */
static __always_inline bool has_names(struct super_block *sb)
{
	return !(BPF_CORE_READ(sb, s_flags) & SB_KERNMOUNT);
}

enum walk { WALK_DONE, WALK_UNRESOLVED, WALK_TOO_DEEP };

/* The fields of a dentry that the walk needs. They are adjacent on all known kernels, so one helper call reads them. */
struct dentry_link {
	struct dentry *parent;
	__u64 hash_and_length;
	const unsigned char *name;
};

static __always_inline void read_dentry_link(struct dentry_link *link, struct dentry *dentry)
{
	__u64 parent = bpf_core_field_offset(struct dentry, d_parent);

	if (bpf_core_field_offset(struct dentry, d_name.name) == parent + __builtin_offsetof(struct dentry_link, name)) {
		if (bpf_probe_read_kernel(link, sizeof(*link), (void *)dentry + parent))
			link->parent = dentry;
	} else {
		link->parent = BPF_CORE_READ(dentry, d_parent);
		link->name = BPF_CORE_READ(dentry, d_name.name);
	}
}

/*
 * Appends the components from `address` (a dentry) up to `root` (that of its file system) to the event's path, which has
 * `path_len` bytes so far.
 */
static __noinline int walk_dentries(struct event *event, __u64 address, __u64 root)
{
	__u64 dentry = address;
	struct dentry_link link;
	__u32 len;

	if (!event)
		return WALK_UNRESOLVED;
	len = event->path_len;
	for (int depth = 0; depth <= MAX_DEPTH; depth++) {
		long n;

		if (dentry == root) {
			event->path_len = len;
			return WALK_DONE;
		}
		read_dentry_link(&link, (void *)dentry);
		if ((__u64)link.parent == dentry)
			return WALK_UNRESOLVED;
		if (len >= MAX_PATH)
			return WALK_TOO_DEEP;
		n = bpf_probe_read_kernel_str(&event->path[len], MAX_NAME, link.name);
		if (n <= 1)
			return WALK_UNRESOLVED;
		len += n;
		dentry = (__u64)link.parent;
	}
	return WALK_TOO_DEEP;
}

/* Fills the event's path, or counts why that failed. */
static __always_inline bool fill_path(struct event *event, __u64 dentry, __u64 root, struct target *target)
{
	event->path_len = 0;
	switch (walk_dentries(event, dentry, root)) {
	case WALK_DONE:
		return true;
	case WALK_TOO_DEEP:
		count(target, COUNT_TOO_DEEP);
		return false;
	default:
		count(target, COUNT_UNRESOLVED);
		return false;
	}
}
