/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/*
 * What has been told and need not be told again: marks of 64 bits in sets of eight, by hash. A set is a line or two of the
 * processor's cache, where a table of the kernel's that forgets (LRU) touches many. A full set forgets one of its marks; what is
 * told twice, user space takes once.
 *
 * Sets are read and written without a lock: each mark is one word, and one that is overwritten is only told again. That one of
 * a million files is taken for another, and not told, happens once in ten million recordings.
 */
#pragma once

#include "kernel.h"

#define TOLD_WAYS 8
#define TOLD_SETS (1 << 14)

struct told_set {
	__u64 marks[TOLD_WAYS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TOLD_SETS);
	__type(key, __u32);
	__type(value, struct told_set);
} told SEC(".maps");

/* Multiplies and shifts as SplitMix64 does, for each word. */
static __always_inline __u64 mix(__u64 mark, __u64 word)
{
	mark = (mark ^ word) * 0x9e3779b97f4a7c15ULL;
	mark = (mark ^ mark >> 32) * 0xbf58476d1ce4e5b9ULL;
	return mark ^ mark >> 29;
}

/* How a file was used, or what became of a path. */
enum told_as { TOLD_USED, TOLD_WRITTEN, TOLD_ABSENT, TOLD_LISTED };

/*
 * Addresses of a dentry and an inode would do while the kernel keeps them; the inode's number tells when it has used their memory
 * for others. Of an absent path, hash and length take their place. Never 0.
 */
static __always_inline __u64 mark_of(__u64 target, enum told_as as, __u64 dentry, __u64 inode, __u64 number)
{
	return mix(mix(mix(mix(mix(0, target), as), dentry), inode), number) ?: 1;
}

static __always_inline struct told_set *told_set_of(__u64 mark)
{
	__u32 index = mark & (TOLD_SETS - 1);

	return bpf_map_lookup_elem(&told, &index);
}

static __always_inline bool is_told(const struct told_set *set, __u64 mark)
{
	for (int way = 0; way < TOLD_WAYS; way++) {
		if (set->marks[way] == mark)
			return true;
	}
	return false;
}

static __always_inline void mark_told(struct told_set *set, __u64 mark)
{
	for (int way = 0; way < TOLD_WAYS; way++) {
		if (!set->marks[way]) {
			set->marks[way] = mark;
			return;
		}
	}
	set->marks[mark >> 61] = mark;
}

static __always_inline void forget_told(struct told_set *set, __u64 mark)
{
	for (int way = 0; way < TOLD_WAYS; way++) {
		if (set->marks[way] == mark)
			set->marks[way] = 0;
	}
}
