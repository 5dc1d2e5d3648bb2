#include <criterion/criterion.h>
#include <string.h>

#include "kube/base64.h"
#include "kube/kube.h"

static cJSON *parse(const char *text)
{
	cJSON *json = NULL;

	cr_assert_eq(json_parse(text, strlen(text), &json, NULL), 0, "%s", text);
	return json;
}

Test(kube_fields, of_an_object)
{
	_cleanup_json_ cJSON *o = parse(
		"{\"metadata\":{\"name\":\"a\",\"namespace\":\"n\",\"uid\":\"u\",\"labels\":"
		"{\"cnpg.io/cluster\":\"main\",\"n\":1},\"annotations\":{\"x\":\"y\"}},"
		"\"status\":{\"podIP\":\"10.0.0.1\",\"n\":3,\"a\":{\"b\":{\"c\":\"deep\"}}}}");

	cr_assert_str_eq(kube_name(o), "a");
	cr_assert_str_eq(kube_namespace(o), "n");
	cr_assert_str_eq(kube_uid(o), "u");
	cr_assert_str_eq(kube_label(o, "cnpg.io/cluster"), "main");
	cr_assert_null(kube_label(o, "n"), "a number is no label");
	cr_assert_null(kube_label(o, "none"));
	cr_assert_str_eq(kube_annotation(o, "x"), "y");
	cr_assert_str_eq(kube_text(o, "status.podIP"), "10.0.0.1");
	cr_assert_str_eq(kube_text(o, "status.a.b.c"), "deep");
	cr_assert_null(kube_text(o, "status.n"));
	cr_assert_null(kube_text(o, "status.podIP.x"));
	cr_assert_eq(kube_field(o, "status.n")->valueint, 3);
}

Test(kube_fields, of_what_is_no_object)
{
	_cleanup_json_ cJSON *list = parse("[1]");
	_cleanup_json_ cJSON *odd = parse("{\"metadata\":[],\"status\":\"x\"}");

	cr_assert_str_eq(kube_name(NULL), "");
	cr_assert_str_eq(kube_name(list), "");
	cr_assert_str_eq(kube_name(odd), "");
	cr_assert_null(kube_label(odd, "x"));
	cr_assert_null(kube_text(odd, "status.podIP"));
}

Test(kube_path, encodes_what_it_is_given)
{
	_cleanup_free_ char *a = kube_path("/api/v1/namespaces/%s/pods?labelSelector=%s", "n/../x",
		"a=b,c in (d)");
	_cleanup_free_ char *b = kube_path("%d%%%u/%zu-%s", -1, 2u, (size_t)3, "\xc3\xa4~._-");

	cr_assert_str_eq(a, "/api/v1/namespaces/n%2F..%2Fx/pods?labelSelector=a%3Db%2Cc%20in%20%28d%29");
	cr_assert_str_eq(b, "-1%2/3-%C3%A4~._-");
}

static void decodes(const char *text, const char *expected)
{
	_cleanup_free_ char *out = NULL;
	size_t n = 0;

	cr_assert_eq(base64_decode(text, &out, &n, NULL), 0, "%s", text);
	cr_assert_eq(n, strlen(expected));
	cr_assert_str_eq(out, expected);
}

Test(base64, both_ways)
{
	/* RFC 4648, section 10. */
	static const char *const vectors[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="},
		{"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};

	for (size_t i = 0; i < ELEMENTS(vectors); i++) {
		_cleanup_free_ char *text = base64_encode(vectors[i][0], strlen(vectors[i][0]));

		cr_expect_str_eq(text, vectors[i][1]);
		decodes(vectors[i][1], vectors[i][0]);
	}
	decodes("Zm9v\r\nYm Fy\n", "foobar");
	decodes("Zg", "f");
}

Test(base64, refused)
{
	static const char *const bad[] = {"Z", "Zm9v!", "Zg==Zg==", "Zg===", "=", "Zg=a", "Zm9vY",
		"\xff\xff"};

	for (size_t i = 0; i < ELEMENTS(bad); i++) {
		char *out = NULL;
		size_t n;

		cr_expect_eq(base64_decode(bad[i], &out, &n, NULL), -EINVAL, "%s", bad[i]);
		cr_expect_null(out);
	}
}
