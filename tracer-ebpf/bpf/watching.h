/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* The program that sees new containers. */
#pragma once

#include "path.h"
#include "target.h"

/* Names of containers' cgroups end in 64 hexadecimal digits, with `.scope` behind them or not. */
#define ID_LENGTH 64

/* (struct cgroup *cgroup, const char *path) */
SEC("tp_btf/cgroup_mkdir")
int on_cgroup_mkdir(__u64 *ctx)
{
	struct cgroup *cgroup = (void *)ctx[0];
	struct event *event = scratch_of(SCRATCH_CGROUP);
	struct target target = {};
	int name = 0;
	__u64 id;
	long n;

	if (!event || !number(WATCHING))
		return 0;
	/* The version 2 hierarchy has the number 0. Others are told apart by user space, by the path. */
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
	sign(event, id);
	if (bpf_map_update_elem(&targets, &id, &target, BPF_NOEXIST))
		return 0;
	add_one(TARGETS_MADE);
	if (send(event, true)) {
		/* A target that user space does not know of would be followed for ever. */
		bpf_map_delete_elem(&targets, &id);
		add_one(TARGETS_BEGUN);
	}
	return 0;
}
