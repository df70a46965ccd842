/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/*
 * The kernel's structures, with only the fields used here. CO-RE (preserve_access_index) finds the real offsets when the object
 * is loaded, so one object works on every kernel with BTF, on x86-64 and arm64.
 *
 * A name with `___` is a flavour: the structure of that name as other kernels have it.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

typedef _Bool bool;
enum { false, true };

#define S_IFMT 00170000
#define S_IFREG 0100000
#define S_IFDIR 0040000

#define OVERLAYFS_SUPER_MAGIC 0x794c7630
#define FUSE_SUPER_MAGIC 0x65735546

#define O_WRONLY 00000001
#define O_CREAT 00000100
#define O_TRUNC 00001000
#define O_PATH 010000000
#define AT_FDCWD -100

/* An internal mount of the kernel: memfds, pipes, shared memory. */
#define SB_KERNMOUNT (1UL << 22)

#define FMODE_WRITE 0x2
#define FMODE_CREATED 0x100000
/* Set in f_flags of files that overlayfs opens internally, up to Linux 6.4. */
#define FMODE_NONOTIFY 0x4000000
/* Set in f_flags of files that the kernel opens to execute. */
#define FMODE_EXEC 0x20

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct qstr {
	const unsigned char *name;
};

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

struct inode {
	unsigned short i_mode;
	struct super_block *i_sb;
	unsigned long i_ino;
	unsigned int i_nlink;
	long long i_size;
	struct hlist_head i_dentry;
};

struct address_space {
	struct inode *host;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	struct super_block *d_sb;
	union {
		struct hlist_node d_alias;
	} d_u;
};

struct super_block {
	unsigned int s_dev;
	unsigned long s_flags;
	unsigned long s_magic;
	struct dentry *s_root;
};

struct vfsmount {
	struct super_block *mnt_sb;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	unsigned int f_flags;
	unsigned int f_mode;
	struct path f_path;
	struct address_space *f_mapping;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct fs_struct {
	struct path root;
	struct path pwd;
};

struct vm_area_struct {
	struct file *vm_file;
};

struct vm_fault {
	struct vm_area_struct *vma;
	unsigned long pgoff;
};

struct kiocb {
	struct file *ki_filp;
	long long ki_pos;
};

struct iov_iter {
	unsigned long count;
};

struct folio {
	unsigned long flags;
	struct address_space *mapping;
	unsigned long index;
	unsigned int _folio_nr_pages;
};

/* Linux 6.18. */
struct folio___memdesc {
	struct {
		unsigned long f;
	} flags;
	unsigned int _nr_pages;
};

/* The page cache holds pages before Linux 5.16, folios since. */
struct page {
	struct address_space *mapping;
	unsigned long index;
};

struct pid_namespace;

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct kernfs_node {
	__u64 id;
};

/* Before Linux 5.5 the id had the inode number in its low half and a generation in its high half. */
union kernfs_node_id {
	__u64 id;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct css_set {
	struct cgroup_subsys_state *subsys[1];
	struct cgroup *dfl_cgrp;
};

struct thread_info___x86 {
	unsigned int status;
};

struct thread_info___arm64 {
	unsigned long flags;
};

struct task_struct {
	int tgid;
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	struct pid *thread_pid;
	struct css_set *cgroups;
	struct fs_struct *fs;
	struct files_struct *files;
};

struct task_struct___x86 {
	struct thread_info___x86 thread_info;
};

struct task_struct___arm64 {
	struct thread_info___arm64 thread_info;
};

struct linux_binprm {
	struct file *executable;
	struct file *file;
	const char *filename;
	const char *interp;
};

struct io_kiocb {
	__u8 opcode;
};

struct io_uring_cqe {
	__s32 res;
};

struct pt_regs___x86 {
	unsigned long r10, r9, r8, cx, dx, si, di, orig_ax, ip;
};

struct pt_regs___arm64 {
	unsigned long long regs[31];
	unsigned long long pc;
	unsigned long long orig_x0;
	int syscallno;
};

#pragma clang attribute pop

enum pageflags___head {
	PG_head___head = 0,
};

enum cgroup_subsys_id___pids {
	pids_cgrp_id___pids = 0,
};

enum bpf_func_id___find_vma {
	BPF_FUNC_find_vma___find_vma = 0,
};

/* Whether this kernel has bpf_find_vma (Linux 5.17 and newer). */
static __always_inline bool has_find_vma(void)
{
	return bpf_core_enum_value_exists(enum bpf_func_id___find_vma, BPF_FUNC_find_vma___find_vma);
}
