/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Programs that see uses of pages. They run for every process of the host, so each first checks for a target. */
#pragma once

#include "ranges.h"

/* --- tracepoints of Linux 6.12 and newer --- */

/* (struct address_space *mapping, pgoff_t first, pgoff_t last) */
SEC("tp_btf/mm_filemap_get_pages")
int on_get_pages(__u64 *ctx)
{
	struct event *event = event_for_current_target(SCRATCH_READ);

	return event ? record_pages(event, ctx[0], ctx[1], ctx[2], KIND_READ << 1) : 0;
}

/* (struct address_space *mapping, pgoff_t first, pgoff_t last): cached pages mapped by fault-around */
SEC("tp_btf/mm_filemap_map_pages")
int on_map_pages(__u64 *ctx)
{
	struct event *event = event_for_current_target(SCRATCH_MAP);

	return event ? record_pages(event, ctx[0], ctx[1], ctx[2], KIND_MAP << 1 | 1) : 0;
}

/* (struct address_space *mapping, pgoff_t page) */
SEC("tp_btf/mm_filemap_fault")
int on_fault(__u64 *ctx)
{
	struct event *event = event_for_current_target(SCRATCH_FAULT);

	return event ? record_pages(event, ctx[0], ctx[1], ctx[1], KIND_MAP << 1) : 0;
}

/* --- kernels that allow trampolines --- */

static __always_inline int record_read(struct event *event, struct file *file, __u64 from, __u64 bytes)
{
	if (!bytes)
		return 0;
	return record_pages(event, (__u64)file->f_mapping, from >> page_shift, (from + bytes - 1) >> page_shift,
			 KIND_READ << 1);
}

static __always_inline int record_read_iter(struct kiocb *iocb, struct iov_iter *iter)
{
	struct event *event = event_for_current_target(SCRATCH_READ);

	if (!event)
		return 0;
	return record_read(event, iocb->ki_filp, iocb->ki_pos, iter->count);
}

/* (struct kiocb *iocb, struct iov_iter *iter, ssize_t already_read) */
SEC("fentry/filemap_read")
int fentry_read(__u64 *ctx)
{
	return record_read_iter((void *)ctx[0], (void *)ctx[1]);
}

/* The same function before Linux 5.12. */
SEC("fentry/generic_file_buffered_read")
int fentry_buffered_read(__u64 *ctx)
{
	return record_read_iter((void *)ctx[0], (void *)ctx[1]);
}

/* (struct file *in, loff_t *pos, struct pipe_inode_info *pipe, size_t len, unsigned int flags); Linux 6.5 and newer */
SEC("fentry/filemap_splice_read")
int fentry_splice_read(__u64 *ctx)
{
	struct event *event = event_for_current_target(SCRATCH_READ);
	__u64 from = 0;

	if (!event)
		return 0;
	bpf_probe_read_kernel(&from, sizeof(from), (void *)ctx[1]);
	return record_read(event, (void *)ctx[0], from, ctx[3]);
}

static __always_inline int record_fault(__u32 scratch, struct vm_fault *fault, __u64 from, __u64 to, __u64 kind_and_ahead)
{
	struct event *event = event_for_current_target(scratch);

	if (!event)
		return 0;
	return record_pages(event, (__u64)fault->vma->vm_file->f_mapping, from, to, kind_and_ahead);
}

/* (struct vm_fault *fault, pgoff_t first, pgoff_t last) */
SEC("fentry/filemap_map_pages")
int fentry_map_pages(__u64 *ctx)
{
	return record_fault(SCRATCH_MAP, (void *)ctx[0], ctx[1], ctx[2], KIND_MAP << 1 | 1);
}

/* (struct vm_fault *fault) */
SEC("fentry/filemap_fault")
int fentry_fault(__u64 *ctx)
{
	struct vm_fault *fault = (void *)ctx[0];
	__u64 page = fault->pgoff;

	return record_fault(SCRATCH_FAULT, fault, page, page, KIND_MAP << 1);
}

/* --- all other kernels: only pages that were not cached, including read-ahead --- */

/* The number of pages of a folio. */
static __always_inline __u64 folio_pages(struct folio *folio)
{
	__u64 head = 1ULL << bpf_core_enum_value(enum pageflags___head, PG_head___head);

	if (bpf_core_field_exists(struct folio___memdesc, _nr_pages)) {
		struct folio___memdesc *new = (void *)folio;

		return BPF_CORE_READ(new, flags.f) & head ? BPF_CORE_READ(new, _nr_pages) : 1;
	}
	if (bpf_core_field_exists(folio->_folio_nr_pages))
		return BPF_CORE_READ(folio, flags) & head ? BPF_CORE_READ(folio, _folio_nr_pages) : 1;
	return 1;
}

/* (struct folio *) or, before Linux 5.16, (struct page *) */
SEC("tp_btf/mm_filemap_add_to_page_cache")
int on_add_to_page_cache(__u64 *ctx)
{
	struct event *event = event_for_current_target(SCRATCH_READ);
	__u64 mapping, from, pages = 1;

	if (!event)
		return 0;
	if (bpf_core_type_exists(struct folio)) {
		mapping = (__u64)((struct folio *)ctx[0])->mapping;
		from = BPF_CORE_READ((struct folio *)ctx[0], index);
		pages = folio_pages((void *)ctx[0]);
	} else {
		mapping = (__u64)((struct page *)ctx[0])->mapping;
		from = BPF_CORE_READ((struct page *)ctx[0], index);
	}
	return record_pages(event, mapping, from, from + pages - 1, KIND_READ << 1);
}
