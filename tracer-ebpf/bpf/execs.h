/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* The program that sees execs, the first of which begins a container. */
#pragma once

#include "syscall.h"
#include "use.h"

/* Notes the container's root, once. */
static __always_inline void begin(struct event *event, struct task_struct *task, struct target *target, __u64 id)
{
	struct dentry *root = BPF_CORE_READ(task, fs, root.dentry);
	struct super_block *sb = BPF_CORE_READ(root, d_sb);
	__u32 device = BPF_CORE_READ(sb, s_dev);
	struct dentry *top = BPF_CORE_READ(sb, s_root);
	__u64 now = bpf_ktime_get_ns();

	if (device == host_device && root == top)
		return;
	if (__sync_val_compare_and_swap(&target->began_ns, 0, now) != 0)
		return;
	target->root_device = device;
	add_one(TARGETS_BEGUN);
	if (!event || !tell_path(event, (__u64)root, (__u64)top, target))
		return;
	event->inode = event->size = event->open_flags = event->written = 0;
	event->device = device;
	event->kind = KIND_BEGIN;
	sign(event, id);
	event->time_ns = now;
	if (send(event, true))
		count(target, COUNT_LOST);
}

/*
 * The kernel has already closed the script by now. Its name is enough to tell it again when its interpreter opens it,
 * and so to put it at its place, before the interpreter.
 */
static __always_inline void tell_script(struct event *event, struct target *target, __u64 id, const char *filename)
{
	long n = bpf_probe_read_kernel_str(event->path, MAX_PATH, filename);

	if (n <= 1)
		return;
	event->inode = event->size = event->open_flags = event->written = 0;
	event->device = 0;
	event->path_len = n;
	event->kind = KIND_SCRIPT;
	sign(event, id);
	if (send(event, false))
		count(target, COUNT_LOST);
}

struct interpreter {
	__u64 target;
};

/*
 * A mapping of an overlayfs file holds another file. Since Linux 6.5 that is the layer's, and carries the user's path with
 * it, but no flag that would be the same on all kernels; what a plain file has at that place is no overlayfs's dentry.
 */
struct backing_file {
	struct file file;
	struct path user_path;
} __attribute__((preserve_access_index));

static long on_interpreter(struct task_struct *task, struct vm_area_struct *vma, struct interpreter *of)
{
	struct file *file = BPF_CORE_READ(vma, vm_file);
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);

	if (!file)
		return 0;
	if (!is_on_overlay(dentry) && bpf_core_field_exists(struct backing_file, user_path)) {
		struct dentry *users = BPF_CORE_READ((struct backing_file *)file, user_path.dentry);

		if (is_on_overlay(users))
			dentry = users;
	}
	use(scratch_of(SCRATCH_EXEC), (__u64)dentry, of->target, KIND_INTERPRETER << 1, 0);
	return 0;
}

/* (struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm), after the new program has been mapped */
SEC("tp_btf/sched_process_exec")
int on_exec(__u64 *ctx)
{
	struct linux_binprm *bprm = (void *)ctx[2];
	struct task_struct *task = (void *)bpf_get_current_task();
	const char *filename = BPF_CORE_READ(bprm, filename);
	struct interpreter of = {};
	struct target *target;
	struct event *event;
	__u64 id;

	target = current_target(&id);
	event = scratch_of(SCRATCH_EXEC);
	if (!target || !event)
		return 0;
	begin(event, task, target, id);
	if (!target->began_ns)
		return 0;
	if (filename != BPF_CORE_READ(bprm, interp))
		tell_script(event, target, id, filename);
	if (bpf_core_field_exists(bprm->executable))
		use_file(event, BPF_CORE_READ(bprm, executable), id, KIND_EXEC, 0);
	use_file(event, BPF_CORE_READ(bprm, file), id, KIND_EXEC, 0);
	/* Where the first instruction lies, there is the ELF interpreter, or the program itself if it has none. */
	if (finds_vma()) {
		struct task_struct *current = (void *)bpf_get_current_task_btf();
		const void *regs = (void *)bpf_task_pt_regs((void *)current);

		of.target = id;
		if (bpf_find_vma((void *)current, instruction_pointer(regs), on_interpreter, &of, 0))
			count(target, COUNT_UNRESOLVED);
	}
	return 0;
}
