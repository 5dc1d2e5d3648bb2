#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <string.h>
#include "core/peer.h"

/* What a text reads as, written again; or "!" and the words. Caller frees. */
static char *through(const char *text)
{
	_cleanup_(peer_done) struct peer p = {0}, again = {0};
	_cleanup_err_ struct err *e = NULL;
	char *out;

	if (peer_parse(text, &p, &e) < 0) {
		cr_assert_null(p.label, "%s touched the result", text);
		cr_assert_geq(asprintf(&out, "!%s", err_text(e)), 0);
		return out;
	}
	out = peer_format(&p);
	cr_assert_not_null(out);
	cr_assert_eq(peer_parse(out, &again, &e), 0, "%s as %s: %s", text, out, err_text(e));
	cr_assert_str_eq(p.label, again.label, "%s as %s", text, out);
	cr_assert_eq(p.family, again.family);
	cr_assert_arr_eq(p.address, again.address, 16);
	cr_assert_eq(p.prefix_length, again.prefix_length);
	cr_assert_eq(p.port_low, again.port_low);
	cr_assert_eq(p.port_high, again.port_high);
	return out;
}

Test(peer, canonical_forms)
{
	static const char *const table[][2] = {
		{"all", "all"}, {"all:5432", "all:5432"}, {"clients=all", "clients=all"},
		{"10.0.0.7", "10.0.0.7"}, {"10.0.0.7/32", "10.0.0.7"},
		{"10.0.0.0/8", "10.0.0.0/8"}, {"0.0.0.0/0", "0.0.0.0/0"},
		{"10.0.0.7:5432", "10.0.0.7:5432"}, {"10.0.0.7:5432-5432", "10.0.0.7:5432"},
		{"10.0.0.0/24:1-65535", "10.0.0.0/24:1-65535"},
		{"dcs=10.0.0.5/32:2379-2380", "dcs=10.0.0.5:2379-2380"},
		{"fd00::1", "fd00::1"}, {"fd00::/64", "fd00::/64"}, {"::/0", "::/0"},
		{"[fd00::1]", "fd00::1"}, {"[fd00::/64]:5432", "[fd00::/64]:5432"},
		{"[FD00:0::0001]:80-90", "[fd00::1]:80-90"}, {"::", "::"},
		{"::ffff:10.0.0.1", "::ffff:10.0.0.1"}, {"lab/pg_1.x-y=fd00::1", "lab/pg_1.x-y=fd00::1"},
		{"10.0.0.7=10.0.0.7", "10.0.0.7"}, {"[::/0]:65535", "[::/0]:65535"},
	};

	for (size_t i = 0; i < ELEMENTS(table); i++) {
		_cleanup_free_ char *out = through(table[i][0]);

		cr_assert_str_eq(out, table[i][1]);
	}
}

Test(peer, refused)
{
	static const char *const table[] = {
		"", " ", "=", "all=", "=all", "All", "al", "all/8", "[all]", "[all]:80", "[]", "[",
		"]", "[fd00::1", "fd00::1]", "[fd00::1]x", "[fd00::1]:", "[fd00::1]80",
		"[10.0.0.1]:80", "10.0.0", "10.0.0.256", "10.0.0.1.1", "010.0.0.1", "0x0a.0.0.1",
		"1", "10.0.0.1/", "10.0.0.1/33", "10.0.0.1/-1", "10.0.0.1/+8", "10.0.0.1/8",
		"10.0.0.0/8 ", " 10.0.0.1", "10.0.0.1/24", "10.0.0.1/0", "10.0.0.0/0032",
		"10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:-1", "10.0.0.1:80-",
		"10.0.0.1:-80", "10.0.0.1:90-80", "10.0.0.1:80-90-100", "10.0.0.1:000080",
		"10.0.0.1:http", "10.0.0.1:80:90", "fd00::1::2", "fd00::/64:5432", "fd00::1/64",
		"fd00::/129", "::1/127", "fe80::1%eth0", "12345::", "gg::", "a b=10.0.0.1",
		"a=b=10.0.0.1", "a:b=10.0.0.1", "a\n=10.0.0.1", "\xc3\xa4=10.0.0.1", "10.0.0.1\n",
		"10.0.0.1,10.0.0.2", "replicas", "dcs:2379", "/", "/8", ":80", "::1:80:",
	};

	for (size_t i = 0; i < ELEMENTS(table); i++) {
		_cleanup_free_ char *out = through(table[i]);

		cr_assert_eq(out[0], '!', "\"%s\" was taken as %s", table[i], out);
		cr_assert_eq(peer_parse(table[i], &(struct peer){0}, NULL), -EINVAL);
	}
}

Test(peer, fields)
{
	_cleanup_(peer_done) struct peer p = {0};

	cr_assert_eq(peer_parse("dcs=10.1.2.0/24:2379-2380", &p, NULL), 0);
	cr_assert_str_eq(p.label, "dcs");
	cr_assert_eq(p.family, AF_INET);
	cr_assert_arr_eq(p.address, ((uint8_t[16]){10, 1, 2, 0}), 16);
	cr_assert_eq(p.prefix_length, 24);
	cr_assert_eq(p.port_low, 2379);
	cr_assert_eq(p.port_high, 2380);
	peer_done(&p);
	cr_assert_eq(peer_parse("all", &p, NULL), 0);
	cr_assert_eq(p.family, 0);
	cr_assert_eq(p.port_low, 0);
	cr_assert_eq(p.port_high, 65535);
}

Test(peer, long_texts)
{
	char text[5000];
	_cleanup_free_ char *out = NULL;

	memset(text, 'a', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	cr_assert_eq(peer_parse(text, &(struct peer){0}, NULL), -EINVAL);
	strcpy(text + 129, "=10.0.0.1");
	cr_assert_eq(peer_parse(text, &(struct peer){0}, NULL), -EINVAL);
	strcpy(text + 128, "=10.0.0.1");
	out = through(text);
	cr_assert_neq(out[0], '!', "%s", out);
}

Test(peer, list)
{
	char *texts[] = {"10.0.0.1", "all:5432", NULL}, *bad[] = {"10.0.0.1", "x", NULL};
	_cleanup_(peer_list_done) struct peer_list l = {0};
	_cleanup_err_ struct err *e = NULL;

	cr_assert_eq(peer_list_parse(bad, &l, &e), -EINVAL);
	cr_assert_eq(l.count, 0);
	cr_assert(strstr(err_text(e), "\"x\""));
	cr_assert_eq(peer_list_parse(texts, &l, NULL), 0);
	cr_assert_eq(l.count, 2);
	cr_assert_str_eq(l.peers[1].label, "all:5432");
	peer_list_done(&l);
	cr_assert_eq(peer_list_parse(NULL, &l, NULL), 0);
	cr_assert_eq(l.count, 0);
}

Test(peer, names)
{
	static const char *const good[] = {"replicas", "dcs", "lab/pg2", "pg-1.default", "all", "7x",
		"service:db/main-rw", "node:ip-10-0-0-1.ec2", "node:12", "pods:app", "pods:a/b=c,d!=e",
		"pods:ns:app in (a, b)", "pods:!gone"};
	static const char *const bad[] = {
		"", "10.0.0.1", "10.0.0.0/8", "fd00::1", "[fd00::1]", "-x", "/x", "a b", "a=b", ":80",
		"dcs:", "dcs:0", "dcs:90-80", "dcs:80:90", "a,b", "\xff", "123",
		"service:", "service:a,b", "service:a+b", "a+b", "node:a b", "node:/x", "pods:", "pods:a:b:c", "pods:a;b",
		"pods:\xff", "pods:a:0", "what:x",
	};
	uint16_t low, high;

	for (size_t i = 0; i < ELEMENTS(good); i++) {
		_cleanup_free_ char *name = NULL;

		cr_assert_eq(peer_name_parse(good[i], &name, &low, &high, NULL), 0, "%s", good[i]);
		cr_assert_str_eq(name, good[i]);
		cr_assert(low == 0 && high == 65535);
	}
	for (size_t i = 0; i < ELEMENTS(bad); i++) {
		char *name = NULL;

		cr_assert_eq(peer_name_parse(bad[i], &name, &low, &high, NULL), -EINVAL, "%s",
			bad[i]);
		cr_assert_null(name);
	}
	{
		_cleanup_free_ char *name = NULL;

		cr_assert_eq(peer_name_parse("dcs:2379-2380", &name, &low, &high, NULL), 0);
		cr_assert_str_eq(name, "dcs");
		cr_assert(low == 2379 && high == 2380);
	}
	{
		_cleanup_free_ char *name = NULL;

		cr_assert_eq(peer_name_parse("pods:db:app=x:5432", &name, &low, &high, NULL), 0);
		cr_assert_str_eq(name, "pods:db:app=x");
		cr_assert(low == 5432 && high == 5432);
	}
	{
		_cleanup_free_ char *name = NULL;

		cr_assert_eq(peer_name_parse("pods:db:app in (a+b)+tier!=x+!gone:5432", &name, &low, &high, NULL), 0);
		cr_assert_str_eq(name, "pods:db:app in (a,b),tier!=x,!gone");
		cr_assert(low == 5432 && high == 5432);
	}
}
