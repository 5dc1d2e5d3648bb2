/* Packets in, verdict out: the programs are run by the kernel itself (BPF_PROG_TEST_RUN). */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <unistd.h>
#include "frames.h"

#include "bpf/net_partition.h"
#include "core/catalogue.h"
#include "core/clock.h"
#include "core/json.h"
#include "fault/net_rules.h"
#include "net_partition.skel.h"

enum { NEXT = -1, DROP = 2, REDIRECT = 7 };

#define US   "10.9.0.2"
#define PEER "10.9.0.3"
#define US6   "fd09::2"
#define PEER6 "fd09::3"

static struct net_partition *bpf;
static struct net_rules rules;

static void parse(const char *json)
{
	_cleanup_err_ struct err *err = NULL;
	_cleanup_json_ cJSON *o = NULL;
	_cleanup_(params_freep) struct params *p = NULL;

	cr_assert(json_parse(json, strlen(json), &o, &err) == 0, "%s", err_text(err));
	cr_assert(params_from_json(&fault_net_partition, o, &p, &err) == 0, "%s", err_text(err));
	cr_assert(net_rules_from_params(p, &rules, &err) == 0, "%s", err_text(err));
}

static void load(const char *json, enum net_partition_action action, uint32_t chance_ppm,
	uint32_t position)
{
	_cleanup_err_ struct err *err = NULL;

	if (geteuid() != 0)
		cr_skip_test("needs root");
	parse(json);
	bpf = net_partition__open();
	cr_assert(bpf != NULL, "open");
	bpf->rodata->action = action;
	bpf->rodata->chance_ppm = chance_ppm;
	bpf->rodata->position = position;
	bpf->rodata->net_rules_depth = rules.depth;
	net_rules_copy(&rules, (struct net_rule *)bpf->rodata->net_rules);
	cr_assert(net_partition__load(bpf) == 0);
	cr_assert(net_rules_fill(&rules, bpf_map__fd(bpf->maps.net_prefixes), &err) == 0, "%s",
		err_text(err));
	bpf->bss->until_boot_ns = boot_ns() + 60 * NS_PER_S;
}

static void done(void)
{
	net_partition__destroy(bpf);
	net_rules_done(&rules);
}

TestSuite(net_partition, .fini = done);

struct outcome {
	int verdict;
	uint32_t mark;
	uint8_t bytes[512];
	size_t length;
};

static struct outcome send_marked(const struct frame *f, bool out, uint32_t mark, uint32_t segments)
{
	struct __sk_buff ctx = {.mark = mark, .gso_segs = segments,
		.gso_size = segments ? 100 : 0};
	struct outcome o = {0};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = f->bytes, .data_size_in = f->length,
		.data_out = o.bytes, .data_size_out = sizeof(o.bytes), .ctx_in = &ctx,
		.ctx_size_in = sizeof(ctx), .ctx_out = &ctx, .ctx_size_out = sizeof(ctx),
		.repeat = 1);
	struct bpf_program *p = out ? bpf->progs.net_part_out : bpf->progs.net_part_in;
	int r = bpf_prog_test_run_opts(bpf_program__fd(p), &opts);

	cr_assert(r == 0, "test run: %s", strerror(-r));
	o.verdict = (int)opts.retval;
	o.length = opts.data_size_out;
	o.mark = ctx.mark;
	/* To no interface: lost, and the sender is none the wiser. */
	if (out && o.verdict == REDIRECT && o.mark != NET_MARK_REPLY)
		o.verdict = DROP;
	return o;
}

static int in(struct frame f)
{
	return send_marked(&f, false, 0, 0).verdict;
}

static int out(struct frame f)
{
	return send_marked(&f, true, 0, 0).verdict;
}

static struct net_count counted(const char *label, enum net_direction direction)
{
	struct net_count values[256], sum = {0};
	uint32_t key = direction;
	int n = libbpf_num_possible_cpus();

	cr_assert(n > 0 && n <= 256);
	for (size_t i = 0; i < rules.n_labels; i++)
		if (strcmp(rules.labels[i], label) == 0)
			key += (uint32_t)i * NET_DIRECTION_MAX;
	cr_assert(bpf_map_lookup_elem(bpf_map__fd(bpf->maps.net_counts), &key, values) == 0);
	for (int i = 0; i < n; i++) {
		sum.packets += values[i].packets;
		sum.bytes += values[i].bytes;
	}
	return sum;
}

Test(net_partition, remote_address_is_source_in_and_destination_out)
{
	load("{\"peers\": [\"" PEER "\"]}", NET_PARTITION_DROP, 1000000, 1);
	cr_expect(eq(int, in(tcp4(PEER, 1, US, 2)), DROP));
	cr_expect(eq(int, out(tcp4(US, 2, PEER, 1)), DROP));
	cr_expect(eq(int, in(tcp4(US, 1, PEER, 2)), NEXT));
	cr_expect(eq(int, out(tcp4(PEER, 2, US, 1)), NEXT));
	cr_expect(eq(int, in(tcp4("10.9.0.4", 1, US, 2)), NEXT));
	cr_expect(eq(int, in(tcp6(PEER6, 1, US6, 2)), NEXT));
	cr_expect(eq(u64, counted(PEER, NET_IN).packets, 1));
	cr_expect(eq(u64, counted(PEER, NET_OUT).packets, 1));
	cr_expect(eq(u64, counted(PEER, NET_OUT).bytes, 54));
}

Test(net_partition, inert_until_fired_and_past_its_deadline)
{
	load("{\"peers\": [\"all\"]}", NET_PARTITION_DROP, 1000000, 1);
	bpf->bss->until_boot_ns = 0;
	cr_expect(eq(int, in(tcp4(PEER, 1, US, 2)), NEXT));
	bpf->bss->until_boot_ns = boot_ns() - 1;
	cr_expect(eq(int, in(tcp4(PEER, 1, US, 2)), NEXT));
	bpf->bss->until_boot_ns = boot_ns() + NS_PER_S;
	cr_expect(eq(int, in(tcp4(PEER, 1, US, 2)), DROP));
}

Test(net_partition, ranges_of_both_families)
{
	load("{\"peers\": [\"10.8.0.0/13\", \"fd09::/64\"]}", NET_PARTITION_DROP, 1000000, 1);
	cr_expect(eq(int, in(tcp4("10.15.255.255", 1, US, 2)), DROP));
	cr_expect(eq(int, in(tcp4("10.16.0.0", 1, US, 2)), NEXT));
	cr_expect(eq(int, in(tcp6("fd09::ffff:ffff:ffff:ffff", 1, US6, 2)), DROP));
	cr_expect(eq(int, in(tcp6("fd09:0:0:1::", 1, US6, 2)), NEXT));
}

Test(net_partition, zero_lengths_keep_to_their_family)
{
	load("{\"peers\": [\"[::/0]\"]}", NET_PARTITION_DROP, 1000000, 1);
	cr_expect(eq(int, in(tcp4(PEER, 1, US, 2)), NEXT));
	cr_expect(eq(int, in(tcp6(PEER6, 1, US6, 2)), DROP));
	done();
	load("{\"peers\": [\"0.0.0.0/0\"]}", NET_PARTITION_DROP, 1000000, 1);
	cr_expect(eq(int, in(tcp4(PEER, 1, US, 2)), DROP));
	cr_expect(eq(int, in(tcp6(PEER6, 1, US6, 2)), NEXT));
}

Test(net_partition, ports_at_either_end)
{
	load("{\"peers\": [\"" PEER ":5432-5440\"]}", NET_PARTITION_DROP, 1000000, 1);
	cr_expect(eq(int, in(tcp4(PEER, 5432, US, 40000)), DROP));
	cr_expect(eq(int, in(tcp4(PEER, 40000, US, 5440)), DROP));
	cr_expect(eq(int, in(tcp4(PEER, 5431, US, 5441)), NEXT));
}

Test(net_partition, protocol)
{
	struct frame udp, icmp;

	load("{\"peers\": [\"" PEER "\"], \"protocol\": \"udp\"}", NET_PARTITION_DROP, 1000000, 1);
	frame_link(&udp, 0, ETH_P_IP);
	frame_ipv4(&udp, PEER, US, IPPROTO_UDP, 0, 16);
	frame_udp(&udp, 53, 40000);
	frame_link(&icmp, 0, ETH_P_IP);
	frame_ipv4(&icmp, PEER, US, IPPROTO_ICMP, 0, 40);
	frame_icmp(&icmp, ICMP_ECHO);
	cr_expect(eq(int, in(udp), DROP));
	cr_expect(eq(int, in(icmp), NEXT));
	cr_expect(eq(int, in(tcp4(PEER, 53, US, 2)), NEXT));
}

Test(net_partition, icmp_of_both_families_and_never_by_port)
{
	struct frame v4, v6;

	frame_link(&v4, 0, ETH_P_IP);
	frame_ipv4(&v4, PEER, US, IPPROTO_ICMP, 0, 40);
	frame_icmp(&v4, ICMP_ECHO);
	frame_link(&v6, 0, ETH_P_IPV6);
	frame_ipv6(&v6, PEER6, US6, IPPROTO_ICMPV6, 40);
	frame_icmp(&v6, ICMPV6_ECHO_REQUEST);
	load("{\"peers\": [\"all\"], \"protocol\": \"icmp\"}", NET_PARTITION_DROP, 1000000, 1);
	cr_expect(eq(int, in(v4), DROP));
	cr_expect(eq(int, in(v6), DROP));
	cr_expect(eq(int, in(tcp4(PEER, 1, US, 2)), NEXT));
	done();
	load("{\"peers\": [\"all:1-65535\"]}", NET_PARTITION_DROP, 1000000, 1);
	cr_expect(eq(int, in(v4), NEXT));
	cr_expect(eq(int, in(v6), NEXT));
}

Test(net_partition, the_link_itself_always_passes)
{
	struct frame f;

	load("{\"peers\": [\"all\"]}", NET_PARTITION_DROP, 1000000, 1);
	frame_link(&f, 0, ETH_P_ARP);
	f.length += 46;
	cr_expect(eq(int, in(f), NEXT));
	for (uint8_t type = 133; type <= 137; type++) {
		frame_link(&f, 0, ETH_P_IPV6);
		frame_ipv6(&f, PEER6, US6, IPPROTO_ICMPV6, 40);
		frame_icmp(&f, type);
		cr_expect(eq(int, in(f), NEXT), "type %u", type);
	}
	frame_link(&f, 0, ETH_P_IPV6);
	frame_ipv6(&f, PEER6, US6, IPPROTO_ICMPV6, 40);
	frame_icmp(&f, ICMPV6_ECHO_REQUEST);
	cr_expect(eq(int, in(f), DROP));
}

Test(net_partition, one_and_two_vlan_tags)
{
	load("{\"peers\": [\"" PEER ":5432\"]}", NET_PARTITION_DROP, 1000000, 1);
	for (unsigned tags = 1; tags <= 2; tags++) {
		struct frame f;

		frame_link(&f, tags, ETH_P_IP);
		frame_ipv4(&f, PEER, US, IPPROTO_TCP, 0, 20);
		frame_tcp(&f, 5432, 2, "A", 0);
		cr_expect(eq(int, in(f), DROP), "%u tags", tags);
		frame_link(&f, tags, ETH_P_IP);
		frame_ipv4(&f, "10.9.0.4", US, IPPROTO_TCP, 0, 20);
		frame_tcp(&f, 5432, 2, "A", 0);
		cr_expect(eq(int, in(f), NEXT), "%u tags", tags);
	}
}

/* Of a device without a link header (tun, WireGuard): the frame begins with the IP header. */
static struct frame without_link(struct frame f)
{
	f.length -= ETH_HLEN;
	memmove(f.bytes, f.bytes + ETH_HLEN, f.length);
	return f;
}

Test(net_partition, a_source_that_reads_as_an_ethertype)
{
	load("{\"peers\": [\"8.0.0.1\", \"2001:db8:86dd::1\"]}", NET_PARTITION_DROP, 1000000, 1);
	cr_expect_eq(in(tcp4("8.0.0.1", 5432, US, 40000)), DROP);
	cr_expect_eq(in(without_link(tcp4("8.0.0.1", 5432, US, 40000))), DROP);
	cr_expect_eq(in(without_link(tcp4("8.0.0.2", 5432, US, 40000))), NEXT);
	cr_expect_eq(in(without_link(tcp6("2001:db8:86dd::1", 5432, US6, 40000))), DROP);
	cr_expect_eq(in(without_link(tcp6("2001:db8:86dd::2", 5432, US6, 40000))), NEXT);
}

Test(net_partition, later_fragments_match_by_address_alone)
{
	struct frame first, later;

	frame_link(&first, 0, ETH_P_IP);
	frame_ipv4(&first, PEER, US, IPPROTO_UDP, 0x2000, 16);
	frame_udp(&first, 5432, 5432);
	frame_link(&later, 0, ETH_P_IP);
	frame_ipv4(&later, PEER, US, IPPROTO_UDP, 100, 16);
	frame_udp(&later, 5432, 5432);	/* looks like ports and is not */
	load("{\"peers\": [\"" PEER ":5432\"]}", NET_PARTITION_DROP, 1000000, 1);
	cr_expect(eq(int, in(first), DROP));
	cr_expect(eq(int, in(later), NEXT));
	done();
	load("{\"peers\": [\"" PEER "\"]}", NET_PARTITION_DROP, 1000000, 1);
	cr_expect(eq(int, in(first), DROP));
	cr_expect(eq(int, in(later), DROP));
}

Test(net_partition, ipv6_extension_headers)
{
	static const uint8_t hop[8] = {IPPROTO_DSTOPTS, 0}, options[16] = {IPPROTO_FRAGMENT, 1},
		first[8] = {IPPROTO_TCP, 0, 0, 1}, later[8] = {IPPROTO_TCP, 0, 1, 1};
	struct frame f;

	load("{\"peers\": [\"[" PEER6 "]:5432\"]}", NET_PARTITION_DROP, 1000000, 1);
	frame_link(&f, 0, ETH_P_IPV6);
	frame_ipv6(&f, PEER6, US6, IPPROTO_HOPOPTS, 52);
	frame_add(&f, hop, sizeof(hop));
	frame_add(&f, options, sizeof(options));
	frame_add(&f, first, sizeof(first));
	frame_tcp(&f, 5432, 2, "A", 0);
	cr_expect(eq(int, in(f), DROP));
	f.length -= sizeof(struct tcphdr) + sizeof(first);
	frame_add(&f, later, sizeof(later));
	frame_tcp(&f, 5432, 2, "A", 0);
	cr_expect(eq(int, in(f), NEXT));
}

Test(net_partition, more_extension_headers_than_the_bound_still_match_by_address)
{
	static const uint8_t options[8] = {IPPROTO_DSTOPTS, 0};
	struct frame f;

	load("{\"peers\": [\"" PEER6 "\"]}", NET_PARTITION_DROP, 1000000, 1);
	frame_link(&f, 0, ETH_P_IPV6);
	frame_ipv6(&f, PEER6, US6, IPPROTO_DSTOPTS, 160);
	for (int i = 0; i < 20; i++)
		frame_add(&f, options, sizeof(options));
	cr_expect(eq(int, in(f), DROP));
}

Test(net_partition, truncated_and_odd_frames_pass_or_match_by_address)
{
	struct frame f = tcp4(PEER, 5432, US, 2);

	load("{\"peers\": [\"" PEER ":5432\"]}", NET_PARTITION_DROP, 1000000, 1);
	/* The kernel lends no shorter frame than a header of its protocol. */
	for (size_t n = f.l4; n < f.l4 + 4; n++) {
		struct frame cut = f;

		cut.length = n;
		cr_expect(eq(int, in(cut), NEXT), "%zu bytes", n);
	}
	f.length = f.l4 + 4;
	cr_expect(eq(int, in(f), DROP));
	f = tcp4(PEER, 5432, US, 2);
	f.bytes[f.l3] = 0x44;	/* header shorter than a header */
	cr_expect(eq(int, in(f), NEXT));
	f.bytes[f.l3] = 0x65;	/* version 6 in an IPv4 frame */
	cr_expect(eq(int, in(f), NEXT));
}

Test(net_partition, counted_under_the_most_specific_peer)
{
	load("{\"peers\": [\"world=all\", \"net=10.9.0.0/16\", \"one=" PEER ":5432\"]}",
		NET_PARTITION_DROP, 1000000, 1);
	cr_expect(eq(int, in(tcp4(PEER, 5432, US, 2)), DROP));
	cr_expect(eq(int, in(tcp4(PEER, 1, US, 2)), DROP));
	cr_expect(eq(int, in(tcp4("10.10.0.1", 1, US, 2)), DROP));
	cr_expect(eq(int, in(tcp6(PEER6, 1, US6, 2)), DROP));
	cr_expect(eq(u64, counted("one", NET_IN).packets, 1));
	cr_expect(eq(u64, counted("net", NET_IN).packets, 1));
	cr_expect(eq(u64, counted("world", NET_IN).packets, 2));
}

Test(net_partition, two_hundred_and_fifty_six_rules)
{
	char json[16384] = "{\"peers\": [";
	size_t n = strlen(json);

	/* Nested ranges and shared prefixes: the longest way through the rules. */
	for (int i = 0; i < 256; i++)
		n += (size_t)snprintf(json + n, sizeof(json) - n, "%s\"10.9.0.0/%d:%d\"",
			i ? ", " : "", i < 128 ? 16 : 24, 1000 + i);
	snprintf(json + n, sizeof(json) - n, "]}");
	load(json, NET_PARTITION_DROP, 1000000, 1);
	cr_expect(eq(u32, rules.depth, 256));
	for (uint16_t i = 0; i < 256; i++)
		cr_expect(eq(int, in(tcp4(PEER, 1000 + i, US, 2)), DROP), "port %d", 1000 + i);
	cr_expect(eq(int, in(tcp4("10.9.1.1", 1127, US, 2)), DROP));
	cr_expect(eq(int, in(tcp4("10.9.1.1", 1128, US, 2)), NEXT));
	cr_expect(eq(int, in(tcp4(PEER, 999, US, 2)), NEXT));
	cr_expect(eq(int, in(tcp4(PEER, 1256, US, 2)), NEXT));
}

Test(net_partition, a_segmented_frame_counts_as_its_packets)
{
	struct frame f = tcp4(PEER, 1, US, 2);

	load("{\"peers\": [\"" PEER "\"]}", NET_PARTITION_DROP, 1000000, 1);
	cr_expect(eq(int, send_marked(&f, false, 0, 7).verdict, DROP));
	cr_expect(eq(u64, counted(PEER, NET_IN).packets, 7));
}

Test(net_partition, percent_is_a_share_of_the_frames)
{
	int dropped = 0;

	load("{\"peers\": [\"" PEER "\"]}", NET_PARTITION_DROP, 250000, 1);
	for (int i = 0; i < 8000; i++)
		dropped += in(tcp4(PEER, 1, US, 2)) == DROP;
	/* 2000 expected, standard deviation 39: six of them. */
	cr_expect(dropped > 1766 && dropped < 2234, "%d", dropped);
}

Test(net_partition, frames_from_a_delay_line_are_cut_but_rolled_once)
{
	struct frame f = tcp4(PEER, 1, US, 2);
	int dropped = 0;

	load("{\"peers\": [\"" PEER "\"]}", NET_PARTITION_DROP, 1000000, 5);
	cr_expect(eq(int, send_marked(&f, false, NET_MARK_BASE | 4, 0).verdict, DROP));
	cr_expect(eq(int, send_marked(&f, false, NET_MARK_BASE | 6, 0).verdict, DROP));
	cr_expect(eq(int, send_marked(&f, false, NET_MARK_REPLY, 0).verdict, NEXT));
	done();
	load("{\"peers\": [\"" PEER "\"]}", NET_PARTITION_DROP, 900000, 5);
	for (int i = 0; i < 200; i++) {
		cr_assert(eq(int, send_marked(&f, false, NET_MARK_BASE | 6, 0).verdict, NEXT));
		dropped += send_marked(&f, false, NET_MARK_BASE | 4, 0).verdict == DROP;
	}
	cr_expect(dropped > 140, "%d", dropped);
}

static void check_reset(const struct frame *f, const struct outcome *o, bool with_ack)
{
	struct tcphdr was, tcp;

	cr_assert(eq(int, o->verdict, REDIRECT));
	cr_assert(eq(u32, o->mark, NET_MARK_REPLY));
	cr_assert(eq(sz, o->length, f->l4 + sizeof(tcp)));
	memcpy(&was, f->bytes + f->l4, sizeof(was));
	memcpy(&tcp, o->bytes + f->l4, sizeof(tcp));
	cr_expect(memcmp(o->bytes, f->bytes + 6, 6) == 0 && memcmp(o->bytes + 6, f->bytes, 6) == 0);
	cr_expect(tcp.source == was.dest && tcp.dest == was.source);
	cr_expect(tcp.rst && !tcp.syn && !tcp.fin && tcp.doff == 5);
	cr_expect(eq(int, tcp.ack, with_ack));
	cr_expect(transport_sum_is_right(o->bytes, f->l3, f->l4, o->length, true));
}

static uint32_t be32_at(const struct outcome *o, size_t offset)
{
	uint32_t x;

	memcpy(&x, o->bytes + offset, sizeof(x));
	return ntohl(x);
}

Test(net_partition, reject_resets_an_established_connection)
{
	struct frame f;
	struct outcome o;

	load("{\"peers\": [\"all\"]}", NET_PARTITION_REJECT, 1000000, 1);
	frame_link(&f, 0, ETH_P_IP);
	frame_ipv4(&f, US, PEER, IPPROTO_TCP, 0, 120);
	frame_tcp(&f, 40000, 5432, "A", 100);
	o = send_marked(&f, true, 0, 3);
	check_reset(&f, &o, false);
	cr_expect(eq(u32, be32_at(&o, f.l4 + offsetof(struct tcphdr, seq)), 5000));
	cr_expect(eq(u16, sum_fold(sum_add(0, o.bytes + f.l3, 20)), 0xffff));
	cr_expect(eq(u32, be32_at(&o, f.l3 + 12), ntohl(inet_addr(PEER))));
	cr_expect(eq(u32, be32_at(&o, f.l3 + 16), ntohl(inet_addr(US))));
	cr_expect(eq(u32, be32_at(&o, f.l3) & 0xffff, 40));
}

Test(net_partition, reject_refuses_a_new_connection)
{
	struct frame f;
	struct outcome o;

	load("{\"peers\": [\"all\"]}", NET_PARTITION_REJECT, 1000000, 1);
	frame_link(&f, 0, ETH_P_IP);
	frame_ipv4(&f, PEER, US, IPPROTO_TCP, 0, 20);
	frame_tcp(&f, 40000, 5432, "S", 0);
	o = send_marked(&f, false, 0, 0);
	check_reset(&f, &o, true);
	cr_expect(eq(u32, be32_at(&o, f.l4 + offsetof(struct tcphdr, ack_seq)), 1001));
	frame_link(&f, 0, ETH_P_IPV6);
	frame_ipv6(&f, PEER6, US6, IPPROTO_TCP, 30);
	frame_tcp(&f, 40000, 5432, "S", 10);
	f.length += 4;	/* padding of the link is no payload */
	o = send_marked(&f, false, 0, 0);
	check_reset(&f, &o, true);
	cr_expect(eq(u32, be32_at(&o, f.l4 + offsetof(struct tcphdr, ack_seq)), 1011));
	frame_link(&f, 1, ETH_P_IP);
	frame_ipv4(&f, PEER, US, IPPROTO_TCP, 0, 20);
	frame_tcp(&f, 40000, 5432, "S", 0);
	o = send_marked(&f, false, 0, 0);
	check_reset(&f, &o, true);
}

Test(net_partition, reject_answers_udp_by_port_unreachable)
{
	struct frame f;
	struct outcome o;

	load("{\"peers\": [\"all\"]}", NET_PARTITION_REJECT, 1000000, 1);
	frame_link(&f, 0, ETH_P_IP);
	frame_ipv4(&f, US, PEER, IPPROTO_UDP, 0, 16);
	frame_udp(&f, 40000, 53);
	o = send_marked(&f, true, 0, 0);
	cr_assert(eq(int, o.verdict, REDIRECT));
	cr_assert(eq(sz, o.length, ETH_HLEN + 20 + 8 + 20 + 8));
	cr_expect(o.bytes[f.l4] == ICMP_DEST_UNREACH && o.bytes[f.l4 + 1] == ICMP_PORT_UNREACH);
	cr_expect(memcmp(o.bytes + f.l4 + 8, f.bytes + f.l3, 28) == 0);
	cr_expect(transport_sum_is_right(o.bytes, f.l3, f.l4, o.length, false));
	cr_expect(eq(u16, sum_fold(sum_add(0, o.bytes + f.l3, 20)), 0xffff));
	frame_link(&f, 0, ETH_P_IPV6);
	frame_ipv6(&f, US6, PEER6, IPPROTO_UDP, 16);
	frame_udp(&f, 40000, 53);
	o = send_marked(&f, true, 0, 0);
	cr_assert(eq(int, o.verdict, REDIRECT));
	cr_assert(eq(sz, o.length, ETH_HLEN + 40 + 8 + 40 + 8));
	cr_expect(o.bytes[f.l4] == ICMPV6_DEST_UNREACH && o.bytes[f.l4 + 1] == ICMPV6_PORT_UNREACH);
	cr_expect(memcmp(o.bytes + f.l4 + 8, f.bytes + f.l3, 48) == 0);
	cr_expect(transport_sum_is_right(o.bytes, f.l3, f.l4, o.length, true));
}

Test(net_partition, reject_answers_no_answer)
{
	struct frame f;

	load("{\"peers\": [\"all\"]}", NET_PARTITION_REJECT, 1000000, 1);
	frame_link(&f, 0, ETH_P_IP);
	frame_ipv4(&f, PEER, US, IPPROTO_TCP, 0, 20);
	frame_tcp(&f, 5432, 2, "RA", 0);
	cr_expect(eq(int, in(f), DROP), "RST");
	frame_link(&f, 0, ETH_P_IP);
	frame_ipv4(&f, PEER, US, IPPROTO_ICMP, 0, 40);
	frame_icmp(&f, ICMP_DEST_UNREACH);
	cr_expect(eq(int, in(f), DROP), "ICMP error");
	frame_link(&f, 0, ETH_P_IPV6);
	frame_ipv6(&f, PEER6, US6, IPPROTO_ICMPV6, 40);
	frame_icmp(&f, ICMPV6_PKT_TOOBIG);
	cr_expect(eq(int, in(f), DROP), "ICMPv6 error");
	frame_link(&f, 0, ETH_P_IP);
	frame_ipv4(&f, PEER, US, IPPROTO_UDP, 100, 16);
	frame_udp(&f, 1, 2);
	cr_expect(eq(int, in(f), DROP), "later fragment");
	frame_link(&f, 0, ETH_P_IP);
	f.bytes[0] = 1;
	frame_ipv4(&f, PEER, "224.0.0.9", IPPROTO_UDP, 0, 16);
	frame_udp(&f, 1, 2);
	cr_expect(eq(int, in(f), DROP), "multicast");
	frame_link(&f, 0, ETH_P_IP);
	frame_ipv4(&f, PEER, US, IPPROTO_ICMP, 0, 40);
	frame_icmp(&f, ICMP_ECHO);
	cr_expect(eq(int, in(f), REDIRECT), "a ping is answered");
}
