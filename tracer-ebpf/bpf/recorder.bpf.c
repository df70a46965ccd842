// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0)
/*
 * Follows containers. Reports each regular file that a container uses, once, and the pages of it that are used.
 *
 *   which tasks   those in or below a cgroup in `targets`, which exists before the container's first process    target.h
 *   by name       files opened, executed, listed                                                                file_use.h
 *   by content    pages read and mapped                                                                         ranges.h
 *
 * Not every kernel has or accepts every program. User space chooses, see src/hooks.rs:
 *
 *   always        on_exec                                                                                       execs.h
 *   opens         on_vfs_open, otherwise on_sys_exit and on_io_uring_complete(_before)                          opens.h
 *   pages         on_get_pages, on_map_pages, on_fault; or fentry_*; otherwise on_add_to_page_cache             pages.h
 *   on request    on_lookup: absent paths, listed directories                                                   lookups.h
 *                 on_cgroup_mkdir: new containers                                                               new_cgroups.h
 */
#include "execs.h"
#include "lookups.h"
#include "opens.h"
#include "pages.h"
#include "new_cgroups.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
