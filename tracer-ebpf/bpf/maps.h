/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* What the programs share with each other and with user space. Sizes of the larger ones are set by user space. */
#pragma once

#include "event.h"

/* Set before the programs are loaded. */

/* Device of the file system that the recorder itself has as its root. */
const volatile __u32 host_device = 0;
/* 0: containers are told apart by version 2 cgroups, else by those of the version 1 controller `pids`. */
const volatile __u32 by_pids_controller = 0;
const volatile __u32 page_shift = 12;
/* Whether paths that do not exist, and directories that are listed, are to be told. */
const volatile __u32 tell_absent = 0;
const volatile __u32 tell_listed = 0;
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NUMBERS);
	__type(key, __u32);
	__type(value, __u64);
} numbers SEC(".maps");

/* Containers that are followed, by the id of their cgroup. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct target);
} targets SEC(".maps");

/*
 * Which target a cgroup belongs to, as found by walking up from it; at the cgroup's place, until another needs it. Written
 * without a lock, so it counts only if `check` is what the others, and the generation, make of it.
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

/* Contents of files of which pages were used, so that each is named once. */
struct content_key {
	__u64 target;
	__u64 inode;
	__u64 device;
};

/* User space writes CONTENT_FOREIGN when it finds that a content is none of the image. */
enum content_is { CONTENT_NAMED = 1, CONTENT_FOREIGN = 2 };

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 17);
	__type(key, struct content_key);
	__type(value, __u64);
} contents SEC(".maps");

/* Which pages were used; read by user space when the recording ends. */
struct piece_key {
	__u64 target;
	__u64 inode;
	__u32 device;
	/* Page number divided by PIECE_PAGES. */
	__u32 piece;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 17);
	__type(key, struct piece_key);
	__type(value, struct pages);
} pieces SEC(".maps");

/*
 * Too large for the stack. A program does not interrupt itself on a processor (the kernel sees to it, and counts), but
 * where it can be preempted another one may run; so there is one for each.
 */
enum scratch_of {
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

static __always_inline struct event *scratch_of(__u32 which)
{
	return bpf_map_lookup_elem(&scratch, &which);
}

static __always_inline __u64 number(__u32 which)
{
	__u64 *number = bpf_map_lookup_elem(&numbers, &which);

	return number ? *number : 0;
}

static __always_inline void add_one(__u32 which)
{
	__u64 *number = bpf_map_lookup_elem(&numbers, &which);

	if (number)
		__sync_fetch_and_add(number, 1);
}

/* Whether opens by processes outside are told as well, for one of them may be a hook of a container to begin. */
static __always_inline bool anyone_setting_up(void)
{
	return number(TARGETS_ADDED) + number(TARGETS_MADE) != number(TARGETS_BEGUN) + number(TARGETS_GIVEN_UP);
}

static __always_inline void count(struct target *target, enum counter what)
{
	if (target)
		__sync_fetch_and_add(&target->counters[what], 1);
}

/*
 * Sends the first `path_len` bytes of the path. Waking the reader costs more than all the rest, so it is only done
 * when an eighth of the ring is unread, or at once when asked for; otherwise the reader comes by itself.
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
