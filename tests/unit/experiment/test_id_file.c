/* Ids that outlive the agent, and what a damaged file of them is worth. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/durable.h"
#include "experiment/id_file.h"

static char path[64];
static int folder;

static void up(void)
{
	snprintf(path, sizeof(path), "/tmp/pj-ids-XXXXXX");
	cr_assert_not_null(mkdtemp(path));
	folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_geq(folder, 0);
}

static void down(void)
{
	unlinkat(folder, ID_FILE_NAME, 0);
	unlinkat(folder, ID_FILE_NAME, AT_REMOVEDIR);
	close(folder);
	cr_expect_eq(rmdir(path), 0, "something is left in %s", path);
}

TestSuite(id_file, .init = up, .fini = down);

struct opened {
	struct id_memory *ids;
	struct id_file *file;
	char *damage;
};

static struct opened begin(void)
{
	struct opened o = {.ids = id_memory_new()};

	cr_assert_eq(id_file_open(folder, o.ids, &o.file, &o.damage, NULL), 0);
	return o;
}

static void end(struct opened *o)
{
	id_memory_free(o->ids);
	id_file_free(o->file);
	free(o->damage);
}

static void put(const char *text, size_t length)
{
	cr_assert_eq(durable_write(folder, ID_FILE_NAME, text, length, 0600, NULL), 0);
}

#define PUT(text) put(text, sizeof(text) - 1)

static char *content(void)
{
	char *text;
	size_t length;

	cr_assert_eq(file_read(folder, ID_FILE_NAME, 8 << 20, &text, &length, NULL), 0);
	cr_assert_eq(strlen(text), length);
	return text;
}

Test(id_file, outlives_its_agent)
{
	struct opened o = begin();

	cr_expect_null(o.damage);
	cr_expect_eq(id_file_add(o.file, "run-1-a", NULL), 0);
	cr_expect_eq(id_file_add(o.file, "run-1-b", NULL), 0);
	end(&o);
	o = begin();
	cr_expect_null(o.damage);
	cr_expect(id_memory_has(o.ids, "run-1-a") && id_memory_has(o.ids, "run-1-b"));
	cr_expect_not(id_memory_has(o.ids, "run-1-c"));
	cr_expect_eq(id_file_add(o.file, "run-1-c", NULL), 0);
	end(&o);
	o = begin();
	cr_expect(id_memory_has(o.ids, "run-1-a") && id_memory_has(o.ids, "run-1-c"));
	end(&o);
}

Test(id_file, damage_costs_no_more_than_itself)
{
	struct opened o;
	_cleanup_free_ char *text = NULL;

	PUT("1 good\nx bad\n2 Bad\n3\n\n4 go\0od\n99999999999999 far\n5 also-good\n6 cut-o");
	o = begin();
	cr_assert_not_null(o.damage);
	cr_expect(strstr(o.damage, "7 damaged lines"), "%s", o.damage);
	cr_expect(id_memory_has(o.ids, "good") && id_memory_has(o.ids, "also-good"));
	cr_expect_not(id_memory_has(o.ids, "cut-o"));
	cr_expect_eq(id_file_add(o.file, "next", NULL), 0);
	end(&o);
	text = content();
	cr_expect_eq(strncmp(text, "1 good\n5 also-good\n", 19), 0, "%s", text);
	o = begin();
	cr_expect_null(o.damage, "%s", o.damage);
	cr_expect(id_memory_has(o.ids, "next"));
	end(&o);
}

Test(id_file, garbage_and_a_file_too_long)
{
	size_t length = 5 << 20;
	_cleanup_free_ char *zeros = calloc(1, length);
	struct opened o;

	PUT("\x7f\x45\x4c\x46\0\0\0\xff\xfe");
	o = begin();
	cr_expect(o.damage && strstr(o.damage, "1 damaged line"), "%s", o.damage);
	end(&o);
	put(zeros, length);
	o = begin();
	cr_expect(o.damage && strstr(o.damage, "not known"), "%s", o.damage);
	cr_expect_eq(id_file_add(o.file, "after", NULL), 0);
	end(&o);
	o = begin();
	cr_expect_null(o.damage);
	cr_expect(id_memory_has(o.ids, "after"));
	end(&o);
}

Test(id_file, what_cannot_be_kept_is_refused)
{
	_cleanup_err_ struct err *err = NULL;
	struct opened o;

	cr_assert_eq(mkdirat(folder, ID_FILE_NAME, 0700), 0);
	o = begin();
	cr_expect_not_null(o.damage);
	cr_expect_lt(id_file_add(o.file, "x", &err), 0);
	cr_assert_eq(unlinkat(folder, ID_FILE_NAME, AT_REMOVEDIR), 0);
	cr_expect_eq(id_file_add(o.file, "x", NULL), 0);
	end(&o);
	o = begin();
	cr_expect_null(o.damage);
	cr_expect(id_memory_has(o.ids, "x"));
	end(&o);
}

Test(id_file, is_bounded)
{
	size_t room = 3 * ID_MEMORY_GENERATION * 16, used = 0;
	_cleanup_free_ char *text = malloc(room), *after = NULL;
	struct opened o;
	char id[32];

	for (unsigned i = 0; i < 2 * ID_MEMORY_GENERATION - 1; i++)
		used += (size_t)snprintf(text + used, room - used, "7 ex-%u\n", i);
	put(text, used);
	o = begin();
	for (unsigned i = 2 * ID_MEMORY_GENERATION - 1; i < 2 * ID_MEMORY_GENERATION + 3; i++) {
		snprintf(id, sizeof(id), "ex-%u", i);
		cr_expect_eq(id_file_add(o.file, id, NULL), 0);
	}
	end(&o);
	after = content();
	cr_expect_lt(strlen(after), used * 2 / 3);
	o = begin();
	cr_expect_null(o.damage);
	for (unsigned i = ID_MEMORY_GENERATION + 3; i < 2 * ID_MEMORY_GENERATION + 3; i++) {
		snprintf(id, sizeof(id), "ex-%u", i);
		cr_expect(id_memory_has(o.ids, id), "%s", id);
	}
	end(&o);
}
