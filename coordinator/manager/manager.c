#include "manager/manager.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "manager/patroni.h"
#include "manager/plain.h"

static const struct manager_driver *const drivers[] = {
	&manager_patroni,
	&manager_plain,	/* takes any cluster, so it comes last */
	NULL,
};

const struct manager_driver *const *manager_drivers(void)
{
	return drivers;
}

void cluster_view_free(struct cluster_view *v)
{
	if (!v)
		return;
	for (size_t i = 0; i < v->n_members; i++) {
		free(v->members[i].name);
		free(v->members[i].instance);
		free(v->members[i].state);
	}
	free(v->members);
	free(v->source);
	free(v->leader);
	free(v);
}

int manager_open(const char *name, const struct manager_world *w, struct manager **ret,
	struct err **err)
{
	bool any = !name || strcmp(name, "auto") == 0;

	for (const struct manager_driver *const *d = drivers; *d; d++) {
		if (any ? (*d)->detect(w, NULL) < 0 : strcmp((*d)->name, name) != 0)
			continue;
		if (!any) {
			int r = (*d)->detect(w, err);

			if (r < 0)
				return err_wrap(err, r, "manager %s", name);
		}
		return (*d)->open(w, ret, err);
	}
	return err_set(err, -EINVAL, "manager \"%s\": expected auto, patroni or plain", name);
}
