#include "fault/conn_choice.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core/cleanup.h"
#include "fault/proc_choice.h"

#define OWNED_MAX 65536

const char *const conn_role_words[CONN_ROLE_MAX] = {
	[CONN_ANY] = "any",
	[CONN_CLIENT] = "client",
	[CONN_REPLICATION] = "replication",
	[CONN_DCS] = "dcs",
	[CONN_OTHER] = "other",
};

struct inodes {
	uint32_t *list;
	size_t count;
};

static void inodes_done(struct inodes *n)
{
	free(n->list);
}

/* Sockets among the open files of a process. */
static int add_sockets_of(pid_t pid, struct inodes *out, struct err **err)
{
	_cleanup_free_ uint32_t *list = NULL, *more = NULL;
	size_t count = 0;
	int r;

	r = proc_sockets(pid, &list, &count, err);
	if (r < 0 || count == 0)
		return r;
	if (out->count > OWNED_MAX)
		return err_errno(err, E2BIG, "list the sockets of replication");
	more = reallocarray(out->list, out->count + count, sizeof(*more));
	if (!more)
		return err_errno(err, ENOMEM, "list the sockets of replication");
	memcpy(more + out->count, list, count * sizeof(*list));
	out->list = steal_ptr(more);
	out->count += count;
	return 0;
}

static int find_replication(const struct instance_info *i, const struct proc_id *postmaster,
	struct inodes *out, struct err **err)
{
	char *titles[] = {(char *)"walsender", (char *)"walreceiver",
		(char *)"logical replication apply worker",
		(char *)"logical replication parallel apply worker",
		(char *)"logical replication tablesync worker",
		(char *)"logical replication worker", (char *)"slotsync worker", NULL};
	_cleanup_free_ struct proc_choice *list = NULL;
	size_t n;
	int r;

	r = proc_choose_titles(postmaster, i->cluster_name, titles, &list, &n, err);
	for (size_t k = 0; r >= 0 && k < n; k++)
		r = add_sockets_of(list[k].id.pid, out, err);
	return r;
}

static bool is_owned(const struct inodes *n, uint32_t inode)
{
	for (size_t i = 0; inode != 0 && i < n->count; i++)
		if (n->list[i] == inode)
			return true;
	return false;
}

static enum conn_role role_of(const struct sock_info *s, uint16_t port, const struct inodes *replication,
	const struct conn_store *store, const struct params *params)
{
	if (is_owned(replication, s->inode))
		return CONN_REPLICATION;
	if (s->local_port == port)
		return CONN_CLIENT;
	return conn_store_has(store, s, params_peers(params, "peers")) ? CONN_DCS : CONN_OTHER;
}

static bool in_range(const struct peer *p, uint16_t port)
{
	return port >= p->port_low && port <= p->port_high;
}

static bool has_prefix(const uint8_t *address, const uint8_t *prefix, unsigned bits)
{
	unsigned bytes = bits / 8, rest = bits % 8;

	if (memcmp(address, prefix, bytes) != 0)
		return false;
	return rest == 0 || ((address[bytes] ^ prefix[bytes]) & (0xff00 >> rest & 0xff)) == 0;
}

bool conn_matches_peer(const struct sock_info *s, const struct peer *p)
{
	if (!in_range(p, s->local_port) && !in_range(p, s->remote_port))
		return false;
	if (p->family == 0)
		return true;
	return p->family == s->family && has_prefix(s->remote, p->address, p->prefix_length);
}

static bool matches_any(const struct sock_info *s, const struct peer_list *peers)
{
	for (size_t i = 0; i < peers->count; i++)
		if (conn_matches_peer(s, &peers->peers[i]))
			return true;
	return false;
}

static bool is_meant(const struct conn *c, const struct params *params)
{
	enum conn_role role = (enum conn_role)params_number(params, "role");

	if (role != CONN_ANY && c->role != role)
		return false;
	if (!matches_any(&c->socket, params_peers(params, "peers")))
		return false;
	return !params_is_set(params, "ports") || matches_any(&c->socket, params_peers(params, "ports"));
}

int conn_choose(int fd, const struct instance_info *i, const struct proc_id *postmaster,
	const struct conn_store *store, const struct params *params, struct conn **ret, size_t *ret_count,
	size_t *ret_dcs, struct err **err)
{
	_cleanup_(inodes_done) struct inodes replication = {0};
	_cleanup_free_ struct sock_info *sockets = NULL;
	struct conn *list;
	size_t n, count = 0, dcs = 0;
	int r;

	r = sock_diag_list(fd, &sockets, &n, err);
	if (r >= 0)
		r = find_replication(i, postmaster, &replication, err);
	if (r < 0)
		return r;
	list = calloc(n + 1, sizeof(*list));
	if (!list)
		return err_errno(err, ENOMEM, "choose connections");
	for (size_t k = 0; k < n; k++) {
		struct conn c = {.socket = sockets[k],
			.role = role_of(&sockets[k], i->port, &replication, store, params)};

		dcs += c.role == CONN_DCS;
		if (is_meant(&c, params))
			list[count++] = c;
	}
	*ret = list;
	*ret_count = count;
	*ret_dcs = dcs;
	return 0;
}
