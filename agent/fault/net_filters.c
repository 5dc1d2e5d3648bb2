#include "fault/net_filters.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <limits.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bpf/net_match.h"
#include "core/cleanup.h"
#include "fault/net_attach.h"
#include "kernel/netlink.h"
#include "kernel/netns.h"
#include "kernel/proc.h"

#define TAG_TEXT (2 * CLSACT_TAG_SIZE + 1)

static const char *const direction_words[TCX_DIRECTION_MAX] = {
	[TCX_INGRESS] = "in",
	[TCX_EGRESS] = "out",
};

void net_filters_done(struct net_filters *f)
{
	free(f->list);
	f->list = NULL;
	f->count = 0;
}

static bool begins_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

uint32_t net_filter_position(const struct clsact_filter *f)
{
	uint32_t position = f->handle & NET_POSITION_MASK;

	if ((f->handle & NET_MARK_MASK) != NET_MARK_BASE || position == 0 ||
		position > NET_FILTER_POSITION_MAX ||
		f->priority != NET_FILTER_PRIORITY_BASE + position ||
		(!begins_with(f->name, NET_FILTER_NAME) && !begins_with(f->name, NET_FILTER_NAME_QDISC)))
		return 0;
	return position;
}

void net_filter_fill(struct clsact_filter *f, uint32_t position, bool our_qdisc,
	const char *experiment)
{
	f->priority = (uint16_t)(NET_FILTER_PRIORITY_BASE + position);
	f->handle = NET_MARK_BASE | position;
	snprintf(f->name, sizeof(f->name), "%s%s",
		our_qdisc ? NET_FILTER_NAME_QDISC : NET_FILTER_NAME, experiment);
}

int net_filters_qdisc_is_ours(int netlink_fd, int ifindex, bool *ret, struct err **err)
{
	bool ours = false;

	for (int d = 0; d < TCX_DIRECTION_MAX; d++) {
		_cleanup_free_ struct clsact_filter *list = NULL;
		size_t count = 0;
		int r = clsact_filter_list(netlink_fd, ifindex, (enum tcx_direction)d, &list, &count,
			err);

		if (r < 0)
			return r;
		for (size_t i = 0; i < count; i++)
			if (net_filter_position(&list[i]) &&
				begins_with(list[i].name, NET_FILTER_NAME_QDISC))
				ours = true;
	}
	*ret = ours;
	return 0;
}

static cJSON *filter_to_json(const struct net_filter *f)
{
	char tag[TAG_TEXT];
	cJSON *o = json_object();

	for (size_t i = 0; i < CLSACT_TAG_SIZE; i++)
		snprintf(tag + 2 * i, 3, "%02x", f->filter.tag[i]);
	json_add_int(o, "ifindex", f->filter.ifindex);
	json_add_string(o, "interface", f->interface);
	json_add_string(o, "direction", direction_words[f->filter.direction]);
	json_add_uint(o, "priority", f->filter.priority);
	json_add_uint(o, "handle", f->filter.handle);
	json_add_string(o, "name", f->filter.name);
	json_add_uint(o, "program", f->filter.program);
	json_add_string(o, "tag", tag);
	json_add_bool(o, "our_qdisc", f->our_qdisc);
	return o;
}

cJSON *net_filters_to_json(const struct net_filters *f)
{
	cJSON *o = json_object(), *list = json_array();

	json_add_uint(o, "netns", f->netns);
	json_add_uint(o, "netns_cookie", f->netns_cookie);
	json_add_int(o, "pid", f->pid);
	json_add_uint(o, "start_ticks", f->start_ticks);
	for (size_t i = 0; i < f->count; i++)
		json_append(list, filter_to_json(&f->list[i]));
	json_add_item(o, "filters", list);
	return o;
}

/* One filter as it is in JSON. */
struct raw_filter {
	uint32_t ifindex, priority, handle, program;
	char *interface, *name, *tag;
	int direction;
	bool our_qdisc;
};

static void raw_filter_done(struct raw_filter *x)
{
	free(x->interface);
	free(x->name);
	free(x->tag);
}

static int direction_from_string(const char *s, int *ret)
{
	for (int d = 0; d < TCX_DIRECTION_MAX; d++) {
		if (strcmp(s, direction_words[d]) == 0) {
			*ret = d;
			return 0;
		}
	}
	return -EINVAL;
}

static bool tag_parse(const char *text, uint8_t ret[CLSACT_TAG_SIZE])
{
	static const char digits[] = "0123456789abcdef";

	if (strlen(text) != 2 * CLSACT_TAG_SIZE || strspn(text, digits) != 2 * CLSACT_TAG_SIZE)
		return false;
	for (size_t i = 0; i < CLSACT_TAG_SIZE; i++)
		ret[i] = (uint8_t)((strchr(digits, text[2 * i]) - digits) << 4 |
			(strchr(digits, text[2 * i + 1]) - digits));
	return true;
}

static int filter_from_json(const cJSON *json, struct net_filter *ret, struct err **err)
{
	static const struct json_field fields[] = {
		{"ifindex", JSON_UINT32, offsetof(struct raw_filter, ifindex), true, NULL, NULL},
		{"interface", JSON_STRING, offsetof(struct raw_filter, interface), true, NULL, NULL},
		{"direction", JSON_ENUM, offsetof(struct raw_filter, direction), true,
			direction_from_string, NULL},
		{"priority", JSON_UINT32, offsetof(struct raw_filter, priority), true, NULL, NULL},
		{"handle", JSON_UINT32, offsetof(struct raw_filter, handle), true, NULL, NULL},
		{"name", JSON_STRING, offsetof(struct raw_filter, name), true, NULL, NULL},
		{"program", JSON_UINT32, offsetof(struct raw_filter, program), true, NULL, NULL},
		{"tag", JSON_STRING, offsetof(struct raw_filter, tag), true, NULL, NULL},
		{"our_qdisc", JSON_BOOL, offsetof(struct raw_filter, our_qdisc), true, NULL, NULL},
		JSON_FIELD_END,
	};
	_cleanup_(raw_filter_done) struct raw_filter x = {0};
	struct net_filter f = {0};
	int r = json_dispatch(json, fields, &x, JSON_REFUSE_UNKNOWN, err);

	if (r < 0)
		return r;
	f.filter.ifindex = (int)x.ifindex;
	f.filter.direction = (enum tcx_direction)x.direction;
	f.filter.priority = (uint16_t)x.priority;
	f.filter.handle = x.handle;
	f.filter.program = x.program;
	f.our_qdisc = x.our_qdisc;
	snprintf(f.filter.name, sizeof(f.filter.name), "%s", x.name);
	snprintf(f.interface, sizeof(f.interface), "%s", x.interface);
	if (x.ifindex == 0 || x.ifindex > INT_MAX || x.program == 0 || x.priority > UINT16_MAX ||
		strlen(x.name) >= sizeof(f.filter.name) || strlen(x.interface) >= sizeof(f.interface) ||
		!tag_parse(x.tag, f.filter.tag))
		return err_set(err, EBADMSG, "no filter can be so");
	if (!net_filter_position(&f.filter))
		return err_set(err, EBADMSG, "\"%s\" is no filter of ours", f.filter.name);
	*ret = f;
	return 0;
}

static int filters_parse(const cJSON *item, void *member, struct err **err)
{
	struct net_filters *f = (struct net_filters *)((char *)member - offsetof(struct net_filters, list));
	const cJSON *one;
	int n;

	if (!cJSON_IsArray(item))
		return err_set(err, EBADMSG, "expected an array");
	n = cJSON_GetArraySize(item);
	if (n == 0 || n > NET_POINTS_MAX)
		return err_set(err, EBADMSG, "expected 1 to %d", NET_POINTS_MAX);
	f->list = calloc((size_t)n, sizeof(*f->list));
	if (!f->list)
		return err_set(err, ENOMEM, "out of memory");
	cJSON_ArrayForEach(one, item) {
		int r = filter_from_json(one, &f->list[f->count], err);

		if (r < 0)
			return json_err_at(err, r, "[%zu]", f->count);
		f->count++;
	}
	return 0;
}

int net_filters_from_json(const cJSON *json, struct net_filters *ret, struct err **err)
{
	static const struct json_field fields[] = {
		{"netns", JSON_UINT64, offsetof(struct net_filters, netns), true, NULL, NULL},
		{"netns_cookie", JSON_UINT64, offsetof(struct net_filters, netns_cookie), true, NULL,
			NULL},
		{"pid", JSON_PID, offsetof(struct net_filters, pid), true, NULL, NULL},
		{"start_ticks", JSON_UINT64, offsetof(struct net_filters, start_ticks), true, NULL,
			NULL},
		{"filters", JSON_CUSTOM, offsetof(struct net_filters, list), true, NULL,
			filters_parse},
		JSON_FIELD_END,
	};
	struct net_filters f = {0};
	int r = json_dispatch(json, fields, &f, JSON_REFUSE_UNKNOWN, err);

	if (r < 0) {
		net_filters_done(&f);
		return err_wrap(err, r == -ENOMEM ? r : -EBADMSG, "clsact");
	}
	*ret = f;
	return 0;
}

/* A route socket in the namespace of the record; -1: it is gone, and our filters with it. *ret_sure:
 * it is the very namespace, not one that got its number. */
static int enter(const struct net_filters *f, int *ret_fd, bool *ret_sure, struct err **err)
{
	const struct proc_id id = {f->pid, f->start_ticks};
	_cleanup_close_ int netns_fd = -1;
	uint64_t cookie = 0;
	int r = netns_find(f->pid, f->netns, &netns_fd, err);

	if (r == 0 && netns_fd >= 0)
		r = netns_cookie(netns_fd, &cookie, err);
	if (r < 0)
		return r;
	if (netns_fd < 0 || cookie != f->netns_cookie) {
		*ret_fd = -1;
		return 0;
	}
	*ret_sure = cookie != 0 || proc_is_alive(&id);
	return netlink_open(netns_fd, NETLINK_ROUTE, ret_fd, err);
}

static bool is_same(const struct clsact_filter *a, const struct clsact_filter *b)
{
	return a->ifindex == b->ifindex && a->direction == b->direction && a->priority == b->priority &&
	       a->handle == b->handle && a->program == b->program &&
	       memcmp(a->tag, b->tag, sizeof(a->tag)) == 0 && strcmp(a->name, b->name) == 0;
}

static int is_there(int fd, const struct clsact_filter *wanted, bool *ret, struct err **err)
{
	_cleanup_free_ struct clsact_filter *list = NULL;
	size_t count = 0;
	int r = clsact_filter_list(fd, wanted->ifindex, wanted->direction, &list, &count, err);

	if (r < 0)
		return r;
	*ret = false;
	for (size_t i = 0; i < count; i++)
		*ret = *ret || is_same(&list[i], wanted);
	return 0;
}

/* A qdisc with a filter, whoever's, stays. */
static int remove_qdisc(int fd, int ifindex, struct err **err)
{
	enum clsact_qdisc qdisc;
	int r = clsact_qdisc_look(fd, ifindex, &qdisc, NULL, err);

	if (r < 0 || qdisc != CLSACT_PRESENT)
		return r;
	for (int d = 0; d < TCX_DIRECTION_MAX; d++) {
		_cleanup_free_ struct clsact_filter *list = NULL;
		size_t count = 0;

		r = clsact_filter_list(fd, ifindex, (enum tcx_direction)d, &list, &count, err);
		if (r < 0 || count > 0)
			return r;
	}
	return clsact_qdisc_delete(fd, ifindex, err);
}

static int remove_all(const struct net_filters *f, int fd, bool sure, struct err **err)
{
	for (size_t i = 0; i < f->count; i++) {
		const struct clsact_filter *x = &f->list[i].filter;
		bool there = false;
		int r = is_there(fd, x, &there, err);

		if (r == 0 && there) {
			sure = true;
			r = clsact_filter_delete(fd, x, err);
		}
		if (r < 0)
			return err_wrap(err, r, "%s", f->list[i].interface);
	}
	for (size_t i = 0; i < f->count && sure; i++) {
		int r = f->list[i].our_qdisc ? remove_qdisc(fd, f->list[i].filter.ifindex, err) : 0;

		if (r < 0)
			return err_wrap(err, r, "%s", f->list[i].interface);
	}
	return 0;
}

static int record_open(const cJSON *record, struct net_filters *ret, int *ret_fd, bool *ret_sure,
	struct err **err)
{
	const cJSON *json = json_get(record, "clsact");
	int r;

	*ret_fd = -1;
	if (!json)
		return 0;
	r = net_filters_from_json(json, ret, err);
	return r < 0 ? r : enter(ret, ret_fd, ret_sure, err);
}

int net_filters_revert(const struct undo *u, struct err **err)
{
	_cleanup_(net_filters_done) struct net_filters f = {0};
	_cleanup_close_ int fd = -1;
	bool sure = false;
	int r = record_open(u->record, &f, &fd, &sure, err);

	return r < 0 || fd < 0 ? r : remove_all(&f, fd, sure, err);
}

int net_filters_verify(const struct undo *u, struct err **err)
{
	_cleanup_(net_filters_done) struct net_filters f = {0};
	_cleanup_close_ int fd = -1;
	bool sure = false;
	int r = record_open(u->record, &f, &fd, &sure, err);

	for (size_t i = 0; r == 0 && fd >= 0 && i < f.count; i++) {
		bool there = false;

		r = is_there(fd, &f.list[i].filter, &there, err);
		if (r == 0 && there)
			return err_set(err, EBUSY, "%s: filter %s is still there", f.list[i].interface,
				f.list[i].filter.name);
	}
	return r;
}
