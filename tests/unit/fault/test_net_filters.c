/* The record of filters on a kernel without tcx: as it is kept, and what is refused when it comes back. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include "core/err.h"
#include "core/json.h"
#include "fault/net_filters.h"

static struct net_filter example(int ifindex, enum tcx_direction direction)
{
	struct net_filter f = {
		.filter = {
			.ifindex = ifindex,
			.direction = direction,
			.program = 4711,
			.tag = {0x2e, 0x02, 0x5f, 0xdc, 0x43, 0xb7, 0x28, 0xff},
		},
		.interface = "eth0",
		.our_qdisc = true,
	};

	net_filter_fill(&f.filter, 7, true, "ex-1234");
	return f;
}

static cJSON *record(void)
{
	struct net_filter list[] = {example(2, TCX_INGRESS), example(2, TCX_EGRESS)};
	const struct net_filters f = {.netns = 4026532939, .netns_cookie = 24409, .pid = 14515,
		.start_ticks = 1394326, .list = list, .count = 2};

	return net_filters_to_json(&f);
}

Test(net_filters, comes_back_as_it_was)
{
	_cleanup_json_ cJSON *json = record();
	_cleanup_(net_filters_done) struct net_filters f = {0};
	_cleanup_err_ struct err *err = NULL;
	struct net_filter wanted = example(2, TCX_EGRESS);

	cr_assert(net_filters_from_json(json, &f, &err) == 0, "%s", err_text(err));
	cr_expect(f.netns == 4026532939 && f.netns_cookie == 24409);
	cr_expect(f.pid == 14515 && f.start_ticks == 1394326);
	cr_assert(eq(sz, f.count, 2));
	cr_expect(eq(int, f.list[0].filter.direction, TCX_INGRESS));
	cr_expect(eq(int, f.list[1].filter.direction, TCX_EGRESS));
	cr_expect(eq(int, f.list[1].filter.ifindex, 2));
	cr_expect(eq(uint, f.list[1].filter.priority, NET_FILTER_PRIORITY_BASE + 7));
	cr_expect(eq(uint, f.list[1].filter.handle, wanted.filter.handle));
	cr_expect(eq(str, f.list[1].filter.name, wanted.filter.name));
	cr_expect(eq(uint, f.list[1].filter.program, 4711));
	cr_expect(memcmp(f.list[1].filter.tag, wanted.filter.tag, CLSACT_TAG_SIZE) == 0);
	cr_expect(eq(str, f.list[1].interface, "eth0"));
	cr_expect(f.list[1].our_qdisc);
}

Test(net_filters, ours_is_told_by_name_priority_and_handle_together)
{
	struct clsact_filter f = example(2, TCX_INGRESS).filter;

	cr_expect(eq(uint, net_filter_position(&f), 7));
	f.priority++;
	cr_expect(eq(uint, net_filter_position(&f), 0));
	f.priority--;
	f.handle = 1;
	cr_expect(eq(uint, net_filter_position(&f), 0));
	net_filter_fill(&f, NET_FILTER_POSITION_MAX, false, "x");
	cr_expect(eq(uint, net_filter_position(&f), NET_FILTER_POSITION_MAX));
	snprintf(f.name, sizeof(f.name), "cil_from_container");
	cr_expect(eq(uint, net_filter_position(&f), 0));
}

/* The record with a member of its first filter replaced. */
static void refused(const char *member, cJSON *value)
{
	_cleanup_json_ cJSON *json = record();
	_cleanup_err_ struct err *err = NULL;
	struct net_filters f = {0};
	cJSON *first = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "filters"), 0);

	if (value)
		cJSON_ReplaceItemInObject(first, member, value);
	else
		cJSON_DeleteItemFromObject(first, member);
	cr_expect(net_filters_from_json(json, &f, &err) == -EBADMSG, "%s: %s", member, err_text(err));
	cr_expect(f.list == NULL);
}

Test(net_filters, what_cannot_be_ours_is_refused)
{
	static const char *const members[] = {"ifindex", "interface", "direction", "priority", "handle",
		"name", "program", "tag", "our_qdisc"};
	char longest[CLSACT_NAME_MAX + 8];

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		refused(members[i], NULL);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	memcpy(longest, "pgjolt:", 7);
	refused("ifindex", cJSON_CreateNumber(0));
	refused("ifindex", cJSON_CreateNumber(4294967295.0));
	refused("priority", cJSON_CreateNumber(1));
	refused("priority", cJSON_CreateNumber(65536 + NET_FILTER_PRIORITY_BASE + 7));
	refused("handle", cJSON_CreateNumber(1));
	refused("program", cJSON_CreateNumber(0));
	refused("name", cJSON_CreateString("cil_from_container"));
	refused("name", cJSON_CreateString(longest));
	refused("interface", cJSON_CreateString("a-name-of-16-byt"));
	refused("direction", cJSON_CreateString("both"));
	refused("tag", cJSON_CreateString("2e025fdc43b728"));
	refused("tag", cJSON_CreateString("2E025FDC43B728FF"));
}

Test(net_filters, a_record_of_the_wrong_shape_is_refused)
{
	static const char *const texts[] = {
		"[]", "{}", "{\"filters\": []}",
		"{\"netns\": 1, \"netns_cookie\": 0, \"pid\": 1, \"start_ticks\": 1, \"filters\": []}",
		"{\"netns\": 1, \"netns_cookie\": 0, \"pid\": 1, \"start_ticks\": 1, \"filters\": {}}",
		"{\"netns\": 1, \"netns_cookie\": 0, \"pid\": 0, \"start_ticks\": 1, \"filters\": [{}]}",
		"{\"netns\": 1, \"netns_cookie\": 0, \"pid\": 1, \"start_ticks\": 1, \"filters\": [7]}",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		_cleanup_json_ cJSON *json = NULL;
		struct net_filters f = {0};

		cr_assert(json_parse(texts[i], strlen(texts[i]), &json, NULL) == 0);
		cr_expect(net_filters_from_json(json, &f, NULL) == -EBADMSG, "%s", texts[i]);
	}
}

Test(net_filters, without_filters_there_is_nothing_to_undo)
{
	_cleanup_json_ cJSON *json = json_object();
	const struct undo u = {.record = json};

	cr_expect(eq(int, net_filters_revert(&u, NULL), 0));
	cr_expect(eq(int, net_filters_verify(&u, NULL), 0));
}

Test(net_filters, a_namespace_that_is_gone_is_success)
{
	struct net_filter one = example(2, TCX_INGRESS);
	const struct net_filters f = {.netns = 1, .netns_cookie = 24409, .pid = 1, .start_ticks = 1,
		.list = &one, .count = 1};
	_cleanup_json_ cJSON *json = json_object();
	const struct undo u = {.record = json};

	json_add_item(json, "clsact", net_filters_to_json(&f));
	cr_expect(eq(int, net_filters_revert(&u, NULL), 0));
	cr_expect(eq(int, net_filters_verify(&u, NULL), 0));
}
