#include "kernel/clsact.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/cleanup.h"
#include "kernel/link.h"
#include "kernel/netlink.h"
#include "kernel/netns.h"
#include "kernel/refusal.h"

#define REQUEST_BYTES 512
#define FILTERS_MAX   (1U << 16)

static const uint32_t parents[TCX_DIRECTION_MAX] = {
	[TCX_INGRESS] = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS),
	[TCX_EGRESS] = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS),
};

static struct nlmsghdr *begin(char buffer[REQUEST_BYTES], uint16_t type, uint16_t flags, int ifindex,
	uint32_t parent, struct tcmsg **ret)
{
	struct nlmsghdr *h;

	memset(buffer, 0, REQUEST_BYTES);
	h = mnl_nlmsg_put_header(buffer);
	h->nlmsg_type = type;
	h->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	h->nlmsg_seq = 1;
	*ret = mnl_nlmsg_put_extra_header(h, sizeof(**ret));
	(*ret)->tcm_ifindex = ifindex;
	(*ret)->tcm_parent = parent;
	return h;
}

/* The message of an answer, with its attributes by number; false for what is too short. */
struct answer {
	const struct tcmsg *t;
	const struct nlattr *attributes[TCA_MAX + 1];
};

static int on_attribute(const struct nlattr *a, void *data)
{
	struct answer *answer = data;

	if (mnl_attr_type_valid(a, TCA_MAX) > 0)
		answer->attributes[mnl_attr_get_type(a)] = a;
	return MNL_CB_OK;
}

static bool answer_parse(const struct nlmsghdr *h, struct answer *ret)
{
	*ret = (struct answer){.t = mnl_nlmsg_get_payload(h)};
	return mnl_nlmsg_get_payload_len(h) >= sizeof(*ret->t) &&
	       mnl_attr_parse(h, sizeof(*ret->t), on_attribute, ret) >= 0;
}

static bool is_kind(const struct answer *a, const char *kind)
{
	const struct nlattr *k = a->attributes[TCA_KIND];

	return k && mnl_attr_validate(k, MNL_TYPE_NUL_STRING) >= 0 &&
	       strcmp(mnl_attr_get_str(k), kind) == 0;
}

struct look {
	int ifindex;
	enum clsact_qdisc found;
	char kind[CLSACT_KIND_MAX];
};

static int on_qdisc(const struct nlmsghdr *h, void *data)
{
	struct look *look = data;
	const struct nlattr *kind;
	struct answer a;

	if (!answer_parse(h, &a) || a.t->tcm_ifindex != look->ifindex || a.t->tcm_parent != TC_H_CLSACT)
		return MNL_CB_OK;
	look->found = is_kind(&a, "clsact") ? CLSACT_PRESENT : CLSACT_OTHER;
	kind = a.attributes[TCA_KIND];
	if (look->found == CLSACT_OTHER && kind && mnl_attr_validate(kind, MNL_TYPE_NUL_STRING) >= 0)
		snprintf(look->kind, sizeof(look->kind), "%s", mnl_attr_get_str(kind));
	return MNL_CB_OK;
}

int clsact_qdisc_look(int fd, int ifindex, enum clsact_qdisc *ret, char kind[CLSACT_KIND_MAX],
	struct err **err)
{
	struct look look = {.ifindex = ifindex, .found = CLSACT_ABSENT};
	char buffer[REQUEST_BYTES];
	struct tcmsg *t;
	struct nlmsghdr *h = begin(buffer, RTM_GETQDISC, NLM_F_DUMP, ifindex, 0, &t);
	int r = netlink_talk(fd, h, on_qdisc, &look, "list qdiscs", err);

	if (r < 0)
		return r;
	*ret = look.found;
	if (kind)
		memcpy(kind, look.kind, sizeof(look.kind));
	return 0;
}

int clsact_qdisc_add(int fd, int ifindex, struct err **err)
{
	char buffer[REQUEST_BYTES];
	struct tcmsg *t;
	struct nlmsghdr *h = begin(buffer, RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, ifindex,
		TC_H_CLSACT, &t);

	t->tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
	mnl_attr_put_strz(h, TCA_KIND, "clsact");
	return netlink_talk(fd, h, NULL, NULL, "add a clsact qdisc", err);
}

static int gone_is_done(int r, struct err *why, struct err **err)
{
	if (r < 0 && r != -ENOENT && r != -ENODEV)
		r = err_set(err, r, "%s", err_text(why));
	else
		r = 0;
	err_free(why);
	return r;
}

int clsact_qdisc_delete(int fd, int ifindex, struct err **err)
{
	char buffer[REQUEST_BYTES];
	struct tcmsg *t;
	struct nlmsghdr *h = begin(buffer, RTM_DELQDISC, NLM_F_ACK, ifindex, TC_H_CLSACT, &t);
	struct err *why = NULL;
	int r;

	t->tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
	mnl_attr_put_strz(h, TCA_KIND, "clsact");
	r = netlink_talk(fd, h, NULL, NULL, "remove a clsact qdisc", &why);
	return gone_is_done(r, why, err);
}

struct listing {
	int ifindex;
	enum tcx_direction direction;
	struct clsact_filter *filters;
	size_t count, room;
	bool failed;
};

static int on_option(const struct nlattr *a, void *data)
{
	struct clsact_filter *f = data;

	switch (mnl_attr_get_type(a)) {
	case TCA_BPF_NAME:
		if (mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
			snprintf(f->name, sizeof(f->name), "%s", mnl_attr_get_str(a));
		break;
	case TCA_BPF_ID:
		if (mnl_attr_validate(a, MNL_TYPE_U32) >= 0)
			f->program = mnl_attr_get_u32(a);
		break;
	case TCA_BPF_TAG:
		if (mnl_attr_get_payload_len(a) == sizeof(f->tag))
			memcpy(f->tag, mnl_attr_get_payload(a), sizeof(f->tag));
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

static int on_filter(const struct nlmsghdr *h, void *data)
{
	struct listing *l = data;
	struct clsact_filter *f;
	struct answer a;
	bool bpf;

	if (!answer_parse(h, &a) || a.t->tcm_ifindex != l->ifindex)
		return MNL_CB_OK;
	bpf = is_kind(&a, "bpf");
	/* Each priority is listed by itself first; one of cls_bpf goes with its last filter. */
	if (bpf && a.t->tcm_handle == 0)
		return MNL_CB_OK;
	if (l->count == l->room) {
		size_t room = l->room ? l->room * 2 : 8;

		f = room > FILTERS_MAX ? NULL : reallocarray(l->filters, room, sizeof(*f));
		if (!f) {
			l->failed = true;
			return MNL_CB_OK;
		}
		l->filters = f;
		l->room = room;
	}
	f = &l->filters[l->count++];
	*f = (struct clsact_filter){
		.ifindex = l->ifindex,
		.direction = l->direction,
		.priority = (uint16_t)(TC_H_MAJ(a.t->tcm_info) >> 16),
		.handle = a.t->tcm_handle,
	};
	if (bpf && a.attributes[TCA_OPTIONS])
		mnl_attr_parse_nested(a.attributes[TCA_OPTIONS], on_option, f);
	return MNL_CB_OK;
}

int clsact_filter_list(int fd, int ifindex, enum tcx_direction direction, struct clsact_filter **ret,
	size_t *ret_count, struct err **err)
{
	struct listing l = {.ifindex = ifindex, .direction = direction};
	char buffer[REQUEST_BYTES];
	struct tcmsg *t;
	struct nlmsghdr *h = begin(buffer, RTM_GETTFILTER, NLM_F_DUMP, ifindex, parents[direction], &t);
	int r = netlink_talk(fd, h, on_filter, &l, "list filters", err);

	if (r == 0 && l.failed)
		r = err_set(err, ENOMEM, "list filters: too many");
	if (r < 0) {
		free(l.filters);
		return r;
	}
	*ret = l.filters;
	*ret_count = l.count;
	return 0;
}

static struct nlmsghdr *begin_filter(char buffer[REQUEST_BYTES], uint16_t type, uint16_t flags,
	const struct clsact_filter *f)
{
	struct tcmsg *t;
	struct nlmsghdr *h = begin(buffer, type, (uint16_t)(NLM_F_ACK | flags), f->ifindex,
		parents[f->direction], &t);

	t->tcm_handle = f->handle;
	t->tcm_info = TC_H_MAKE((uint32_t)f->priority << 16, htons(ETH_P_ALL));
	mnl_attr_put_strz(h, TCA_KIND, "bpf");
	return h;
}

int clsact_filter_add(int fd, const struct clsact_filter *f, int prog_fd, struct err **err)
{
	char buffer[REQUEST_BYTES];
	struct nlmsghdr *h = begin_filter(buffer, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, f);
	struct nlattr *options = mnl_attr_nest_start(h, TCA_OPTIONS);

	mnl_attr_put_u32(h, TCA_BPF_FD, (uint32_t)prog_fd);
	mnl_attr_put_strz(h, TCA_BPF_NAME, f->name);
	mnl_attr_put_u32(h, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
	mnl_attr_put_u32(h, TCA_BPF_FLAGS_GEN, TCA_CLS_FLAGS_SKIP_HW);
	mnl_attr_nest_end(h, options);
	return netlink_talk(fd, h, NULL, NULL, "add a filter", err);
}

int clsact_filter_delete(int fd, const struct clsact_filter *f, struct err **err)
{
	char buffer[REQUEST_BYTES];
	struct nlmsghdr *h = begin_filter(buffer, RTM_DELTFILTER, 0, f);
	struct err *why = NULL;
	int r = netlink_talk(fd, h, NULL, NULL, "remove a filter", &why);

	return gone_is_done(r, why, err);
}

static int try_filters(int fd, int ifindex, struct err **err)
{
	struct clsact_filter f = {.ifindex = ifindex, .priority = 1, .handle = 1, .name = "pgjolt_probe"};
	_cleanup_err_ struct err *why = NULL;
	_cleanup_close_ int prog_fd = -1;
	int r;

	r = tcx_trial_program(&prog_fd, err);
	if (r < 0)
		return r;
	r = clsact_qdisc_add(fd, ifindex, &why);
	if (r < 0)
		return kernel_refusal(err, r, "add a clsact qdisc (needs CONFIG_NET_SCH_INGRESS)");
	for (int d = 0; d < TCX_DIRECTION_MAX; d++) {
		f.direction = (enum tcx_direction)d;
		r = clsact_filter_add(fd, &f, prog_fd, &why);
		if (r < 0)
			return kernel_refusal(err, r, "add a BPF filter (needs CONFIG_NET_CLS_BPF)");
	}
	return 0;
}

int clsact_supported(struct err **err)
{
	static atomic_bool known;	/* what a kernel can do, it can do until it stops */
	_cleanup_close_ int netns_fd = -1, fd = -1;
	int r;

	if (atomic_load(&known))
		return 0;
	r = netns_new(&netns_fd, err);
	if (r == 0)
		r = netlink_open(netns_fd, NETLINK_ROUTE, &fd, err);
	if (r == 0)
		r = try_filters(fd, LINK_LOOPBACK, err);
	if (r == 0)
		atomic_store(&known, true);
	return r;
}
