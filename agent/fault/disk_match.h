/*
 * Which accesses a disk fault is about: files by where they lie, processes by descent and title.
 * The directories are opened through /proc/PID/cwd and /proc/PID/root, so symbolic links are
 * followed as the postmaster would; paths are what /proc/self/fd says of them, which is also how
 * the gates name a file.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include "core/catalogue/disk_params.h"
#include "core/err.h"
#include "core/wire.h"
#include "hold/gate.h"
#include "kernel/proc.h"

#define DISK_AREAS_MAX 32

/* A directory tree. */
struct disk_area {
	enum disk_class class;	/* data, wal or tablespace */
	char *path;		/* resolved */
	char *name;		/* below PGDATA: "", "pg_wal", "pg_tblspc/16400" */
	int fd;			/* -1 after disk_areas_close() */
	uint64_t device;	/* as struct super_block has it; 0: not to be compared (Btrfs) */
	uint64_t inode, mount;
};

struct disk_areas {
	struct disk_area list[DISK_AREAS_MAX];
	size_t count;
};

/* PGDATA first. -ESTALE when the postmaster is gone; -E2BIG with too many tablespaces. */
int disk_areas_open(const struct proc_id *postmaster, struct disk_areas *ret, struct err **err);
/* The descriptors: they keep the file systems from being unmounted. */
void disk_areas_close(struct disk_areas *a);
void disk_areas_done(struct disk_areas *a);
/* One descriptor of each mount (borrowed), at most DISK_AREAS_MAX. */
size_t disk_areas_mounts(const struct disk_areas *a, int ret_fds[DISK_AREAS_MAX]);

/* The class of a file and its path below PGDATA (in buf, of PATH_MAX); false: none of these trees. */
bool disk_areas_classify(const struct disk_areas *a, const char *path, enum disk_class *ret,
	char *buf);

struct disk_match {
	struct disk_areas areas;
	struct proc_id postmaster;
	char *cluster;
	char *const *paths;	/* borrowed from the parameters; NULL: all */
	char *const *titles;	/* likewise */
	unsigned classes;	/* bits; those that are asked for by name, all without paths */
	bool globs;		/* some of paths are globs */
};

int disk_match_init(struct disk_match *m, const struct instance_info *i, const struct params *p,
	struct err **err);
void disk_match_done(struct disk_match *m);
bool disk_match_path(const struct disk_match *m, const char *path, enum disk_class *ret);

#define DISK_KNOWN_MAX 1024

/* The same as callbacks of one gate's thread; remembers processes for a moment. */
struct disk_filter {
	const struct disk_match *match;
	struct disk_known {
		pid_t tid;
		bool matches;
		uint64_t until_ns;
	} known[DISK_KNOWN_MAX];
};

bool disk_filter_path(void *filter, const char *path, enum disk_class *ret);
bool disk_filter_process(void *filter, pid_t tid);
