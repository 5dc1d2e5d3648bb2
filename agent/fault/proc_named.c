#include "fault/proc_named.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include "core/cleanup.h"
#include "fault/conn_choice.h"
#include "instance/application.h"
#include "instance/process_kind.h"
#include "kernel/netns.h"
#include "kernel/sock_diag.h"

struct wanted {
	char *const *titles, *const *applications;
	const struct peer_list *clients;	/* NULL: any */
	uint16_t port;
	struct application_place place;
	struct sock_info *sockets;		/* of the instance's network namespace */
	size_t n_sockets;
};

static void wanted_done(struct wanted *w)
{
	free(w->sockets);
}

static int list_sockets(pid_t pid, struct wanted *w, struct err **err)
{
	_cleanup_close_ int netns = -1, diag = -1;
	int r;

	r = netns_open(pid, &netns, err);
	if (r >= 0)
		r = sock_diag_open(netns, &diag, err);
	return r < 0 ? r : sock_diag_list(diag, &w->sockets, &w->n_sockets, err);
}

static int wanted_init(struct wanted *w, const struct proc_id *postmaster,
	const struct instance_info *instance, const struct params *params, struct err **err)
{
	int r = 0;

	w->titles = params_texts(params, "titles");
	w->applications = params_texts(params, "application");
	w->port = instance->port;
	if (w->applications)
		r = application_place_find(postmaster->pid, &w->place, err);
	if (r < 0)
		return err_wrap(err, r == -ESRCH ? -ESTALE : r, "application");
	if (params_is_set(params, "client")) {
		w->clients = params_peers(params, "client");
		r = list_sockets(postmaster->pid, w, err);
	}
	return r < 0 ? err_wrap(err, r == -ESRCH ? -ESTALE : r, "client") : 0;
}

static bool has_session(const struct proc_choice *c)
{
	return strcmp(c->kind, "backend") == 0 || strcmp(c->kind, "walsender") == 0;
}

static bool is_application(const struct wanted *w, pid_t pid)
{
	_cleanup_free_ char *name = NULL;

	if (application_name(&w->place, pid, &name, NULL) < 0)
		return false;
	for (char *const *pattern = w->applications; *pattern; pattern++)
		if (strcmp(name, *pattern) == 0 || fnmatch(*pattern, name, 0) == 0)
			return true;
	return false;
}

static bool is_client(const struct wanted *w, const struct sock_info *s)
{
	for (size_t i = 0; i < w->clients->count; i++)
		if (conn_matches_peer(s, &w->clients->peers[i]))
			return true;
	return false;
}

/* Its own client's connection came in at our port; what else it has open (a foreign server) did not. */
static bool has_client(const struct wanted *w, pid_t pid)
{
	_cleanup_free_ uint32_t *inodes = NULL;
	size_t n = 0;

	if (proc_sockets(pid, &inodes, &n, NULL) < 0)
		return false;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < w->n_sockets; k++)
			if (w->sockets[k].inode == inodes[i] && w->sockets[k].local_port == w->port &&
			    is_client(w, &w->sockets[k]))
				return true;
	return false;
}

static bool is_wanted(const struct wanted *w, const struct proc_choice *c)
{
	if (!w->titles && !has_session(c))
		return false;
	if (w->applications && !is_application(w, c->id.pid))
		return false;
	return !w->clients || has_client(w, c->id.pid);
}

int proc_choose_named(const struct proc_id *postmaster, const struct instance_info *instance,
	const struct params *params, struct proc_choice **ret, size_t *ret_count, struct err **err)
{
	_cleanup_free_ struct proc_choice *list = NULL;
	_cleanup_(wanted_done) struct wanted w = {0};
	size_t n, kept = 0;
	int r;

	r = wanted_init(&w, postmaster, instance, params, err);
	if (r < 0)
		return r;
	if (w.titles)
		r = proc_choose_titles(postmaster, instance->cluster_name, w.titles, &list, &n, err);
	else
		r = proc_choose_tree(postmaster, instance->cluster_name, &list, &n, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		if (is_wanted(&w, &list[i]))
			list[kept++] = list[i];
	*ret = steal_ptr(list);
	*ret_count = kept;
	return 0;
}
