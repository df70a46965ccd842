/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/*
 * System calls: the number and arguments, read at exit. The kernel preserves the argument registers; on arm64 all but the
 * first, which it keeps a copy of.
 *
 * The architecture follows from the fields of struct pt_regs, which are constants when the verifier runs.
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
	CALL_GETDENTS,
	/* Other calls with a path: as the first argument, or as the second after a directory. */
	CALL_PATH,
	CALL_AT_PATH,
};

#define is_x86() bpf_core_field_exists(struct pt_regs___x86, orig_ax)
/* For arguments. The number is needed for every system call of the host, so it is read by a direct load instead. */
#define X86(regs, field) BPF_CORE_READ((const struct pt_regs___x86 *)(regs), field)
#define ARM64(regs, field) BPF_CORE_READ((const struct pt_regs___arm64 *)(regs), field)

/* A task's 32-bit system calls have other numbers and, on x86, other registers. */
#define TS_COMPAT 0x0002
#define TIF_32BIT (1UL << 22)

static __always_inline bool is_compat(void)
{
	void *task = (void *)bpf_get_current_task_btf();

	if (is_x86())
		return ((struct task_struct___x86 *)task)->thread_info.status & TS_COMPAT;
	return ((struct task_struct___arm64 *)task)->thread_info.flags & TIF_32BIT;
}

static __always_inline enum call x86_call(unsigned long number)
{
	switch (number) {
	case 2:
		return CALL_OPEN;
	case 85:
		return CALL_CREAT;
	case 257:
		return CALL_OPENAT;
	case 304:
		return CALL_OPEN_BY_HANDLE_AT;
	case 437:
		return CALL_OPENAT2;
	case 78: /* getdents */
	case 217: /* getdents64 */
		return CALL_GETDENTS;
	case 4: /* stat */
	case 6: /* lstat */
	case 21: /* access */
	case 59: /* execve */
	case 89: /* readlink */
		return CALL_PATH;
	case 262: /* newfstatat */
	case 267: /* readlinkat */
	case 269: /* faccessat */
	case 322: /* execveat */
	case 332: /* statx */
	case 439: /* faccessat2 */
		return CALL_AT_PATH;
	}
	return CALL_OTHER;
}

/* The i386 system calls, entered by `int $0x80` or from a 32-bit program. */
static __always_inline enum call i386_call(unsigned long number)
{
	switch (number) {
	case 5:
		return CALL_OPEN;
	case 8:
		return CALL_CREAT;
	case 295:
		return CALL_OPENAT;
	case 342:
		return CALL_OPEN_BY_HANDLE_AT;
	case 437:
		return CALL_OPENAT2;
	}
	return CALL_OTHER;
}

static __always_inline enum call arm64_call(int number)
{
	switch (number) {
	case 56:
		return CALL_OPENAT;
	case 265:
		return CALL_OPEN_BY_HANDLE_AT;
	case 437:
		return CALL_OPENAT2;
	case 61: /* getdents64 */
		return CALL_GETDENTS;
	case 221: /* execve */
		return CALL_PATH;
	case 48: /* faccessat */
	case 78: /* readlinkat */
	case 79: /* newfstatat */
	case 281: /* execveat */
	case 291: /* statx */
	case 439: /* faccessat2 */
		return CALL_AT_PATH;
	}
	return CALL_OTHER;
}

/* The 32-bit Arm system calls. */
static __always_inline enum call arm_call(int number)
{
	switch (number) {
	case 5:
		return CALL_OPEN;
	case 8:
		return CALL_CREAT;
	case 322:
		return CALL_OPENAT;
	case 371:
		return CALL_OPEN_BY_HANDLE_AT;
	case 437:
		return CALL_OPENAT2;
	}
	return CALL_OTHER;
}

static __always_inline enum call classify_call(const void *regs, bool compat)
{
	if (is_x86()) {
		unsigned long number = ((const struct pt_regs___x86 *)regs)->orig_ax;

		return compat ? i386_call(number) : x86_call(number);
	} else {
		int number = ((const struct pt_regs___arm64 *)regs)->syscallno;

		return compat ? arm_call(number) : arm64_call(number);
	}
}

static __always_inline unsigned long first_argument(const void *regs)
{
	return is_x86() ? X86(regs, di) : ARM64(regs, orig_x0);
}

static __always_inline unsigned long second_argument(const void *regs, bool compat)
{
	if (!is_x86())
		return ARM64(regs, regs[1]);
	return compat ? X86(regs, cx) : X86(regs, si);
}

static __always_inline unsigned long third_argument(const void *regs)
{
	return is_x86() ? X86(regs, dx) : ARM64(regs, regs[2]);
}

static __always_inline unsigned long instruction_pointer(const void *regs)
{
	return is_x86() ? X86(regs, ip) : ARM64(regs, pc);
}

/* The flags as the caller passed them: struct file no longer has O_CREAT and O_TRUNC. */
static __always_inline __u32 open_flags(const void *regs, enum call call, bool compat, struct file *file)
{
	__u64 flags;

	switch (call) {
	case CALL_OPEN:
		return second_argument(regs, compat);
	case CALL_CREAT:
		return O_CREAT | O_WRONLY | O_TRUNC;
	case CALL_OPENAT:
	case CALL_OPEN_BY_HANDLE_AT:
		return third_argument(regs);
	default: /* openat2: the first field of struct open_how */
		if (bpf_probe_read_user(&flags, sizeof(flags), (void *)third_argument(regs)))
			return BPF_CORE_READ(file, f_flags);
		return flags;
	}
}
