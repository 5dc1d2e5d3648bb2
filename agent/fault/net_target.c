#include "fault/net_target.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "bpf/net_match.h"
#include "core/cleanup.h"
#include "kernel/cgroup.h"
#include "kernel/netns.h"
#include "kernel/proc.h"

void net_target_done(struct net_target *t)
{
	closep(&t->netns_fd);
	free(t->links);
	*t = (struct net_target){.netns_fd = -1};
}

void net_target_close(struct net_target *t)
{
	closep(&t->netns_fd);
	t->netns_fd = -1;
}

/* The agent's own namespace, or that of the machine's init where the agent can see it. */
static int refuse_node_network(const struct instance_info *i, uint64_t netns, struct err **err)
{
	_cleanup_close_ int init_fd = -1;
	uint64_t own, init = 0;
	int r = netns_own_inode(&own, err);

	if (r < 0)
		return r;
	if (netns_open(1, &init_fd, NULL) == 0) {
		r = netns_inode(init_fd, &init, err);
		if (r < 0)
			return r;
	}
	if (i->host_network || netns == own || netns == init)
		return err_set(err, EPERM, "%s is in the node's own network, which is never touched",
			i->name);
	return 0;
}

/* Keeps those that a fault may act on. */
static size_t filter_links(struct link_info *links, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++)
		if (!links[i].loopback && !link_is_our_tap(&links[i]))
			links[kept++] = links[i];
	return kept;
}

int net_target_netns(const struct instance_info *i, int *ret_fd, uint64_t *ret_inode,
	struct err **err)
{
	const struct proc_id id = {i->pid, i->start_ticks};
	_cleanup_close_ int fd = -1;
	uint64_t inode;
	int r;

	r = netns_open(i->pid, &fd, err);
	/* Opened first, checked after: then the namespace is that of this very process. */
	if (!proc_is_alive(&id))
		return err_set(err, ESTALE, "%s (pid %d) is gone", i->name, (int)i->pid);
	if (r >= 0)
		r = netns_inode(fd, &inode, err);
	if (r >= 0)
		r = refuse_node_network(i, inode, err);
	if (r < 0)
		return r;
	*ret_fd = steal_fd(&fd);
	*ret_inode = inode;
	return 0;
}

int net_target_open(const struct instance_info *i, struct net_target *ret, struct err **err)
{
	_cleanup_(net_target_done) struct net_target t = {.netns_fd = -1};
	int r;

	r = net_target_netns(i, &t.netns_fd, &t.space.inode, err);
	if (r == 0)
		r = net_space_of(t.netns_fd, &t.space, err);
	if (r == 0)
		r = link_list(t.netns_fd, &t.links, &t.n_links, err);
	if (r < 0)
		return r;
	t.n_links = filter_links(t.links, t.n_links);
	if (t.n_links == 0)
		return err_set(err, EOPNOTSUPP, "%s has no network interface but loopback", i->name);
	*ret = t;
	t = (struct net_target){.netns_fd = -1};
	return 0;
}

int net_space_of(int netns_fd, struct net_space *ret, struct err **err)
{
	struct net_space s = {0};
	int r = netns_inode(netns_fd, &s.inode, err);

	if (r == 0)
		r = netns_cookie(netns_fd, &s.cookie, err);
	if (r == 0)
		*ret = s;
	return r;
}

/* An inode's number may have been given to another namespace meanwhile. What could not be asked is not
 * taken for another. */
static bool may_be_it(const struct net_space *s, int netns_fd)
{
	struct net_space found = {0};

	return net_space_of(netns_fd, &found, NULL) < 0 ||
	       (found.inode == s->inode && found.cookie == s->cookie);
}

bool net_space_is_gone(const struct net_space *s, const struct instance_info *i)
{
	_cleanup_free_ struct proc_id *ids = NULL;
	_cleanup_close_ int found_fd = -1;
	size_t n = 0;

	/* Where the manager starts PostgreSQL again, the first will do. */
	if (cgroup_processes(i->cgroup, &ids, &n, NULL) < 0)
		n = 0;
	for (size_t k = 0; k < n; k++) {
		_cleanup_close_ int fd = -1;

		if (netns_open(ids[k].pid, &fd, NULL) == 0 && may_be_it(s, fd))
			return false;
	}
	/* What could not be looked at is not taken to be gone. */
	if (netns_find(i->pid, s->inode, &found_fd, NULL) < 0)
		return false;
	return found_fd < 0 || !may_be_it(s, found_fd);
}

/* Positions only have to grow among programs that live at once, so they begin anew when none does.
 * Process-wide, as the chains are ours alone; control thread only. */
static struct {
	uint32_t last, taken;
} positions;

int net_position_take(uint32_t *ret, struct err **err)
{
	if (positions.taken == 0)
		positions.last = 0;
	if (positions.last >= NET_POSITION_MAX)
		return err_set(err, EBUSY,
			"all %u positions of network faults were used; end those that are active",
			NET_POSITION_MAX);
	positions.taken++;
	*ret = ++positions.last;
	return 0;
}

int net_position_take_above(uint32_t highest, uint32_t *ret, struct err **err)
{
	uint32_t position = 0;
	int r = net_position_take(&position, err);

	while (r == 0 && position <= highest) {
		uint32_t passed = position;

		r = net_position_take(&position, err);
		net_position_drop(passed);
	}
	if (r == 0)
		*ret = position;
	return r;
}

void net_position_drop(uint32_t position)
{
	if (position != 0 && positions.taken > 0)
		positions.taken--;
}
