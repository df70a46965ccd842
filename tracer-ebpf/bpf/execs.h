/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* The program that sees execs. The first exec in the container's root ends the set-up. */
#pragma once

#include "syscall.h"
#include "file_use.h"

/* On the first exec in the container's root: stores the time and the root's device, and reports them. */
static __always_inline void note_first_exec(struct event *event, struct task_struct *task, struct target *target, __u64 id)
{
	struct dentry *root = BPF_CORE_READ(task, fs, root.dentry);
	struct super_block *sb = BPF_CORE_READ(root, d_sb);
	__u32 device = BPF_CORE_READ(sb, s_dev);
	struct dentry *top = BPF_CORE_READ(sb, s_root);
	__u64 now = bpf_ktime_get_ns();

	if (device == host_device && root == top)
		return;
	if (__sync_val_compare_and_swap(&target->first_exec_ns, 0, now) != 0)
		return;
	target->root_device = device;
	increment(TARGETS_STARTED);
	if (!event || !fill_path(event, (__u64)root, (__u64)top, target))
		return;
	event->inode = event->size = event->open_flags = event->written = 0;
	event->device = device;
	event->kind = KIND_FIRST_EXEC;
	fill_process(event, id);
	event->time_ns = now;
	if (send(event, true))
		count(target, COUNT_LOST);
}

/*
 * Reports the name of an executed script. The kernel has already closed the script, but the name lets user space recognise it
 * when the interpreter opens it, and list it before the interpreter.
 */
static __always_inline void report_script(struct event *event, struct target *target, __u64 id, const char *filename)
{
	long n = bpf_probe_read_kernel_str(event->path, MAX_PATH, filename);

	if (n <= 1)
		return;
	event->inode = event->size = event->open_flags = event->written = 0;
	event->device = 0;
	event->path_len = n;
	event->kind = KIND_SCRIPT;
	fill_process(event, id);
	if (send(event, false))
		count(target, COUNT_LOST);
}

struct interpreter {
	__u64 target;
};

/*
 * A mapping of an overlayfs file refers to another struct file. Since Linux 6.5 that is the layer's file, followed by the path on
 * the overlay. No flag says so on all kernels, but for a plain file these bytes are not a dentry on an overlayfs.
 */
struct backing_file {
	struct file file;
	struct path user_path;
} __attribute__((preserve_access_index));

static long record_interpreter(struct task_struct *task, struct vm_area_struct *vma, struct interpreter *interpreter)
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
	record_use(scratch_event(SCRATCH_EXEC), (__u64)dentry, interpreter->target, KIND_INTERPRETER << 1, 0);
	return 0;
}

/* (struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm), after the new program has been mapped */
SEC("tp_btf/sched_process_exec")
int on_exec(__u64 *ctx)
{
	struct linux_binprm *bprm = (void *)ctx[2];
	struct task_struct *task = (void *)bpf_get_current_task();
	const char *filename = BPF_CORE_READ(bprm, filename);
	struct interpreter interpreter = {};
	struct target *target;
	struct event *event;
	__u64 id;

	target = current_target(&id);
	event = scratch_event(SCRATCH_EXEC);
	if (!target || !event)
		return 0;
	note_first_exec(event, task, target, id);
	if (!target->first_exec_ns)
		return 0;
	if (filename != BPF_CORE_READ(bprm, interp))
		report_script(event, target, id, filename);
	if (bpf_core_field_exists(bprm->executable))
		record_file(event, BPF_CORE_READ(bprm, executable), id, KIND_EXEC, 0);
	record_file(event, BPF_CORE_READ(bprm, file), id, KIND_EXEC, 0);
	/* The first instruction lies in the ELF interpreter, or in the program itself if it has none. */
	if (has_find_vma()) {
		struct task_struct *current = (void *)bpf_get_current_task_btf();
		const void *regs = (void *)bpf_task_pt_regs((void *)current);

		interpreter.target = id;
		if (bpf_find_vma((void *)current, instruction_pointer(regs), record_interpreter, &interpreter, 0))
			count(target, COUNT_UNRESOLVED);
	}
	return 0;
}
