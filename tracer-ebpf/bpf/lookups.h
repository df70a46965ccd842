/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* The program that sees what is told only when asked for: paths that do not exist, and directories that are listed. */
#pragma once

#include "syscall.h"
#include "use.h"

/* FNV-1a, to know a path again. */
static __always_inline __u64 hash(const char *text, __u32 len)
{
	__u64 hash = 14695981039346656037ULL;

	for (__u32 i = 0; i < 512 && i < len; i++)
		hash = (hash ^ (unsigned char)text[i]) * 1099511628211ULL;
	return hash;
}

/* A path was not there: as the caller wrote it, and the directory that it starts from. */
static __noinline int absent(struct event *event, __u64 id, __u64 text, __u64 directory)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct target *target = bpf_map_lookup_elem(&targets, &id);
	struct told_set *set;
	struct dentry *start;
	__u64 mark;
	long n;

	if (!event || !target || !target->began_ns)
		return 0;
	n = bpf_probe_read_user_str(event->path, MAX_PATH, (void *)text);
	if (n <= 1 || n > MAX_PATH)
		return 0;
	if (event->path[0] == '/') {
		start = BPF_CORE_READ(task, fs, root.dentry);
	} else if ((int)directory == AT_FDCWD) {
		start = BPF_CORE_READ(task, fs, pwd.dentry);
	} else {
		struct file *file = file_of(directory);

		start = file ? BPF_CORE_READ(file, f_path.dentry) : 0;
	}
	if (!start) {
		count(target, COUNT_UNRESOLVED);
		return 0;
	}
	mark = mark_of(id, TOLD_ABSENT, (__u64)start, hash(event->path, n), n);
	set = told_set_of(mark);
	if (!set || is_told(set, mark))
		return 0;
	mark_told(set, mark);
	event->size = n;
	event->path_len = n;
	if (walk(event, (__u64)start, (__u64)BPF_CORE_READ(start, d_sb, s_root)) != WALK_DONE) {
		count(target, COUNT_TOO_DEEP);
		return 0;
	}
	event->device = BPF_CORE_READ(start, d_sb, s_dev);
	event->inode = event->open_flags = event->written = 0;
	event->kind = KIND_ABSENT;
	sign(event, id);
	if (send(event, false))
		count(target, COUNT_LOST);
	return 0;
}

static __always_inline void not_there(struct event *event, __u64 id, const void *regs, enum call call)
{
	switch (call) {
	case CALL_OPEN:
	case CALL_CREAT:
	case CALL_PATH:
		absent(event, id, first(regs), AT_FDCWD);
		break;
	case CALL_OPENAT:
	case CALL_OPENAT2:
	case CALL_AT_PATH:
		absent(event, id, second(regs, false), first(regs));
		break;
	default:
		break;
	}
}

/* (struct pt_regs *regs, long ret) */
SEC("tp_btf/sys_exit")
int on_lookup(__u64 *ctx)
{
	const void *regs = (void *)ctx[0];
	long ret = (long)ctx[1];
	enum call call = which_call(regs, false);
	struct event *event;
	__u64 id;

	if (call == CALL_OTHER || is_compat())
		return 0;
	if (!(tell_absent && ret == -2 /* ENOENT */) && !(tell_listed && ret > 0 && call == CALL_GETDENTS))
		return 0;
	if (!current_target(&id))
		return 0;
	event = scratch_of(SCRATCH_LOOKUP);
	if (ret < 0)
		not_there(event, id, regs, call);
	else
		use(event, (__u64)BPF_CORE_READ(file_of(first(regs)), f_path.dentry), id, KIND_LISTED << 1, 0);
	return 0;
}
