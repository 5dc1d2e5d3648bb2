#include "instance/process_kind.h"

#include <fnmatch.h>
#include <stddef.h>
#include <string.h>
#include "core/cleanup.h"
#include "instance/instance.h"

#define TITLE_START "postgres: "

/* after: what may follow the word, "" for nothing at all, NULL for anything. */
struct kind {
	const char *word;
	const char *const *after;
};

static const char *const nothing[] = {NULL};
static const char *const checkpointer_after[] = {"performing ", "creating ", NULL};
static const char *const startup_after[] = {"recovering ", "waiting ", "performing ", NULL};
static const char *const walreceiver_after[] = {"streaming ", "restarting ", "idle", "waiting ", NULL};
static const char *const archiver_after[] = {"archiving ", "last was ", "failed on ", NULL};

static const struct kind kinds[] = {
	{"archiver", archiver_after},
	{"autovacuum launcher", nothing},
	{"autovacuum worker", NULL},
	{"background writer", nothing},
	{"checkpointer", checkpointer_after},
	{"io worker", NULL},
	{"logger", nothing},
	{"logical replication apply worker", NULL},
	{"logical replication launcher", nothing},
	{"logical replication parallel apply worker", NULL},
	{"logical replication tablesync worker", NULL},
	{"logical replication worker", NULL},
	{"parallel worker", NULL},
	{"slotsync worker", NULL},
	{"startup", startup_after},
	{"stats collector", nothing},
	{"walreceiver", walreceiver_after},
	{"walsender", NULL},
	{"walsummarizer", NULL},
	{"walwriter", nothing},
};

static const char *word_of(const char *rest)
{
	for (size_t i = 0; i < ELEMENTS(kinds); i++) {
		size_t n = strlen(kinds[i].word);
		const char *const *after = kinds[i].after;
		const char *tail = rest + n;

		if (strncmp(rest, kinds[i].word, n) != 0 || (*tail != '\0' && *tail != ' '))
			continue;
		tail += strspn(tail, " ");
		if (*tail == '\0' || !after)
			return kinds[i].word;
		for (; *after; after++)
			if (strncmp(tail, *after, strlen(*after)) == 0)
				return kinds[i].word;
	}
	return NULL;
}

/* After the last ": " that a fixed word follows; NULL if there is none. */
static const char *after_some_cluster(const char *rest)
{
	const char *found = NULL;

	for (const char *p = strstr(rest, ": "); p; p = strstr(p + 2, ": "))
		if (word_of(p + 2))
			found = p + 2;
	return found;
}

const char *process_title_rest(const char *title, const char *cluster)
{
	const char *rest, *after;
	size_t n;

	if (strncmp(title, TITLE_START, strlen(TITLE_START)) != 0)
		return NULL;
	rest = title + strlen(TITLE_START);
	n = cluster ? strlen(cluster) : 0;
	if (n > 0 && strncmp(rest, cluster, n) == 0 && rest[n] == ':' && rest[n + 1] == ' ')
		return rest + n + 2;
	if (word_of(rest))
		return rest;
	after = after_some_cluster(rest);
	return after ? after : rest;
}

bool process_title_cluster(const char *title, char **ret)
{
	const char *rest = process_title_rest(title, NULL), *start = title + strlen(TITLE_START);

	if (!rest || !word_of(rest) || rest - start < 3)
		return false;
	*ret = strndup(start, (size_t)(rest - start) - 2);
	return *ret;
}

/* "/usr/lib/postgresql/15/bin/postgres -D ..." */
static bool is_postmaster_title(const char *title)
{
	size_t n = strcspn(title, " ");
	const char *slash = memrchr(title, '/', n), *base = slash ? slash + 1 : title;

	n -= (size_t)(base - title);
	return (n == 8 && strncmp(base, "postgres", 8) == 0) ||
	       (n == 10 && strncmp(base, "postmaster", 10) == 0);
}

const char *instance_process_kind(const char *title, const char *cluster, size_t *ret_length)
{
	const char *rest = process_title_rest(title, cluster), *kind;

	if (rest) {
		kind = word_of(rest);
		if (!kind)
			kind = "backend";
	} else {
		kind = is_postmaster_title(title) ? "postmaster" : NULL;
	}
	if (kind && ret_length)
		*ret_length = strlen(kind);
	return kind;
}

static bool is_fixed_word(const char *s)
{
	for (size_t i = 0; i < ELEMENTS(kinds); i++)
		if (strcmp(s, kinds[i].word) == 0)
			return true;
	return strcmp(s, "backend") == 0 || strcmp(s, "postmaster") == 0;
}

/* Several kinds by one word, and a kind by the word that its settings have. */
static const struct {
	const char *word, *kinds;
} groups[] = {
	{"autovacuum", "autovacuum "},
	{"bgwriter", "background writer"},
	{"logical replication", "logical replication "},
};

/* What the kinds of a group begin with; NULL: no such group. */
static const char *group_of(const char *pattern)
{
	for (size_t i = 0; i < ELEMENTS(groups); i++)
		if (strcmp(pattern, groups[i].word) == 0)
			return groups[i].kinds;
	return NULL;
}

/* A fixed word matches processes of that kind alone, not a client whose name begins like it. */
static bool pattern_matches(const char *pattern, const char *kind, const char *rest)
{
	const char *group = group_of(pattern);
	size_t n = strlen(pattern);

	if (group)
		return strncmp(kind, group, strlen(group)) == 0;
	if (strcmp(pattern, kind) == 0)
		return true;
	if (!rest || is_fixed_word(pattern))
		return false;
	if (strncmp(rest, pattern, n) == 0 && (rest[n] == '\0' || rest[n] == ' '))
		return true;
	return fnmatch(pattern, rest, 0) == 0;
}

bool process_title_matches(const char *title, const char *cluster, char *const *patterns)
{
	const char *kind = instance_process_kind(title, cluster, NULL);
	const char *rest = process_title_rest(title, cluster);

	for (; kind && patterns && *patterns; patterns++)
		if (pattern_matches(*patterns, kind, rest))
			return true;
	return false;
}
