// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0)
/*
 * Follows one container and reports every regular file of its root file system the first time it is opened, executed
 * or mapped.
 *
 *   which tasks   those below the cgroup in `target`, a directory made before the container's first process
 *   from when     the first exec of such a task whose root is not the recorder's: what runc does before is left out
 *   which files   regular files on the file system of that task's root
 *   how often     once: `seen` remembers (dentry, inode, inode number)
 *
 * Only BTF tracepoints are used: trampolines (fentry, LSM) are refused on some kernels and kprobes absent on others.
 */
#include "event.h"
#include "kernel.h"
#include "syscall.h"

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct state);
} state SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* The addresses alone would do while the kernel keeps the inode; the number tells when it has reused the memory. */
struct seen_key {
	__u64 dentry;
	__u64 inode;
	__u64 number;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 17);
	__type(key, struct seen_key);
	__type(value, __u8);
} seen SEC(".maps");

/* Too large for the stack. Tracepoint programs run with preemption off and do not nest, so one per CPU is enough. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct event);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} events SEC(".maps");

static __always_inline void count(__u32 what)
{
	__u64 *counter = bpf_map_lookup_elem(&counters, &what);

	if (counter)
		*counter += 1;
}

static __always_inline struct state *the_state(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&state, &zero);
}

/*
 * Sends the first `path_len` bytes of the path. Waking the reader costs more than all the rest, so it is only done
 * when an eighth of the ring is unread; otherwise the reader comes by itself.
 */
static __always_inline long send(struct event *event)
{
	__u64 limit = bpf_ringbuf_query(&events, BPF_RB_RING_SIZE) / 8;
	__u64 unread = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
	__u32 len = event->path_len;

	if (len > sizeof(event->path))
		return -1;
	return bpf_ringbuf_output(&events, event, __builtin_offsetof(struct event, path) + len,
				  unread > limit ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

enum walk { WALK_DONE, WALK_OUTSIDE, WALK_UNRESOLVED };

/* Writes the names from `dentry` up to the container's root into the event. */
static __always_inline enum walk walk(struct event *event, struct dentry *dentry, __u64 root, __u64 sb_root)
{
	__u32 len = 0;

	for (int depth = 0; depth <= MAX_DEPTH; depth++) {
		struct dentry *parent;
		long n;

		if ((__u64)dentry == root) {
			event->path_len = len;
			return WALK_DONE;
		}
		parent = BPF_CORE_READ(dentry, d_parent);
		if (parent == dentry)
			return (__u64)dentry == sb_root ? WALK_OUTSIDE : WALK_UNRESOLVED;
		if (len >= MAX_PATH)
			return WALK_UNRESOLVED;
		n = bpf_probe_read_kernel_str(&event->path[len], MAX_NAME, BPF_CORE_READ(dentry, d_name.name));
		if (n <= 1)
			return WALK_UNRESOLVED;
		len += n;
		dentry = parent;
	}
	return WALK_UNRESOLVED;
}

/* Records the use of a dentry that lies on the container's root file system. Arguments are kernel addresses. */
static __noinline int record(__u64 address, __u32 how, __u32 open_flags)
{
	struct dentry *dentry = (void *)address;
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);
	struct seen_key key = {
		.dentry = address,
		.inode = (__u64)inode,
		.number = BPF_CORE_READ(inode, i_ino),
	};
	struct state *state = the_state();
	struct super_block *sb;
	struct event *event;
	__u32 zero = 0;
	__u8 one = 1;

	if (!state || (BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFREG)
		return 0;
	if (BPF_CORE_READ(inode, i_nlink) == 0) {
		count(COUNT_UNLINKED);
		return 0;
	}
	if (bpf_map_update_elem(&seen, &key, &one, BPF_NOEXIST) == -17 /* EEXIST */)
		return 0;

	event = bpf_map_lookup_elem(&scratch, &zero);
	if (!event)
		return 0;
	sb = (void *)state->root_sb;
	switch (walk(event, dentry, state->root_dentry, (__u64)BPF_CORE_READ(sb, s_root))) {
	case WALK_DONE:
		break;
	case WALK_OUTSIDE:
		return 0;
	default:
		count(COUNT_UNRESOLVED);
		return 0;
	}
	event->time_ns = bpf_ktime_get_ns();
	event->size = BPF_CORE_READ(inode, i_size);
	event->open_flags = open_flags;
	event->process = bpf_get_current_pid_tgid() >> 32;
	event->how = how;
	if (send(event)) {
		count(COUNT_LOST);
		bpf_map_delete_elem(&seen, &key); /* the next use may have more luck */
	}
	return 0;
}

/*
 * The dentry on the container's root file system behind a file, or 0. A mapping of an overlayfs file holds the file
 * of the layer instead, which carries the user's path with it; no other file can pass for one, as the address of the
 * superblock is compared.
 */
static __always_inline __u64 inside(struct file *file, __u64 root_sb)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);

	if ((__u64)BPF_CORE_READ(dentry, d_sb) == root_sb)
		return (__u64)dentry;
	if (bpf_core_field_exists(struct backing_file, user_path)) {
		dentry = BPF_CORE_READ((struct backing_file *)file, user_path.dentry);
		if (dentry && (__u64)BPF_CORE_READ(dentry, d_sb) == root_sb)
			return (__u64)dentry;
	}
	return 0;
}

static __noinline int record_file(__u64 address, __u32 how, __u32 open_flags)
{
	struct state *state = the_state();
	__u64 dentry;

	if (!state || !state->root_sb || !address)
		return 0;
	dentry = inside((struct file *)address, state->root_sb);
	if (dentry)
		record(dentry, how, open_flags);
	return 0;
}

static __always_inline struct file *file_of(struct task_struct *task, __u32 fd)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd);
	struct file *file = 0;

	if (fd < BPF_CORE_READ(table, max_fds))
		bpf_probe_read_kernel(&file, sizeof(file), &files[fd]);
	return file;
}

/* The flags as the caller gave them: struct file has lost O_CREAT and O_TRUNC by now. */
static __always_inline __u32 open_flags(const struct pt_regs *regs, enum call call, bool compat, struct file *file)
{
	__u64 flags;

	switch (call) {
	case CALL_OPEN:
		return second(regs, compat);
	case CALL_CREAT:
		return O_CREAT | O_WRONLY | O_TRUNC;
	case CALL_OPENAT:
	case CALL_OPEN_BY_HANDLE_AT:
		return third(regs);
	default: /* openat2: the first field of struct open_how */
		if (bpf_probe_read_user(&flags, sizeof(flags), (void *)third(regs)))
			return BPF_CORE_READ(file, f_flags);
		return flags;
	}
}

/* (struct pt_regs *regs, long ret) */
SEC("tp_btf/sys_exit")
int on_sys_exit(__u64 *ctx)
{
	const struct pt_regs *regs = (void *)ctx[0];
	long ret = (long)ctx[1];
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	bool compat = is_compat(task);
	enum call call = compat ? which_compat_call(regs) : which_call(regs);
	struct state *state;
	struct file *file;

	if (call == CALL_OTHER || (unsigned long)ret >= -4095UL)
		return 0;
	state = the_state();
	if (!state || !state->root_sb || bpf_current_task_under_cgroup(&target, 0) != 1)
		return 0;

	if (call == CALL_MMAP) {
		if (fourth(regs, compat) & MAP_ANONYMOUS)
			return 0;
		return record_file((__u64)file_of(task, fifth(regs, compat)), HOW_MAP, 0);
	}
	file = file_of(task, ret);
	if (!file) {
		count(COUNT_UNRESOLVED);
		return 0;
	}
	/* A file opened with O_PATH is not opened, says open(2): none of its bytes can be had through it. */
	if (BPF_CORE_READ(file, f_flags) & O_PATH)
		return 0;
	return record_file((__u64)file, HOW_OPEN, open_flags(regs, call, compat, file));
}

/* Notes the container's root, once. */
static __always_inline void begin(struct task_struct *task)
{
	struct dentry *root = BPF_CORE_READ(task, fs, root.dentry);
	struct super_block *sb = BPF_CORE_READ(root, d_sb);
	struct state *state = the_state();
	struct config *settings;
	__u32 zero = 0;

	settings = bpf_map_lookup_elem(&config, &zero);
	if (!state || !settings || state->root_sb || BPF_CORE_READ(sb, s_dev) == settings->host_dev)
		return;
	if (__sync_val_compare_and_swap(&state->began_ns, 0, bpf_ktime_get_ns()) != 0)
		return;
	state->root_dentry = (__u64)root;
	__sync_val_compare_and_swap(&state->root_sb, 0, (__u64)sb);
}

static long on_interpreter(struct task_struct *task, struct vm_area_struct *vma, void *unused)
{
	record_file((__u64)BPF_CORE_READ(vma, vm_file), HOW_INTERPRETER, 0);
	return 0;
}

/*
 * The kernel has already closed the script by now. Its name is enough to tell it again when its interpreter opens it,
 * and so to put it at its place, before the interpreter.
 */
static __always_inline void send_script(const char *filename)
{
	__u32 zero = 0;
	struct event *event = bpf_map_lookup_elem(&scratch, &zero);
	long n;

	if (!event)
		return;
	n = bpf_probe_read_kernel_str(event->path, MAX_PATH, filename);
	if (n <= 1)
		return;
	event->path_len = n;
	event->time_ns = bpf_ktime_get_ns();
	event->size = 0;
	event->open_flags = 0;
	event->process = bpf_get_current_pid_tgid() >> 32;
	event->how = HOW_SCRIPT;
	if (send(event))
		count(COUNT_LOST);
}

/* (struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm), after the new program has been mapped */
SEC("tp_btf/sched_process_exec")
int on_exec(__u64 *ctx)
{
	struct linux_binprm *bprm = (void *)ctx[2];
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct pt_regs *regs;
	struct state *state;
	const char *filename = bprm->filename;
	unsigned char unused = 0;

	if (bpf_current_task_under_cgroup(&target, 0) != 1)
		return 0;
	begin(task);
	state = the_state();
	if (!state || !state->root_sb)
		return 0;
	if (filename != bprm->interp)
		send_script(filename);
	record_file((__u64)bprm->executable, HOW_EXEC, 0);
	record_file((__u64)bprm->file, HOW_EXEC, 0);
	/* Where the first instruction lies, there is the ELF interpreter, or the program itself if it has none. */
	regs = (void *)bpf_task_pt_regs((void *)task);
	if (bpf_find_vma((void *)task, instruction_pointer(regs), on_interpreter, &unused, 0))
		count(COUNT_UNRESOLVED);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
