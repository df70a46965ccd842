/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/*
 * Which pages of which files are used. They are marked in bitmaps, which user space reads at the end; only the first
 * page of a content is told at once, with the path that the content has in its own file system.
 */
#pragma once

#include "path.h"
#include "target.h"

/* Above this, a range is told as one. Readers of the page cache come again after each batch of pages. */
#define MAX_PIECES 64

/*
 * Names a content, the first time. False if its pages are not to be marked: it is none of the container's, or cannot be named.
 *
 * A content of one piece, as most are, is known by that piece, whatever becomes of it: most of the cost of a new file is memory
 * that is not in the processor's cache, and an entry of `contents` is some of it.
 */
static __noinline bool name_content(struct event *event, __u64 address, __u64 id, __u32 kind, bool one_piece)
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
	__u64 *known = one_piece ? 0 : bpf_map_lookup_elem(&contents, &key);
	struct hlist_node *alias;

	if (known)
		return *known == CONTENT_NAMED;
	if (!event || !target)
		return false;
	/* A file that has lost its name, or never had one, is none of an image. */
	alias = BPF_CORE_READ(inode, i_dentry.first);
	if ((sb->s_flags & SB_KERNMOUNT) || inode->i_nlink == 0) {
		count(target, COUNT_UNLINKED);
		goto nameless;
	}
	if (!alias) {
		count(target, COUNT_UNRESOLVED);
		goto nameless;
	}
	if (!tell_path(event, (__u64)alias - bpf_core_field_offset(struct dentry, d_u.d_alias), (__u64)sb->s_root,
		       target))
		goto nameless;
	event->inode = key.inode;
	event->device = key.device;
	event->size = inode->i_size;
	event->kind = kind;
	event->open_flags = event->written = 0;
	sign(event, id);
	if (send(event, false)) {
		count(target, COUNT_LOST);
		return false;
	}
	if (!one_piece)
		bpf_map_update_elem(&contents, &key, &named, BPF_ANY);
	return true;
nameless:
	/* User space does not know it, and drops what is marked. */
	if (one_piece)
		return true;
	bpf_map_update_elem(&contents, &key, &foreign, BPF_ANY);
	return false;
}

/* Marks the pages `from` to `to` (inclusive) of one piece; `pages` is what the table has of it, or 0. */
static __always_inline bool mark_piece(struct pages *pages, struct piece_key *key, __u64 bits, bool ahead)
{
	struct pages new = { .read = ahead ? 0 : bits, .ahead = ahead ? bits : 0 };

	if (!pages) {
		if (!(int)bpf_map_update_elem(&pieces, key, &new, BPF_NOEXIST))
			return true;
		/* Another processor was quicker, or there is no room. */
		pages = bpf_map_lookup_elem(&pieces, key);
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

/* The bits `from` to `to` (inclusive) of a piece. */
static __always_inline __u64 bits(__u64 from, __u64 to)
{
	return (~0ULL << (from & (PIECE_PAGES - 1))) & (~0ULL >> (PIECE_PAGES - 1 - (to & (PIECE_PAGES - 1))));
}

static __always_inline void tell_span(struct event *event, struct content_key *content, __u64 from, __u64 to, struct target *target)
{
	event->inode = content->inode;
	event->device = content->device;
	event->size = from;
	event->open_flags = to - from + 1;
	event->kind = KIND_SPAN;
	event->written = event->path_len = 0;
	sign(event, content->target);
	if (send(event, false))
		count(target, COUNT_LOST);
}

/* An event of the current task, with its target filled in; 0 if it belongs to none, as most tasks do. */
static __always_inline struct event *event_of_target(__u32 scratch)
{
	struct event *event;
	__u64 id;

	if (!current_target(&id))
		return 0;
	event = scratch_of(scratch);
	if (event)
		event->target = id;
	return event;
}

/* Pages `from` to `to` (inclusive) of a mapping were used by the event's target. `kind_and_ahead`: kind << 1 | ahead. */
static __noinline int use_pages(struct event *event, __u64 mapping, __u64 from, __u64 to, __u64 kind_and_ahead)
{
	struct inode *inode = ((struct address_space *)mapping)->host;
	__u64 id = event ? event->target : 0, last, size;
	struct target *target = bpf_map_lookup_elem(&targets, &id);
	bool ahead = kind_and_ahead & 1;
	struct piece_key key = {};
	struct pages *pages;

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
	key.piece = from >> PIECE_SHIFT;
	/* The usual case, all in one piece that is known, needs one look-up. */
	pages = bpf_map_lookup_elem(&pieces, &key);
	if (!pages && !name_content(event, (__u64)inode, id, kind_and_ahead >> 1, last < PIECE_PAGES))
		return 0;
	if ((to >> PIECE_SHIFT) - (from >> PIECE_SHIFT) >= MAX_PIECES) {
		struct content_key content = { .target = id, .inode = key.inode, .device = key.device };

		tell_span(event, &content, from, to, target);
		return 0;
	}
	for (int i = 0; i < MAX_PIECES; i++) {
		__u64 end = from | (PIECE_PAGES - 1);

		if (end > to)
			end = to;
		if (!mark_piece(pages, &key, bits(from, end), ahead))
			count(target, COUNT_TABLE_FULL);
		if (end == to)
			break;
		from = end + 1;
		key.piece = from >> PIECE_SHIFT;
		pages = bpf_map_lookup_elem(&pieces, &key);
	}
	return 0;
}
