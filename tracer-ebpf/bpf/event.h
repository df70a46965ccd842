/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Layout shared with src/event.rs, src/program.rs and src/pages.rs. Change them together. */
#pragma once

#include "kernel.h"

/* Most components of a path. Files with longer paths are counted in COUNT_TOO_DEEP. */
#define MAX_DEPTH 96
/* Most bytes of a path, plus space for the component that exceeds the limit. */
#define MAX_PATH 4096
#define MAX_NAME 256
#define COMM 16

/* Pages in one entry of the map `page_bitmaps`: one bit of 64 each. */
#define BITMAP_SHIFT 6
#define BITMAP_PAGES (1 << BITMAP_SHIFT)

enum kind {
	KIND_OPEN = 1,
	KIND_EXEC = 2,
	KIND_INTERPRETER = 3,
	/* A script was executed. The path is the name the caller wrote, not a file's path. */
	KIND_SCRIPT = 4,
	/* First pages of a file that were read, or mapped. On overlayfs this is the file in the layer. */
	KIND_READ = 5,
	KIND_MAP = 6,
	/* A range too long for bitmaps: it starts at page `size` and has `open_flags` pages. */
	KIND_SPAN = 7,
	/* First exec in the container's root. The path is that of the root directory in its file system. */
	KIND_FIRST_EXEC = 8,
	/* A path that does not exist: as the caller wrote it (`size` bytes), then the directory it is relative to. */
	KIND_ABSENT = 9,
	/* A directory that was listed. */
	KIND_LISTED = 10,
	/* A new cgroup that may belong to a container. The path is the cgroup's. */
	KIND_CGROUP = 11,
};

/*
 * One record of the ring buffer. `path` holds the components from the file up to the root of its file system, each followed
 * by a NUL. Only `path_len` bytes of it are sent.
 */
struct event {
	__u64 time_ns;
	/* Cgroup id of the followed container; 0: an outside process, see any_target_in_set_up(). */
	__u64 target;
	__u64 inode;
	__u64 size;
	__u32 device;
	__u32 kind;
	__u32 open_flags;
	__u32 written;
	/* The process: its pid on the host, its pid in the container, its parent's pid in the container. */
	__u32 host_process;
	__u32 process;
	__u32 parent;
	__u32 path_len;
	char comm[COMM];
	char path[MAX_PATH + MAX_NAME];
};

enum counter {
	/* Records lost because the ring buffer was full. */
	COUNT_LOST,
	/* Files with an unreadable struct file or path. */
	COUNT_UNRESOLVED,
	/* Files with more than MAX_DEPTH components or MAX_PATH bytes. */
	COUNT_TOO_DEEP,
	/* Pages lost because the map `page_bitmaps` was full. */
	COUNT_TABLE_FULL,
	/* Files that were already unlinked, so no longer part of an image. */
	COUNT_UNLINKED,
	/* Excluded files: on a file system that is neither the container's root nor FUSE. */
	COUNT_OTHER_FS,
	COUNTERS,
};

/* State of a followed container. */
struct target {
	/* Time of the first exec in the container's root; 0: not yet. */
	__u64 first_exec_ns;
	/* Device of the container's root file system; 0 before the first exec. */
	__u64 root_device;
	__u64 counters[COUNTERS];
};

/* Indexes of the map `state`: values that change while the programs run, each written by one side only. */
enum state_index {
	/* User space: incremented when the set of targets changes, which invalidates `memberships`. */
	GENERATION,
	/* User space: not 0: new cgroups named like a container become targets. */
	WATCHING,
	/* Targets before their first exec: the sum of the first two minus the sum of the last two. */
	TARGETS_ADDED, /* by user space */
	TARGETS_CREATED, /* by the kernel part */
	TARGETS_STARTED, /* by the kernel part */
	TARGETS_DROPPED, /* by user space */
	STATE_VALUES,
};

/* The used pages of a block of BITMAP_PAGES pages, one bit each: read or faulted, and mapped by fault-around. */
struct page_bitmap {
	__u64 read;
	__u64 ahead;
};
