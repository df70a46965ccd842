/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Programs that see opens: either at the kernel function, or at system calls and io_uring requests. */
#pragma once

#include "syscall.h"
#include "file_use.h"

/* Records the file behind the descriptor that a system call returned. */
static __always_inline void record_opened_fd(struct event *event, struct target *target, __u64 id, const void *regs, enum call call,
				   bool compat, long fd)
{
	struct file *file = file_from_fd(fd);

	if (!file) {
		count(target, COUNT_UNRESOLVED);
		return;
	}
	/* O_PATH does not open the file (open(2)): nothing can be read through the descriptor. */
	if (BPF_CORE_READ(file, f_flags) & O_PATH)
		return;
	record_file(event, file, id, KIND_OPEN, open_flags(regs, call, compat, file));
}

/* (struct pt_regs *regs, long ret) */
SEC("tp_btf/sys_exit")
int on_sys_exit(__u64 *ctx)
{
	const void *regs = (void *)ctx[0];
	long ret = (long)ctx[1];
	bool compat = is_compat();
	enum call call = classify_call(regs, compat);
	struct target *target;
	__u64 id;

	if (call == CALL_OTHER || call >= CALL_GETDENTS || (unsigned long)ret >= -4095UL)
		return 0;
	target = current_target(&id);
	if (target || any_target_in_set_up())
		record_opened_fd(scratch_event(SCRATCH_OPEN), target, id, regs, call, compat, ret);
	return 0;
}

/* (const struct path *path, struct file *file, int ret). Sees every open. */
SEC("fexit/vfs_open")
int on_vfs_open(__u64 *ctx)
{
	struct file *file = (void *)ctx[1];
	__u32 flags = BPF_CORE_READ(file, f_flags);
	struct target *target;
	__u64 id;

	/* Skip what overlayfs opens internally: the process's own open of the overlay file is seen as well. */
	if ((int)ctx[2] || (flags & O_PATH) || (flags & FMODE_NONOTIFY))
		return 0;
	/* on_exec reports executed files, and the ELF interpreter where bpf_find_vma exists. */
	if ((flags & FMODE_EXEC) && has_find_vma())
		return 0;
	target = current_target(&id);
	if (!target && !any_target_in_set_up())
		return 0;
	record_file(scratch_event(SCRATCH_OPEN), file, id, flags & FMODE_EXEC ? KIND_EXEC : KIND_OPEN, flags);
	return 0;
}

#define IORING_OP_OPENAT 18
#define IORING_OP_OPENAT2 28

static __always_inline int record_uring_open(struct io_kiocb *request, int result)
{
	__u8 opcode = BPF_CORE_READ(request, opcode);
	struct target *target;
	struct file *file;
	__u64 id;

	if (result < 0 || (opcode != IORING_OP_OPENAT && opcode != IORING_OP_OPENAT2))
		return 0;
	target = current_target(&id);
	if (!target)
		return 0;
	/* A file opened into the ring's own table has no descriptor. It is reported by its pages when it is read. */
	file = file_from_fd(result);
	if (file && !(BPF_CORE_READ(file, f_flags) & O_PATH))
		record_file(scratch_event(SCRATCH_URING), file, id, KIND_OPEN, BPF_CORE_READ(file, f_flags));
	return 0;
}

/* (struct io_ring_ctx *ctx, struct io_kiocb *request, struct io_uring_cqe *cqe) */
SEC("tp_btf/io_uring_complete")
int on_io_uring_complete(__u64 *ctx)
{
	return record_uring_open((void *)ctx[1], BPF_CORE_READ((struct io_uring_cqe *)ctx[2], res));
}

/* (ctx, request, u64 user_data, int result, ...): from Linux 5.19 to about 6.14. Newer kernels refuse it. */
SEC("tp_btf/io_uring_complete")
int on_io_uring_complete_before(__u64 *ctx)
{
	return record_uring_open((void *)ctx[1], (int)ctx[3]);
}
