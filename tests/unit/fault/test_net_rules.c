#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include "core/catalogue.h"
#include "core/json.h"
#include "fault/net_rules.h"
#include "fault/net_target.h"
#include "kernel/proc.h"

static int rules_of(const char *json, struct net_rules *ret, struct err **err)
{
	_cleanup_json_ cJSON *o = NULL;
	_cleanup_(params_freep) struct params *p = NULL;
	int r = json_parse(json, strlen(json), &o, err);

	if (r == 0)
		r = params_from_json(&fault_net_partition, o, &p, err);
	return r < 0 ? r : net_rules_from_params(p, ret, err);
}

Test(net_rules, mapped_addresses_and_fields)
{
	_cleanup_(net_rules_done) struct net_rules r = {0};

	cr_assert(rules_of("{\"peers\": [\"a=10.1.0.0/16:5432\", \"fd00::/8\", \"all\"],"
			   "\"protocol\": \"tcp\"}", &r, NULL) == 0);
	cr_assert(eq(sz, r.count, 3));
	cr_expect(eq(u32, r.prefixes[0].length, 112));
	cr_expect(eq(u32, ntohl(r.prefixes[0].address[2]), 0xffff));
	cr_expect(eq(u32, ntohl(r.prefixes[0].address[3]), 0x0a010000));
	cr_expect(eq(int, r.rules[0].family, 4));
	cr_expect(eq(int, r.rules[0].port_low, 5432));
	cr_expect(eq(int, r.rules[0].protocol, IPPROTO_TCP));
	cr_expect(eq(u32, r.prefixes[1].length, 8));
	cr_expect(eq(int, r.rules[1].family, 6));
	cr_expect(eq(int, r.rules[1].port_high, 65535));
	cr_expect(eq(u32, r.prefixes[2].length, 0));
	cr_expect(eq(int, r.rules[2].family, 0));
	cr_expect(eq(str, r.labels[0], "a"));
}

Test(net_rules, for_postgres_alone)
{
	_cleanup_json_ cJSON *o = NULL;
	_cleanup_(params_freep) struct params *p = NULL;
	_cleanup_(net_rules_done) struct net_rules r = {0};
	_cleanup_err_ struct err *err = NULL;
	static const char json[] = "{\"peers\": [\"all\", \"10.0.0.1:7000-7009\"]}";

	cr_assert(json_parse(json, strlen(json), &o, NULL) == 0);
	cr_assert(params_from_json(&fault_net_partition, o, &p, NULL) == 0);
	cr_assert(net_rules_for_postgres(p, 5433, &r, NULL) == 0);
	cr_assert(eq(sz, r.count, 2));
	cr_expect(eq(int, r.rules[0].port_low, 5433));
	cr_expect(eq(int, r.rules[0].port_high, 5433));
	cr_expect(eq(int, r.rules[1].port_low, 7000));
	cr_expect(eq(int, r.rules[1].port_high, 7009));
	cr_expect(eq(int, r.rules[0].protocol, IPPROTO_TCP));
	cr_expect(eq(int, r.rules[1].protocol, IPPROTO_TCP));
	net_rules_done(&r);
	cr_expect(lt(int, net_rules_for_postgres(p, 0, &r, &err), 0));
	cr_expect(strstr(err_text(err), "ports: needed") != NULL);
}

Test(net_rules, the_way_leads_outwards)
{
	_cleanup_(net_rules_done) struct net_rules r = {0};

	cr_assert(rules_of("{\"peers\": [\"all\", \"10.0.0.0/8\", \"10.1.0.0/16:1\","
			   "\"10.1.0.0/16:2\", \"10.1.2.3\", \"11.0.0.0/8\"]}", &r, NULL) == 0);
	cr_assert(eq(sz, r.count, 6));
	cr_expect(eq(int, r.rules[0].next, NET_RULE_END));
	cr_expect(eq(int, r.rules[1].next, 0));
	cr_expect(eq(int, r.rules[2].next, 3));
	cr_expect(eq(int, r.rules[3].next, 1));
	cr_expect(eq(int, r.rules[4].next, 2));
	cr_expect(eq(int, r.rules[5].next, 0));
	cr_expect(eq(u32, r.depth, 5));
}

Test(net_rules, ports_are_for_peers_without)
{
	_cleanup_(net_rules_done) struct net_rules r = {0};

	cr_assert(rules_of("{\"peers\": [\"10.0.0.1\", \"10.0.0.2:9\"], \"ports\": \"1,5-7\"}", &r,
		NULL) == 0);
	cr_assert(eq(sz, r.count, 3));
	cr_expect(eq(int, r.rules[0].port_low, 1));
	cr_expect(eq(int, r.rules[1].port_high, 7));
	cr_expect(eq(int, r.rules[2].port_low, 9));
}

Test(net_rules, one_label_one_counter)
{
	_cleanup_(net_rules_done) struct net_rules r = {0};

	cr_assert(rules_of("{\"peers\": [\"dcs=10.0.0.1\", \"dcs=10.0.0.2\", \"x=10.0.0.3\"]}", &r,
		NULL) == 0);
	cr_expect(eq(sz, r.n_labels, 2));
	cr_expect(eq(int, r.rules[1].label, 0));
	cr_expect(eq(int, r.rules[2].label, 1));
}

Test(net_rules, no_more_than_the_limit)
{
	_cleanup_(net_rules_done) struct net_rules r = {0};
	_cleanup_err_ struct err *err = NULL;
	char json[16384] = "{\"peers\": [";
	size_t n = strlen(json);

	for (int i = 0; i < 129; i++)
		n += (size_t)snprintf(json + n, sizeof(json) - n, "%s\"10.0.1.%d\"", i ? "," : "", i);
	snprintf(json + n, sizeof(json) - n, "], \"ports\": \"1,3\"}");
	cr_expect(eq(int, rules_of(json, &r, &err), -EINVAL));
	cr_expect(strstr(err_text(err), "256") != NULL, "%s", err_text(err));
	cr_expect(r.rules == NULL);
}

Test(net_rules, positions_grow_and_begin_anew)
{
	uint32_t a, b, c;

	cr_assert(net_position_take(&a, NULL) == 0);
	cr_assert(net_position_take(&b, NULL) == 0);
	net_position_drop(a);
	cr_assert(net_position_take(&c, NULL) == 0);
	cr_expect(a >= 1 && b > a && c > b);
	net_position_drop(b);
	net_position_drop(c);
	cr_assert(net_position_take(&b, NULL) == 0);
	cr_expect(eq(u32, b, a));
	net_position_drop(b);
}

Test(net_target, the_nodes_own_network_is_refused)
{
	struct net_target t = {.netns_fd = -1};
	_cleanup_err_ struct err *err = NULL;
	struct proc_id id;
	struct instance_info i = {.name = "lab/pg1"};

	cr_assert(proc_identify(getpid(), &id, NULL) == 0);
	i.pid = id.pid;
	i.start_ticks = id.start_ticks;
	cr_expect(eq(int, net_target_open(&i, &t, &err), -EPERM));
	cr_expect(strstr(err_text(err), "lab/pg1") != NULL);
	i.start_ticks++;
	cr_expect(eq(int, net_target_open(&i, &t, &err), -ESTALE));
	cr_expect(eq(int, t.netns_fd, -1));
}
