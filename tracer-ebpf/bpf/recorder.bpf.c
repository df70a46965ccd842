// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0)
/*
 * Follows containers, and reports each regular file that one of them uses, the first time, and which pages of it.
 *
 *   which tasks   those below a cgroup in `targets`, which is there before the container's first process    target.h
 *   by name       files opened, executed, listed                                                            use.h
 *   by content    pages read and mapped                                                                     ranges.h
 *
 * Not every kernel accepts or has all programs. User space chooses, see src/sets.rs:
 *
 *   always             on_exec
 *   opens              on_vfs_open, or else on_sys_exit and on_io_uring_complete(_before)
 *   pages              on_get_pages, on_map_pages, on_fault; or fentry_*; or else on_add_to_page_cache
 *   when asked for     on_lookup (absent paths, listed directories), on_cgroup_mkdir (watching)
 */
#include "ranges.h"
#include "syscall.h"
#include "use.h"

/* Linux 5.17 and newer. */
static __always_inline bool finds_vma(void)
{
	return bpf_core_enum_value_exists(enum bpf_func_id___find_vma, BPF_FUNC_find_vma___find_vma);
}

/* --- opens --- */

/* What a system call returned has been opened. */
static __always_inline void opened(struct event *event, struct task_struct *task, struct target *target, __u64 id,
				   const void *regs, enum call call, bool compat, long fd)
{
	struct file *file = file_of(task, fd);

	if (!file) {
		count(target, COUNT_UNRESOLVED);
		return;
	}
	/* A file opened with O_PATH is not opened, says open(2): none of its bytes can be had through it. */
	if (BPF_CORE_READ(file, f_flags) & O_PATH)
		return;
	use_file(event, file, id, KIND_OPEN, open_flags(regs, call, compat, file));
}

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
	struct seen_key key = { .target = id, .how = SEEN_ABSENT };
	struct dentry *start;
	__u8 one = 1;
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
		struct file *file = file_of(task, directory);

		start = file ? BPF_CORE_READ(file, f_path.dentry) : 0;
	}
	if (!start) {
		count(target, COUNT_UNRESOLVED);
		return 0;
	}
	key.dentry = (__u64)start;
	key.inode = hash(event->path, n);
	key.number = n;
	if ((int)bpf_map_update_elem(&seen, &key, &one, BPF_NOEXIST) == -17)
		return 0;
	event->size = n;
	event->path_len = n;
	if (walk(event, (__u64)start) != WALK_DONE) {
		count(target, COUNT_TOO_DEEP);
		return 0;
	}
	event->device = BPF_CORE_READ(start, d_sb, s_dev);
	event->inode = event->open_flags = event->written = 0;
	event->kind = KIND_ABSENT;
	sign(event, task, id);
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
int on_sys_exit(__u64 *ctx)
{
	const void *regs = (void *)ctx[0];
	long ret = (long)ctx[1];
	struct task_struct *task = (void *)bpf_get_current_task();
	bool compat = is_compat(task);
	enum call call = which_call(regs, compat);
	struct target *target;
	__u64 id;

	if (call == CALL_OTHER || call >= CALL_GETDENTS || (unsigned long)ret >= -4095UL)
		return 0;
	target = current_target(task, &id);
	if (target || anyone_setting_up())
		opened(scratch_of(SCRATCH_OPEN), task, target, id, regs, call, compat, ret);
	return 0;
}

/* The same, for what is told only when asked for: paths that do not exist, and directories listed. */
SEC("tp_btf/sys_exit")
int on_lookup(__u64 *ctx)
{
	const void *regs = (void *)ctx[0];
	long ret = (long)ctx[1];
	struct task_struct *task = (void *)bpf_get_current_task();
	enum call call = which_call(regs, false);
	struct event *event;
	__u64 id;

	if (call == CALL_OTHER || is_compat(task))
		return 0;
	if (!(tell_absent && ret == -2 /* ENOENT */) && !(tell_listed && ret > 0 && call == CALL_GETDENTS))
		return 0;
	if (!current_target(task, &id))
		return 0;
	event = scratch_of(SCRATCH_LOOKUP);
	if (ret < 0)
		not_there(event, id, regs, call);
	else
		use(event, (__u64)BPF_CORE_READ(file_of(task, first(regs)), f_path.dentry), id, KIND_LISTED << 1, 0);
	return 0;
}

/* (const struct path *path, struct file *file, int ret). Sees every open, by whatever way it comes. */
SEC("fexit/vfs_open")
int on_vfs_open(__u64 *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
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
	target = current_target(task, &id);
	if (!target && !anyone_setting_up())
		return 0;
	use_file(scratch_of(SCRATCH_OPEN), file, id, flags & FMODE_EXEC ? KIND_EXEC : KIND_OPEN, flags);
	return 0;
}

#define IORING_OP_OPENAT 18
#define IORING_OP_OPENAT2 28

static __always_inline int request_done(struct io_kiocb *request, int result)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u8 opcode = BPF_CORE_READ(request, opcode);
	struct target *target;
	struct file *file;
	__u64 id;

	if (result < 0 || (opcode != IORING_OP_OPENAT && opcode != IORING_OP_OPENAT2))
		return 0;
	target = current_target(task, &id);
	if (!target)
		return 0;
	/* One opened into the ring's own table has no descriptor; its pages tell of it when it is read. */
	file = file_of(task, result);
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

/* --- execs --- */

/* Notes the container's root, once. */
static __always_inline void begin(struct event *event, struct task_struct *task, struct target *target, __u64 id)
{
	struct dentry *root = BPF_CORE_READ(task, fs, root.dentry);
	struct super_block *sb = BPF_CORE_READ(root, d_sb);
	__u32 device = BPF_CORE_READ(sb, s_dev);
	__u64 now = bpf_ktime_get_ns();

	if (device == host_device && root == BPF_CORE_READ(sb, s_root))
		return;
	if (__sync_val_compare_and_swap(&target->began_ns, 0, now) != 0)
		return;
	target->root_device = device;
	add_one(TARGETS_BEGUN);
	if (!event || !tell_path(event, (__u64)root, target))
		return;
	event->inode = event->size = event->open_flags = event->written = 0;
	event->device = device;
	event->kind = KIND_BEGIN;
	sign(event, task, id);
	event->time_ns = now;
	if (send(event, true))
		count(target, COUNT_LOST);
}

/*
 * The kernel has already closed the script by now. Its name is enough to tell it again when its interpreter opens it,
 * and so to put it at its place, before the interpreter.
 */
static __always_inline void tell_script(struct event *event, struct task_struct *task, struct target *target, __u64 id,
					const char *filename)
{
	long n = bpf_probe_read_kernel_str(event->path, MAX_PATH, filename);

	if (n <= 1)
		return;
	event->inode = event->size = event->open_flags = event->written = 0;
	event->device = 0;
	event->path_len = n;
	event->kind = KIND_SCRIPT;
	sign(event, task, id);
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

	target = current_target(task, &id);
	event = scratch_of(SCRATCH_EXEC);
	if (!target || !event)
		return 0;
	begin(event, task, target, id);
	if (!target->began_ns)
		return 0;
	if (filename != BPF_CORE_READ(bprm, interp))
		tell_script(event, task, target, id, filename);
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

/* --- pages, by the tracepoints of Linux 6.12 and newer --- */

/* (struct address_space *mapping, pgoff_t first, pgoff_t last) */
SEC("tp_btf/mm_filemap_get_pages")
int on_get_pages(__u64 *ctx)
{
	struct address_space *mapping = (void *)ctx[0];

	return use_pages(scratch_of(SCRATCH_READ), (__u64)BPF_CORE_READ(mapping, host), ctx[1], ctx[2], KIND_READ << 1);
}

/* (struct address_space *mapping, pgoff_t first, pgoff_t last): cached pages that are mapped along with one */
SEC("tp_btf/mm_filemap_map_pages")
int on_map_pages(__u64 *ctx)
{
	struct address_space *mapping = (void *)ctx[0];

	return use_pages(scratch_of(SCRATCH_MAP), (__u64)BPF_CORE_READ(mapping, host), ctx[1], ctx[2], KIND_MAP << 1 | 1);
}

/* (struct address_space *mapping, pgoff_t page) */
SEC("tp_btf/mm_filemap_fault")
int on_fault(__u64 *ctx)
{
	struct address_space *mapping = (void *)ctx[0];

	return use_pages(scratch_of(SCRATCH_FAULT), (__u64)BPF_CORE_READ(mapping, host), ctx[1], ctx[1], KIND_MAP << 1);
}

/* --- pages, where functions can be hooked --- */

static __always_inline int read_from(struct kiocb *iocb, struct iov_iter *iter)
{
	__u64 address = (__u64)BPF_CORE_READ(iocb, ki_filp, f_mapping, host);
	__u64 from = BPF_CORE_READ(iocb, ki_pos), bytes = BPF_CORE_READ(iter, count);

	if (!bytes)
		return 0;
	return use_pages(scratch_of(SCRATCH_READ), address, from >> page_shift, (from + bytes - 1) >> page_shift, KIND_READ << 1);
}

/* (struct kiocb *iocb, struct iov_iter *iter, ssize_t already_read) */
SEC("fentry/filemap_read")
int fentry_read(__u64 *ctx)
{
	return read_from((void *)ctx[0], (void *)ctx[1]);
}

/* Its name before Linux 5.12. */
SEC("fentry/generic_file_buffered_read")
int fentry_buffered_read(__u64 *ctx)
{
	return read_from((void *)ctx[0], (void *)ctx[1]);
}

/* (struct file *in, loff_t *pos, struct pipe_inode_info *pipe, size_t len, unsigned int flags); Linux 6.5 and newer */
SEC("fentry/filemap_splice_read")
int fentry_splice_read(__u64 *ctx)
{
	struct file *file = (void *)ctx[0];
	__u64 from = 0, bytes = ctx[3];

	bpf_probe_read_kernel(&from, sizeof(from), (void *)ctx[1]);
	if (!bytes)
		return 0;
	return use_pages(scratch_of(SCRATCH_READ), (__u64)BPF_CORE_READ(file, f_mapping, host), from >> page_shift,
			 (from + bytes - 1) >> page_shift, KIND_READ << 1);
}

/* (struct vm_fault *fault, pgoff_t first, pgoff_t last) */
SEC("fentry/filemap_map_pages")
int fentry_map_pages(__u64 *ctx)
{
	struct vm_fault *fault = (void *)ctx[0];

	return use_pages(scratch_of(SCRATCH_MAP), (__u64)BPF_CORE_READ(fault, vma, vm_file, f_mapping, host), ctx[1], ctx[2],
			 KIND_MAP << 1 | 1);
}

/* (struct vm_fault *fault) */
SEC("fentry/filemap_fault")
int fentry_fault(__u64 *ctx)
{
	struct vm_fault *fault = (void *)ctx[0];
	__u64 page = BPF_CORE_READ(fault, pgoff);

	return use_pages(scratch_of(SCRATCH_FAULT), (__u64)BPF_CORE_READ(fault, vma, vm_file, f_mapping, host), page, page,
			 KIND_MAP << 1);
}

/* --- pages, where there is nothing else: those that were not cached, read-ahead included --- */

/* Pages of a folio: one, unless it is a large one. */
static __always_inline __u64 pages_of(struct folio *folio)
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
	struct address_space *mapping;
	__u64 from, pages = 1;

	if (bpf_core_type_exists(struct folio)) {
		mapping = BPF_CORE_READ((struct folio *)ctx[0], mapping);
		from = BPF_CORE_READ((struct folio *)ctx[0], index);
		pages = pages_of((void *)ctx[0]);
	} else {
		mapping = BPF_CORE_READ((struct page *)ctx[0], mapping);
		from = BPF_CORE_READ((struct page *)ctx[0], index);
	}
	return use_pages(scratch_of(SCRATCH_READ), (__u64)BPF_CORE_READ(mapping, host), from, from + pages - 1,
			 KIND_READ << 1);
}

/* --- new containers, when watching --- */

/* Names of containers' cgroups end in 64 hexadecimal digits, with `.scope` behind them or not. */
#define ID_LENGTH 64

/* (struct cgroup *cgroup, const char *path) */
SEC("tp_btf/cgroup_mkdir")
int on_cgroup_mkdir(__u64 *ctx)
{
	struct cgroup *cgroup = (void *)ctx[0];
	struct event *event = scratch_of(SCRATCH_CGROUP);
	struct target target = {};
	int name = 0;
	__u64 id;
	long n;

	if (!event || !number(WATCHING))
		return 0;
	/* The version 2 hierarchy has the number 0. Others are told apart by user space, by the path. */
	if ((BPF_CORE_READ(cgroup, root, hierarchy_id) == 0) == (by_pids_controller != 0))
		return 0;
	n = bpf_probe_read_kernel_str(event->path, MAX_PATH, (void *)ctx[1]);
	if (n <= ID_LENGTH || n > MAX_PATH)
		return 0;
	for (int i = 0; i < 1024 && i < n; i++) {
		if (event->path[i] == '/')
			name = i + 1;
	}
	if (n - name <= ID_LENGTH)
		return 0;
	id = cgroup_id(cgroup);
	event->path_len = n;
	event->inode = event->size = event->open_flags = event->written = 0;
	event->device = 0;
	event->kind = KIND_CGROUP;
	sign(event, (void *)bpf_get_current_task(), id);
	if (bpf_map_update_elem(&targets, &id, &target, BPF_NOEXIST))
		return 0;
	add_one(TARGETS_MADE);
	if (send(event, true)) {
		/* A target that user space does not know of would be followed for ever. */
		bpf_map_delete_elem(&targets, &id);
		add_one(TARGETS_BEGUN);
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
