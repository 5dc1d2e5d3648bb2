#include "fault/fault.h"

#include <signal.h>
#include <string.h>
#include "core/json.h"

void node_point(const struct node *node, const char *fault, const char *point)
{
	const char *at = node->halt_at, *colon;

	if (!at || !fault)
		return;
	colon = strchr(at, ':');
	if (!colon || strcmp(colon + 1, point) != 0)
		return;
	if (strncmp(at, "*:", 2) == 0 ||
	    (strlen(fault) == (size_t)(colon - at) && strncmp(at, fault, strlen(fault)) == 0))
		raise(SIGSTOP);
}

void undo_done(struct undo *u)
{
	cJSON_Delete(u->record);
	u->record = NULL;
}

void support_done(struct support *s)
{
	free(s->mechanism);
	free(s->reason);
	s->mechanism = s->reason = NULL;
}

void evidence_done(struct evidence *e)
{
	cJSON_Delete(e->detail);
	e->detail = NULL;
}
