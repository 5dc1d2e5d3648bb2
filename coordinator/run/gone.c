/* A cluster that was removed under the drill: waiting on would tell nothing. */
#include <string.h>

#include "core/clock.h"
#include "run/run.h"

/* A server that was killed, or a pod, is started again; and a manager that answers will see to it. */
#define GONE_AFTER_NS (10 * NS_PER_S)
#define ASK_EVERY_NS  (1 * NS_PER_S)
#define VIEW_FRESH_NS (3 * NS_PER_S)

static bool manager_answers(const struct run *r)
{
	const struct cluster_view *v = r->cluster.view;

	return v && v->at_ns && now_ns() - v->at_ns < VIEW_FRESH_NS;
}

/* By the agents, which need no connection for it. Whom they cannot ask is taken to be there. */
static bool agents_see_any(struct run *r)
{
	struct targets t = {0};
	bool any = false;

	if (session_targets(r->session, &t, NULL) < 0)
		return true;
	for (size_t i = 0; i < t.count; i++)
		any = any || run_instance_index(r, t.items[i].info->name) >= 0;
	targets_done(&t);
	return any;
}

void run_check_gone(struct run *r)
{
	uint64_t now = now_ns();

	if (!r->probes || r->abort_why || r->aborted || now - r->gone_asked_ns < ASK_EVERY_NS)
		return;
	r->gone_asked_ns = now;
	if (run_reachable_instances(r) || manager_answers(r) || agents_see_any(r)) {
		r->gone_since_ns = 0;
		return;
	}
	if (!r->gone_since_ns)
		r->gone_since_ns = now;
	if (now - r->gone_since_ns < GONE_AFTER_NS)
		return;
	r->all_gone = true;
	run_abort(r, "no instance of cluster %s is there any more", r->record->cluster);
}
