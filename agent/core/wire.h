/*
 * What agent and coordinator say to each other: JSON over HTTP (docs/api). One struct a message,
 * one table each; both sides use these functions, so they cannot drift apart.
 * Times are the agent's CLOCK_MONOTONIC in ns unless the name says otherwise; the coordinator maps
 * them on its own clock. _free takes NULL and half-filled structs.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/err.h"
#include "core/json.h"
#include "core/string_table.h"

enum role { ROLE_UNKNOWN, ROLE_PRIMARY, ROLE_REPLICA, ROLE_MAX };
DECLARE_STRING_TABLE(role, enum role);	/* "unknown", "primary", "replica" */

/* One PostgreSQL postmaster. */
struct instance_info {
	char *name;		/* "lab/pg1", "NAMESPACE/POD" */
	char *cluster;		/* "lab"; in Kubernetes "NAMESPACE/CLUSTER" */
	char *cluster_name;	/* PostgreSQL's own setting, as its titles have it; NULL: not set */
	char *member;		/* "pg1" */
	char *node;
	enum role role;
	pid_t pid;		/* of the postmaster, in the agent's pid namespace */
	uint64_t start_ticks;	/* field 22 of /proc/PID/stat: with pid, the identity */
	char *pgdata;		/* as the postmaster sees it */
	char *waldir;		/* resolved pg_wal, as the postmaster sees it */
	char *cgroup;		/* path of the instance's own cgroup, "/pgjolt-lab/pg1" */
	uint64_t netns;		/* inode of its network namespace */
	bool host_network;	/* shares the node's network namespace */
	uint16_t port;
	char *socket_dir;	/* first unix socket directory, as the postmaster sees it; may be NULL */
	char *version;		/* "15.18" or at least the major from PG_VERSION */
	char **addresses;	/* global addresses of its netns; loopback only for host network */
	char **dcs;		/* peers that its manager's configuration store is ("all:2379") */
	char **nameservers;	/* addresses in its resolv.conf */
	/* In Kubernetes; NULL elsewhere. labels and owner need the API server's word: NULL without it. */
	char *namespace, *pod, *pod_uid, *container;
	char **labels;		/* of the pod: "cnpg.io/cluster=main" */
	char *owner;		/* its controller: "StatefulSet/main", "Cluster/main" */
};
void instance_info_free(struct instance_info *i);
DEFINE_CLEANUP(struct instance_info, instance_info_free)
struct instance_info *instance_info_copy(const struct instance_info *i);
cJSON *instance_info_to_json(const struct instance_info *i);
int instance_info_from_json(const cJSON *json, struct instance_info **ret, struct err **err);

struct capability {
	char *fault;
	bool supported;
	char *mechanism;	/* NULL where not supported */
	char *reason;		/* what is missing, or a remark; may be NULL */
};

struct node_info {
	char *name;
	char *boot_id;
	char *kernel;
	char *machine;		/* uname -m */
	char *version;		/* of the agent */
	uint64_t clock_ns;	/* now_ns() as the answer was written */
	bool accepting;		/* false while an experiment is stuck */
	char *reason;		/* why not accepting; may be NULL */
	struct capability *capabilities;
	size_t n_capabilities;
};
void node_info_free(struct node_info *n);
DEFINE_CLEANUP(struct node_info, node_info_free)
cJSON *node_info_to_json(const struct node_info *n);
int node_info_from_json(const cJSON *json, struct node_info **ret, struct err **err);

enum experiment_state {
	EXPERIMENT_NEW,
	EXPERIMENT_ARMED,
	EXPERIMENT_FIRING,
	EXPERIMENT_ACTIVE,
	EXPERIMENT_REVERTING,
	EXPERIMENT_VERIFYING,
	EXPERIMENT_CLEAN,	/* final */
	EXPERIMENT_REFUSED,	/* final; nothing was journaled */
	EXPERIMENT_STUCK,	/* revert or verify failed; retried */
	EXPERIMENT_STATE_MAX,
};
DECLARE_STRING_TABLE(experiment_state, enum experiment_state);

/* Body of POST /v1/experiments. */
struct arm_request {
	char *experiment;	/* id chosen by the coordinator: [a-z0-9-]{1,64}, unique on the node */
	char *run;		/* id of the run; the same form */
	char *fault;
	char *instance;		/* instance_info.name */
	pid_t pid;		/* with start_ticks: the very process that was resolved; 0: any */
	uint64_t start_ticks;
	cJSON *params;		/* object or NULL */
	uint64_t duration_ms;	/* active at most this long; 0 is refused */
	uint64_t lease_ms;	/* reverts by itself when not renewed for this long */
};
void arm_request_free(struct arm_request *r);
DEFINE_CLEANUP(struct arm_request, arm_request_free)
cJSON *arm_request_to_json(const struct arm_request *r);
int arm_request_from_json(const cJSON *json, struct arm_request **ret, struct err **err);

/* Why an experiment left `active` (or `armed`). */
enum end_reason {
	END_NONE,
	END_REQUESTED,		/* by a client */
	END_DURATION,
	END_LEASE,
	END_TARGET_GONE,
	END_SHUTDOWN,		/* the agent stops */
	END_REPLAY,		/* found in the journal at start */
	END_FAILED,		/* fire failed */
	END_STOPPED,		/* the kill switch */
	END_REASON_MAX,
};
DECLARE_STRING_TABLE(end_reason, enum end_reason);

/* One experiment as GET /v1/experiments/ID shows it. A time of 0 is not there yet. */
struct experiment_info {
	char *experiment;
	char *run;
	char *fault;
	char *instance;
	enum experiment_state state;
	enum end_reason end_reason;
	cJSON *params;		/* canonical */
	char *mechanism;	/* that serves it */
	char *lifetime;		/* "held", ... of that mechanism */
	uint64_t created_ns, armed_ns, fired_ns, reverted_ns, verified_ns;
	uint64_t fire_duration_ns;	/* how long the firing step took */
	uint64_t remaining_ms;	/* of the duration */
	uint64_t lease_remaining_ms;
	uint64_t hits;		/* what the fault touched: packets, processes */
	cJSON *evidence;	/* the driver's own, object */
	bool verified_clean;
	char *error;		/* last error's words; may be NULL */
};
void experiment_info_free(struct experiment_info *e);
DEFINE_CLEANUP(struct experiment_info, experiment_info_free)
cJSON *experiment_info_to_json(const struct experiment_info *e);
int experiment_info_from_json(const cJSON *json, struct experiment_info **ret, struct err **err);

/* One line of GET /v1/events (application/x-ndjson). */
struct agent_event {
	uint64_t sequence;	/* from 1, no gaps */
	uint64_t at_ns;
	char *kind;		/* "state", "error", "instance", "audit" */
	char *experiment;	/* may be NULL */
	char *instance;		/* may be NULL */
	char *state;		/* kind state: the new one; else NULL */
	char *text;
};
void agent_event_free(struct agent_event *e);
DEFINE_CLEANUP(struct agent_event, agent_event_free)
cJSON *agent_event_to_json(const struct agent_event *e);
int agent_event_from_json(const cJSON *json, struct agent_event **ret, struct err **err);

/* Errors: {"error": {"code": "EBUSY", "status": 409, "message": "..."}}. */
cJSON *error_to_json(int code, const char *message);
/* Sets *err from such a body (or from the status alone) and returns the negative errno. */
int error_from_json(int http_status, const cJSON *json, struct err **err);

/* [a-z0-9]([a-z0-9-]{0,62}[a-z0-9])? */
bool id_is_valid(const char *id);
/* "PREFIX-" + 8 random hex digits; caller frees. */
char *id_new(const char *prefix);
