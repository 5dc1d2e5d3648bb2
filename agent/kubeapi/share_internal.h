/* Between the files of the share. */
#pragma once

#include "kube/kube.h"
#include "kubeapi/claims.h"
#include "kubeapi/share.h"

#define MAPS_PATH     "/api/v1/namespaces/%s/configmaps"
#define SHARE_CALL_MS 1500
#define SHARE_LOOK_US 5000000ULL

/* An instance that this agent has claimed, or is about to. */
struct share_claim {
	char *instance, *cluster, *map;
	int64_t until_s;	/* as the API server has it; 0: it has not */
	unsigned arming;	/* requests between claim and armed */
	struct share_claim *next;
};

/* What an earlier agent of the node left, looked for among all ConfigMaps with the share's label, in pages. */
struct share_listing {
	struct kube_call *call;
	char *token;		/* of the page after; NULL: the first */
	unsigned pages;		/* asked for by now */
	unsigned items;		/* of a page, at most */
	uint64_t begin_ns;	/* not before that */
	bool done;
	bool told;		/* that there are too many */
};

struct shares {
	struct shares_world world;
	struct share_claim *claims;
	struct change *changes;		/* in order; one a ConfigMap at a time */
	struct share_listing listing;
	sd_event_source *look;
	uint64_t look_ns;		/* when; UINT64_MAX: not */
	char *told;			/* the last error, told once */
};

/* In share.c */
bool share_is_needed(const struct shares *s, const struct share_claim *c);
/* The end that a claim must have now. */
int64_t share_needed_until_s(const struct shares *s, const struct share_claim *c);
struct share_claim *share_claim_of(const struct shares *s, const char *instance);
/* What an earlier agent of the node claimed, and has left a fault in: ours from now on. */
void share_adopt(struct shares *s, const struct claim *there, const char *map, const char *cluster);
void share_forget(struct shares *s, struct share_claim *claim);
/* Looks what is to be changed, then or sooner, where that was said before. */
void share_look_in(struct shares *s, uint64_t us);
void share_tell_error(struct shares *s, const char *map, int r, const char *words);
int64_t share_now_s(void);
/* A claim's end for a fault that may last so long from now on. */
int64_t share_until_s(uint64_t last_ms);

/* In share_change.c: one change of a ConfigMap, of a place that is wanted (ask and what follows), or (claim NULL) of what is
 * to be prolonged and given back. Begins once those of the same ConfigMap before it have ended. */
void change_add(struct shares *s, const char *map, struct share_claim *claim,
	const struct share_ask *ask, share_done done, void *data);
bool change_is_there(const struct shares *s, const char *map);
/* Ends all; those who wait for a place are told that the agent stops. */
void changes_free(struct shares *s);
