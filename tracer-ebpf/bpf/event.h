/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* What the kernel part and src/event.rs share. Change both together. */
#pragma once

#include "kernel.h"

/* Names of one path, at most; deeper files are counted as unresolved. */
#define MAX_DEPTH 48
/* Bytes of one path, at most, and room for the name that passes the limit. */
#define MAX_PATH 4096
#define MAX_NAME 256

enum how {
	HOW_OPEN = 1,
	HOW_EXEC = 2,
	HOW_INTERPRETER = 3,
	HOW_MAP = 4,
	/* Not a file: the name under which a script was executed, as the caller wrote it. */
	HOW_SCRIPT = 5,
};

/* One record of the ring buffer. `path` holds the names from the file up to the root, each ended by a NUL. */
struct event {
	__u64 time_ns;
	__u64 size;
	__u32 open_flags;
	__u32 process;
	__u32 path_len;
	__u32 how;
	char path[MAX_PATH + MAX_NAME];
};

/* Written by user space before the programs are attached. */
struct config {
	/* Device (kernel's encoding) of the file system that the recorder itself has as its root. */
	__u32 host_dev;
	__u32 pad;
};

/* What the first exec in the container's root has told. */
struct state {
	__u64 began_ns;
	__u64 root_dentry;
	/* Set last: as long as it is 0, nothing is recorded. */
	__u64 root_sb;
};

enum counter {
	/* Records that found no room in the ring buffer. */
	COUNT_LOST,
	/* Files whose path or struct file could not be read. */
	COUNT_UNRESOLVED,
	/* Files that had no name left when they were looked at; not part of an image any more. */
	COUNT_UNLINKED,
	COUNTERS,
};
