#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "fault/group_setting.h"

static char folder[] = "/tmp/pj-setting-XXXXXX";

static void put(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "w");
	cr_assert_not_null(f);
	fputs(text, f);
	fclose(f);
}

static void is(const char *name, const char *text)
{
	char path[128], got[256] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "r");
	cr_assert_not_null(f);
	(void)!fread(got, 1, sizeof(got) - 1, f);
	fclose(f);
	cr_expect_str_eq(got, text);
}

static void begin(void)
{
	cr_assert_not_null(mkdtemp(folder));
	put("limit", "-1\n");
	put("keyed", "8:0 100\n7:1 55\n7:10 66\n");
}

static void end(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/limit", folder);
	unlink(path);
	snprintf(path, sizeof(path), "%s/keyed", folder);
	unlink(path);
	rmdir(folder);
}

TestSuite(group_setting, .init = begin, .fini = end);

static void reads(const char *key, const char *want)
{
	_cleanup_free_ char *value = NULL;

	cr_assert_eq(group_setting_read(folder, key ? "keyed" : "limit", key, key ? "none" : NULL, &value,
			     NULL), 0);
	cr_expect_str_eq(value, want);
}

Test(group_setting, a_key_is_a_whole_word)
{
	reads("7:1", "55");
	reads("7:10", "66");
	reads("8:0", "100");
	reads("7:", "none");
	reads("7", "none");
	reads(NULL, "-1");
}

Test(group_setting, undoing_writes_what_was_there)
{
	struct group_settings s = {.lock_fd = -1};
	_cleanup_json_ cJSON *record = NULL;

	cr_assert_eq(group_settings_open(folder, "limit", &s, NULL), 0);
	cr_assert_eq(group_settings_add(&s, "limit", NULL, NULL, "50", NULL), 0);
	record = group_settings_record(&s);
	cr_expect_eq(group_settings_verify(&(struct undo){.record = record}, NULL), 0);
	cr_assert_eq(group_settings_apply(&s, NULL), 0);
	is("limit", "50\n");
	cr_expect_eq(group_settings_verify(&(struct undo){.record = record}, NULL), -EBUSY);
	cr_expect_eq(group_settings_apply(&s, NULL), -EBUSY, "it is not as it was armed");
	group_settings_done(&s);
	cr_assert_eq(group_settings_revert(&(struct undo){.record = record}, NULL), 0);
	is("limit", "-1\n");
	cr_expect_eq(group_settings_verify(&(struct undo){.record = record}, NULL), 0);
	cr_expect_eq(group_settings_revert(&(struct undo){.record = record}, NULL), 0, "again");
}

Test(group_setting, one_at_a_time)
{
	struct group_settings a = {.lock_fd = -1}, b = {.lock_fd = -1};

	cr_assert_eq(group_settings_open(folder, "limit", &a, NULL), 0);
	cr_expect_eq(group_settings_open(folder, "limit", &b, NULL), -EBUSY);
	cr_assert_eq(group_settings_open(folder, "keyed", &b, NULL), 0);
	group_settings_done(&b);
	group_settings_done(&a);
	cr_assert_eq(group_settings_open(folder, "limit", &b, NULL), 0);
	group_settings_done(&b);
}

static cJSON *record_of(const char *where, uint64_t inode, const char *file)
{
	cJSON *record = json_object(), *list = json_array(), *item = json_object();

	json_add_string(record, "folder", where);
	json_add_uint(record, "inode", inode);
	json_add_item(record, "settings", list);
	json_append(list, item);
	json_add_string(item, "file", file);
	json_add_string(item, "before", "77");
	return record;
}

Test(group_setting, a_group_that_is_gone_or_another_is_clean)
{
	_cleanup_json_ cJSON *gone = record_of("/tmp/pj-no-such-group", 1, "limit"), *other = NULL;
	struct stat st;

	cr_expect_eq(group_settings_revert(&(struct undo){.record = gone}, NULL), 0);
	cr_expect_eq(group_settings_verify(&(struct undo){.record = gone}, NULL), 0);
	cr_assert_eq(stat(folder, &st), 0);
	other = record_of(folder, st.st_ino + 1, "limit");
	cr_expect_eq(group_settings_revert(&(struct undo){.record = other}, NULL), 0);
	cr_expect_eq(group_settings_verify(&(struct undo){.record = other}, NULL), 0);
	is("limit", "-1\n");
}

/* Between arming and firing; what has its name now is not touched. */
Test(group_setting, a_group_that_went_is_not_written_to)
{
	struct group_settings s = {.lock_fd = -1};
	_cleanup_json_ cJSON *record = NULL;
	char aside[64];

	cr_assert_eq(group_settings_open(folder, "limit", &s, NULL), 0);
	cr_assert_eq(group_settings_add(&s, "limit", NULL, NULL, "50", NULL), 0);
	record = group_settings_record(&s);
	snprintf(aside, sizeof(aside), "%s-aside", folder);
	cr_assert_eq(rename(folder, aside), 0);
	cr_expect_eq(group_settings_apply(&s, NULL), -ESTALE);
	cr_assert_eq(mkdir(folder, 0700), 0);
	put("limit", "-1\n");
	cr_expect_eq(group_settings_apply(&s, NULL), -ESTALE);
	is("limit", "-1\n");
	group_settings_done(&s);
	cr_expect_eq(group_settings_revert(&(struct undo){.record = record}, NULL), 0);
	cr_expect_eq(group_settings_verify(&(struct undo){.record = record}, NULL), 0);
	end();
	cr_assert_eq(rename(aside, folder), 0);
}

static void is_bad(const char *text)
{
	_cleanup_json_ cJSON *record = NULL;

	cr_assert_eq(json_parse(text, strlen(text), &record, NULL), 0, "%s", text);
	cr_expect_eq(group_settings_revert(&(struct undo){.record = record}, NULL), -EBADMSG, "%s", text);
	cr_expect_eq(group_settings_verify(&(struct undo){.record = record}, NULL), -EBADMSG, "%s", text);
}

Test(group_setting, records_that_are_none)
{
	_cleanup_json_ cJSON *escape = record_of(folder, 1, "../etc/passwd");

	is_bad("{}");
	is_bad("{\"folder\": \"/tmp\", \"inode\": 1}");
	is_bad("{\"folder\": \"tmp\", \"inode\": 1, \"settings\": []}");
	is_bad("{\"folder\": \"/tmp\", \"inode\": -1, \"settings\": []}");
	is_bad("{\"folder\": \"/tmp\", \"inode\": 1, \"settings\": [{\"file\": \"a\"}]}");
	is_bad("{\"folder\": \"/tmp\", \"inode\": 1, \"settings\": [{\"file\": \"a\", \"before\": \"\"}]}");
	is_bad("{\"folder\": \"/tmp\", \"inode\": 1, \"settings\": [{\"file\": \"a\", \"before\": \"1\\n2\"}]}");
	is_bad("{\"folder\": \"/tmp\", \"inode\": 1, \"settings\": [{\"file\": \"a\", \"before\": \"1\", "
	       "\"key\": \"7:0\"}]}");
	cr_expect_eq(group_settings_revert(&(struct undo){.record = escape}, NULL), -EBADMSG);
}
