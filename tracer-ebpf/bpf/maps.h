/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Maps shared by the programs and user space. User space sets the sizes of `page_bitmaps` and `events`. */
#pragma once

#include "event.h"

/* Constants, set by user space before it loads the programs. */

/* Device of the recorder's own root file system. */
const volatile __u32 host_device = 0;
/* 0: containers are identified by cgroup v2. Otherwise by the cgroup v1 controller `pids`. */
const volatile __u32 by_pids_controller = 0;
const volatile __u32 page_shift = 12;
/* Whether to report paths that do not exist, and directories that are listed. */
const volatile __u32 enable_absent = 0;
const volatile __u32 enable_listed = 0;
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STATE_VALUES);
	__type(key, __u32);
	__type(value, __u64);
} state SEC(".maps");

/* The followed containers, by cgroup id. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct target);
} targets SEC(".maps");

/*
 * Cache of the target that a cgroup belongs to, indexed by the low bits of the cgroup id; a collision overwrites. Written
 * without a lock, so an entry is valid only if `check` is the hash of the other two fields and the generation.
 */
#define MEMBERSHIPS (1 << 12)

struct membership {
	__u64 cgroup;
	__u64 target;
	__u64 check;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MEMBERSHIPS);
	__type(key, __u32);
	__type(value, struct membership);
} memberships SEC(".maps");

/* File contents with used pages, so that each content's path is reported once. */
struct content_key {
	__u64 target;
	__u64 inode;
	__u64 device;
};

/* User space writes CONTENT_FOREIGN for a content that does not belong to the container's image. */
enum content_state { CONTENT_NAMED = 1, CONTENT_FOREIGN = 2 };

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 17);
	__type(key, struct content_key);
	__type(value, __u64);
} contents SEC(".maps");

/* Used pages. User space reads them when the recording ends. */
struct bitmap_key {
	__u64 target;
	__u64 inode;
	__u32 device;
	/* Page number divided by BITMAP_PAGES. */
	__u32 block;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 17);
	__type(key, struct bitmap_key);
	__type(value, struct page_bitmap);
} page_bitmaps SEC(".maps");

/*
 * Events are too large for the stack. The kernel never runs a program recursively on one CPU (it counts the skipped runs), but
 * one program may preempt another, so each program has a slot of its own.
 */
enum scratch_slot {
	SCRATCH_OPEN,
	SCRATCH_LOOKUP,
	SCRATCH_URING,
	SCRATCH_EXEC,
	SCRATCH_READ,
	SCRATCH_MAP,
	SCRATCH_FAULT,
	SCRATCH_CGROUP,
	SCRATCHES,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SCRATCHES);
	__type(key, __u32);
	__type(value, struct event);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} events SEC(".maps");

static __always_inline struct event *scratch_event(__u32 slot)
{
	return bpf_map_lookup_elem(&scratch, &slot);
}

static __always_inline __u64 state_value(__u32 index)
{
	__u64 *value = bpf_map_lookup_elem(&state, &index);

	return value ? *value : 0;
}

static __always_inline void increment(__u32 index)
{
	__u64 *value = bpf_map_lookup_elem(&state, &index);

	if (value)
		__sync_fetch_and_add(value, 1);
}

/* While a container is being set up, opens by outside processes are reported as well: one may be an OCI hook of it. */
static __always_inline bool any_target_in_set_up(void)
{
	return state_value(TARGETS_ADDED) + state_value(TARGETS_CREATED) != state_value(TARGETS_STARTED) + state_value(TARGETS_DROPPED);
}

static __always_inline void count(struct target *target, enum counter counter)
{
	if (target)
		__sync_fetch_and_add(&target->counters[counter], 1);
}

/*
 * Sends the event with the first `path_len` bytes of its path. Waking the reader costs more than everything else, so it is
 * woken only when an eighth of the ring is unread, or if `at_once`; otherwise it polls. Not 0: the ring is full.
 */
static __always_inline long send(struct event *event, bool at_once)
{
	__u64 limit = bpf_ringbuf_query(&events, BPF_RB_RING_SIZE) / 8;
	__u64 unread = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
	__u32 len = event->path_len;

	if (len > sizeof(event->path))
		return -1;
	return bpf_ringbuf_output(&events, event, __builtin_offsetof(struct event, path) + len,
				  at_once || unread > limit ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}
