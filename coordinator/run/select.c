#include <stdlib.h>

#include "run/run.h"

void run_select(const struct run *r, const struct agent_link *link,
	bool (*matches)(const struct run *r, const struct run_experiment *e), struct run_selection *ret)
{
	struct run_selection s = {
		.links = calloc(r->n_experiments + 1, sizeof(struct agent_link *)),
		.ids = calloc(r->n_experiments + 1, sizeof(*s.ids)),
		.experiments = calloc(r->n_experiments + 1, sizeof(struct run_experiment *)),
	};

	if (!s.links || !s.ids || !s.experiments)
		abort();
	for (size_t i = 0; i < r->n_experiments; i++) {
		struct run_experiment *e = r->experiments[i];

		if ((link && e->link != link) || !matches(r, e))
			continue;
		s.links[s.count] = e->link;
		s.ids[s.count] = e->id;
		s.experiments[s.count++] = e;
	}
	*ret = s;
}

void run_selection_done(struct run_selection *s)
{
	free(s->links);
	free(s->ids);
	free(s->experiments);
	*s = (struct run_selection){0};
}
