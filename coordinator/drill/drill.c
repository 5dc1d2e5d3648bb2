#include "drill/drill.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/durable.h"
#include "core/units.h"
#include "core/wire.h"
#include "drill/drill_read.h"

#define DRILL_BYTES_MAX (1UL << 20)

static const char *const conditions[] = {
	[WAIT_PROMOTED] = "promoted",
	[WAIT_DEMOTED] = "demoted",
	[WAIT_STREAMING] = "streaming",
	[WAIT_WRITES] = "writes",
	[WAIT_READS] = "reads",
	[WAIT_REVERTED] = "reverted",
	[WAIT_TIME] = "time",
};
DEFINE_STRING_TABLE(condition, enum condition, conditions)

static void steps_free(struct step *steps, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(steps[i].name);
		selector_done(&steps[i].target);
		cJSON_Delete(steps[i].params);
		free(steps[i].reverts);
		steps_free(steps[i].steps, steps[i].n_steps);
	}
	free(steps);
}

void drill_free(struct drill *d)
{
	if (!d)
		return;
	free(d->file);
	free(d->name);
	free(d->summary);
	free(d->expected);
	strv_free(d->sources);
	for (size_t i = 0; i < d->n_vars; i++) {
		free(d->vars[i].name);
		free(d->vars[i].value);
	}
	free(d->vars);
	steps_free(d->steps, d->n_steps);
	for (size_t i = 0; i < d->n_expectations; i++)
		expectation_done(&d->expectations[i]);
	free(d->expectations);
	free(d);
}

/* --set name=value */
static int apply_set(struct drill *d, const char *set, struct err **err)
{
	_cleanup_free_ char *known = strdup("");
	const char *equals = strchr(set, '=');

	if (!equals || equals == set)
		return err_set(err, -EINVAL, "--set %s: expected NAME=VALUE", set);
	for (size_t i = 0; i < d->n_vars; i++) {
		char *longer = NULL;

		if (strlen(d->vars[i].name) == (size_t)(equals - set) &&
			strncmp(d->vars[i].name, set, (size_t)(equals - set)) == 0) {
			free(d->vars[i].value);
			d->vars[i].value = strdup(equals + 1);
			return 0;
		}
		if (asprintf(&longer, "%s%s%s", known, i ? ", " : "", d->vars[i].name) < 0)
			abort();
		free(known);
		known = longer;
	}
	return err_set(err, -EINVAL, "--set %s: the drill has no such variable; it has: %s", set,
		d->n_vars ? known : "none");
}

static bool name_is_injected(const struct step *steps, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (steps[i].kind == STEP_INJECT && steps[i].name &&
			strcmp(steps[i].name, name) == 0)
			return true;
		if (name_is_injected(steps[i].steps, steps[i].n_steps, name))
			return true;
	}
	return false;
}

static int check_reverts(const struct drill *d, const struct step *steps, size_t n,
	struct err **err)
{
	for (size_t i = 0; i < n; i++) {
		int r = check_reverts(d, steps[i].steps, steps[i].n_steps, err);

		if (r < 0)
			return r;
		if (steps[i].kind == STEP_REVERT && steps[i].reverts &&
			!name_is_injected(d->steps, d->n_steps, steps[i].reverts))
			return err_set(err, -EINVAL,
				"%s:%u:%u: revert: no inject step has the name \"%s\"", d->file,
				steps[i].place.line, steps[i].place.column, steps[i].reverts);
	}
	return 0;
}

static void set_defaults(struct drill *d)
{
#define DEFAULT(member, value)         \
	do {                           \
		if (!d->member)        \
			d->member = value; \
	} while (0)
	DEFAULT(steady_lag_bytes, 16UL << 20);
	DEFAULT(steady_for_ns, NS_PER_S);
	DEFAULT(steady_limit_ns, 60 * NS_PER_S);
	DEFAULT(interval_ns, 10 * NS_PER_MS);
	DEFAULT(fresh_interval_ns, 100 * NS_PER_MS);
	DEFAULT(slow_ns, 500 * NS_PER_MS);
	DEFAULT(recovery_limit_ns, 120 * NS_PER_S);
	DEFAULT(abort_time_ns, 900 * NS_PER_S);
#undef DEFAULT
}

int drill_parse(const char *file, const char *text, size_t length, char *const *sets,
	struct drill **ret, struct err **err)
{
	_cleanup_(drill_freep) struct drill *d = calloc(1, sizeof(*d));
	struct yaml_tree t = {0};
	int r;

	if (!d)
		return err_set(err, -ENOMEM, "out of memory");
	d->file = strdup(file);
	r = yaml_tree_load(d->file, text, length, &t, err);
	if (r < 0)
		return r;
	r = drill_read_vars(&t, d, err);
	for (size_t i = 0; r >= 0 && sets && sets[i]; i++)
		r = apply_set(d, sets[i], err);
	if (r >= 0) {
		t.vars = d->vars;
		t.n_vars = d->n_vars;
		r = drill_read(&t, d, err);
	}
	if (r >= 0)
		r = check_reverts(d, d->steps, d->n_steps, err);
	yaml_tree_done(&t);
	if (r < 0)
		return r;
	set_defaults(d);
	*ret = steal_ptr(d);
	return 0;
}

static bool is_path(const char *name)
{
	const char *dot = strrchr(name, '.');

	return strchr(name, '/') || (dot && (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml")));
}

int drill_load(const char *name, char *const *sets, struct drill **ret, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_free_ char *known = strdup("");
	size_t length = 0;
	int r;

	if (is_path(name)) {
		r = file_read(AT_FDCWD, name, DRILL_BYTES_MAX, &text, &length, err);
		if (r < 0)
			return err_wrap(err, -EINVAL, "drill %s", name);
		return drill_parse(name, text, length, sets, ret, err);
	}
	for (const struct builtin_drill *b = builtin_drills; b->name; b++) {
		char *longer = NULL;

		if (strcmp(b->name, name) == 0)
			return drill_parse(b->name, (const char *)b->text, b->length, sets, ret, err);
		if (asprintf(&longer, "%s%s%s", known, *known ? ", " : "", b->name) < 0)
			abort();
		free(known);
		known = longer;
	}
	return err_set(err, -EINVAL,
		"no built-in drill \"%s\" (a file's name ends in .yaml or has a \"/\"); there are: %s",
		name, known);
}
