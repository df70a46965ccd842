/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/*
 * System calls by architecture: which one it was, and its arguments, read when it returns. The kernel keeps the
 * argument registers, except (on arm64) the first, which nobody here needs.
 */
#pragma once

#include "kernel.h"

enum call {
	CALL_OTHER,
	CALL_OPEN,
	CALL_CREAT,
	CALL_OPENAT,
	CALL_OPENAT2,
	CALL_OPEN_BY_HANDLE_AT,
	CALL_MMAP,
};

#define O_CREAT 00000100
#define O_WRONLY 00000001
#define O_TRUNC 00001000
#define O_PATH 010000000
#define MAP_ANONYMOUS 0x20

#if defined(__TARGET_ARCH_x86)

#define TS_COMPAT 0x0002

static __always_inline bool is_compat(const struct task_struct *task)
{
	return task->thread_info.status & TS_COMPAT;
}

static __always_inline enum call which_call(const struct pt_regs *regs)
{
	switch (regs->orig_ax) {
	case 2:
		return CALL_OPEN;
	case 9:
		return CALL_MMAP;
	case 85:
		return CALL_CREAT;
	case 257:
		return CALL_OPENAT;
	case 304:
		return CALL_OPEN_BY_HANDLE_AT;
	case 437:
		return CALL_OPENAT2;
	}
	return CALL_OTHER;
}

/* The i386 system calls, entered by `int $0x80` or from a 32-bit program. */
static __always_inline enum call which_compat_call(const struct pt_regs *regs)
{
	switch (regs->orig_ax) {
	case 5:
		return CALL_OPEN;
	case 8:
		return CALL_CREAT;
	case 192:
		return CALL_MMAP;
	case 295:
		return CALL_OPENAT;
	case 342:
		return CALL_OPEN_BY_HANDLE_AT;
	case 437:
		return CALL_OPENAT2;
	}
	return CALL_OTHER;
}

static __always_inline unsigned long second(const struct pt_regs *regs, bool compat)
{
	return compat ? regs->cx : regs->si;
}

static __always_inline unsigned long third(const struct pt_regs *regs)
{
	return regs->dx;
}

static __always_inline unsigned long fourth(const struct pt_regs *regs, bool compat)
{
	return compat ? regs->si : regs->r10;
}

static __always_inline unsigned long fifth(const struct pt_regs *regs, bool compat)
{
	return compat ? regs->di : regs->r8;
}

static __always_inline unsigned long instruction_pointer(const struct pt_regs *regs)
{
	return regs->ip;
}

#else /* arm64 */

#define TIF_32BIT (1UL << 22)

static __always_inline bool is_compat(const struct task_struct *task)
{
	return task->thread_info.flags & TIF_32BIT;
}

static __always_inline enum call which_call(const struct pt_regs *regs)
{
	switch (regs->syscallno) {
	case 56:
		return CALL_OPENAT;
	case 222:
		return CALL_MMAP;
	case 265:
		return CALL_OPEN_BY_HANDLE_AT;
	case 437:
		return CALL_OPENAT2;
	}
	return CALL_OTHER;
}

static __always_inline enum call which_compat_call(const struct pt_regs *regs)
{
	switch (regs->syscallno) {
	case 5:
		return CALL_OPEN;
	case 8:
		return CALL_CREAT;
	case 192:
		return CALL_MMAP;
	case 322:
		return CALL_OPENAT;
	case 371:
		return CALL_OPEN_BY_HANDLE_AT;
	case 437:
		return CALL_OPENAT2;
	}
	return CALL_OTHER;
}

static __always_inline unsigned long second(const struct pt_regs *regs, bool compat)
{
	return regs->regs[1];
}

static __always_inline unsigned long third(const struct pt_regs *regs)
{
	return regs->regs[2];
}

static __always_inline unsigned long fourth(const struct pt_regs *regs, bool compat)
{
	return regs->regs[3];
}

static __always_inline unsigned long fifth(const struct pt_regs *regs, bool compat)
{
	return regs->regs[4];
}

static __always_inline unsigned long instruction_pointer(const struct pt_regs *regs)
{
	return regs->pc;
}

#endif
