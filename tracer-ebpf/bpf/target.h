/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/*
 * The container of a task: the nearest target among the task's cgroup and its ancestors, in the cgroup v2 hierarchy, or in that
 * of the cgroup v1 controller `pids` on hosts without v2.
 */
#pragma once

#include "kernel.h"
#include "maps.h"
#include "dedup.h"

/* Most levels of cgroups that a container may create below its own. */
#define MAX_NESTING 16

/* The inode number, which is how user space identifies a cgroup. Old kernels have it in the low half of the id. */
static __always_inline __u64 kernfs_number(__u64 id)
{
	return bpf_core_type_exists(union kernfs_node_id) ? (__u32)id : id;
}

static __always_inline __u64 cgroup_id(struct cgroup *cgroup)
{
	return kernfs_number(BPF_CORE_READ(cgroup, kn, id));
}

static __always_inline struct cgroup *parent_cgroup(struct cgroup *cgroup)
{
	struct cgroup_subsys_state *parent = BPF_CORE_READ(cgroup, self.parent);

	return parent ? BPF_CORE_READ(parent, cgroup) : 0;
}

/* The cgroup in the hierarchy of the v1 controller `pids`. */
static __always_inline struct cgroup *pids_cgroup(struct css_set *set)
{
	struct cgroup_subsys_state *css = 0;

	if (bpf_core_enum_value_exists(enum cgroup_subsys_id___pids, pids_cgrp_id___pids)) {
		__u64 index = bpf_core_enum_value(enum cgroup_subsys_id___pids, pids_cgrp_id___pids);

		bpf_probe_read_kernel(&css, sizeof(css), (void *)set + bpf_core_field_offset(struct css_set, subsys) + index * sizeof(css));
	}
	return css ? BPF_CORE_READ(css, cgroup) : 0;
}

/* The nearest target among a cgroup and its ancestors, or 0. */
static __noinline __u64 find_target_above(__u64 address)
{
	struct cgroup *cgroup = (void *)address;

	for (int level = 0; level <= MAX_NESTING && cgroup; level++) {
		__u64 id = cgroup_id(cgroup);

		if (bpf_map_lookup_elem(&targets, &id))
			return id;
		cgroup = parent_cgroup(cgroup);
	}
	return 0;
}

/*
 * The target that the current task belongs to, and its id; 0 if none. Runs for every process of the host, so it reads fields by
 * direct loads that the verifier checks, not by helper calls.
 */
static __always_inline struct target *current_target(__u64 *id)
{
	struct css_set *set = ((struct task_struct *)bpf_get_current_task_btf())->cgroups;
	struct cgroup *cgroup = by_pids_controller ? pids_cgroup(set) : set->dfl_cgrp;
	__u64 own = by_pids_controller ? cgroup_id(cgroup) : kernfs_number(set->dfl_cgrp->kn->id);
	__u64 generation = state_value(GENERATION);
	__u32 index = own & (MEMBERSHIPS - 1);
	struct membership *known = bpf_map_lookup_elem(&memberships, &index);
	__u64 target;

	*id = 0;
	if (!known)
		return 0;
	/* Read once: another CPU may write it meanwhile. */
	target = *(volatile __u64 *)&known->target;
	if (known->cgroup != own || known->check != mix(mix(own, target), generation)) {
		target = find_target_above((__u64)cgroup);
		known->cgroup = own;
		known->target = target;
		known->check = mix(mix(own, target), generation);
	}
	*id = target;
	return target ? bpf_map_lookup_elem(&targets, id) : 0;
}

static __always_inline __u32 pid_at_level(struct task_struct *process, unsigned int level)
{
	/* Not a direct load: the verifier does not allow adding an unknown offset to such a pointer. */
	void *pid = BPF_CORE_READ(process, thread_pid);
	__u32 number = 0;

	if (process->thread_pid->level < level)
		return 0;
	bpf_probe_read_kernel(&number, sizeof(number),
			      pid + bpf_core_field_offset(struct pid, numbers) +
				      level * bpf_core_type_size(struct upid) + bpf_core_field_offset(struct upid, nr));
	return number;
}

/*
 * Fills in the time, the target and the current process. Pids are those of the process's own pid namespace, and 0 for processes
 * outside the container. Runs for every event, so it reads fields by direct loads, too.
 */
static __always_inline void fill_process(struct event *event, __u64 target)
{
	struct task_struct *process = ((struct task_struct *)bpf_get_current_task_btf())->group_leader;

	event->time_ns = bpf_ktime_get_ns();
	event->target = target;
	event->host_process = bpf_get_current_pid_tgid() >> 32;
	event->process = event->parent = 0;
	if (target && bpf_core_field_exists(process->thread_pid)) {
		unsigned int level = process->thread_pid->level;

		event->process = pid_at_level(process, level);
		event->parent = pid_at_level(process->real_parent->group_leader, level);
	}
	bpf_get_current_comm(event->comm, sizeof(event->comm));
}
