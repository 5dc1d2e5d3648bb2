#include "fault/conn_store.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/cleanup.h"
#include "core/units.h"
#include "fault/conn_choice.h"
#include "fault/proc_named.h"
#include "instance/dcs.h"

#define ENVIRONMENT_MAX (256UL << 10)
#define SOCKETS_MAX	65536

void conn_store_done(struct conn_store *s)
{
	free(s->sockets);
	*s = (struct conn_store){0};
}

/* A variable's value among NUL-terminated "NAME=VALUE"; what is cut off is none. */
static const char *variable(const char *text, size_t length, const char *name)
{
	size_t n = strlen(name);

	for (const char *at = text, *end = text + length; at < end;) {
		const char *nul = memchr(at, '\0', (size_t)(end - at));

		if (!nul)
			return NULL;
		if (strncmp(at, name, n) == 0 && at[n] == '=')
			return at + n + 1;
		at = nul + 1;
	}
	return NULL;
}

void conn_store_read_environment(struct conn_store *s, const char *text, size_t length)
{
	const char *host = variable(text, length, "KUBERNETES_SERVICE_HOST");
	const char *port = variable(text, length, "KUBERNETES_SERVICE_PORT");
	uint8_t address[16] = {0};
	uint64_t number;
	int family;

	if (!host || !port || count_parse(port, 1, UINT16_MAX, &number, NULL) < 0)
		return;
	family = strchr(host, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(family, host, address) != 1)
		return;
	s->family = family;
	memcpy(s->api, address, sizeof(address));
	s->api_port = (uint16_t)number;
}

static int add_process(struct conn_store *s, pid_t pid, struct err **err)
{
	_cleanup_free_ char *environment = NULL;
	_cleanup_free_ uint32_t *list = NULL;
	size_t length, n = 0;
	uint32_t *more;
	int r;

	if (!s->family && proc_read_file(pid, "environ", ENVIRONMENT_MAX, &environment, &length, NULL) >= 0)
		conn_store_read_environment(s, environment, length);
	r = proc_sockets(pid, &list, &n, err);
	if (r < 0 || n == 0)
		return r;
	if (s->n_sockets > SOCKETS_MAX)
		return err_errno(err, E2BIG, "list the manager's sockets");
	more = reallocarray(s->sockets, s->n_sockets + n, sizeof(*more));
	if (!more)
		return err_errno(err, ENOMEM, "list the manager's sockets");
	memcpy(more + s->n_sockets, list, n * sizeof(*list));
	s->sockets = more;
	s->n_sockets += n;
	return 0;
}

int conn_store_find(const struct proc_id *postmaster, const struct instance_info *instance,
	struct conn_store *ret, struct err **err)
{
	_cleanup_(conn_store_done) struct conn_store s = {0};
	_cleanup_free_ struct proc_choice *list = NULL;
	size_t n = 0;
	int r;

	r = proc_choose_manager(postmaster, instance, &list, &n, err);
	for (size_t i = 0; r >= 0 && i < n; i++) {
		s.manager = list[i].kind;
		r = add_process(&s, list[i].id.pid, err);
	}
	if (r == -EPERM)
		return err_wrap(err, r, "role dcs (role any with peers dcs, or the store's address and port, resets "
			"the connections to it whosever they are)");
	if (r < 0)
		return r;
	*ret = s;
	s = (struct conn_store){0};
	return 0;
}

static bool is_store_peer(const struct peer *p)
{
	return p->label && strncmp(p->label, "dcs", 3) == 0 && (!p->label[3] || p->label[3] == ':');
}

static bool has_store_peer(const struct peer_list *peers)
{
	for (size_t i = 0; i < peers->count; i++)
		if (is_store_peer(&peers->peers[i]))
			return true;
	return false;
}

char *conn_store_remark(const struct conn_store *s, const struct peer_list *peers)
{
	char *text;

	if (asprintf(&text, "no connection of %s's to a store was found at arming%s", s->manager,
		    has_store_peer(peers) ? "" : "; name it with peers dcs") < 0)
		return NULL;
	return text;
}

int conn_store_check(const struct conn_store *s, const struct peer_list *peers, struct err **err)
{
	if (has_store_peer(peers))
		return 0;
	if (strcmp(s->manager, "repmgrd") == 0 || strcmp(s->manager, "pg_autoctl") == 0)
		return err_set(err, EOPNOTSUPP,
			"role dcs: %s has no configuration store but PostgreSQL itself", s->manager);
	if (strcmp(s->manager, "CloudNativePG") == 0 && !s->family)
		return err_set(err, EOPNOTSUPP,
			"role dcs: the store of %s is the Kubernetes API server, and its environment does not tell "
			"where that is (KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT); name it with peers dcs",
			s->manager);
	return 0;
}

static bool is_managers(const struct conn_store *s, uint32_t inode)
{
	for (size_t i = 0; inode != 0 && i < s->n_sockets; i++)
		if (s->sockets[i] == inode)
			return true;
	return false;
}

bool conn_store_has(const struct conn_store *s, const struct sock_info *socket, const struct peer_list *peers)
{
	if (!is_managers(s, socket->inode))
		return false;
	if (dcs_is_store_port(socket->remote_port))
		return true;
	if (s->family && s->family == socket->family && s->api_port == socket->remote_port &&
	    memcmp(s->api, socket->remote, s->family == AF_INET ? 4 : 16) == 0)
		return true;
	for (size_t i = 0; i < peers->count; i++)
		if (is_store_peer(&peers->peers[i]) && conn_matches_peer(socket, &peers->peers[i]))
			return true;
	return false;
}
