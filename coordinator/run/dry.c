/* What a run would do: the exact instances, peers and effects, from the roles of this moment. */
#include <stdlib.h>
#include <string.h>

#include "core/units.h"
#include "run/peers.h"
#include "run/run.h"

struct plan {
	struct run run;
	cJSON *steps;
	FILE *f;		/* NULL: JSON alone */
};

static void say(struct plan *p, unsigned depth, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void say(struct plan *p, unsigned depth, const char *fmt, ...)
{
	va_list ap;

	if (!p->f)
		return;
	fprintf(p->f, "%*s", (int)depth * 2, "");
	va_start(ap, fmt);
	vfprintf(p->f, fmt, ap);
	va_end(ap);
	fputc('\n', p->f);
}

static int plan_target(struct plan *p, const struct step *s, const struct target *t, unsigned depth,
	cJSON *out, struct err **err)
{
	_cleanup_strv_ char **names = NULL, **peers = NULL, **notes = NULL;
	const char *key = s->fault->peers_param;
	cJSON *item = json_object();
	int r = 0;

	json_add_string(item, "instance", t->info->name);
	json_add_string(item, "role", role_to_string(t->info->role));
	json_add_string(item, "node", t->info->node);
	json_append(out, item);
	if (key && json_get(s->params, key)) {
		r = json_to_strv(json_get(s->params, key), &names, err);
		if (r >= 0)
			r = peers_resolve_noted(&p->run.cluster, t, names, &peers, &notes, err);
		if (r < 0)
			return err_wrap(err, r, "%s:%u:%u", p->run.drill->file, s->place.line,
				s->place.column);
		json_add_strv(item, "peers", peers);
		json_add_strv(item, "notes", notes);
	}
	say(p, depth, "on %s (%s, pid %d, node %s)", t->info->name, role_to_string(t->info->role),
		(int)t->info->pid, t->info->node ? t->info->node : "-");
	for (size_t i = 0; peers && peers[i]; i++)
		say(p, depth + 1, "peer %s", peers[i]);
	for (size_t i = 0; notes && notes[i]; i++)
		say(p, depth + 1, "note: %s", notes[i]);
	return 0;
}

static int plan_inject(struct plan *p, const struct step *s, unsigned depth, cJSON *out,
	struct err **err)
{
	_cleanup_free_ const struct target **targets = NULL;
	_cleanup_free_ char *params = s->params ? json_print(s->params) : NULL;
	char limit[UNITS_TEXT_MAX];
	cJSON *list = json_array();
	size_t n = 0;
	int r;

	duration_format(s->duration_ns, limit);
	json_add_string(out, "fault", s->fault->name);
	json_add_string(out, "for", limit);
	if (s->params)
		json_add_item(out, "params", cJSON_Duplicate(s->params, true));
	json_add_item(out, "targets", list);
	say(p, depth, "inject %s for at most %s, target %s", s->fault->name, limit, s->target.text);
	say(p, depth + 1, "with %s", params ? params : "{}");
	r = run_pick(&p->run, &s->target, &targets, &n, err);
	if (r < 0)
		return err_wrap(err, r, "%s:%u:%u", p->run.drill->file, s->place.line,
			s->place.column);
	if (!s->target.name)
		say(p, depth + 1, "(by the roles of now; looked up again when it fires)");
	for (size_t i = 0; r >= 0 && i < n; i++)
		r = plan_target(p, s, targets[i], depth + 1, list, err);
	return r;
}

static int plan_steps(struct plan *p, const struct step *steps, size_t n, unsigned depth,
	cJSON *out, struct err **err);

static int plan_step(struct plan *p, const struct step *s, unsigned depth, cJSON *out,
	struct err **err)
{
	char limit[UNITS_TEXT_MAX];
	cJSON *children = json_array();

	switch (s->kind) {
	case STEP_INJECT:
		cJSON_Delete(children);
		return plan_inject(p, s, depth, out, err);
	case STEP_WAIT:
		cJSON_Delete(children);
		duration_format(s->limit_ns, limit);
		json_add_string(out, "wait", condition_to_string(s->condition));
		json_add_string(out, "limit", limit);
		say(p, depth, "wait until %s, at most %s", condition_to_string(s->condition), limit);
		return 0;
	case STEP_REVERT:
		cJSON_Delete(children);
		json_add_string(out, "revert", s->reverts ? s->reverts : "all");
		say(p, depth, "revert %s", s->reverts ? s->reverts : "all");
		return 0;
	case STEP_PARALLEL:
		say(p, depth, "at once:");
		json_add_item(out, "parallel", children);
		break;
	case STEP_REPEAT:
		say(p, depth, "%u times:", s->count);
		json_add_uint(out, "repeat", s->count);
		json_add_item(out, "steps", children);
		break;
	default:
		say(p, depth, "one after another:");
		json_add_item(out, "steps", children);
	}
	return plan_steps(p, s->steps, s->n_steps, depth + 1, children, err);
}

static int plan_steps(struct plan *p, const struct step *steps, size_t n, unsigned depth,
	cJSON *out, struct err **err)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < n; i++) {
		cJSON *item = json_object();

		json_append(out, item);
		r = plan_step(p, &steps[i], depth, item, err);
	}
	return r;
}

static void plan_head(struct plan *p, cJSON *json)
{
	const struct drill *d = p->run.drill;
	const struct cluster *c = &p->run.cluster;
	const struct target *primary = cluster_primary(c);
	cJSON *instances = json_array();

	json_add_string(json, "drill", d->name);
	json_add_string(json, "cluster", c->name);
	json_add_string(json, "manager", c->manager->driver->name);
	json_add_item(json, "instances", instances);
	say(p, 0, "Dry run: nothing has been done, and nothing will be. This is what %s would do (%s).", d->name,
		d->summary);
	say(p, 0, "Cluster %s (%s) as it is now:", c->name, c->manager->driver->name);
	for (size_t i = 0; i < c->targets.count; i++) {
		const struct target *t = &c->targets.items[i];
		const char *role = t == primary ? "primary" : "replica";
		cJSON *item = json_object();

		json_add_string(item, "instance", t->info->name);
		json_add_string(item, "role", role);
		json_append(instances, item);
		say(p, 1, "%s  %s", t->info->name, role);
	}
	say(p, 0, "It would:");
}

static int dry(struct plan *p, FILE *f, struct err **err)
{
	_cleanup_json_ cJSON *json = json_object();
	_cleanup_free_ char *text = NULL;
	cJSON *steps = json_array();
	struct run *r = &p->run;
	int k = cluster_open(r->session, r->options->cluster, r->options->manager, &r->cluster,
		err);

	if (k >= 0)
		k = run_guards(r, err);
	if (k < 0) {
		cJSON_Delete(steps);
		return k;
	}
	plan_head(p, json);
	json_add_item(json, "steps", steps);
	k = plan_steps(p, r->drill->steps, r->drill->n_steps, 1, steps, err);
	say(p, 0, "Then it would revert every fault%s", !r->drill->recovery_limit_ns ? "." :
		r->drill->n_expectations ? ", wait for full redundancy, and judge:" :
					   " and wait for full redundancy.");
	for (size_t i = 0; i < r->drill->n_expectations; i++)
		say(p, 1, "expect %s %s %s", expectation_key(r->drill->expectations[i].figure),
			r->drill->expectations[i].has_min && r->drill->expectations[i].has_max ? "is" :
			r->drill->expectations[i].has_min ? "at least" : "at most",
			r->drill->expectations[i].text);
	if (k >= 0 && !p->f) {
		text = json_print_pretty(json);
		fprintf(f, "%s\n", text);
	}
	return k;
}

int run_dry(struct session *s, const struct drill *d, const struct run_options *o, bool json,
	FILE *f, struct err **err)
{
	struct plan p = {
		.run = {.options = o, .drill = d, .session = s, .lock_fd = -1},
		.f = json ? NULL : f,
	};
	int k = dry(&p, f, err);

	cluster_done(&p.run.cluster);
	return k;
}
