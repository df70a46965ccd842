/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Paths, by walking dentries from the file up to the root of its file system. */
#pragma once

#include "kernel.h"
#include "maps.h"

/* Whether a file system has names at all. */
static __always_inline bool has_names(struct super_block *sb)
{
	return !(BPF_CORE_READ(sb, s_flags) & SB_KERNMOUNT);
}

enum walk { WALK_DONE, WALK_UNRESOLVED, WALK_TOO_DEEP };

/* What the walk needs of a dentry, as it lies there on every kernel so far: read at once, for each reading is a call. */
struct link {
	struct dentry *parent;
	__u64 hash_and_length;
	const unsigned char *name;
};

static __always_inline void read_link(struct link *link, struct dentry *dentry)
{
	__u64 parent = bpf_core_field_offset(struct dentry, d_parent);

	if (bpf_core_field_offset(struct dentry, d_name.name) == parent + __builtin_offsetof(struct link, name)) {
		if (bpf_probe_read_kernel(link, sizeof(*link), (void *)dentry + parent))
			link->parent = dentry;
	} else {
		link->parent = BPF_CORE_READ(dentry, d_parent);
		link->name = BPF_CORE_READ(dentry, d_name.name);
	}
}

/*
 * Appends to the event's path, which has `path_len` bytes so far, the names from `address` (a dentry) upwards to `root`, that of
 * its file system.
 */
static __noinline int walk(struct event *event, __u64 address, __u64 root)
{
	__u64 dentry = address;
	struct link link;
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
		read_link(&link, (void *)dentry);
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

/* The same into an empty path. What cannot be told is counted. */
static __always_inline bool tell_path(struct event *event, __u64 dentry, __u64 root, struct target *target)
{
	event->path_len = 0;
	switch (walk(event, dentry, root)) {
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
