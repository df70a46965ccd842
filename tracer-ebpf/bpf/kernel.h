/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/*
 * The kernel's structures, with only the fields that are read here. CO-RE (preserve_access_index) finds their real
 * offsets when the object is loaded, so one object serves every kernel that has BTF.
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

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct qstr {
	const unsigned char *name;
};

struct inode {
	unsigned short i_mode;
	unsigned long i_ino;
	unsigned int i_nlink;
	long long i_size;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	struct super_block *d_sb;
};

struct super_block {
	unsigned int s_dev;
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
};

/* What overlayfs puts behind a mapping: the file of the layer, and the path that the user gave (Linux 6.5+). */
struct backing_file {
	struct file file;
	struct path user_path;
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
};

struct vm_area_struct {
	struct file *vm_file;
};

struct thread_info {
	unsigned long flags;
	unsigned int status;
};

struct task_struct {
	struct thread_info thread_info;
	struct fs_struct *fs;
	struct files_struct *files;
};

struct linux_binprm {
	struct file *executable;
	struct file *file;
	const char *filename;
	const char *interp;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r10, r9, r8, cx, dx, si, di, bp, bx, orig_ax, ip;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	unsigned long long regs[31];
	unsigned long long pc;
	int syscallno;
};
#else
#error "the recorder knows the registers of x86-64 and arm64 only"
#endif

#pragma clang attribute pop
