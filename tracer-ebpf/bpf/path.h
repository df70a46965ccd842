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

/* Appends to the event's path, which has `path_len` bytes so far, the names from `address` (a dentry) upwards. */
static __noinline int walk(struct event *event, __u64 address)
{
	struct dentry *dentry = (void *)address;
	struct super_block *sb = BPF_CORE_READ(dentry, d_sb);
	struct dentry *root = BPF_CORE_READ(sb, s_root);
	__u32 len;

	if (!event)
		return WALK_UNRESOLVED;
	len = event->path_len;
	for (int depth = 0; depth <= MAX_DEPTH; depth++) {
		struct dentry *parent;
		long n;

		if (dentry == root) {
			event->path_len = len;
			return WALK_DONE;
		}
		parent = BPF_CORE_READ(dentry, d_parent);
		if (parent == dentry)
			return WALK_UNRESOLVED;
		if (len >= MAX_PATH)
			return WALK_TOO_DEEP;
		n = bpf_probe_read_kernel_str(&event->path[len], MAX_NAME, BPF_CORE_READ(dentry, d_name.name));
		if (n <= 1)
			return WALK_UNRESOLVED;
		len += n;
		dentry = parent;
	}
	return WALK_TOO_DEEP;
}

/* The same into an empty path. What cannot be told is counted. */
static __always_inline bool tell_path(struct event *event, __u64 dentry, struct target *target)
{
	event->path_len = 0;
	switch (walk(event, dentry)) {
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
