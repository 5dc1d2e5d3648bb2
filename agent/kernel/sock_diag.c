#include "kernel/sock_diag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "core/cleanup.h"
#include "kernel/netlink.h"

#define SOCKETS_MAX  (1UL << 20)

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

struct listing {
	struct sock_info *sockets;
	size_t count, room;
	bool failed;
};

int sock_diag_open(int netns_fd, int *ret_fd, struct err **err)
{
	return netlink_open(netns_fd, NETLINK_SOCK_DIAG, ret_fd, err);
}

static void fill(struct sock_info *s, const struct inet_diag_msg *m)
{
	const uint8_t *src = (const uint8_t *)m->id.idiag_src, *dst = (const uint8_t *)m->id.idiag_dst;
	size_t from = 0, length = m->idiag_family == AF_INET ? 4 : 16;

	*s = (struct sock_info){
		.family = m->idiag_family,
		.local_port = ntohs(m->id.idiag_sport),
		.remote_port = ntohs(m->id.idiag_dport),
		.inode = m->idiag_inode,
		.id = m->id,
	};
	if (m->idiag_family == AF_INET6 && memcmp(dst, mapped_prefix, sizeof(mapped_prefix)) == 0) {
		s->family = AF_INET;
		from = sizeof(mapped_prefix);
		length = 4;
	}
	memcpy(s->local, src + from, length);
	memcpy(s->remote, dst + from, length);
}

static int on_socket(const struct nlmsghdr *h, void *data)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
	struct listing *l = data;

	if (mnl_nlmsg_get_payload_len(h) < sizeof(*m) ||
	    (m->idiag_family != AF_INET && m->idiag_family != AF_INET6))
		return MNL_CB_OK;
	if (l->count == l->room) {
		size_t room = l->room ? l->room * 2 : 64;
		struct sock_info *more = room > SOCKETS_MAX ?
			NULL : reallocarray(l->sockets, room, sizeof(*more));

		if (!more) {
			l->failed = true;
			return MNL_CB_OK;	/* to the end, or the rest would be the next answer */
		}
		l->sockets = more;
		l->room = room;
	}
	fill(&l->sockets[l->count++], m);
	return MNL_CB_OK;
}

static int list_family(int fd, uint8_t family, struct listing *l, struct err **err)
{
	static const uint32_t states = 1U << TCP_ESTABLISHED | 1U << TCP_SYN_SENT | 1U << TCP_CLOSE_WAIT;
	char buffer[MNL_NLMSG_HDRLEN + MNL_ALIGN(sizeof(struct inet_diag_req_v2))] = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buffer);
	struct inet_diag_req_v2 *q;

	h->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	h->nlmsg_seq = family;
	q = mnl_nlmsg_put_extra_header(h, sizeof(*q));
	q->sdiag_family = family;
	q->sdiag_protocol = IPPROTO_TCP;
	q->idiag_states = states;
	return netlink_talk(fd, h, on_socket, l, "sock_diag", err);
}

int sock_diag_list(int fd, struct sock_info **ret, size_t *ret_count, struct err **err)
{
	struct listing l = {0};
	struct err *why = NULL;
	int r;

	r = list_family(fd, AF_INET, &l, err);
	if (r >= 0) {
		/* A kernel without IPv6 knows no such sockets. */
		r = list_family(fd, AF_INET6, &l, &why);
		if (r == -ENOENT || r == -EINVAL) {
			err_free(why);
			why = NULL;
			r = 0;
		}
		if (r < 0)
			r = err_set(err, r, "%s", err_text(why));
		err_free(why);
	}
	if (r >= 0 && l.failed)
		r = err_set(err, ENOMEM, "sock_diag: too many sockets");
	if (r < 0) {
		free(l.sockets);
		return r;
	}
	*ret = l.sockets;
	*ret_count = l.count;
	return 0;
}

int sock_diag_destroy(int fd, const struct sock_info *s, struct err **err)
{
	char buffer[MNL_NLMSG_HDRLEN + MNL_ALIGN(sizeof(struct inet_diag_req_v2))] = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buffer);
	struct inet_diag_req_v2 *q;

	h->nlmsg_type = SOCK_DESTROY;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	h->nlmsg_seq = 1;
	q = mnl_nlmsg_put_extra_header(h, sizeof(*q));
	/* AF_INET finds a mapped one too: the lookup is by the IPv4 address in it. */
	q->sdiag_family = (uint8_t)s->family;
	q->sdiag_protocol = IPPROTO_TCP;
	q->idiag_states = UINT32_MAX;
	q->id = s->id;
	if (s->family == AF_INET) {
		memcpy(q->id.idiag_src, s->local, 4);
		memcpy(q->id.idiag_dst, s->remote, 4);
	}
	return netlink_talk(fd, h, NULL, NULL, "sock_diag", err);
}
