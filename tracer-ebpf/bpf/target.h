/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/*
 * Which container a task belongs to: the nearest cgroup, from the task's own upwards, that is a target. The hierarchy is
 * that of version 2, or, on hosts without one, that of the version 1 controller `pids`.
 */
#pragma once

#include "kernel.h"
#include "maps.h"
#include "told.h"

/* Cgroups of a container's own lie at most so deep below the container's. */
#define MAX_NESTING 16

/* On kernels that keep more in it, user space knows the inode's number only, which is the low half. */
static __always_inline __u64 id_of(__u64 id)
{
	return bpf_core_type_exists(union kernfs_node_id) ? (__u32)id : id;
}

static __always_inline __u64 cgroup_id(struct cgroup *cgroup)
{
	return id_of(BPF_CORE_READ(cgroup, kn, id));
}

static __always_inline struct cgroup *parent_of(struct cgroup *cgroup)
{
	struct cgroup_subsys_state *parent = BPF_CORE_READ(cgroup, self.parent);

	return parent ? BPF_CORE_READ(parent, cgroup) : 0;
}

/* By the version 1 controller `pids`. */
static __always_inline struct cgroup *pids_cgroup_of(struct css_set *set)
{
	struct cgroup_subsys_state *css = 0;

	if (bpf_core_enum_value_exists(enum cgroup_subsys_id___pids, pids_cgrp_id___pids)) {
		__u64 index = bpf_core_enum_value(enum cgroup_subsys_id___pids, pids_cgrp_id___pids);

		bpf_probe_read_kernel(&css, sizeof(css), (void *)set + bpf_core_field_offset(struct css_set, subsys) + index * sizeof(css));
	}
	return css ? BPF_CORE_READ(css, cgroup) : 0;
}

/* Walks up from a cgroup; 0 if none on the way is a target. */
static __noinline __u64 walk_up(__u64 address)
{
	struct cgroup *cgroup = (void *)address;

	for (int level = 0; level <= MAX_NESTING && cgroup; level++) {
		__u64 id = cgroup_id(cgroup);

		if (bpf_map_lookup_elem(&targets, &id))
			return id;
		cgroup = parent_of(cgroup);
	}
	return 0;
}

/*
 * The target that the current task belongs to, and its id; 0 if none. Every process of the host comes here, so fields are
 * read by loads that the verifier has checked, not by calls.
 */
static __always_inline struct target *current_target(__u64 *id)
{
	struct css_set *set = ((struct task_struct *)bpf_get_current_task_btf())->cgroups;
	struct cgroup *cgroup = by_pids_controller ? pids_cgroup_of(set) : set->dfl_cgrp;
	__u64 own = by_pids_controller ? cgroup_id(cgroup) : id_of(set->dfl_cgrp->kn->id);
	__u64 generation = number(GENERATION);
	__u32 place = own & (MEMBERSHIPS - 1);
	struct membership *known = bpf_map_lookup_elem(&memberships, &place);
	__u64 target;

	*id = 0;
	if (!known)
		return 0;
	/* Once, for another processor may write it meanwhile. */
	target = *(volatile __u64 *)&known->target;
	if (known->cgroup != own || known->check != mix(mix(own, target), generation)) {
		target = walk_up((__u64)cgroup);
		known->cgroup = own;
		known->target = target;
		known->check = mix(mix(own, target), generation);
	}
	*id = target;
	return target ? bpf_map_lookup_elem(&targets, id) : 0;
}

static __always_inline __u32 number_in(struct task_struct *process, unsigned int level)
{
	/* Not as a load that is checked: no verifier lets the address of such be added to what it does not know. */
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
 * That the current task did it. Numbers are those of the innermost pid namespace; processes outside the container have none.
 * Each event comes here, so here, too, fields are read by loads that the verifier has checked.
 */
static __always_inline void sign(struct event *event, __u64 target)
{
	struct task_struct *process = ((struct task_struct *)bpf_get_current_task_btf())->group_leader;

	event->time_ns = bpf_ktime_get_ns();
	event->target = target;
	event->host_process = bpf_get_current_pid_tgid() >> 32;
	event->process = event->parent = 0;
	if (target && bpf_core_field_exists(process->thread_pid)) {
		unsigned int level = process->thread_pid->level;

		event->process = number_in(process, level);
		event->parent = number_in(process->real_parent->group_leader, level);
	}
	bpf_get_current_comm(event->comm, sizeof(event->comm));
}
