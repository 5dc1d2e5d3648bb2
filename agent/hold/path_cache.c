#include "hold/path_cache.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "core/cleanup.h"

static bool key_of(int fd, struct path_key *ret)
{
	union {
		struct file_handle header;
		unsigned char room[sizeof(struct file_handle) + PATH_HANDLE_MAX];
	} h = {.header = {.handle_bytes = PATH_HANDLE_MAX}};

	memset(ret, 0, sizeof(*ret));
	if (name_to_handle_at(fd, "", &h.header, &ret->mount, AT_EMPTY_PATH) < 0)
		return false;
	ret->type = h.header.handle_type;
	memcpy(ret->handle, h.header.f_handle, h.header.handle_bytes);
	return true;
}

/* FNV-1a by words. */
static struct path_known *slot_of(struct path_cache *c, const struct path_key *key)
{
	uint64_t hash = 0xcbf29ce484222325ULL;
	uint32_t words[sizeof(*key) / sizeof(uint32_t)];

	memcpy(words, key, sizeof(words));
	for (size_t i = 0; i < ELEMENTS(words); i++)
		hash = (hash ^ words[i]) * 0x100000001b3ULL;
	return &c->list[(hash ^ hash >> 32) % PATH_CACHE_SIZE];
}

static bool path_of(int fd, char ret[static PATH_MAX])
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, ret, PATH_MAX - 1);
	if (n <= 0)
		return false;
	ret[n] = '\0';
	return true;
}

bool path_cache_matches(struct path_cache *c, const struct gate_filter *filter, int fd, uint64_t now,
	enum disk_class *ret_class)
{
	struct path_known found = {.class = *ret_class}, *known = NULL;
	char path[PATH_MAX];

	if (!filter->path)
		return true;
	if (key_of(fd, &found.key)) {
		known = slot_of(c, &found.key);
		if (now < known->until_ns && memcmp(&known->key, &found.key, sizeof(found.key)) == 0) {
			*ret_class = known->class;
			return known->matches;
		}
	}
	found.matches = path_of(fd, path) && filter->path(filter->data, path, &found.class);
	found.until_ns = now + PATH_KNOWN_NS;
	if (known)
		*known = found;
	*ret_class = found.class;
	return found.matches;
}
