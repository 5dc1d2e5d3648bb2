/* Frames for the tests of the network programs: built by hand, sums checked by hand. */
#pragma once

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct frame {
	uint8_t bytes[512];
	size_t length;
	size_t l3, l4;
};

static inline void frame_add(struct frame *f, const void *data, size_t n)
{
	memcpy(f->bytes + f->length, data, n);
	f->length += n;
}

static inline void frame_link(struct frame *f, unsigned vlan_tags, uint16_t type)
{
	struct ethhdr eth = {.h_dest = {2, 0, 0, 0, 0, 1}, .h_source = {2, 0, 0, 0, 0, 2}};
	uint16_t tag[2] = {htons(100), htons(ETH_P_8021Q)};

	memset(f, 0, sizeof(*f));
	eth.h_proto = htons(vlan_tags == 2 ? ETH_P_8021AD : vlan_tags ? ETH_P_8021Q : type);
	frame_add(f, &eth, sizeof(eth));
	for (unsigned i = vlan_tags; i > 0; i--) {
		tag[1] = htons(i == 1 ? type : ETH_P_8021Q);
		frame_add(f, tag, sizeof(tag));
	}
	f->l3 = f->length;
}

static inline uint32_t sum_add(uint32_t sum, const void *data, size_t n)
{
	const uint8_t *b = data;

	for (size_t i = 0; i < n; i++)
		sum += (uint32_t)(i % 2 ? b[i] : b[i] << 8);
	return sum;
}

static inline uint16_t sum_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static inline void frame_ipv4(struct frame *f, const char *from, const char *to, uint8_t protocol,
	uint16_t fragment, size_t payload)
{
	struct iphdr ip = {.version = 4, .ihl = 5, .ttl = 60, .protocol = protocol, .id = 7};

	inet_pton(AF_INET, from, &ip.saddr);
	inet_pton(AF_INET, to, &ip.daddr);
	ip.frag_off = htons(fragment);
	ip.tot_len = htons((uint16_t)(sizeof(ip) + payload));
	ip.check = htons((uint16_t)~sum_fold(sum_add(0, &ip, sizeof(ip))));
	frame_add(f, &ip, sizeof(ip));
	f->l4 = f->length;
}

static inline void frame_ipv6(struct frame *f, const char *from, const char *to, uint8_t next,
	size_t payload)
{
	struct ipv6hdr ip = {.version = 6, .hop_limit = 60, .nexthdr = next};

	inet_pton(AF_INET6, from, &ip.saddr);
	inet_pton(AF_INET6, to, &ip.daddr);
	ip.payload_len = htons((uint16_t)payload);
	frame_add(f, &ip, sizeof(ip));
	f->l4 = f->length;
}

static inline void frame_tcp(struct frame *f, uint16_t from, uint16_t to, const char *flags,
	size_t payload)
{
	struct tcphdr tcp = {.doff = 5, .seq = htonl(1000), .ack_seq = htonl(5000)};
	uint8_t data[256] = {0};

	tcp.source = htons(from);
	tcp.dest = htons(to);
	tcp.syn = strchr(flags, 'S') != NULL;
	tcp.ack = strchr(flags, 'A') != NULL;
	tcp.rst = strchr(flags, 'R') != NULL;
	f->l4 = f->length;
	frame_add(f, &tcp, sizeof(tcp));
	frame_add(f, data, payload);
}

static inline void frame_udp(struct frame *f, uint16_t from, uint16_t to)
{
	struct udphdr udp = {.source = htons(from), .dest = htons(to), .len = htons(16)};
	uint8_t data[8] = {1, 2, 3};

	f->l4 = f->length;
	frame_add(f, &udp, sizeof(udp));
	frame_add(f, data, sizeof(data));
}

static inline void frame_icmp(struct frame *f, uint8_t type)
{
	struct icmphdr icmp = {.type = type};
	uint8_t data[32] = {0};

	f->l4 = f->length;
	frame_add(f, &icmp, sizeof(icmp));
	frame_add(f, data, sizeof(data));
}

static inline struct frame tcp4(const char *from, uint16_t sport, const char *to, uint16_t dport)
{
	struct frame f;

	frame_link(&f, 0, ETH_P_IP);
	frame_ipv4(&f, from, to, IPPROTO_TCP, 0, sizeof(struct tcphdr));
	frame_tcp(&f, sport, dport, "A", 0);
	return f;
}

static inline struct frame tcp6(const char *from, uint16_t sport, const char *to, uint16_t dport)
{
	struct frame f;

	frame_link(&f, 0, ETH_P_IPV6);
	frame_ipv6(&f, from, to, IPPROTO_TCP, sizeof(struct tcphdr));
	frame_tcp(&f, sport, dport, "A", 0);
	return f;
}

/* Is the sum over the transport part and the pseudo header that of a correct packet? */
static inline bool transport_sum_is_right(const uint8_t *packet, size_t l3, size_t l4, size_t length,
	bool pseudo)
{
	uint32_t sum = sum_add(0, packet + l4, length - l4);
	bool v4 = packet[l3] >> 4 == 4;

	if (pseudo) {
		sum = v4 ? sum_add(sum, packet + l3 + 12, 8) : sum_add(sum, packet + l3 + 8, 32);
		sum += v4 ? packet[l3 + 9] : packet[l3 + 6];
		sum += (uint32_t)(length - l4);
	}
	return sum_fold(sum) == 0xffff;
}
