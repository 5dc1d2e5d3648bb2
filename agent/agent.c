#include "agent.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/utsname.h>
#include <systemd/sd-daemon.h>
#include "api/event_log.h"
#include "api/server.h"
#include "core/clock.h"
#include "core/durable.h"
#include "core/log.h"
#include "instance/instance.h"
#include "kubeapi/kubernetes.h"

#define LEAVE_NS      (2 * NS_PER_S)
#define LEAVE_LOOK_US 20000

void agent_config_done(struct agent_config *c)
{
	free(c->socket_path);
	free(c->journal_path);
	free(c->node_name);
	free(c->listen);
	free(c->tls_cert);
	free(c->tls_key);
	free(c->tls_ca);
	strv_free(c->tls_allowed_names);
	strv_free(c->tls_metrics_names);
	free(c->halt_at);
	strv_free(c->limits.faults_allowed);
	strv_free(c->limits.clusters_allowed);
	free(c->kubernetes.kubeconfig);
	free(c->kubernetes.token_audience);
	free(c->kubernetes.namespace);
	free(c->kubernetes.stop_config_map);
	closep(&c->ready_fd);
	*c = (struct agent_config){.ready_fd = -1};
}

/* Every event is told here once: to the log, and to those who follow. */
static void on_event(const struct agent_event *event, void *data)
{
	struct agent *a = data;
	bool is_error = strcmp(event->kind, "error") == 0;

	log_write(is_error ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, "%s%s%s",
		event->experiment ? event->experiment : "", event->experiment ? ": " : "",
		event->text);
	event_log_add(a->events, event);
	if (a->kubernetes && event->state)
		kubernetes_look_at_claims(a->kubernetes);
}

void agent_tell(struct agent *a, const char *kind, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	struct agent_event event = {.kind = (char *)kind};
	va_list args;
	int n;

	va_start(args, fmt);
	n = vasprintf(&text, fmt, args);
	va_end(args);
	if (n < 0)
		abort();
	event.text = text;
	on_event(&event, a);
}

static int check_target(struct instance_info *i, const struct arm_request *request, void *data,
	struct err **err)
{
	struct agent *a = data;

	if (!a->kubernetes)
		return 0;
	kubernetes_describe(a->kubernetes, i);
	return kubernetes_check_target(a->kubernetes, i, request, err);
}

static int check_fire(const char *instance, uint64_t duration_ms, void *data, struct err **err)
{
	struct agent *a = data;

	return a->kubernetes ? kubernetes_check_fire(a->kubernetes, instance, duration_ms, err) : 0;
}

/* Described: a cluster's name may be the API server's word. */
static int list_instances(struct instance_info ***ret, size_t *ret_count, void *data, struct err **err)
{
	struct agent *a = data;
	int r;

	r = instance_scan(a->config.node_name, ret, ret_count, err);
	for (size_t i = 0; r >= 0 && a->kubernetes && i < *ret_count; i++)
		kubernetes_describe(a->kubernetes, (*ret)[i]);
	return r;
}

static int read_boot_id(char **ret, struct err **err)
{
	size_t length;
	int r;

	r = file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 128, ret, &length, err);
	if (r < 0)
		return r;
	(*ret)[strcspn(*ret, "\n")] = '\0';
	return 0;
}

static void capabilities_free(struct capability *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(list[i].fault);
		free(list[i].mechanism);
		free(list[i].reason);
	}
	free(list);
}

static int probe_one(const struct node *node, const struct fault_driver *driver,
	struct capability *ret, struct err **err)
{
	struct support support = {0};
	_cleanup_err_ struct err *why = NULL;
	int r;

	ret->fault = strdup(driver->spec->name);
	if (!ret->fault)
		return err_set(err, ENOMEM, "no memory");
	r = driver->probe(node, &support, &why);
	if (r < 0) {
		/* Not even the trial could be made: that too is an answer. */
		support_done(&support);
		ret->reason = strdup(err_text(why));
		return 0;
	}
	ret->supported = support.supported;
	ret->mechanism = steal_ptr(support.mechanism);
	ret->reason = steal_ptr(support.reason);
	return 0;
}

int agent_probe(struct agent *a, struct err **err)
{
	const struct fault_driver *const *drivers = registry_drivers();
	struct capability *list;
	size_t count = 0;
	int r;

	while (drivers[count])
		count++;
	list = calloc(count + 1, sizeof(*list));
	if (!list)
		return err_set(err, ENOMEM, "no memory");
	for (size_t i = 0; i < count; i++) {
		r = probe_one(&a->node, drivers[i], &list[i], err);
		if (r < 0) {
			capabilities_free(list, count);
			return r;
		}
	}
	capabilities_free(a->capabilities, a->n_capabilities);
	a->capabilities = list;
	a->n_capabilities = count;
	/* Loading BPF objects took memory that an idle agent has no use for. */
	malloc_trim(0);
	return 0;
}

static int on_owner_ended(sd_event_source *s, int fd, uint32_t revents, void *data)
{
	struct agent *a = data;

	(void)fd, (void)revents;
	sd_event_source_set_enabled(s, SD_EVENT_OFF);
	log_info("the process that started this agent ended");
	a->owner_ended = true;
	if (a->server && api_server_is_used(a->server))
		return 0;
	return sd_event_exit(a->event, 0);
}

/* Everything is reverted by then; the API server gets a moment to be told. */
static int on_leaving(sd_event_source *s, uint64_t usec, void *data)
{
	struct agent *a = data;

	(void)usec;	/* when it was due, not now */
	if (now_ns() >= a->leave_by_ns || !a->kubernetes || !kubernetes_has_claims(a->kubernetes) ||
	    sd_event_source_set_time(s, now_ns() / NS_PER_US + LEAVE_LOOK_US) < 0)
		return sd_event_exit(a->event, 0);
	return 0;
}

static int on_terminate(sd_event_source *s, const struct signalfd_siginfo *info, void *data)
{
	struct agent *a = data;
	size_t left;

	(void)s, (void)info;
	if (a->leave_by_ns)
		return sd_event_exit(a->event, 0);
	a->leave_by_ns = now_ns() + LEAVE_NS;
	experiments_revert_all(a->experiments, END_SHUTDOWN, &left, NULL);
	if (!a->kubernetes || !kubernetes_has_claims(a->kubernetes) ||
	    sd_event_source_set_enabled(a->leaving, SD_EVENT_ON) < 0)
		return sd_event_exit(a->event, 0);
	return 0;
}

static int watch_owner(struct agent *a, struct err **err)
{
	sd_event_source *source = NULL;
	int fd, r;

	if (a->config.owner <= 0)
		return 0;
	fd = pidfd_open(a->config.owner, 0);
	if (fd < 0)
		return err_errno(err, errno, "owner process %d", (int)a->config.owner);
	r = sd_event_add_io(a->event, &source, fd, EPOLLIN, on_owner_ended, a);
	if (r >= 0)
		r = sd_event_source_set_io_fd_own(source, true);
	else
		close(fd);
	if (r >= 0)
		r = sd_event_source_set_floating(source, true);
	sd_event_source_unref(source);
	return r < 0 ? err_errno(err, r, "watch owner process %d", (int)a->config.owner) : 0;
}

/* Signals are blocked first of all, so that every thread started later has them blocked too. */
static int loop_new(struct agent *a, struct err **err)
{
	sigset_t ends;
	int r;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	if (sigprocmask(SIG_BLOCK, &ends, NULL) < 0)
		return err_errno(err, errno, "block signals");
	r = sd_event_new(&a->event);
	if (r >= 0)
		r = sd_event_add_signal(a->event, NULL, SIGTERM, on_terminate, a);
	if (r >= 0)
		r = sd_event_add_signal(a->event, NULL, SIGINT, on_terminate, a);
	if (r >= 0)
		r = sd_event_add_time(a->event, &a->leaving, CLOCK_MONOTONIC, 0, 1, on_leaving, a);
	if (r >= 0)
		r = sd_event_source_set_enabled(a->leaving, SD_EVENT_OFF);
	if (r < 0)
		return err_errno(err, r, "event loop");
	return watch_owner(a, err);
}

static int name_node(struct agent *a, struct err **err)
{
	struct utsname u;

	if (!a->config.node_name) {
		uname(&u);
		a->config.node_name = strdup(u.nodename);
		if (!a->config.node_name)
			return err_set(err, ENOMEM, "no memory");
	}
	a->node = (struct node){
		.event = a->event,
		.name = a->config.node_name,
		.journal_path = a->config.journal_path,
		.halt_at = a->config.halt_at,
		.without_tcx = a->config.without_tcx,
	};
	return 0;
}

static int start_experiments(struct agent *a, struct err **err)
{
	struct experiments_config config = {
		.node = &a->node,
		.boot_id = a->boot_id,
		.journal = a->journal,
		.limits = &a->config.limits,
		.listener = on_event,
		.data = a,
		.find_fault = registry_find,
		.find_instance = instance_find,
		.check_target = check_target,
		.check_fire = check_fire,
		.list_instances = a->config.kubernetes.authorize ? NULL : list_instances,
	};
	const char *reason;
	int r;

	r = experiments_new(&config, &a->experiments, err);
	if (r >= 0)
		r = experiments_replay(a->experiments, err);
	if (r >= 0 && !experiments_accepting(a->experiments, &reason))
		log_error("this node takes no new fault: %s", reason);
	return r;
}

static int tell_ready(struct agent *a, struct err **err)
{
	static const char word[] = "ready\n";
	const char *where = api_server_where(a->server);

	sd_notify(0, "READY=1");
	log_info("agent of node %s listens on %s%s%s", a->node.name, a->config.socket_path, where ? " and " : "",
		where ? where : "");
	if (a->config.ready_fd < 0)
		return 0;
	/* Whoever waited for it may have been interrupted; its end is an owner's. */
	if (write(a->config.ready_fd, word, sizeof(word) - 1) < 0 && !(errno == EPIPE && a->config.owner > 0))
		return err_errno(err, errno, "ready fd %d", a->config.ready_fd);
	closep(&a->config.ready_fd);
	a->config.ready_fd = -1;
	return 0;
}

static int agent_start(struct agent *a, struct err **err)
{
	int r;

	r = registry_check(err);
	if (r >= 0)
		r = loop_new(a, err);
	if (r >= 0)
		r = name_node(a, err);
	if (r >= 0)
		r = read_boot_id(&a->boot_id, err);
	if (r >= 0)
		r = journal_open(a->config.journal_path, &a->journal, err);
	if (r < 0)
		return r;
	a->events = event_log_new();
	if (!a->events)
		return err_set(err, ENOMEM, "no memory");
	/* What an earlier agent left goes first: before probing, before any client. */
	r = start_experiments(a, err);
	if (r >= 0)
		r = agent_probe(a, err);
	if (r >= 0 && a->config.kubernetes.enabled)
		r = kubernetes_new(a, &a->kubernetes, err);
	if (r >= 0)
		r = api_server_new(a, &a->server, err);
	if (r >= 0)
		r = tell_ready(a, err);
	return r;
}

int agent_new(struct agent_config *config, struct agent **ret, struct err **err)
{
	struct agent *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return err_set(err, ENOMEM, "no memory");
	a->config = *config;
	*config = (struct agent_config){.ready_fd = -1};
	r = agent_start(a, err);
	if (r < 0) {
		agent_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

int agent_run(struct agent *a, struct err **err)
{
	const char *reason;
	size_t left = 0;
	int r;

	r = sd_event_loop(a->event);
	sd_notify(0, "STOPPING=1");
	experiments_revert_all(a->experiments, END_SHUTDOWN, &left, NULL);
	if (r < 0)
		return err_errno(err, r, "event loop");
	if (left == 0)
		return 0;
	experiments_accepting(a->experiments, &reason);
	return err_set(err, EIO,
		"%zu %s could not be reverted and stay in the journal %s for the next start or "
		"'pgjolt-agent revert-all'", left, left == 1 ? "fault" : "faults",
		a->config.journal_path);
}

void agent_free(struct agent *a)
{
	if (!a)
		return;
	api_server_free(a->server);
	kubernetes_free(steal_ptr(a->kubernetes));
	experiments_free(a->experiments);
	event_log_free(a->events);
	journal_close(a->journal);
	capabilities_free(a->capabilities, a->n_capabilities);
	free(a->boot_id);
	sd_event_source_disable_unref(a->leaving);
	sd_event_unref(a->event);
	agent_config_done(&a->config);
	free(a);
}

static int capabilities_copy(const struct agent *a, struct node_info *n)
{
	n->capabilities = calloc(a->n_capabilities + 1, sizeof(*n->capabilities));
	if (!n->capabilities)
		return -ENOMEM;
	n->n_capabilities = a->n_capabilities;
	for (size_t i = 0; i < a->n_capabilities; i++) {
		const struct capability *c = &a->capabilities[i];

		n->capabilities[i] = (struct capability){
			.fault = strdup(c->fault),
			.supported = c->supported,
			.mechanism = c->mechanism ? strdup(c->mechanism) : NULL,
			.reason = c->reason ? strdup(c->reason) : NULL,
		};
	}
	return 0;
}

struct node_info *agent_describe(const struct agent *a)
{
	_cleanup_(node_info_freep) struct node_info *n = calloc(1, sizeof(*n));
	const char *reason;
	struct utsname u;

	if (!n || capabilities_copy(a, n) < 0)
		return NULL;
	uname(&u);
	n->name = strdup(a->node.name);
	n->boot_id = strdup(a->boot_id);
	n->kernel = strdup(u.release);
	n->machine = strdup(u.machine);
	n->version = strdup(PGJOLT_VERSION);
	n->accepting = experiments_accepting(a->experiments, &reason);
	n->reason = reason ? strdup(reason) : NULL;
	n->clock_ns = now_ns();
	return steal_ptr(n);
}
