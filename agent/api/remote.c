#include "api/remote.h"

#include <libgen.h>
#include <string.h>
#include <sys/inotify.h>
#include "api/listen.h"
#include "api/server_internal.h"
#include "core/json.h"

#define SETTLE_US   200000	/* certificate and key are often written one after the other */
#define FILES	    3
#define WATCH_MASK (IN_CLOSE_WRITE | IN_CREATE | IN_MOVED_TO | IN_ONLYDIR)

struct remote {
	struct api_server *server;
	struct tls_files files;		/* those in use */
	sd_event_source *watches[FILES], *settle;
	char *told;			/* the last error, so that it is told once */
	char *where;			/* it listens, in words */
};

static int load(const struct remote *r, struct tls_files *ret, struct err **err)
{
	const struct agent_config *c = &r->server->agent->config;

	return tls_files_load(c->tls_cert, c->tls_key, c->tls_ca, ret, err);
}

static void tell_refused(struct remote *r, const struct err *why)
{
	if (r->told && strcmp(r->told, err_text(why)) == 0)
		return;
	free(r->told);
	r->told = strdup(err_text(why));
	agent_tell(r->server->agent, "error", "the new TLS files are not taken, those before stay: %s",
		err_text(why));
}

static int on_settled(sd_event_source *s, uint64_t usec, void *data)
{
	_cleanup_err_ struct err *why = NULL;
	struct tls_files files = {0};
	struct remote *r = data;

	(void)s, (void)usec;
	if (load(r, &files, &why) < 0) {
		tell_refused(r, why);
		return 0;
	}
	free(r->told);
	r->told = NULL;
	if (tls_files_equal(&files, &r->files)) {
		tls_files_done(&files);
		return 0;
	}
	if (listener_replace(r->server, &files, &why) < 0) {
		tls_files_done(&files);
		tell_refused(r, why);
		return 0;
	}
	tls_files_done(&r->files);
	r->files = files;
	agent_tell(r->server->agent, "audit", "new TLS files are in use: %s",
		r->server->agent->config.tls_cert);
	return 0;
}

static int on_change(sd_event_source *s, const struct inotify_event *event, void *data)
{
	struct remote *r = data;
	int code;

	(void)s, (void)event;
	code = sd_event_source_set_time_relative(r->settle, SETTLE_US);
	if (code >= 0)
		code = sd_event_source_set_enabled(r->settle, SD_EVENT_ONESHOT);
	if (code < 0)
		agent_tell(r->server->agent, "error", "TLS files: timer: %s", strerror(-code));
	return 0;
}

static int watch(struct remote *r, struct err **err)
{
	const struct agent_config *c = &r->server->agent->config;
	const char *const paths[FILES] = {c->tls_cert, c->tls_key, c->tls_ca};
	_cleanup_strv_ char **folders = NULL;
	sd_event *event = r->server->agent->event;
	int code;

	code = sd_event_add_time(event, &r->settle, CLOCK_MONOTONIC, 0, 1, on_settled, r);
	if (code >= 0)
		code = sd_event_source_set_enabled(r->settle, SD_EVENT_OFF);
	for (size_t i = 0; i < FILES && code >= 0; i++) {
		_cleanup_free_ char *copy = strdup(paths[i]);
		const char *folder = copy ? dirname(copy) : NULL;

		if (!folder || strv_contains(folders, folder))
			continue;
		strv_push(&folders, strdup(folder));
		code = sd_event_add_inotify(event, &r->watches[i], folder, WATCH_MASK, on_change, r);
	}
	/* A folder that is not there: load() says so with better words. */
	return code < 0 && code != -ENOENT ? err_errno(err, code, "watch the TLS files") : 0;
}

int remote_new(struct api_server *server, struct remote **ret, struct err **err)
{
	const struct agent_config *c = &server->agent->config;
	struct remote *r = calloc(1, sizeof(*r));
	int code, fd = -1;

	if (!r)
		return err_errno(err, -ENOMEM, "HTTP server");
	r->server = server;
	/* Watched first: a change after the reading is then seen. */
	code = MHD_is_feature_supported(MHD_FEATURE_TLS) == MHD_YES ? watch(r, err) :
		err_set(err, -EOPNOTSUPP, "listen %s: libmicrohttpd was built without TLS", c->listen);
	if (code >= 0)
		code = load(r, &r->files, err);
	if (code >= 0)
		code = listen_tcp(c->listen, &fd, &r->where, err);
	if (code >= 0)
		code = listener_new(server, fd, &r->files, err);
	if (code < 0) {
		remote_free(r);
		return code;
	}
	*ret = r;
	return 0;
}

void remote_free(struct remote *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < FILES; i++)
		sd_event_source_disable_unref(r->watches[i]);
	sd_event_source_disable_unref(r->settle);
	tls_files_done(&r->files);
	free(r->told);
	free(r->where);
	free(r);
}

const char *remote_where(const struct remote *r)
{
	return r->where;
}
