/* What must hold before a drill may begin. Anything else refuses it: exit 3, nothing touched. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/durable.h"
#include "run/run.h"

#define CLUSTER_SHOWN_MAX 64

/* One file a cluster; what a file's name cannot have is written as %XX. */
static char *lock_path(const char *folder, const char *cluster)
{
	char name[3 * CLUSTER_SHOWN_MAX + 1], *path = NULL, *to = name;

	for (size_t i = 0; cluster[i] && i < CLUSTER_SHOWN_MAX; i++) {
		unsigned char c = (unsigned char)cluster[i];

		if (isalnum(c) || (i && strchr("._-", c)))
			*to++ = (char)c;
		else
			to += sprintf(to, "%%%02X", c);
	}
	*to = '\0';
	if (asprintf(&path, "%s/%srun-%s.lock", folder, geteuid() == 0 ? "" : "pgjolt-", name) < 0)
		abort();
	return path;
}

static int lock_refused(int fd, const char *cluster, struct err **err)
{
	char holder[64] = "";

	if (read(fd, holder, sizeof(holder) - 1) > 0)
		holder[strcspn(holder, "\n")] = 0;
	return err_set(err, -EBUSY, "another %s on cluster %s; one at a time",
		holder[0] ? holder : "run is under way here", cluster);
}

int run_lock(struct run *r, bool alone, struct err **err)
{
	const char *own = getenv("XDG_RUNTIME_DIR");
	const char *folder = geteuid() == 0 ? "/run/pgjolt" : own ? own : "/tmp";
	_cleanup_free_ char *path = lock_path(folder, r->cluster.name);
	_cleanup_close_ int fd = -1;
	struct stat st;
	int k = folder_create(folder, 0755, err);

	if (k < 0)
		return k;
	/* Whoever had it may have removed it in between. */
	do {
		closep(&fd);
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
		if (fd < 0)
			return err_errno(err, errno, "%s", path);
		if (flock(fd, (alone ? LOCK_EX : LOCK_SH) | LOCK_NB) < 0)
			return lock_refused(fd, r->cluster.name, err);
		if (fstat(fd, &st) < 0)
			return err_errno(err, errno, "%s", path);
	} while (st.st_nlink == 0);
	/* Of several injections the newest is named. */
	if (ftruncate(fd, 0) < 0 || dprintf(fd, "%s is under way here (pid %d)\n",
			alone ? "run" : "injection", (int)getpid()) < 0)
		return err_errno(err, errno, "%s", path);
	r->lock_fd = steal_fd(&fd);
	r->lock_path = steal_ptr(path);
	return 0;
}

void run_unlock(struct run *r)
{
	/* Others' injections may share it: the last of them removes it. */
	if (r->lock_fd >= 0 && flock(r->lock_fd, LOCK_EX | LOCK_NB) == 0)
		unlink(r->lock_path);
	closep(&r->lock_fd);
	free(r->lock_path);
	r->lock_path = NULL;
}

static bool is_over(const struct experiment_info *e)
{
	return e->state == EXPERIMENT_CLEAN || e->state == EXPERIMENT_REFUSED;
}

static bool is_of_cluster(const struct run *r, const struct experiment_info *e)
{
	const struct target *t;

	return targets_find(&r->cluster.targets, e->instance, &t, NULL) >= 0;
}

/* runs: only those of drills are in the way. */
static int guard_experiment(const struct run *r, const struct experiment_info *e, bool runs,
	struct err **err)
{
	if (is_over(e) || !is_of_cluster(r, e) ||
		(runs && strncmp(e->run, RUN_ID_PREFIX, strlen(RUN_ID_PREFIX)) != 0))
		return 0;
	return err_set(err, -EBUSY,
		"experiment %s of another run is %s on %s: see `pgjolt status`, `pgjolt stop`",
		e->experiment, experiment_state_to_string(e->state), e->instance);
}

/* Also by a coordinator on another host. */
static int guard_idle(struct run *r, bool runs, struct err **err)
{
	struct agent_replies replies;
	int k;

	agent_ask_experiments(r->session->links, r->session->n_links, &replies);
	k = agent_replies_check(&replies, err);
	for (size_t i = 0; k >= 0 && i < replies.count; i++)
		for (size_t m = 0; k >= 0 && m < replies.items[i].count; m++)
			k = guard_experiment(r, replies.items[i].experiments[m], runs, err);
	agent_replies_done(&replies);
	return k;
}

static const struct capability *find_capability(const struct node_info *n, const char *fault)
{
	for (size_t i = 0; i < n->n_capabilities; i++)
		if (strcmp(n->capabilities[i].fault, fault) == 0)
			return &n->capabilities[i];
	return NULL;
}

static int guard_steps(const struct node_info *n, const struct step *steps, size_t count,
	struct err **err)
{
	for (size_t i = 0; i < count; i++) {
		const struct capability *c;
		int k = guard_steps(n, steps[i].steps, steps[i].n_steps, err);

		if (k < 0)
			return k;
		if (steps[i].kind != STEP_INJECT)
			continue;
		c = find_capability(n, steps[i].fault->name);
		if (!c || !c->supported)
			return err_set(err, -EOPNOTSUPP, "node %s cannot do %s: %s", n->name,
				steps[i].fault->name,
				c && c->reason ? c->reason : "its agent does not know it");
	}
	return 0;
}

static int guard_node(const struct run *r, const struct node_info *n, struct err **err)
{
	if (!n->accepting)
		return err_set(err, -EPERM, "node %s takes no faults now: %s", n->name,
			n->reason ? n->reason : "unknown reason");
	return guard_steps(n, r->drill->steps, r->drill->n_steps, err);
}

static int guard_nodes(struct run *r, struct err **err)
{
	struct agent_replies replies;
	int k;

	agent_ask_nodes(r->session->links, r->session->n_links, &replies);
	k = agent_replies_check(&replies, err);
	for (size_t i = 0; k >= 0 && i < replies.count; i++)
		k = guard_node(r, replies.items[i].node, err);
	agent_replies_done(&replies);
	return k;
}

static int guard_cluster(struct run *r, struct err **err)
{
	const struct cluster *c = &r->cluster;

	if (c->targets.count < r->drill->steady_instances)
		return err_set(err, -EPERM, "the drill wants %u instances, cluster %s has %zu",
			r->drill->steady_instances, c->name, c->targets.count);
	if (c->view && c->view->refuse)
		return err_set(err, -EPERM, "cluster %s: %s", c->name, c->view->refuse);
	if (c->view && c->view->paused)
		return err_set(err, -EPERM,
			"cluster %s is paused (maintenance): its manager would not fail over", c->name);
	if (!cluster_primary(c))
		return err_set(err, -EPERM, "cluster %s has no primary now", c->name);
	for (size_t i = 0; c->view && i < c->view->n_members; i++)
		if (!c->view->members[i].running)
			return err_set(err, -EPERM, "member %s is \"%s\", not running",
				c->view->members[i].name, c->view->members[i].state);
	return 0;
}

int run_guards_inject(struct run *r, struct err **err)
{
	int k = guard_idle(r, true, err);

	return k < 0 ? k : guard_nodes(r, err);
}

int run_guards(struct run *r, struct err **err)
{
	int k = guard_idle(r, false, err);

	if (k >= 0)
		k = guard_nodes(r, err);
	if (k >= 0)
		k = run_guard_agents(r, err);
	if (k >= 0)
		k = guard_cluster(r, err);
	return k;
}
