#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "core/cleanup.h"
#include "core/json.h"
#include "fault/detour_fault.h"
#include "fault/dns_query.h"
#include "fault/net_filters.h"
#include "fault/net_shape_record.h"

#define FAULT "dns"
#define LIMIT_BYTES (16ULL << 20)
#define TCP_SYN 0x02
#define TCP_ACK 0x10
#define NO_NAME (-1)

/* What became of the frames that went to a name server. */
enum dns_fate { DNS_ANSWERED, DNS_RESET, DNS_DROPPED, DNS_HELD, DNS_PASSED, DNS_FATE_MAX };

static const char *const fate_words[DNS_FATE_MAX] = {
	[DNS_ANSWERED] = "answered",
	[DNS_RESET] = "reset",
	[DNS_DROPPED] = "dropped",
	[DNS_HELD] = "held",
	[DNS_PASSED] = "passed",
};

static const char *const mode_words[DNS_MODE_MAX] = {
	[DNS_NXDOMAIN] = "nxdomain",
	[DNS_SERVFAIL] = "servfail",
	[DNS_TIMEOUT] = "timeout",
	[DNS_DELAY] = "delay",
};

_Static_assert(DNS_ANSWER_MAX <= FRAME_ANSWER_MAX, "the delay line's room for an answer");

struct dns_state {
	struct detour_fault base;
	enum dns_mode mode;
	char *const *names;		/* borrowed from the parameters */
	size_t n_names;			/* 0: every query */
	struct dns_suffix suffixes[DNS_NAMES_MAX];

	/* Written by the delay line's thread. */
	_Atomic uint64_t by_name[DNS_NAMES_MAX];
	_Atomic uint64_t by_fate[DNS_FATE_MAX];
};

static void state_free(struct dns_state *s)
{
	detour_fault_free(&s->base);
}
DEFINE_CLEANUP(struct dns_state, state_free)

static void count(_Atomic uint64_t *n)
{
	atomic_fetch_add_explicit(n, 1, memory_order_relaxed);
}

/* TCP: the message follows its length. */
static bool question_of(const uint8_t *frame, const struct packet *p, struct dns_question *ret)
{
	const uint8_t *message = frame + p->payload;
	size_t length = p->end - p->payload;

	if (p->protocol == IPPROTO_TCP) {
		if (length < 2 || packet_get16(message) > length - 2)
			return false;
		length = packet_get16(message);
		message += 2;
	}
	return dns_query_parse(message, length, ret);
}

/* Without names: what a query needs to come about. An attempt to connect is not held, its query is. */
static bool is_any_query(const struct dns_state *s, const uint8_t *frame, const struct packet *p)
{
	if (p->end > p->payload)
		return true;
	return p->protocol == IPPROTO_TCP && s->mode != DNS_DELAY &&
	       (frame[p->l4 + 13] & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

static int name_of(const struct dns_state *s, const struct dns_question *q)
{
	for (size_t i = 0; i < s->n_names; i++)
		if (dns_suffix_matches(&s->suffixes[i], q))
			return (int)i;
	return NO_NAME;
}

static enum frame_verdict refuse(const struct dns_state *s, const uint8_t *frame,
	const struct packet *p, const struct dns_question *q, uint8_t *answer, size_t *ret_length,
	enum dns_fate *ret_fate)
{
	if (p->protocol == IPPROTO_TCP) {
		*ret_length = dns_reset(frame, p, answer);
		*ret_fate = DNS_RESET;
		return FRAME_ANSWER;
	}
	if (!q)
		return FRAME_PASS;
	*ret_length = dns_answer(frame, p, q,
		s->mode == DNS_NXDOMAIN ? DNS_RCODE_NXDOMAIN : DNS_RCODE_SERVFAIL, answer);
	*ret_fate = DNS_ANSWERED;
	return FRAME_ANSWER;
}

/* In the delay line's thread. */
static enum frame_verdict judge(void *data, const uint8_t *frame, size_t length, uint8_t *answer,
	size_t *ret_length)
{
	enum frame_verdict verdict = FRAME_PASS;
	enum dns_fate fate = DNS_PASSED;
	struct dns_state *s = data;
	struct dns_question q;
	bool has_question;
	struct packet p;
	int name = NO_NAME;

	/* Port 53 may be our own end: then it is an answer. */
	if (!packet_parse(frame, length, &p) || packet_get16(frame + p.l4 + 2) != DNS_PORT) {
		count(&s->by_fate[DNS_PASSED]);
		return FRAME_PASS;
	}
	has_question = question_of(frame, &p, &q);
	if (s->n_names)
		name = has_question ? name_of(s, &q) : NO_NAME;
	if (s->n_names ? name == NO_NAME : !is_any_query(s, frame, &p)) {
		count(&s->by_fate[DNS_PASSED]);
		return FRAME_PASS;
	}
	if (s->mode == DNS_TIMEOUT) {
		verdict = FRAME_DROP;
		fate = DNS_DROPPED;
	} else if (s->mode == DNS_DELAY) {
		verdict = FRAME_SHAPE;
		fate = DNS_HELD;
	} else {
		verdict = refuse(s, frame, &p, has_question ? &q : NULL, answer, ret_length, &fate);
	}
	count(&s->by_fate[fate]);
	if (name != NO_NAME)
		count(&s->by_name[name]);
	return verdict;
}

static int state_from_params(const struct params *p, struct dns_state *s, struct err **err)
{
	s->mode = (enum dns_mode)params_number(p, "mode");
	s->base.shape = (struct delay_shape){
		.delay_ns = params_number(p, "delay"),
		.limit_bytes = LIMIT_BYTES,
	};
	s->names = params_texts(p, "names");
	for (; s->names && s->names[s->n_names]; s->n_names++) {
		int r;

		if (s->n_names == DNS_NAMES_MAX)
			return err_set(err, EINVAL, "names: at most %u", DNS_NAMES_MAX);
		r = dns_suffix_parse(s->names[s->n_names], &s->suffixes[s->n_names], err);
		if (r < 0)
			return r;
	}
	return net_rules_for_port(DNS_PORT, FAULT, &s->base.rules, err);
}

static int dns_arm(struct fault *f, struct undo *ret, struct err **err)
{
	_cleanup_(state_freep) struct dns_state *s = calloc(1, sizeof(*s));
	const struct delay_filter filter = {.judge = judge, .data = s};
	const struct detour_sides sides = {.out = true, .filter = &filter};
	int r;

	if (!s)
		return err_errno(err, ENOMEM, "arm " FAULT);
	s->base.target.netns_fd = -1;
	r = state_from_params(f->params, s, err);
	if (r == 0)
		r = detour_fault_arm(&s->base, f, &sides, ret, err);
	if (r == 0)
		f->state = steal_ptr(s);
	return r;
}

static cJSON *names_json(const struct dns_state *s)
{
	cJSON *array = json_array();

	for (size_t i = 0; i < s->n_names; i++) {
		cJSON *o = json_object();

		json_add_string(o, "name", s->names[i]);
		json_add_uint(o, "queries",
			atomic_load_explicit(&s->by_name[i], memory_order_relaxed));
		json_append(array, o);
	}
	return array;
}

static int dns_observe(const struct fault *f, struct evidence *ret, struct err **err)
{
	const struct dns_state *s = f->state;
	struct net_shape_count taken;
	struct delay_counts c;
	cJSON *o;
	int r;

	*ret = (struct evidence){0};
	delay_line_counts(s->base.detour->line, &c);
	r = detour_count(s->base.detour, 0, NET_OUT, &taken, err);
	if (r < 0)
		return r;
	o = json_object();
	json_add_string(o, "mode", mode_words[s->mode]);
	for (size_t i = 0; i < DNS_FATE_MAX; i++) {
		uint64_t n = atomic_load_explicit(&s->by_fate[i], memory_order_relaxed);

		json_add_uint(o, fate_words[i], n);
		ret->hits += i == DNS_PASSED ? 0 : n;
	}
	json_add_item(o, "names", names_json(s));
	json_add_uint(o, "overflowed", c.overflowed);
	json_add_uint(o, "write_errors", c.write_errors);
	json_add_uint(o, "unread", taken.frames > c.frames ? taken.frames - c.frames : 0);
	ret->detail = o;
	return 0;
}

const struct fault_driver driver_dns = {
	.spec = &fault_dns,
	.arm = dns_arm,
	.observe = dns_observe,
	DETOUR_FAULT_OPERATIONS,
};
