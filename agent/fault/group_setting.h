/*
 * Settings of a control group that a fault changes and puts back: journaled, since the kernel keeps
 * them when the agent dies. What was there before is read when arming and is all that undoing needs.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "core/err.h"
#include "fault/fault.h"
#include "core/json.h"

#define GROUP_SETTINGS_MAX 4

/* One value of a file: all of it, or the line that begins with a key ("7:0" of io.max). */
struct group_setting {
	char *file;		/* its name, without a folder: "cpu.max" */
	char *key;		/* NULL: none */
	char *absent;		/* what no line with the key means; NULL without a key */
	char *before;		/* as it is written back */
	char *wanted;
};

struct group_settings {
	char *folder;
	uint64_t inode;		/* of the folder: another group of the same name is not ours */
	struct group_setting list[GROUP_SETTINGS_MAX];
	size_t count;
	int lock_fd;		/* one fault at a time changes a file */
};

void group_settings_done(struct group_settings *s);

/* -EBUSY when another fault of this node has the file `lock` of the group. */
int group_settings_open(const char *folder, const char *lock, struct group_settings *ret,
	struct err **err);
/* Reads what is there now. absent: what a keyed file without the key's line means; NULL without a key. */
int group_settings_add(struct group_settings *s, const char *file, const char *key, const char *absent,
	const char *wanted, struct err **err);
/* Writes what is wanted. -EBUSY, with nothing changed, when somebody changed one since. */
int group_settings_apply(const struct group_settings *s, struct err **err);

/* The same as a fault's fire(): node_point() "writing", "written". */
int group_settings_fire(const struct group_settings *s, const struct fault *f, struct err **err);

/* {"folder", "inode", "settings": [{"file", "key", "absent", "before"}]}; caller deletes. */
cJSON *group_settings_record(const struct group_settings *s);
/* By the record: writes back, or looks whether all is as before. A group that is gone is success.
 * -EBADMSG for a record that cannot be understood. */
int group_settings_revert(const struct undo *u, struct err **err);
int group_settings_verify(const struct undo *u, struct err **err);

/* The present value, caller frees. */
int group_setting_read(const char *folder, const char *file, const char *key, const char *absent,
	char **ret, struct err **err);
