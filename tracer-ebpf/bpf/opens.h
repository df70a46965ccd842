/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Programs that see opens: of the function that makes them, or of the system calls and io_uring requests. */
#pragma once

#include "syscall.h"
#include "use.h"

/* What a system call returned has been opened. */
static __always_inline void opened(struct event *event, struct target *target, __u64 id, const void *regs, enum call call,
				   bool compat, long fd)
{
	struct file *file = file_of(fd);

	if (!file) {
		count(target, COUNT_UNRESOLVED);
		return;
	}
	/* A file opened with O_PATH is not opened, says open(2): none of its bytes can be had through it. */
	if (BPF_CORE_READ(file, f_flags) & O_PATH)
		return;
	use_file(event, file, id, KIND_OPEN, open_flags(regs, call, compat, file));
}

/* (struct pt_regs *regs, long ret) */
SEC("tp_btf/sys_exit")
int on_sys_exit(__u64 *ctx)
{
	const void *regs = (void *)ctx[0];
	long ret = (long)ctx[1];
	bool compat = is_compat();
	enum call call = which_call(regs, compat);
	struct target *target;
	__u64 id;

	if (call == CALL_OTHER || call >= CALL_GETDENTS || (unsigned long)ret >= -4095UL)
		return 0;
	target = current_target(&id);
	if (target || anyone_setting_up())
		opened(scratch_of(SCRATCH_OPEN), target, id, regs, call, compat, ret);
	return 0;
}

/* (const struct path *path, struct file *file, int ret). Sees every open, by whatever way it comes. */
SEC("fexit/vfs_open")
int on_vfs_open(__u64 *ctx)
{
	struct file *file = (void *)ctx[1];
	__u32 flags = BPF_CORE_READ(file, f_flags);
	struct target *target;
	__u64 id;

	/* What overlayfs opens for itself, its user has opened as well. */
	if ((int)ctx[2] || (flags & O_PATH) || (flags & FMODE_NONOTIFY))
		return 0;
	/* `on_exec` tells them, and how they are executed; the interpreter only where it can look for it. */
	if ((flags & FMODE_EXEC) && finds_vma())
		return 0;
	target = current_target(&id);
	if (!target && !anyone_setting_up())
		return 0;
	use_file(scratch_of(SCRATCH_OPEN), file, id, flags & FMODE_EXEC ? KIND_EXEC : KIND_OPEN, flags);
	return 0;
}

#define IORING_OP_OPENAT 18
#define IORING_OP_OPENAT2 28

static __always_inline int request_done(struct io_kiocb *request, int result)
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
	/* One opened into the ring's own table has no descriptor; its pages tell of it when it is read. */
	file = file_of(result);
	if (file && !(BPF_CORE_READ(file, f_flags) & O_PATH))
		use_file(scratch_of(SCRATCH_URING), file, id, KIND_OPEN, BPF_CORE_READ(file, f_flags));
	return 0;
}

/* (struct io_ring_ctx *ctx, struct io_kiocb *request, struct io_uring_cqe *cqe) */
SEC("tp_btf/io_uring_complete")
int on_io_uring_complete(__u64 *ctx)
{
	return request_done((void *)ctx[1], BPF_CORE_READ((struct io_uring_cqe *)ctx[2], res));
}

/* (ctx, request, u64 user_data, int result, ...): from Linux 5.19 to about 6.14. Newer kernels refuse it. */
SEC("tp_btf/io_uring_complete")
int on_io_uring_complete_before(__u64 *ctx)
{
	return request_done((void *)ctx[1], (int)ctx[3]);
}
