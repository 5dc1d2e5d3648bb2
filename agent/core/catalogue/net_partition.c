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
		"256 peers times port ranges).\n\n"
		"Before Linux 6.6 there is no tcx: there each is a filter (cls_bpf) of a clsact qdisc, which "
		"leads on to the program by a table that the agent holds. Its priorities begin at 17, before "
		"those that tc chooses by itself; a filter of somebody else's that comes first and ends "
		"the matter hides its packets, which the evidence then does not count. An interface with "
		"an ingress qdisc is refused.",
	.needs =
		"Linux 6.6 for tcx (CONFIG_NET_XGRESS), before it CONFIG_NET_SCH_INGRESS and "
		"CONFIG_NET_CLS_BPF; CONFIG_BPF_SYSCALL; CAP_BPF, CAP_NET_ADMIN, and CAP_SYS_ADMIN to "
		"enter the namespace. No iptables, no tc program. An instance in the host's network "
		"namespace is refused.",
	.leaves =
		"Nothing. The links live in the agent's descriptors: when it dies, killed with "
		"SIGKILL included, the kernel detaches them one after the other, some 10 ms each.\n\n"
		"Without tcx the effect ends with the agent just so, as the kernel empties the table; but "
		"a killed agent leaves its filters on the interfaces. They pass everything, and are removed "
		"by its next start or pgjolt-agent revert-all from the journal; filters and qdiscs of others "
		"are not touched.",
	.lifetime = LIFETIME_HELD,
	CATALOGUE_LISTS,
	.check = net_params_check,
	.peers_param = "peers",
};
