#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "instance/resolver.h"

static void parses(const char *text, const char *wanted)
{
	_cleanup_strv_ char **list = resolver_parse(text);
	char got[512] = "";

	for (size_t i = 0; list && list[i]; i++)
		snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s", i ? " " : "", list[i]);
	cr_expect_str_eq(got, wanted, "%s", text);
}

Test(resolver, files)
{
	parses("", "");
	parses("search shop.svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n", "10.96.0.10");
	parses("nameserver 10.96.0.10\nnameserver fd00:ec2::53", "10.96.0.10 fd00:ec2::53");
	parses("nameserver\tFD00:0:0::0053 \t# the cache\r\nnameserver fe80::1%eth0\nnameserver 10.0.0.1;x\n",
		"fd00::53 fe80::1 10.0.0.1");
	parses("nameserver 10.0.0.1\nnameserver 10.0.0.1\n", "10.0.0.1");
}

Test(resolver, what_is_none)
{
	parses("# nameserver 10.0.0.1\n;nameserver 10.0.0.2\n nameserver 10.0.0.3\nnameservers 10.0.0.4\nnameserver\n"
	       "nameserver \nnameserver10.0.0.5\nnameserver dns.example\nnameserver 10.0.0.256\nnameserver 10.1\n"
	       "nameserver 10.0.0.1%eth0\nnameserver :::\n", "");
	parses("nameserver 0123456789012345678901234567890123456789012345678901234567890123456789:\nnameserver 1.1.1.1",
		"1.1.1.1");
}

Test(resolver, no_more_than_eight)
{
	char text[1024] = "";
	_cleanup_strv_ char **list = NULL;

	for (int i = 0; i < 20; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "nameserver 10.0.0.%d\n", i);
	list = resolver_parse(text);
	cr_expect_eq(strv_length(list), 8);
	cr_expect_str_eq(list[7], "10.0.0.7");
}
