#include "core/catalogue.h"
#include "core/catalogue/net_params.h"

static const char *const action_choices[] = {"drop", "reject", NULL};

static const struct param_spec params[] = {
	NET_PARAMS,
	{.name = "action", .type = PARAM_ENUM, .fallback = "drop", .choices = action_choices,
		.help = "drop: packets vanish, as behind a cut cable. reject: the instance gets an "
			"answer at once (TCP reset, or ICMP port unreachable) for what it sends, "
			"and so does whoever sends to it, as from a firewall or a closed port."},
	{.name = "percent", .type = PARAM_PERCENT, .fallback = "100%", .min = 1, .max = 1000000,
		.help = "The share of the matching packets, chosen at random packet by packet; 100% "
			"is a clean cut."},
};

static const struct fault_example examples[] = {
	{"net-partition --target lab/pg1 --for 30s",
		"Cut an instance off from everything for 30 seconds."},
	{"net-partition --target lab/pg1 --for 30s --peers replicas,dcs",
		"Cut it off from its replicas and from the store that elects the leader, while "
		"clients still reach it."},
	{"net-partition --target lab/pg1 --for 30s --peers dcs --direction out",
		"One way only: it hears the store but cannot answer."},
	{"net-partition --target lab/pg2 --for 1m --peers 10.0.0.0/24:5432 --protocol tcp "
	 "--action reject",
		"Refuse PostgreSQL connections to and from a network."},
};

const struct fault_spec fault_net_partition = {
	.name = "net-partition",
	.summary = "Cut an instance off from peers, in one direction or both",
	.description =
		"Drops or rejects the packets between the instance and the peers that are named. "
		"It takes effect for every matching packet at once, open connections included, and "
		"so does its end: connections that survived the time go on where they stood.\n\n"
		"Direction is as the instance sees it. A cut in one direction only is what makes "
		"asymmetric failures: the instance still hears its peers, or is still heard.\n\n"
		"Several partitions on one instance add up: a packet passes if none of them "
		"drops it. The evidence counts packets and bytes dropped for each peer; a "
		"partition that dropped nothing hit nothing and fails its drill.\n\n"
		"All IP traffic can be cut. ARP, IPv6 neighbour discovery and multicast listener "
		"reports always pass, so that a healed instance need not find its neighbours again. "
		"A peer with ports matches TCP, UDP, SCTP and DCCP alone; later fragments have no "
		"ports and pass, but their datagram is lost with its first fragment. A packet that "
		"several peers match is counted under the most specific.\n\n"
		"A dropped packet is lost as on a cut cable: its sender is not told. A rejected one "
		"is answered to whoever sent it, open connections included: TCP by a reset (connection "
		"refused, connection reset), UDP by ICMP port unreachable, the rest by ICMP "
		"administratively prohibited; resets, ICMP errors, multicasts and later fragments "
		"are dropped without an answer. With a percent below 100 the dice are thrown once for "
		"each frame; a large frame of many segments is one.\n\n"
		"Frames held by a net-shape on the same instance are cut on their way out of its "
		"delay line, too.\n\n"
		"Loopback inside the instance's network namespace is not touched, nor are interfaces "
		"that are added while the fault is armed. Everything that shares that namespace (the "
		"other containers of a pod, the manager) is cut too.",
	.mechanism =
		"A BPF program (sched_cls) as a tcx link at ingress and egress of each "
		"interface in the instance's own network namespace. It is attached when armed and "
		"passes everything; firing is one store of its deadline into memory that all of them "
		"share, past which they pass everything again by themselves. Each fault has links of "
		"its own, so several compose and each ends alone. Peers are found by longest-prefix "
		"match: traffic to others pays for one lookup, whatever the number of peers (at most "
		"256 peers times port ranges).",
	.needs =
		"Linux 6.6 for tcx (CONFIG_NET_XGRESS, CONFIG_BPF_SYSCALL); CAP_BPF, "
		"CAP_NET_ADMIN, and CAP_SYS_ADMIN to enter the namespace. No kernel module, no "
		"iptables, no tc. An instance in the host's network namespace is refused.",
	.leaves =
		"Nothing. The links live in the agent's descriptors: when it dies, killed with "
		"SIGKILL included, the kernel detaches them one after the other, some 10 ms each.",
	.lifetime = LIFETIME_HELD,
	.params = params,
	.n_params = ELEMENTS(params),
	.examples = examples,
	.n_examples = ELEMENTS(examples),
	.check = net_params_check,
	.peers_param = "peers",
};
