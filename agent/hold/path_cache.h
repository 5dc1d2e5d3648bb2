/*
 * Does a file match, by its path? Asking the kernel for a path and matching it takes longer than all else
 * that the file gate does, so the answer is kept for a moment: by the file's handle (name_to_handle_at(2)),
 * which has the inode's generation, so that another file which gets the same number is not taken for it. One
 * that is renamed is known by its old name for that moment.
 */
#pragma once

#include "hold/gate.h"

#define PATH_CACHE_SIZE 512
#define PATH_KNOWN_NS	(100 * 1000000ULL)

/* What the file systems with pre-content events need for theirs is less (btrfs: 40). */
#define PATH_HANDLE_MAX 40

struct path_key {
	int mount, type;
	unsigned char handle[PATH_HANDLE_MAX];
};

struct path_known {
	struct path_key key;
	uint64_t until_ns;
	bool matches;
	enum disk_class class;
};

struct path_cache {
	struct path_known list[PATH_CACHE_SIZE];
};

/* Of an open file; all zero is an empty cache. *ret_class if it matches. */
bool path_cache_matches(struct path_cache *c, const struct gate_filter *filter, int fd,
	uint64_t now_ns, enum disk_class *ret_class);
