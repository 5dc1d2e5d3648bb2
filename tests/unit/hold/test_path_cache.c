#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "hold/path_cache.h"

static char folder[64];
static unsigned asked;
static struct path_cache cache;

static bool path_matches(void *data, const char *path, enum disk_class *ret)
{
	(void)data;
	asked++;
	*ret = DISK_WAL;
	return strstr(path, "/yes") != NULL;
}

static const struct gate_filter filter = {.path = path_matches};

static int make(const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert_geq(fd, 0);
	return fd;
}

static bool matches(int fd, uint64_t now, enum disk_class *ret)
{
	*ret = DISK_CLASS_MAX;
	return path_cache_matches(&cache, &filter, fd, now, ret);
}

static void folder_make(void)
{
	snprintf(folder, sizeof(folder), "/tmp/pj-paths-XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
}

static void folder_remove(void)
{
	static const char *const names[] = {"yes", "no", "yes-renamed"};
	char path[128];

	for (size_t i = 0; i < ELEMENTS(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		unlink(path);
	}
	rmdir(folder);
}

TestSuite(path_cache, .init = folder_make, .fini = folder_remove);

Test(path_cache, asks_once_in_a_while)
{
	_cleanup_close_ int yes = make("yes"), no = make("no");
	_cleanup_close_ int again = make("yes");
	enum disk_class class;

	for (int i = 0; i < 3; i++) {
		cr_expect(matches(i ? yes : again, 1000, &class));
		cr_expect_eq(class, DISK_WAL);
		cr_expect_not(matches(no, 1000, &class));
	}
	/* The first time each; always where files have no handles. */
	if (asked == 6)
		cr_skip_test("no file handles in /tmp");
	cr_expect_eq(asked, 2, "%u", asked);
	cr_expect(matches(yes, 1000 + PATH_KNOWN_NS, &class));
	cr_expect_eq(asked, 3, "known for a moment alone");
}

Test(path_cache, takes_no_file_for_another)
{
	_cleanup_close_ int first = make("yes"), second = -1;
	char path[128], new_path[128];
	enum disk_class class;

	cr_expect(matches(first, 1000, &class));
	closep(&first);
	first = -1;
	snprintf(path, sizeof(path), "%s/yes", folder);
	unlink(path);
	second = make("no");	/* most probably of the same number */
	cr_expect_not(matches(second, 1000, &class));
	snprintf(path, sizeof(path), "%s/no", folder);
	snprintf(new_path, sizeof(new_path), "%s/yes-renamed", folder);
	cr_assert_eq(rename(path, new_path), 0);
	cr_expect(matches(second, 1000 + PATH_KNOWN_NS, &class), "renamed, and some time later");
}
