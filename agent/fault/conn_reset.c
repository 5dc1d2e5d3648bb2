/*
 * conn-reset: TCP connections of the instance's network namespace are destroyed by the kernel, at
 * both ends. Nothing is held but the timer that repeats it, and up to the first round the socket
 * that asks for it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/json.h"
#include "fault/conn_choice.h"
#include "fault/fault.h"
#include "fault/net_target.h"
#include "instance/instance.h"
#include "fault/rounds.h"
#include "fault/share.h"
#include "kernel/netns.h"

#define FAULT	   "conn-reset"
#define LISTED_MAX 64
_Static_assert(sizeof(struct conn) <= SHARE_ITEM_MAX, "share_pick()");

struct reset {
	const struct fault *fault;
	struct instance_info *instance;	/* the present one: a restart changes pid and namespace */
	int diag_fd;			/* made when it was armed; -1 after the first round */
	uint64_t every_ns, percent_ppm;
	struct rounds rounds;
	char *remark;			/* NULL: none */

	uint64_t hits, matched, by_role[CONN_ROLE_MAX];
	struct conn listed[LISTED_MAX];
	size_t n_listed;
};

static void reset_free(struct reset *x)
{
	rounds_done(&x->rounds);
	free(x->remark);
	if (x->diag_fd >= 0)
		close(x->diag_fd);
	instance_info_free(x->instance);
	free(x);
}
DEFINE_CLEANUP(struct reset, reset_free)

/* A connection with ourselves over the loopback, for the trial. */
static int own_connection(int ret[static 2], uint16_t *ret_port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	_cleanup_close_ int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), here = -1;
	struct sockaddr *address = (struct sockaddr *)&a;
	socklen_t length = sizeof(a);

	here = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || here < 0 || bind(listener, address, length) < 0 ||
	    listen(listener, 1) < 0 || getsockname(listener, address, &length) < 0 ||
	    connect(here, address, length) < 0 || getsockname(here, address, &length) < 0)
		return -errno;
	ret[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (ret[1] < 0)
		return -errno;
	ret[0] = steal_fd(&here);
	*ret_port = ntohs(a.sin_port);
	return 0;
}

static int destroy_own(int diag_fd, int fd, uint16_t port, struct err **err)
{
	_cleanup_free_ struct sock_info *list = NULL;
	struct stat st;
	size_t n;
	int r;

	if (fstat(fd, &st) < 0)
		return err_errno(err, errno, "look at a socket");
	r = sock_diag_list(diag_fd, &list, &n, err);
	if (r < 0)
		return err_wrap(err, r, "list sockets (CONFIG_INET_DIAG, CONFIG_INET_TCP_DIAG)");
	for (size_t i = 0; i < n; i++) {
		if (list[i].inode != st.st_ino || list[i].local_port != port)
			continue;
		r = sock_diag_destroy(diag_fd, &list[i], err);
		return r < 0 ? err_wrap(err, r, "destroy a connection of our own "
			"(CONFIG_INET_DIAG_DESTROY, Linux 4.5; CAP_NET_ADMIN)") : 0;
	}
	return err_set(err, EOPNOTSUPP, "sock_diag does not list a connection that is there");
}

static int try_it(struct err **err)
{
	_cleanup_close_ int netns = -1, diag = -1, here = -1, there = -1;
	int ends[2] = {-1, -1}, r;
	uint16_t port = 0;
	char c;

	r = own_connection(ends, &port);
	here = ends[0];
	there = ends[1];
	if (r < 0)
		return err_errno(err, r, "connect with ourselves over the loopback");
	r = netns_open(getpid(), &netns, err);
	if (r >= 0)
		r = sock_diag_open(netns, &diag, err);
	if (r >= 0)
		r = destroy_own(diag, here, port, err);
	if (r >= 0 && (recv(here, &c, 1, MSG_DONTWAIT) >= 0 || errno == EAGAIN))
		r = err_set(err, EOPNOTSUPP, "a connection that was destroyed goes on");
	return r;
}

static int probe(const struct node *node, struct support *ret, struct err **err)
{
	_cleanup_err_ struct err *why = NULL;
	int r;

	(void)node;
	(void)err;
	r = try_it(&why);
	ret->supported = r >= 0;
	if (r >= 0)
		ret->mechanism = strdup("sock_diag");
	else
		ret->reason = strdup(err_text(why));
	return 0;
}

static int open_diag(const struct instance_info *i, int *ret_fd, struct err **err)
{
	_cleanup_close_ int netns = -1;
	uint64_t inode;
	int r;

	r = net_target_netns(i, &netns, &inode, err);
	return r < 0 ? r : sock_diag_open(netns, ret_fd, err);
}

static int reset_round(void *data, struct err **err);

/* Those that role, peers and ports mean now. Who is the manager matters for role dcs alone: for the others it
 * only gives a connection its name. *ret_remark: what the evidence should say of it; NULL: not asked for. */
static int choose(const struct reset *x, int diag_fd, struct conn **ret, size_t *ret_count, char **ret_remark,
	struct err **err)
{
	const struct params *p = x->fault->params;
	struct proc_id postmaster = {x->instance->pid, x->instance->start_ticks};
	_cleanup_(conn_store_done) struct conn_store store = {0};
	enum conn_role role = (enum conn_role)params_number(p, "role");
	size_t n_dcs = 0;
	int r = 0;

	if (role == CONN_DCS) {
		r = conn_store_find(&postmaster, x->instance, &store, err);
		if (r >= 0)
			r = conn_store_check(&store, params_peers(p, "peers"), err);
	} else if (role == CONN_ANY) {
		conn_store_find(&postmaster, x->instance, &store, NULL);
	}
	if (r >= 0)
		r = conn_choose(diag_fd, x->instance, &postmaster, &store, p, ret, ret_count, &n_dcs, err);
	if (r >= 0 && ret_remark && role == CONN_DCS && n_dcs == 0)
		*ret_remark = conn_store_remark(&store, params_peers(p, "peers"));
	return r;
}

static int arm(struct fault *f, struct undo *ret, struct err **err)
{
	_cleanup_(reset_freep) struct reset *x = calloc(1, sizeof(*x));
	_cleanup_free_ struct conn *list = NULL;
	size_t n;
	int r;

	if (!x)
		return err_errno(err, ENOMEM, "arm " FAULT);
	x->diag_fd = -1;
	x->fault = f;
	x->rounds = (struct rounds){
		.every_ns = params_number(f->params, "every"),
		.strike = reset_round,
		.data = x,
	};
	x->percent_ppm = params_number(f->params, "percent");
	x->instance = instance_info_copy(f->instance);
	if (!x->instance)
		return err_errno(err, ENOMEM, "arm " FAULT);
	node_point(f->node, FAULT, "opening");
	r = open_diag(x->instance, &x->diag_fd, err);
	if (r >= 0)	/* a look that changes nothing: firing will need the same */
		r = choose(x, x->diag_fd, &list, &n, &x->remark, err);
	node_point(f->node, FAULT, "opened");
	if (r < 0)
		return r;
	ret->record = json_object();
	f->state = steal_ptr(x);
	f->mechanism = "sock_diag";
	f->lifetime = LIFETIME_HELD;
	return 0;
}

static void hit(struct reset *x, const struct conn *c)
{
	x->hits++;
	x->by_role[c->role]++;
	if (x->n_listed < LISTED_MAX)
		x->listed[x->n_listed++] = *c;
}

static int reset_chosen(struct reset *x, int diag_fd, struct err **err)
{
	_cleanup_free_ struct conn *list = NULL;
	size_t n, count;
	int r;

	r = choose(x, diag_fd, &list, &n, NULL, err);
	if (r < 0)
		return r;
	x->matched += n;
	count = share_pick(list, n, sizeof(*list), x->percent_ppm, 0);
	for (size_t i = 0; i < count; i++) {
		struct err *why = NULL;

		r = sock_diag_destroy(diag_fd, &list[i].socket, &why);
		if (r >= 0) {
			hit(x, &list[i]);
		} else if (r != -ENOENT) {	/* of two ends here the first took the other along */
			r = err_set(err, r, "%s", err_text(why));
			err_free(why);
			return r;
		}
		err_free(why);
	}
	return 0;
}

/* A restarted instance is another process, perhaps in another namespace, under the same name. */
static int find_instance(struct reset *x, struct err **err)
{
	struct proc_id postmaster = {x->instance->pid, x->instance->start_ticks};
	struct instance_info *found;
	int r;

	if (proc_is_alive(&postmaster))
		return 0;
	r = instance_find(x->fault->node->name, x->instance->name, &found, err);
	if (r < 0)
		return r;
	instance_info_free(x->instance);
	x->instance = found;
	return 0;
}

static int reset_round(void *data, struct err **err)
{
	struct reset *x = data;
	/* It holds the namespace, which must not outlive its pod: only the first round finds it. */
	_cleanup_close_ int diag_fd = steal_fd(&x->diag_fd);
	int r = 0;

	if (diag_fd < 0) {
		r = find_instance(x, err);
		if (r >= 0)
			r = open_diag(x->instance, &diag_fd, err);
	}
	if (r < 0)
		return r;
	node_point(x->fault->node, FAULT, "resetting");
	r = reset_chosen(x, diag_fd, err);
	node_point(x->fault->node, FAULT, "reset");
	return r;
}

static int fire(struct fault *f, struct err **err)
{
	struct reset *x = f->state;

	return rounds_begin(&x->rounds, f->node, err);
}

static void add_end(cJSON *o, const char *name, int family, const uint8_t *address, uint16_t port)
{
	char words[INET6_ADDRSTRLEN] = "", text[INET6_ADDRSTRLEN + 16];

	inet_ntop(family, address, words, sizeof(words));
	snprintf(text, sizeof(text), family == AF_INET6 ? "[%s]:%u" : "%s:%u", words, port);
	json_add_string(o, name, text);
}

static cJSON *listed_to_json(const struct reset *x)
{
	cJSON *list = json_array();

	for (size_t i = 0; i < x->n_listed; i++) {
		const struct sock_info *s = &x->listed[i].socket;
		cJSON *o = json_object();

		json_add_string(o, "role", conn_role_words[x->listed[i].role]);
		add_end(o, "local", s->family, s->local, s->local_port);
		add_end(o, "remote", s->family, s->remote, s->remote_port);
		json_append(list, o);
	}
	return list;
}

static int observe(const struct fault *f, struct evidence *ret, struct err **err)
{
	const struct reset *x = f->state;
	cJSON *roles = json_object();

	(void)err;
	ret->hits = x->hits;
	ret->detail = json_object();
	json_add_uint(ret->detail, "rounds", x->rounds.count);
	json_add_uint(ret->detail, "matched", x->matched);
	json_add_item(ret->detail, "reset", roles);
	for (int role = CONN_CLIENT; role < CONN_ROLE_MAX; role++)
		json_add_uint(roles, conn_role_words[role], x->by_role[role]);
	json_add_item(ret->detail, "connections", listed_to_json(x));
	json_add_uint(ret->detail, "not_listed", x->hits - x->n_listed);
	if (x->remark)
		json_add_string(ret->detail, "remark", x->remark);
	if (x->rounds.last)
		json_add_string(ret->detail, "last_round", err_text(x->rounds.last));
	return 0;
}

static void release(struct fault *f)
{
	reset_free(f->state);
	f->state = NULL;
}

/* What was struck stays struck, and the timer ends with release(): no revert. */
const struct fault_driver driver_conn_reset = {
	.spec = &fault_conn_reset,
	.probe = probe,
	.arm = arm,
	.fire = fire,
	.observe = observe,
	.release = release,
};
