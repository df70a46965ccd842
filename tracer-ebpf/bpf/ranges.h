/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/*
 * The pages of files that are used. They are marked in bitmaps, which user space reads at the end. The first use of a content is
 * reported immediately, with the path of the content in its own file system.
 */
#pragma once

#include "path.h"
#include "target.h"

/* A range over more bitmaps is reported as a span. Readers of the page cache usually ask for one batch of pages at a time. */
#define MAX_BITMAPS 64

/*
 * Reports a content on its first use. False if its pages must not be marked: it is not the container's, or has no path.
 *
 * A content that fits in one bitmap, as most do, gets no entry in `contents`: the bitmap itself shows that it was reported. Most
 * of the cost of a new file is cache misses, and an entry of `contents` causes some of them.
 */
static __noinline bool report_content(struct event *event, __u64 address, __u64 id, __u32 kind, bool one_bitmap)
{
	struct target *target = bpf_map_lookup_elem(&targets, &id);
	struct inode *inode = (void *)address;
	struct super_block *sb = inode->i_sb;
	struct content_key key = {
		.target = id,
		.inode = inode->i_ino,
		.device = inode->i_sb->s_dev,
	};
	__u64 named = CONTENT_NAMED, foreign = CONTENT_FOREIGN;
	__u64 *known = one_bitmap ? 0 : bpf_map_lookup_elem(&contents, &key);
	struct hlist_node *alias;

	if (known)
		return *known == CONTENT_NAMED;
	if (!event || !target)
		return false;
	/* A file without a name is not part of an image. */
	alias = BPF_CORE_READ(inode, i_dentry.first);
	if ((sb->s_flags & SB_KERNMOUNT) || inode->i_nlink == 0) {
		count(target, COUNT_UNLINKED);
		goto nameless;
	}
	if (!alias) {
		count(target, COUNT_UNRESOLVED);
		goto nameless;
	}
	if (!fill_path(event, (__u64)alias - bpf_core_field_offset(struct dentry, d_u.d_alias), (__u64)sb->s_root,
		       target))
		goto nameless;
	event->inode = key.inode;
	event->device = key.device;
	event->size = inode->i_size;
	event->kind = kind;
	event->open_flags = event->written = 0;
	fill_process(event, id);
	if (send(event, false)) {
		count(target, COUNT_LOST);
		return false;
	}
	if (!one_bitmap)
		bpf_map_update_elem(&contents, &key, &named, BPF_ANY);
	return true;
nameless:
	/* User space ignores the bitmap of a content that was not reported. */
	if (one_bitmap)
		return true;
	bpf_map_update_elem(&contents, &key, &foreign, BPF_ANY);
	return false;
}

/* Marks pages in one bitmap. `pages` is its entry in the map, or 0. False if the map is full. */
static __always_inline bool mark_pages(struct page_bitmap *pages, struct bitmap_key *key, __u64 bits, bool ahead)
{
	struct page_bitmap new = { .read = ahead ? 0 : bits, .ahead = ahead ? bits : 0 };

	if (!pages) {
		if (!(int)bpf_map_update_elem(&page_bitmaps, key, &new, BPF_NOEXIST))
			return true;
		/* Another CPU has inserted it, or the map is full. */
		pages = bpf_map_lookup_elem(&page_bitmaps, key);
		if (!pages)
			return false;
	}
	if (ahead) {
		if (~pages->ahead & bits)
			__sync_fetch_and_or(&pages->ahead, bits);
	} else if (~pages->read & bits) {
		__sync_fetch_and_or(&pages->read, bits);
	}
	return true;
}

/* The bits of the pages `from` to `to` (inclusive), which lie in one bitmap. */
static __always_inline __u64 bits(__u64 from, __u64 to)
{
	return (~0ULL << (from & (BITMAP_PAGES - 1))) & (~0ULL >> (BITMAP_PAGES - 1 - (to & (BITMAP_PAGES - 1))));
}

static __always_inline void report_span(struct event *event, struct content_key *content, __u64 from, __u64 to, struct target *target)
{
	event->inode = content->inode;
	event->device = content->device;
	event->size = from;
	event->open_flags = to - from + 1;
	event->kind = KIND_SPAN;
	event->written = event->path_len = 0;
	fill_process(event, content->target);
	if (send(event, false))
		count(target, COUNT_LOST);
}

/* A scratch event with the current task's target filled in; 0 if the task belongs to no target, as most do. */
static __always_inline struct event *event_for_current_target(__u32 scratch)
{
	struct event *event;
	__u64 id;

	if (!current_target(&id))
		return 0;
	event = scratch_event(scratch);
	if (event)
		event->target = id;
	return event;
}

/* Records that the event's target used the pages `from` to `to` (inclusive). `kind_and_ahead`: kind << 1 | ahead. */
static __noinline int record_pages(struct event *event, __u64 mapping, __u64 from, __u64 to, __u64 kind_and_ahead)
{
	struct inode *inode = ((struct address_space *)mapping)->host;
	__u64 id = event ? event->target : 0, last, size;
	struct target *target = bpf_map_lookup_elem(&targets, &id);
	bool ahead = kind_and_ahead & 1;
	struct bitmap_key key = {};
	struct page_bitmap *pages;

	if (!target || !event || (inode->i_mode & S_IFMT) != S_IFREG)
		return 0;
	size = inode->i_size;
	if (!size)
		return 0;
	last = (size - 1) >> page_shift;
	if (to > last)
		to = last;
	if (from > to)
		return 0;
	key.target = id;
	key.inode = inode->i_ino;
	key.device = inode->i_sb->s_dev;
	key.block = from >> BITMAP_SHIFT;
	/* The usual case, pages within one existing bitmap, needs one lookup. */
	pages = bpf_map_lookup_elem(&page_bitmaps, &key);
	if (!pages && !report_content(event, (__u64)inode, id, kind_and_ahead >> 1, last < BITMAP_PAGES))
		return 0;
	if ((to >> BITMAP_SHIFT) - (from >> BITMAP_SHIFT) >= MAX_BITMAPS) {
		struct content_key content = { .target = id, .inode = key.inode, .device = key.device };

		report_span(event, &content, from, to, target);
		return 0;
	}
	for (int i = 0; i < MAX_BITMAPS; i++) {
		__u64 end = from | (BITMAP_PAGES - 1);

		if (end > to)
			end = to;
		if (!mark_pages(pages, &key, bits(from, end), ahead))
			count(target, COUNT_TABLE_FULL);
		if (end == to)
			break;
		from = end + 1;
		key.block = from >> BITMAP_SHIFT;
		pages = bpf_map_lookup_elem(&page_bitmaps, &key);
	}
	return 0;
}
