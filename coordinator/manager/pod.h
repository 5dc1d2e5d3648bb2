/* What pgjolt reads of a Pod (kubernetes.io/docs/reference, Pod v1): pure functions of the object. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "kube/pod.h"
#include "manager/manager.h"

struct pod {
	char *name, *uid, *node, *address;	/* address: the first; each may be NULL but name */
	char **addresses;			/* of both families */
	bool ready, deleting;
	char *not_ready;	/* why, in Kubernetes' words; NULL */
	uint64_t restarts;	/* of all its containers */
	char *restarted;	/* how the container that restarted last had ended; NULL */
	cJSON *object;		/* as it came; owned */
};
void pod_done(struct pod *p);
/* -EPROTO: it has no name. What else is missing or of another type is as if it were not said. */
int pod_read(const cJSON *object, struct pod *ret, struct err **err);

/* What happened between two looks at a name; old or new NULL: not there. tell is called once for each
 * thing, with a kind of EVENT_POD or EVENT_READY. */
typedef void (*pod_teller)(enum event_kind kind, const char *pod, const char *value, const char *text,
	void *data);
void pod_compare(const struct pod *old, const struct pod *new, pod_teller tell, void *data);

/* instance_info.name of the pod's PostgreSQL; NULL: none of them. Borrowed. */
const char *pod_instance(const char *namespace, const char *pod,
	struct instance_info *const *instances, size_t n);
