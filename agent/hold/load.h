/*
 * What the workers of stress faults do (worker_job.run). They run between fork and _exit: no library
 * call here may take a lock or memory of the agent's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "hold/worker.h"

struct load_cpu {
	uint64_t share_ppm;	/* of one processor each, in slices of 20 ms */
};
/* operations: slices; cpu_ns. */
void load_cpu(struct worker_page *page, size_t index, const void *load_cpu);

enum load_memory_flag {
	LOAD_MEMORY_REACHED = 1,	/* all that was asked */
	LOAD_MEMORY_NARROW = 2,		/* stopped growing: the limit is near */
	LOAD_MEMORY_KILLED = 4,		/* gave it back: the kernel has killed a process of the group */
};

struct load_memory {
	uint64_t bytes;
	uint64_t rate_bytes_per_s;	/* of growth; 0: as fast as it goes */
	bool oom;			/* until the kernel kills: in a file in memory, which is nobody's */
	uint64_t limit_bytes;		/* of the group; UINT64_MAX: none */
	uint64_t margin_bytes;		/* without oom: stays so far below the limit */
};
/* WORKER_FD: memory.stat of the group, or with oom the file that has its "oom_kill N". bytes: held. */
void load_memory(struct worker_page *page, size_t index, const void *load_memory);

enum load_disk_pattern { LOAD_SEQUENTIAL, LOAD_RANDOM, LOAD_FSYNC_STORM, LOAD_READ, LOAD_PATTERN_MAX };

#define LOAD_DISK_DIRECT   1	/* worker_page.flags: O_DIRECT works here */
#define LOAD_DISK_PREPARED 2	/* there is something to read */

struct load_disk {
	enum load_disk_pattern pattern;
	uint64_t size_bytes;		/* of the file, a multiple of block_bytes * workers */
	uint64_t block_bytes;		/* a multiple of 4096 */
	uint64_t rate_bytes_per_s;	/* of each; 0: as fast as it goes */
	size_t workers;			/* each has its own part of the file */
};
/* WORKER_FD: the file. operations, bytes, errors; a read or write that fails is counted and tried again. */
void load_disk(struct worker_page *page, size_t index, const void *load_disk);
