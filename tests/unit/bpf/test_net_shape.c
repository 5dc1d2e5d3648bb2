/* Packets in, verdict out: the programs are run by the kernel itself (BPF_PROG_TEST_RUN). */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <criterion/criterion.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <unistd.h>
#include "frames.h"

#include "bpf/net_shape.h"
#include "core/catalogue.h"
#include "core/clock.h"
#include "core/json.h"
#include "fault/net_rules.h"
#include "net_shape.skel.h"

enum { NEXT = -1, DROP = 2, REDIRECT = 7 };

#define US    "10.9.0.2"
#define PEER  "10.9.0.3"
#define OTHER "10.9.0.4"
#define POSITION 5
/* A test run's frame is on the interface that it is told, in the caller's namespace: loopback. */
#define LOOPBACK 1
#define NO_TAP	 999999

static struct net_shape *bpf;
static struct net_rules rules;

static void parse(const char *json)
{
	_cleanup_err_ struct err *err = NULL;
	_cleanup_json_ cJSON *o = NULL;
	_cleanup_(params_freep) struct params *p = NULL;

	cr_assert(json_parse(json, strlen(json), &o, &err) == 0, "%s", err_text(err));
	cr_assert(params_from_json(&fault_net_shape, o, &p, &err) == 0, "%s", err_text(err));
	cr_assert(net_rules_from_params(p, &rules, &err) == 0, "%s", err_text(err));
}

static void load(const char *json, const struct net_shape_lane *lanes, unsigned n)
{
	_cleanup_err_ struct err *err = NULL;

	if (geteuid() != 0)
		cr_skip_test("needs root");
	parse(json);
	bpf = net_shape__open();
	cr_assert(bpf != NULL, "open");
	bpf->rodata->position = POSITION;
	bpf->rodata->n_lanes = n;
	memcpy((void *)bpf->rodata->lanes, lanes, n * sizeof(*lanes));
	bpf->rodata->net_rules_depth = rules.depth;
	net_rules_copy(&rules, (struct net_rule *)bpf->rodata->net_rules);
	cr_assert(net_shape__load(bpf) == 0);
	cr_assert(net_rules_fill(&rules, bpf_map__fd(bpf->maps.net_prefixes), &err) == 0, "%s",
		err_text(err));
	bpf->bss->until_boot_ns = boot_ns() + 60 * NS_PER_S;
}

static const struct net_shape_lane both[] = {
	{LOOPBACK, NO_TAP, NET_IN},
	{LOOPBACK, NO_TAP, NET_OUT},
};

static void done(void)
{
	net_shape__destroy(bpf);
	net_rules_done(&rules);
}

TestSuite(net_shape, .fini = done);

static int run(const struct bpf_program *p, struct frame f, uint32_t *mark, uint32_t segments)
{
	struct __sk_buff ctx = {.mark = *mark, .ifindex = LOOPBACK, .gso_segs = segments,
		.gso_size = segments ? 100 : 0};
	uint8_t out[512];
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = f.bytes, .data_size_in = (uint32_t)f.length,
		.data_out = out, .data_size_out = sizeof(out), .ctx_in = &ctx,
		.ctx_size_in = sizeof(ctx), .ctx_out = &ctx, .ctx_size_out = sizeof(ctx),
		.repeat = 1);
	int r = bpf_prog_test_run_opts(bpf_program__fd(p), &opts);

	cr_assert(r == 0, "test run: %s", strerror(-r));
	*mark = ctx.mark;
	return (int)opts.retval;
}

static int take(bool out, struct frame f, uint32_t mark)
{
	return run(out ? bpf->progs.net_shape_out : bpf->progs.net_shape_in, f, &mark, 0);
}

static struct net_shape_count counted(enum net_direction direction)
{
	struct net_shape_count values[256], sum = {0};
	uint32_t key = direction;

	cr_assert_leq(libbpf_num_possible_cpus(), 256);
	cr_assert_eq(bpf_map_lookup_elem(bpf_map__fd(bpf->maps.net_shape_counts), &key, values), 0);
	for (int i = 0; i < libbpf_num_possible_cpus(); i++) {
		sum.frames += values[i].frames;
		sum.packets += values[i].packets;
		sum.bytes += values[i].bytes;
	}
	return sum;
}

Test(net_shape, takes_what_a_rule_names)
{
	uint32_t mark = 0;

	load("{\"delay\": \"1ms\", \"peers\": [\"" PEER ":5432\"]}", both, 2);
	cr_expect_eq(take(true, tcp4(US, 40000, PEER, 5432), 0), REDIRECT);
	cr_expect_eq(take(false, tcp4(PEER, 5432, US, 40000), 0), REDIRECT);
	cr_expect_eq(take(true, tcp4(US, 40000, PEER, 22), 0), NEXT);
	cr_expect_eq(take(true, tcp4(US, 40000, OTHER, 5432), 0), NEXT);
	cr_expect_eq(take(false, tcp4(US, 5432, PEER, 40000), 0), NEXT, "the source counts");
	run(bpf->progs.net_shape_out, tcp4(US, 1, PEER, 5432), &mark, 0);
	cr_expect_eq(mark, NET_MARK_BASE | POSITION);
}

Test(net_shape, is_inert_before_and_after_its_time)
{
	load("{\"delay\": \"1ms\"}", both, 2);
	bpf->bss->until_boot_ns = 0;
	cr_expect_eq(take(true, tcp4(US, 1, PEER, 2), 0), NEXT);
	bpf->bss->until_boot_ns = boot_ns() - 1;
	cr_expect_eq(take(true, tcp4(US, 1, PEER, 2), 0), NEXT);
	bpf->bss->until_boot_ns = boot_ns() + NS_PER_S;
	cr_expect_eq(take(true, tcp4(US, 1, PEER, 2), 0), REDIRECT);
}

Test(net_shape, takes_only_the_directions_that_have_a_tap)
{
	load("{\"delay\": \"1ms\"}", &both[1], 1);
	cr_expect_eq(take(true, tcp4(US, 1, PEER, 2), 0), REDIRECT);
	cr_expect_eq(take(false, tcp4(PEER, 2, US, 1), 0), NEXT);
}

Test(net_shape, takes_each_frame_once)
{
	load("{\"delay\": \"1ms\"}", both, 2);
	cr_expect_eq(take(true, tcp4(US, 1, PEER, 2), NET_MARK_BASE | (POSITION - 1)), REDIRECT);
	cr_expect_eq(take(true, tcp4(US, 1, PEER, 2), NET_MARK_BASE | POSITION), NEXT);
	cr_expect_eq(take(true, tcp4(US, 1, PEER, 2), NET_MARK_BASE | (POSITION + 1)), NEXT);
	cr_expect_eq(take(true, tcp4(US, 1, PEER, 2), NET_MARK_REPLY), NEXT);
	/* A mark of somebody else's with the same low bits means nothing. */
	cr_expect_eq(take(true, tcp4(US, 1, PEER, 2), POSITION), REDIRECT);
}

Test(net_shape, leaves_the_link_itself_alone)
{
	struct frame arp;

	load("{\"delay\": \"1ms\"}", both, 2);
	frame_link(&arp, 0, ETH_P_ARP);
	frame_add(&arp, (uint8_t[28]){0}, 28);
	cr_expect_eq(take(true, arp, 0), NEXT);
	cr_expect_eq(take(true, tcp6("fd09::2", 1, "fd09::3", 2), 0), REDIRECT);
}

Test(net_shape, counts_frames_and_packets)
{
	uint32_t mark = 0;
	struct net_shape_count c;

	load("{\"delay\": \"1ms\"}", both, 2);
	run(bpf->progs.net_shape_out, tcp4(US, 1, PEER, 2), &mark, 0);
	mark = 0;
	run(bpf->progs.net_shape_out, tcp4(US, 1, PEER, 2), &mark, 9);
	c = counted(NET_OUT);
	cr_expect_eq(c.frames, 2);
	cr_expect_eq(c.packets, 10);
	cr_expect_gt(c.bytes, 100);
	cr_expect_eq(counted(NET_IN).frames, 0);
}

Test(net_shape, guards_the_tap)
{
	uint32_t mine = NET_MARK_BASE | POSITION, none = 0, other = NET_MARK_BASE | (POSITION + 1);

	load("{\"delay\": \"1ms\"}", both, 2);
	cr_expect_eq(run(bpf->progs.net_shape_guard, tcp4(US, 1, PEER, 2), &mine, 0), NEXT);
	cr_expect_eq(run(bpf->progs.net_shape_guard, tcp4(US, 1, PEER, 2), &none, 0), DROP);
	cr_expect_eq(run(bpf->progs.net_shape_guard, tcp4(US, 1, PEER, 2), &other, 0), DROP);
}

Test(net_shape, sends_back_with_its_mark)
{
	static const struct net_shape_lane from_loopback[] = {{NO_TAP, LOOPBACK, NET_OUT}};
	uint32_t mark = 0;

	load("{\"delay\": \"1ms\"}", from_loopback, 1);
	cr_expect_eq(run(bpf->progs.net_shape_back, tcp4(US, 1, PEER, 2), &mark, 0), REDIRECT);
	cr_expect_eq(mark, NET_MARK_BASE | POSITION);
}

Test(net_shape, lets_nothing_of_the_tap_into_the_stack)
{
	uint32_t mark = 0;

	load("{\"delay\": \"1ms\"}", both, 2);
	cr_expect_eq(run(bpf->progs.net_shape_back, tcp4(US, 1, PEER, 2), &mark, 0), DROP);
}
