/* The parameters that say which packets a network fault is about; net_rules.h reads them. */
#pragma once

#include <netinet/in.h>
#include "core/param.h"

/* Indices are those of the choices below; "both" first, since it is the default. */
enum net_protocol { NET_PROTOCOL_ANY, NET_PROTOCOL_TCP, NET_PROTOCOL_UDP, NET_PROTOCOL_ICMP };
enum net_way { NET_WAY_BOTH, NET_WAY_IN, NET_WAY_OUT };

extern const char *const net_protocol_choices[];
extern const char *const net_direction_choices[];

/* Ports belong to TCP and UDP. */
int net_params_check(const struct params *p, struct err **err);

#define NET_PARAMS                                                                              \
	{.name = "peers", .type = PARAM_PEERS, .fallback = "all",                               \
		.help = "Who is at the other end: all, primary, replicas, instances, dcs, "     \
			"apiserver, dns, clients, an instance, an address or a CIDR, each "     \
			"with :PORT or :LOW-HIGH if wanted. A peer with a port matches when "   \
			"either end of the packet has it."},                                    \
	{.name = "ports", .type = PARAM_PORTS,                                                  \
		.help = "Only packets with one of these ports at either end; without it, all."},\
	{.name = "protocol", .type = PARAM_ENUM, .fallback = "any",                             \
		.choices = net_protocol_choices, .help = "icmp stands for ICMPv6 too."},        \
	{.name = "direction", .type = PARAM_ENUM, .fallback = "both",                           \
		.choices = net_direction_choices,                                               \
		.help = "As the instance sees it: in is what it receives, out what it sends."}
