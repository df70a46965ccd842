/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/*
 * Remembers what was reported: 64-bit fingerprints in sets of eight, indexed by hash. A set is one or two cache lines; a BPF LRU
 * map would touch many. A full set evicts one fingerprint; user space ignores what is reported twice.
 *
 * Sets are read and written without a lock: a fingerprint is one word, and one that is lost is only reported again. A collision
 * hides a file: for a million files, less than once in ten million recordings.
 */
#pragma once

#include "kernel.h"

#define DEDUP_WAYS 8
#define DEDUP_SETS (1 << 14)

struct dedup_set {
	__u64 fingerprints[DEDUP_WAYS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DEDUP_SETS);
	__type(key, __u32);
	__type(value, struct dedup_set);
} dedup SEC(".maps");

/* Hashes one more word, with the multipliers and shifts of SplitMix64. */
static __always_inline __u64 mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
	hash = (hash ^ hash >> 32) * 0xbf58476d1ce4e5b9ULL;
	return hash ^ hash >> 29;
}

/* What is reported of a file or path, each once. */
enum fact { FACT_USED, FACT_WRITTEN, FACT_ABSENT, FACT_LISTED };

/*
 * The addresses of the dentry and the inode identify a file while the kernel caches them; the inode number guards against reuse
 * of their memory. For an absent path the hash and length of its text replace inode and number. Never 0.
 */
static __always_inline __u64 fingerprint_of(__u64 target, enum fact fact, __u64 dentry, __u64 inode, __u64 number)
{
	return mix(mix(mix(mix(mix(0, target), fact), dentry), inode), number) ?: 1;
}

static __always_inline struct dedup_set *dedup_set_for(__u64 fingerprint)
{
	__u32 index = fingerprint & (DEDUP_SETS - 1);

	return bpf_map_lookup_elem(&dedup, &index);
}

static __always_inline bool is_reported(const struct dedup_set *set, __u64 fingerprint)
{
	for (int way = 0; way < DEDUP_WAYS; way++) {
		if (set->fingerprints[way] == fingerprint)
			return true;
	}
	return false;
}

static __always_inline void set_reported(struct dedup_set *set, __u64 fingerprint)
{
	for (int way = 0; way < DEDUP_WAYS; way++) {
		if (!set->fingerprints[way]) {
			set->fingerprints[way] = fingerprint;
			return;
		}
	}
	set->fingerprints[fingerprint >> 61] = fingerprint;
}

static __always_inline void clear_reported(struct dedup_set *set, __u64 fingerprint)
{
	for (int way = 0; way < DEDUP_WAYS; way++) {
		if (set->fingerprints[way] == fingerprint)
			set->fingerprints[way] = 0;
	}
}
