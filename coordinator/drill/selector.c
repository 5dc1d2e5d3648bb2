#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/units.h"
#include "drill/drill.h"

void selector_done(struct selector *s)
{
	free(s->text);
	free(s->name);
	*s = (struct selector){0};
}

static const struct {
	const char *word;
	enum select_role role;
	enum select_pick pick;
} roles[] = {
	{"primary", SELECT_PRIMARY, PICK_ONE},
	{"replica", SELECT_REPLICA, PICK_ONE},
	{"replicas", SELECT_REPLICA, PICK_ALL},
	{"any", SELECT_ANY, PICK_ONE},
	{"all", SELECT_ANY, PICK_ALL},
};

static int parse_pick(const char *text, struct selector *s, struct err **err)
{
	uint64_t count;

	if (strcmp(text, "one") == 0) {
		s->pick = PICK_ONE;
		return 0;
	}
	if (strcmp(text, "all") == 0) {
		s->pick = PICK_ALL;
		return 0;
	}
	if (text[0] && text[strlen(text) - 1] == '%') {
		s->pick = PICK_PERCENT;
		if (percent_parse(text, &s->pick_count, err) < 0)
			return -EINVAL;
		return s->pick_count ? 0 : err_set(err, -EINVAL, "\"%s\" is nobody", text);
	}
	s->pick = PICK_COUNT;
	if (count_parse(text, 1, 1000, &count, NULL) < 0)
		return err_set(err, -EINVAL, "\"%s\" after the role: one, all, a count or a percent",
			text);
	s->pick_count = (uint32_t)count;
	return 0;
}

int selector_parse(const char *text, struct selector *ret, struct err **err)
{
	size_t length = strcspn(text, ":");

	for (size_t i = 0; i < ELEMENTS(roles); i++) {
		struct selector s = {.role = roles[i].role, .pick = roles[i].pick};
		int r = 0;

		if (strlen(roles[i].word) != length || strncmp(roles[i].word, text, length))
			continue;
		if (text[length])
			r = parse_pick(text + length + 1, &s, err);
		if (r < 0)
			return err_wrap(err, r, "target \"%s\"", text);
		s.text = strdup(text);
		*ret = s;
		return 0;
	}
	if (!strchr(text, '/') || text[0] == '/' || text[strlen(text) - 1] == '/')
		return err_set(err, -EINVAL,
			"target \"%s\": expected primary, replica, replicas, any or all (with :one, "
			":all, :COUNT or :PERCENT%%), or an instance as CLUSTER/MEMBER",
			text);
	*ret = (struct selector){.text = strdup(text), .name = strdup(text)};
	return 0;
}
