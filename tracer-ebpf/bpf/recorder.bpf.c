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
 *   always             on_exec                                                                            execs.h
 *   opens              on_vfs_open, or else on_sys_exit and on_io_uring_complete(_before)                 opens.h
 *   pages              on_get_pages, on_map_pages, on_fault; or fentry_*; or else on_add_to_page_cache    pages.h
 *   when asked for     on_lookup: absent paths, listed directories                                        lookups.h
 *                      on_cgroup_mkdir: watching                                                          watching.h
 */
#include "execs.h"
#include "lookups.h"
#include "opens.h"
#include "pages.h"
#include "watching.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
