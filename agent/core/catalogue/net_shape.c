#include "core/catalogue.h"
#include "core/catalogue/net_params.h"

#define MS 1000000ULL
#define S  1000000000ULL

static const char *const distribution_choices[] = {"uniform", "normal", "pareto", NULL};
static const char *const loss_choices[] = {"random", "gilbert-elliott", NULL};

static const char *const corrupt_choices[] = {"bit", "payload", NULL};

static const struct param_spec params[] = {
	NET_PARAMS,
	{.name = "delay", .type = PARAM_DURATION, .max = 60 * S,
		.help = "Time added to every matching packet in each direction that is asked for; "
			"0.5ms is kept as it is. Both directions: a round trip gains twice this."},
	{.name = "jitter", .type = PARAM_DURATION, .max = 60 * S,
		.help = "How far the delay varies to both sides; at most the delay. Packets keep "
			"their order unless reorder is asked for."},
	{.name = "correlation", .type = PARAM_PERCENT, .max = 990000,
		.help = "How much a packet's jitter follows that of the one before it; the "
			"distribution stays the one asked for."},
	{.name = "distribution", .type = PARAM_ENUM, .fallback = "uniform",
		.choices = distribution_choices,
		.help = "Of the jitter: uniform over delay +- jitter, normal with jitter as "
			"standard deviation, or pareto (shape 3, standard deviation jitter) with its "
			"long tail of late packets."},
	{.name = "loss", .type = PARAM_PERCENT,
		.help = "The share of the packets that is lost, with loss-model random."},
	{.name = "loss-correlation", .type = PARAM_PERCENT, .max = 990000,
		.help = "How much a packet's loss follows that of the one before it (random); the "
			"share that is lost stays the one asked for."},
	{.name = "loss-model", .type = PARAM_ENUM, .fallback = "random", .choices = loss_choices,
		.help = "random: each packet by itself. gilbert-elliott: a link that changes "
			"between a good and a bad state, so losses come in bursts."},
	{.name = "ge-p", .type = PARAM_PERCENT, .min = 1, .max = 1000000,
		.help = "gilbert-elliott: chance, a packet, to go from good to bad."},
	{.name = "ge-r", .type = PARAM_PERCENT, .min = 1, .max = 1000000,
		.help = "gilbert-elliott: chance, a packet, to go from bad to good; a burst lasts "
			"1/ge-r packets on average."},
	{.name = "ge-loss-bad", .type = PARAM_PERCENT, .fallback = "100%",
		.help = "gilbert-elliott: the share lost in the bad state."},
	{.name = "ge-loss-good", .type = PARAM_PERCENT, .fallback = "0%",
		.help = "gilbert-elliott: the share lost in the good state."},
	{.name = "duplicate", .type = PARAM_PERCENT,
		.help = "The share of the frames that is sent twice."},
	{.name = "reorder", .type = PARAM_PERCENT,
		.help = "The share of the frames that is sent at once, past those that are "
			"held; needs delay."},
	{.name = "corrupt", .type = PARAM_PERCENT,
		.help = "The share of the packets that is corrupted, as corrupt-mode says."},
	{.name = "corrupt-mode", .type = PARAM_ENUM, .fallback = "bit", .choices = corrupt_choices,
		.help = "bit: one bit beyond the Ethernet header, at random, is flipped under the old "
			"checksum, so that the receiver drops the packet. payload: one byte of TCP's "
			"payload is changed behind a right checksum, so that PostgreSQL receives it; "
			"the shape is then about TCP alone and, where neither ports nor peers with "
			"ports are given, about the instance's own port at either end."},
	{.name = "rate", .type = PARAM_RATE, .min = 8000, .max = 100000000000ULL,
		.help = "The most that passes in each direction; what is above waits."},
	{.name = "burst", .type = PARAM_BYTES, .fallback = "128KiB", .min = 2048,
		.max = 1ULL << 30, .help = "What may pass at once after a pause; needs rate."},
	{.name = "limit", .type = PARAM_BYTES, .min = 64 << 10, .max = 1 << 30,
		.help = "The most memory for frames that are held (each counts 64 bytes more than "
			"its own); more are dropped and counted as overflowed. By default 64MiB; with "
			"rate what 250 ms of it and the delay hold, from 256KiB to 64MiB."},
	{.name = "seed", .type = PARAM_COUNT, .max = UINT32_MAX,
		.help = "Of the random choices: the same seed makes the same choices in the same "
			"order. By default a new one each time; the evidence names it."},
};

static const struct fault_example examples[] = {
	{"net-shape --target lab/pg2 --for 1m --peers primary --delay 20ms",
		"Slow replication: 20 ms each way between a replica and its primary."},
	{"net-shape --target lab/pg1 --for 1m --delay 50ms --jitter 10ms --distribution normal",
		"A distant region: 50 ms each way, with a spread of 10 ms."},
	{"net-shape --target lab/pg1 --for 30s --peers clients --loss 5% --duplicate 1%",
		"A bad access network in front of the clients."},
	{"net-shape --target lab/pg1 --for 30s --loss-model gilbert-elliott --ge-p 1% --ge-r 25%",
		"Losses in bursts of four packets on average."},
	{"net-shape --target lab/pg3 --for 2m --peers replicas,primary --rate 10mbit --direction out",
		"A thin line for the WAL that an instance sends."},
	{"net-shape --target lab/pg1 --for 30s --peers replicas --direction out --corrupt 1% "
		"--corrupt-mode payload",
		"A Byzantine peer: replicas get WAL that is wrong behind right TCP checksums."},
};

static bool any_effect(const struct params *p)
{
	static const char *const effects[] = {
		"delay", "loss", "duplicate", "corrupt", "rate", "ge-p",
	};

	for (size_t i = 0; i < ELEMENTS(effects); i++)
		if (params_number(p, effects[i]))
			return true;
	return false;
}

/* A parameter says nothing when it is absent, 0, or what it is by default: the canonical form writes
 * defaults too, so whether it was given cannot count. */
static bool says(const struct params *p, const char *name, uint64_t nothing)
{
	return params_is_set(p, name) && params_number(p, name) != nothing;
}

static int check_delay(const struct params *p, struct err **err)
{
	uint64_t delay = params_number(p, "delay"), jitter = params_number(p, "jitter");
	char a[UNITS_TEXT_MAX], b[UNITS_TEXT_MAX];

	if (jitter && !delay)
		return err_set(err, -EINVAL, "jitter: needs delay");
	if (jitter > delay)
		return err_set(err, -EINVAL, "jitter: %s is above the delay of %s",
			duration_format(jitter, a), duration_format(delay, b));
	if (!jitter && says(p, "correlation", 0))
		return err_set(err, -EINVAL, "correlation: needs jitter");
	if (!jitter && says(p, "distribution", 0))
		return err_set(err, -EINVAL, "distribution: needs jitter");
	if (!delay && says(p, "reorder", 0))
		return err_set(err, -EINVAL,
			"reorder: needs delay (without it nothing is held that could be passed)");
	return 0;
}

static int check_loss(const struct params *p, struct err **err)
{
	if (params_number(p, "loss-model") == 1) {
		if (!params_number(p, "ge-p") || !params_number(p, "ge-r"))
			return err_set(err, -EINVAL,
				"loss-model: gilbert-elliott needs ge-p and ge-r");
		if (says(p, "loss", 0) || says(p, "loss-correlation", 0))
			return err_set(err, -EINVAL,
				"loss, loss-correlation: are for loss-model random; gilbert-elliott "
				"has ge-loss-bad and ge-loss-good");
		return 0;
	}
	if (says(p, "ge-p", 0) || says(p, "ge-r", 0) || says(p, "ge-loss-bad", 1000000) ||
		says(p, "ge-loss-good", 0))
		return err_set(err, -EINVAL,
			"ge-p, ge-r, ge-loss-bad, ge-loss-good: need loss-model gilbert-elliott");
	if (says(p, "loss-correlation", 0) && !says(p, "loss", 0))
		return err_set(err, -EINVAL, "loss-correlation: needs loss");
	return 0;
}

static int check_corrupt(const struct params *p, struct err **err)
{
	uint64_t protocol = params_number(p, "protocol");

	if (!says(p, "corrupt-mode", 0))
		return 0;
	if (!says(p, "corrupt", 0))
		return err_set(err, -EINVAL, "corrupt-mode: payload needs corrupt");
	if (protocol != NET_PROTOCOL_ANY && protocol != NET_PROTOCOL_TCP)
		return err_set(err, -EINVAL,
			"corrupt-mode: payload is about TCP (protocol: any or tcp)");
	return 0;
}

static int check(const struct params *p, struct err **err)
{
	int r;

	r = net_params_check(p, err);
	if (r < 0)
		return r;
	r = check_delay(p, err);
	if (r < 0)
		return r;
	r = check_loss(p, err);
	if (r < 0)
		return r;
	if (says(p, "burst", 128 << 10) && !says(p, "rate", 0))
		return err_set(err, -EINVAL, "burst: needs rate");
	r = check_corrupt(p, err);
	if (r < 0)
		return r;
	if (!any_effect(p))
		return err_set(err, -EINVAL,
			"nothing is asked for: give delay, loss, duplicate, corrupt, rate or "
			"loss-model gilbert-elliott");
	return 0;
}

const struct fault_spec fault_net_shape = {
	.name = "net-shape",
	.summary = "Delay, lose, duplicate, reorder, corrupt or slow packets",
	.description =
		"Makes the network between the instance and the peers that are named worse "
		"without cutting it: later, thinner, lossy. Each effect applies to every "
		"matching packet in each direction that is asked for, in this order: loss, "
		"corruption, duplication, rate, delay.\n\n"
		"Packets keep their order, whatever the jitter, unless reorder is asked for: one "
		"that is due before its predecessor leaves right behind it. TCP's large frames "
		"(GSO) are held whole. Loss and corruption are still chosen for each packet that "
		"such a frame is on the wire, and split it where they hit; duplicate and reorder "
		"are chosen for the frame. The rate counts the bytes on the wire, and a frame "
		"leaves when its last byte would have.\n\n"
		"corrupt-mode payload makes a Byzantine peer: TCP accepts the changed bytes and "
		"sends nothing again, so that PostgreSQL's own checks (the CRC of each WAL record, "
		"the messages' lengths and types) must find them; with TLS it is TLS that does. "
		"Towards a replica that is the WAL; a reply from a replica that is changed "
		"(direction in, on the primary) may claim WAL to be flushed that is not, and client "
		"sessions have no checksum at all, so that changed values can be stored: name the "
		"peers and the direction. Only frames of the shape's connections take the detour; no "
		"other connection can be hit.\n\n"
		"Several shapes on one instance add up: a packet that two of them match goes "
		"through both. The evidence counts frames and bytes, what was lost, duplicated, "
		"reordered, corrupted and dropped for the limit, and how far the delay that was "
		"really given was from the one asked for, as a histogram.",
	.mechanism =
		"The delay line. BPF programs (sched_cls) as tcx links on the instance's "
		"interfaces, in its own network namespace, redirect matching frames to a TAP "
		"there; the agent holds them in user space until their time and writes them back, "
		"and a program at the TAP sends them on to where they were going. Firing is one "
		"write into a map, which holds the deadline after which everything passes by "
		"itself. netem and its kernel module are not used. Before Linux 6.6, without tcx, it is a filter (cls_bpf) of a clsact qdisc that leads on to "
		"the program by a table which the agent holds.",
	.needs =
		"Linux 6.6 for tcx (CONFIG_NET_XGRESS), before it CONFIG_NET_SCH_INGRESS and "
		"CONFIG_NET_CLS_BPF; CONFIG_BPF_SYSCALL, CONFIG_TUN and /dev/net/tun; CAP_BPF, "
		"CAP_NET_ADMIN, and CAP_SYS_ADMIN to enter the namespace. "
		"An instance in the host's network namespace is refused.",
	.leaves =
		"Nothing. The links and the TAP live in the agent's descriptors: when it dies, "
		"killed with SIGKILL included, the kernel removes them at once and traffic flows. "
		"Frames that were held at that moment are lost, as on a real line; TCP sends them "
		"again.\n\n"
		"Without tcx the effect ends with the agent just so, as the kernel empties the table; but "
		"a killed agent leaves its filters on the interfaces. They pass everything, and are removed "
		"by its next start or pgjolt-agent revert-all from the journal; filters and qdiscs of others "
		"are not touched.",
	.lifetime = LIFETIME_HELD,
	CATALOGUE_LISTS,
	.check = check,
	.peers_param = "peers",
};
