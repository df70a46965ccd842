/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* The program that reports, on request only, paths that do not exist and directories that are listed. */
#pragma once

#include "syscall.h"
#include "file_use.h"

/* FNV-1a. */
static __always_inline __u64 hash(const char *text, __u32 len)
{
	__u64 hash = 14695981039346656037ULL;

	for (__u32 i = 0; i < 512 && i < len; i++)
		hash = (hash ^ (unsigned char)text[i]) * 1099511628211ULL;
	return hash;
}

/* Reports a path that does not exist: as the caller wrote it, and the directory it is relative to. */
static __noinline int report_absent(struct event *event, __u64 id, __u64 text, __u64 directory)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct target *target = bpf_map_lookup_elem(&targets, &id);
	struct dedup_set *set;
	struct dentry *start;
	__u64 fingerprint;
	long n;

	if (!event || !target || !target->first_exec_ns)
		return 0;
	n = bpf_probe_read_user_str(event->path, MAX_PATH, (void *)text);
	if (n <= 1 || n > MAX_PATH)
		return 0;
	if (event->path[0] == '/') {
		start = BPF_CORE_READ(task, fs, root.dentry);
	} else if ((int)directory == AT_FDCWD) {
		start = BPF_CORE_READ(task, fs, pwd.dentry);
	} else {
		struct file *file = file_from_fd(directory);

		start = file ? BPF_CORE_READ(file, f_path.dentry) : 0;
	}
	if (!start) {
		count(target, COUNT_UNRESOLVED);
		return 0;
	}
	fingerprint = fingerprint_of(id, FACT_ABSENT, (__u64)start, hash(event->path, n), n);
	set = dedup_set_for(fingerprint);
	if (!set || is_reported(set, fingerprint))
		return 0;
	set_reported(set, fingerprint);
	event->size = n;
	event->path_len = n;
	if (walk_dentries(event, (__u64)start, (__u64)BPF_CORE_READ(start, d_sb, s_root)) != WALK_DONE) {
		count(target, COUNT_TOO_DEEP);
		return 0;
	}
	event->device = BPF_CORE_READ(start, d_sb, s_dev);
	event->inode = event->open_flags = event->written = 0;
	event->kind = KIND_ABSENT;
	fill_process(event, id);
	if (send(event, false))
		count(target, COUNT_LOST);
	return 0;
}

static __always_inline void report_absent_argument(struct event *event, __u64 id, const void *regs, enum call call)
{
	switch (call) {
	case CALL_OPEN:
	case CALL_CREAT:
	case CALL_PATH:
		report_absent(event, id, first_argument(regs), AT_FDCWD);
		break;
	case CALL_OPENAT:
	case CALL_OPENAT2:
	case CALL_AT_PATH:
		report_absent(event, id, second_argument(regs, false), first_argument(regs));
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
	enum call call = classify_call(regs, false);
	struct event *event;
	__u64 id;

	if (call == CALL_OTHER || is_compat())
		return 0;
	if (!(enable_absent && ret == -2 /* ENOENT */) && !(enable_listed && ret > 0 && call == CALL_GETDENTS))
		return 0;
	if (!current_target(&id))
		return 0;
	event = scratch_event(SCRATCH_LOOKUP);
	if (ret < 0)
		report_absent_argument(event, id, regs, call);
	else
		record_use(event, (__u64)BPF_CORE_READ(file_from_fd(first_argument(regs)), f_path.dentry), id, KIND_LISTED << 1, 0);
	return 0;
}
