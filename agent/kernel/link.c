#include "kernel/link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/inet6.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include "core/cleanup.h"
#include "core/json.h"
#include "kernel/netns.h"

#define TAP_QUEUE_FRAMES 10000

static void nl_sockp(struct nl_sock **s)
{
	if (*s)
		nl_socket_free(*s);
}
#define _cleanup_nl_sock_ _cleanup_(nl_sockp)

static void nl_cachep(struct nl_cache **c)
{
	if (*c)
		nl_cache_free(*c);
}
#define _cleanup_nl_cache_ _cleanup_(nl_cachep)

static void rtnl_linkp(struct rtnl_link **l)
{
	if (*l)
		rtnl_link_put(*l);
}
#define _cleanup_rtnl_link_ _cleanup_(rtnl_linkp)

/* libnl has numbers of its own; these are the ones that can come back here. */
static int nl_errno(int nl)
{
	switch (abs(nl)) {
	case NLE_NOMEM:
		return ENOMEM;
	case NLE_PERM:
	case NLE_NOACCESS:
		return EPERM;
	case NLE_NODEV:
	case NLE_OBJ_NOTFOUND:
		return ENODEV;
	case NLE_EXIST:
	case NLE_BUSY:
		return EBUSY;
	case NLE_AF_NOSUPPORT:
	case NLE_OPNOTSUPP:
		return EOPNOTSUPP;
	case NLE_INVAL:
	case NLE_RANGE:
		return EINVAL;
	default:
		return EIO;
	}
}

static int nl_failed(struct err **err, int nl, const char *what)
{
	return err_set(err, nl_errno(nl), "%s: %s", what, nl_geterror(nl));
}

/* A route socket of the calling thread's namespace. */
static int open_route(struct nl_sock **ret, struct err **err)
{
	_cleanup_nl_sock_ struct nl_sock *s = nl_socket_alloc();
	int r;

	if (!s)
		return err_set(err, ENOMEM, "netlink: out of memory");
	r = nl_connect(s, NETLINK_ROUTE);
	if (r < 0)
		return nl_failed(err, r, "open netlink");
	*ret = steal_ptr(s);
	return 0;
}

struct listing {
	struct link_info *links;
	char **addresses;
	size_t count;
};

static void fill_link(struct link_info *l, struct rtnl_link *from)
{
	const char *name = rtnl_link_get_name(from);
	struct nl_addr *address = rtnl_link_get_addr(from);
	unsigned flags = rtnl_link_get_flags(from);

	*l = (struct link_info){
		.ifindex = rtnl_link_get_ifindex(from),
		.mtu = rtnl_link_get_mtu(from),
		.up = flags & IFF_UP,
		.loopback = flags & IFF_LOOPBACK,
	};
	snprintf(l->name, sizeof(l->name), "%s", name ? name : "");
	if (address && nl_addr_get_len(address) == sizeof(l->address))
		memcpy(l->address, nl_addr_get_binary_addr(address), sizeof(l->address));
}

static int list_links(void *data, struct err **err)
{
	_cleanup_nl_sock_ struct nl_sock *s = NULL;
	_cleanup_nl_cache_ struct nl_cache *cache = NULL;
	struct listing *listing = data;
	int n, r;

	r = open_route(&s, err);
	if (r < 0)
		return r;
	r = rtnl_link_alloc_cache(s, AF_UNSPEC, &cache);
	if (r < 0)
		return nl_failed(err, r, "list interfaces");
	n = nl_cache_nitems(cache);
	listing->links = calloc((size_t)n + 1, sizeof(*listing->links));
	if (!listing->links)
		return err_set(err, ENOMEM, "list interfaces: out of memory");
	for (struct nl_object *o = nl_cache_get_first(cache); o; o = nl_cache_get_next(o))
		fill_link(&listing->links[listing->count++], (struct rtnl_link *)o);
	return 0;
}

int link_list(int netns_fd, struct link_info **ret, size_t *ret_count, struct err **err)
{
	struct listing l = {0};
	int r = netns_run(netns_fd, list_links, &l, err);

	if (r < 0) {
		free(l.links);
		return r;
	}
	*ret = l.links;
	*ret_count = l.count;
	return 0;
}

static void list_address(struct nl_object *o, void *data)
{
	struct rtnl_addr *a = (struct rtnl_addr *)o;
	struct nl_addr *local = rtnl_addr_get_local(a);
	struct listing *listing = data;
	char text[INET6_ADDRSTRLEN];
	int family = rtnl_addr_get_family(a);
	const uint8_t *bytes;

	if (!local || rtnl_addr_get_scope(a) != RT_SCOPE_UNIVERSE)
		return;
	bytes = nl_addr_get_binary_addr(local);
	if ((family != AF_INET && family != AF_INET6) ||
		(family == AF_INET ? bytes[0] >= 224 : bytes[0] == 0xff) ||
		!inet_ntop(family, bytes, text, sizeof(text)))
		return;
	strv_push(&listing->addresses, strdup(text));
}

static int list_addresses(void *data, struct err **err)
{
	_cleanup_nl_sock_ struct nl_sock *s = NULL;
	_cleanup_nl_cache_ struct nl_cache *cache = NULL;
	int r = open_route(&s, err);

	if (r < 0)
		return r;
	r = rtnl_addr_alloc_cache(s, &cache);
	if (r < 0)
		return nl_failed(err, r, "list addresses");
	nl_cache_foreach(cache, list_address, data);
	return 0;
}

int link_addresses(int netns_fd, char ***ret, struct err **err)
{
	struct listing l = {0};
	int r = netns_run(netns_fd, list_addresses, &l, err);

	if (r < 0) {
		strv_free(l.addresses);
		return r;
	}
	if (!l.addresses) {
		l.addresses = calloc(1, sizeof(char *));
		if (!l.addresses)
			return err_set(err, ENOMEM, "list addresses: out of memory");
	}
	*ret = l.addresses;
	return 0;
}

bool link_is_our_tap(const struct link_info *l)
{
	return strncmp(l->name, LINK_TAP_PREFIX, strlen(LINK_TAP_PREFIX)) == 0;
}

struct tap_request {
	const char *name;
	uint32_t mtu;
	int fd, ifindex;
};

/* /proc/sys/net shows the namespace of the thread that looks. */
static int write_disable_ipv6(const char *name)
{
	_cleanup_close_ int fd = -1;
	char path[96];

	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;	/* no IPv6 here: nothing to turn off */
	return write(fd, "1", 1) == 1 ? 0 : -errno;
}

/* Without an address the kernel sends nothing on its own: no solicitation, no detection of
 * duplicates, no listener reports. Either way alone does; a container's /proc/sys may be
 * read-only, and old kernels lack the netlink attribute. */
static int silence_ipv6(struct nl_sock *s, struct rtnl_link *link, const char *name,
	struct err **err)
{
	_cleanup_rtnl_link_ struct rtnl_link *change = rtnl_link_alloc();
	int r_nl = -NLE_NOMEM, r;

	if (change) {
		r_nl = rtnl_link_inet6_set_addr_gen_mode(change, rtnl_link_inet6_str2addrgenmode("none"));
		if (r_nl >= 0)
			r_nl = rtnl_link_change(s, link, change, 0);
	}
	r = write_disable_ipv6(name);
	if (r < 0 && r_nl < 0)
		return err_errno(err, r, "turn IPv6 off on %s", name);
	return 0;
}

static int tap_up(struct tap_request *q, struct err **err)
{
	_cleanup_nl_sock_ struct nl_sock *s = NULL;
	_cleanup_rtnl_link_ struct rtnl_link *link = NULL, *change = rtnl_link_alloc();
	int r = open_route(&s, err);

	if (r < 0)
		return r;
	r = rtnl_link_get_kernel(s, 0, q->name, &link);
	if (r < 0)
		return nl_failed(err, r, q->name);
	q->ifindex = rtnl_link_get_ifindex(link);
	r = silence_ipv6(s, link, q->name, err);
	if (r < 0)
		return r;
	if (!change)
		return err_set(err, ENOMEM, "%s: out of memory", q->name);
	rtnl_link_set_mtu(change, q->mtu);
	rtnl_link_set_txqlen(change, TAP_QUEUE_FRAMES);
	rtnl_link_set_flags(change, IFF_UP);
	r = rtnl_link_change(s, link, change, 0);
	if (r < 0)
		return err_set(err, nl_errno(r), "bring %s up with MTU %u: %s", q->name, q->mtu,
			nl_geterror(r));
	return 0;
}

/* The namespace of a TAP is that of the thread that opens /dev/net/tun (drivers/net/tun.c,
 * tun_chr_open()), the path is still that of the agent: setns() changed the network alone. */
static int make_tap(void *data, struct err **err)
{
	struct tap_request *q = data;
	_cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct ifreq ifr = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL)};
	int r;

	if (fd < 0)
		return err_errno(err, errno, "open /dev/net/tun");
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", q->name);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return err_errno(err, errno, "make TAP %s (TUNSETIFF, needs CAP_NET_ADMIN)", q->name);
	if (ioctl(fd, TUNSETOFFLOAD,
		(unsigned long)(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)) < 0)
		return err_errno(err, errno, "offloads of TAP %s (TUNSETOFFLOAD)", q->name);
	r = tap_up(q, err);
	if (r < 0)
		return r;
	q->fd = steal_fd(&fd);
	return 0;
}

int link_tap_open(int netns_fd, const char *name, uint32_t mtu, int *ret_fd, int *ret_ifindex,
	struct err **err)
{
	struct tap_request q = {.name = name, .mtu = mtu, .fd = -1};
	int r;

	if (strncmp(name, LINK_TAP_PREFIX, strlen(LINK_TAP_PREFIX)) != 0 || strlen(name) >= IFNAMSIZ ||
		strpbrk(name, "/ \t\n:%"))
		return err_set(err, EINVAL, "TAP name \"%s\": expected " LINK_TAP_PREFIX
			"NAME of at most %d bytes", name, IFNAMSIZ - 1);
	r = netns_run(netns_fd, make_tap, &q, err);
	if (r < 0)
		return r;
	*ret_fd = q.fd;
	*ret_ifindex = q.ifindex;
	return 0;
}
