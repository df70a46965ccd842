/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* The program that detects new containers. */
#pragma once

#include "path.h"
#include "target.h"

/* The name of a container's cgroup ends in the container's id, 64 hexadecimal digits, with or without `.scope`. */
#define ID_LENGTH 64

/* (struct cgroup *cgroup, const char *path) */
SEC("tp_btf/cgroup_mkdir")
int on_cgroup_mkdir(__u64 *ctx)
{
	struct cgroup *cgroup = (void *)ctx[0];
	struct event *event = scratch_event(SCRATCH_CGROUP);
	struct target target = {};
	int name = 0;
	__u64 id;
	long n;

	if (!event || !state_value(WATCHING))
		return 0;
	/* The v2 hierarchy has the id 0. User space distinguishes the v1 hierarchies. */
	if ((BPF_CORE_READ(cgroup, root, hierarchy_id) == 0) == (by_pids_controller != 0))
		return 0;
	n = bpf_probe_read_kernel_str(event->path, MAX_PATH, (void *)ctx[1]);
	if (n <= ID_LENGTH || n > MAX_PATH)
		return 0;
	for (int i = 0; i < 1024 && i < n; i++) {
		if (event->path[i] == '/')
			name = i + 1;
	}
	if (n - name <= ID_LENGTH)
		return 0;
	id = cgroup_id(cgroup);
	event->path_len = n;
	event->inode = event->size = event->open_flags = event->written = 0;
	event->device = 0;
	event->kind = KIND_CGROUP;
	fill_process(event, id);
	if (bpf_map_update_elem(&targets, &id, &target, BPF_NOEXIST))
		return 0;
	increment(TARGETS_CREATED);
	if (send(event, true)) {
		/* User space will not know this target, and would never remove it. */
		bpf_map_delete_elem(&targets, &id);
		increment(TARGETS_STARTED);
	}
	return 0;
}
