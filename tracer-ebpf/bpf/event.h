/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* What the kernel part shares with src/event.rs and src/program.rs. Change them together. */
#pragma once

#include "kernel.h"

/* Names of one path, at most; files that lie deeper are counted. */
#define MAX_DEPTH 96
/* Bytes of one path, at most, and room for the name that passes the limit. */
#define MAX_PATH 4096
#define MAX_NAME 256
#define COMM 16

/* Pages in one entry of the map `pieces`: as many as a bitmap of 64 bits has. */
#define PIECE_SHIFT 6
#define PIECE_PAGES (1 << PIECE_SHIFT)

enum kind {
	KIND_OPEN = 1,
	KIND_EXEC = 2,
	KIND_INTERPRETER = 3,
	/* Not a file: the name under which a script was executed, as the caller wrote it. */
	KIND_SCRIPT = 4,
	/* Pages of a file were read, or faulted in, for the first time. On overlayfs this is the layer's file. */
	KIND_READ = 5,
	KIND_MAP = 6,
	/* So many pages at once that they are told instead of marked: from page `size` on, `open_flags` pages. */
	KIND_SPAN = 7,
	/* The first program was executed in the container's root; the path is that of the root in its file system. */
	KIND_BEGIN = 8,
	/* A path that does not exist: first as the caller wrote it (`size` bytes), then the directory it starts from. */
	KIND_ABSENT = 9,
	/* A directory that was listed. */
	KIND_LISTED = 10,
	/* A cgroup was made that may be a container's; the path is the cgroup's. */
	KIND_CGROUP = 11,
};

/*
 * One record of the ring buffer. `path` holds the names from the file up to the root of its file system, each ended by a
 * NUL; only `path_len` bytes of it are sent.
 */
struct event {
	__u64 time_ns;
	/* The cgroup id under which the container is followed; 0: a process outside, see `setting_up`. */
	__u64 target;
	__u64 inode;
	__u64 size;
	__u32 device;
	__u32 kind;
	__u32 open_flags;
	__u32 written;
	/* Of the process that did it: its number on the host, in the container, and that of its parent there. */
	__u32 host_process;
	__u32 process;
	__u32 parent;
	__u32 path_len;
	char comm[COMM];
	char path[MAX_PATH + MAX_NAME];
};

enum counter {
	/* Records that found no room in the ring buffer. */
	COUNT_LOST,
	/* Files whose struct file or path could not be read. */
	COUNT_UNRESOLVED,
	/* Files that lie deeper, or whose path is longer, than is followed. */
	COUNT_TOO_DEEP,
	/* Pages that found no room in the map `pieces`. */
	COUNT_TABLE_FULL,
	/* Files that had no name left when they were looked at; not part of an image any more. */
	COUNT_UNLINKED,
	/* Files on file systems that are neither the container's root nor FUSE: left out. */
	COUNT_ELSEWHERE,
	COUNTERS,
};

/* What is known of a container that is followed. */
struct target {
	/* The first exec in the container's root; 0: still to come. */
	__u64 began_ns;
	/* Device of the root file system; 0 until the first exec. */
	__u64 root_device;
	__u64 counters[COUNTERS];
};

/* Numbers that change while the programs run, each written by one side only. */
enum numbers {
	/* User space: grows when a cgroup that may already have processes becomes a target. */
	GENERATION,
	/* User space: not 0: new cgroups that may be containers' become targets by themselves. */
	WATCHING,
	/* Targets still to begin are those of the first two that are not among the last two. */
	TARGETS_ADDED, /* by user space */
	TARGETS_MADE, /* by the kernel part */
	TARGETS_BEGUN, /* by the kernel part */
	TARGETS_GIVEN_UP, /* by user space */
	NUMBERS,
};

/* Which pages of a piece of a file were used: one bit each. */
struct pages {
	__u64 read;
	__u64 ahead;
};
