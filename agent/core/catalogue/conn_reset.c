#include "core/catalogue.h"

static const char *const role_choices[] = {"any", "client", "replication", "dcs", NULL};

static const struct param_spec params[] = {
	{.name = "role", .type = PARAM_ENUM, .fallback = "any", .choices = role_choices,
		.help = "What the connection is for. client: it came in at the instance's port. "
			"replication: a walsender, a walreceiver or a worker of logical "
			"replication has it. dcs: the manager's own, to the configuration store. any: "
			"every TCP connection of the instance's network."},
	{.name = "peers", .type = PARAM_PEERS, .fallback = "all",
		.help = "Who is at the other end: all, primary, replicas, instances, dcs, "
			"apiserver, dns, clients, an instance, an address or a CIDR, each with "
			":PORT or :LOW-HIGH if wanted. A peer with a port matches when either end "
			"of the connection has it."},
	{.name = "ports", .type = PARAM_PORTS,
		.help = "Only connections with one of these ports at either end; without it, all."},
	{.name = "percent", .type = PARAM_PERCENT, .fallback = "100%", .min = 1, .max = 1000000,
		.help = "The share of the matching connections, at random, rounded up so that at "
			"least one is hit."},
	{.name = "every", .type = PARAM_DURATION, .min = 10000000, .max = 3600000000000,
		.help = "Again and again at this interval while the fault is active, among the "
			"connections that are there then; without it, once."},
};

static const struct fault_example examples[] = {
	{"conn-reset --target lab/pg1 --for 10s --role replication",
		"Reset a primary's replication connections once."},
	{"conn-reset --target lab/pg1 --for 30s --role client --percent 25% --every 2s",
		"Reset a quarter of the clients' sessions every two seconds."},
	{"conn-reset --target lab/pg1 --for 20s --role dcs --every 100ms",
		"Let the manager never keep a connection to its configuration store."},
	{"conn-reset --target lab/pg2 --for 10s --peers primary",
		"Reset all that a replica has open with the primary."},
};

const struct fault_spec fault_conn_reset = {
	.name = "conn-reset",
	.summary = "Reset TCP connections of an instance",
	.description =
		"Ends established connections as a firewall that lost its state or a restarted "
		"proxy does: both ends get an error at their next read or write, whatever was on "
		"the way is lost, and new connections work. A commit whose acknowledgement was on "
		"the way is in doubt for its client.\n\n"
		"The connections of a walsender, a walreceiver and the workers of logical "
		"replication are told from those of clients by PostgreSQL's own process titles; a "
		"new replication connection counts as a client's until the server has read its "
		"first message. Connections over unix sockets are not touched.\n\n"
		"dcs means connections that a process of the manager has open (Patroni, CloudNativePG's "
		"instance manager, stolon-keeper): to a store's client port (etcd 2379 and 4001, Consul 8500 "
		"and 8501, ZooKeeper 2181), to the Kubernetes API server that its environment names, or "
		"to what the coordinator knows the store to be (peers dcs: the API server's endpoints, too). "
		"Other programs' connections to the same ports are not touched. Refused is an instance "
		"without a manager that is known, one whose manager has no store that could be found, and one "
		"that shares its pid namespace with another postmaster. A store at an address that nothing "
		"there names (Kubernetes behind endpoints or a socket load balancer) needs peers dcs: where "
		"no connection to a store is there at arming, the evidence has a remark.\n\n"
		"The evidence counts what was reset, by role, and lists the first of them.",
	.mechanism =
		"SOCK_DESTROY through inet_diag (netlink) in the instance's network namespace: the "
		"kernel aborts the socket and sends a reset to the peer (Linux 4.5).",
	.needs =
		"CONFIG_INET_DIAG, CONFIG_INET_TCP_DIAG and CONFIG_INET_DIAG_DESTROY, CAP_NET_ADMIN, "
		"CAP_SYS_ADMIN to enter the namespace. An instance in the node's own network is refused.",
	.leaves =
		"Nothing. A connection that was reset stays reset; the repeating ends with the agent.",
	.lifetime = LIFETIME_HELD,
	CATALOGUE_LISTS,
	.peers_param = "peers",
};
