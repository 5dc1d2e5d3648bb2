/* The owner of everything in pgjolt-agent: loop, journal, experiments, server. */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>
#include "core/err.h"
#include "core/wire.h"
#include "experiment/experiment.h"
#include "fault/fault.h"

struct api_server;
struct kubernetes;
struct event_log;

#define KUBERNETES_NAMESPACE "pgjolt"	/* the agents', where nothing says another */

/* What is asked of the Kubernetes API. */
struct kubernetes_config {
	bool enabled;		/* --kubernetes, and whatever needs it */
	bool authorize;		/* callers on TCP by their tokens; else by certificate alone */
	bool require_label;	/* of the target's namespace */
	uint64_t authorize_cache_ms;
	char *token_audience;	/* of callers' tokens; NULL: the API server's own */
	char *kubeconfig;	/* NULL: as the service account of the pod */
	char *namespace;	/* the agents'; NULL: the service account's, or with a kubeconfig "pgjolt" */
	bool without_stop;	/* no kill switch */
	char *stop_config_map;	/* "NAMESPACE/NAME"; NULL: pgjolt-stop in the agents' namespace */
};

struct agent_config {
	char *socket_path;	/* default /run/pgjolt/agent.sock */
	char *journal_path;	/* default /var/lib/pgjolt/journal */
	char *node_name;	/* default: host name */
	char *listen;		/* ADDRESS:PORT for mutual TLS; NULL: none */
	char *tls_cert, *tls_key, *tls_ca;	/* PEM files; all three with listen */
	char **tls_allowed_names;		/* subject CNs or SANs that may call; NULL: any of the CA's */
	char **tls_metrics_names;		/* those that may read /metrics and /healthz alone */
	char *halt_at;		/* crash tests */
	bool without_tcx;	/* tests: as on a kernel before 6.6 */
	pid_t owner;		/* leave when this process ends (pgjolt started us) and nobody else
				 * follows our events; 0: stay */
	int ready_fd;		/* gets "ready\n" once the agent listens, then is closed; -1: none */
	struct experiment_limits limits;	/* its lists are owned too */
	struct kubernetes_config kubernetes;
};
/* Frees what it holds, sets nothing up: for a config that no agent took over. */
void agent_config_done(struct agent_config *c);

struct agent {
	struct agent_config config;
	sd_event *event;
	struct node node;
	struct journal *journal;
	struct experiments *experiments;
	struct event_log *events;	/* ring of the last 4096, and its followers */
	struct api_server *server;
	struct kubernetes *kubernetes;	/* NULL: not asked */
	char *boot_id;
	sd_event_source *leaving;	/* after SIGTERM, while claims are given back */
	uint64_t leave_by_ns;	/* 0: nobody said so */
	bool owner_ended;	/* it has done with us; we stay for as long as others follow */
	struct capability *capabilities;	/* probed once at start, again on POST /v1/probe */
	size_t n_capabilities;
};

/* Takes over what config points to. Probes, replays the journal, listens, tells systemd READY. */
int agent_new(struct agent_config *config, struct agent **ret, struct err **err);
/* Until SIGTERM/SIGINT; ends every experiment before it returns. */
int agent_run(struct agent *a, struct err **err);
/* Takes half-built objects. */
void agent_free(struct agent *a);
DEFINE_CLEANUP(struct agent, agent_free)

/* Once to the log, once to those who follow; kind "error" goes to the log as an error. */
void agent_tell(struct agent *a, const char *kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Asks every driver again what this node can do (POST /v1/probe); on failure the old answers stay. */
int agent_probe(struct agent *a, struct err **err);

/* Caller frees. */
struct node_info *agent_describe(const struct agent *a);
