#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "core/json.h"

static int parse(const char *text, cJSON **ret, struct err **err)
{
	return json_parse(text, strlen(text), ret, err);
}

static void refused(const char *text, size_t length, const char *words)
{
	_cleanup_err_ struct err *e = NULL;
	/* A copy without a byte behind it, so that a read beyond the end is seen. */
	_cleanup_free_ char *copy = malloc(length ? length : 1);
	cJSON *json = NULL;

	memcpy(copy, text, length);
	cr_assert_eq(json_parse(copy, length, &json, &e), -EINVAL, "taken: %.*s", (int)length, text);
	cr_assert_null(json);
	cr_assert_not_null(e);
	cr_assert(strstr(err_text(e), words), "%.*s: \"%s\" lacks \"%s\"", (int)length, text,
		err_text(e), words);
}

#define REFUSED(text, words) refused(text, sizeof(text) - 1, words)

Test(json, grammar_is_strict)
{
	REFUSED("", "byte 1");
	REFUSED("   ", "ends at byte 4");
	REFUSED("nul", "a value");
	REFUSED("nulll", "nothing after the document");
	REFUSED("NULL", "a value");
	REFUSED("True", "a value");
	REFUSED("{", "ends at byte 2");
	REFUSED("}", "byte 1");
	REFUSED("{\"a\"}", "byte 5: expected ':'");
	REFUSED("{\"a\":}", "byte 6");
	REFUSED("{\"a\":1,}", "byte 8: expected a string");
	REFUSED("{a:1}", "byte 2");
	REFUSED("{'a':1}", "byte 2");
	REFUSED("{\"a\":1 \"b\":2}", "byte 8: expected ',' or '}'");
	REFUSED("{\"a\":1]", "byte 7");
	REFUSED("[1}", "',' or ']'");
	REFUSED("[1,]", "byte 4");
	REFUSED("[,1]", "byte 2");
	REFUSED("[1 2]", "byte 4");
	REFUSED("[", "ends at byte 2");
	REFUSED("[1", "ends at byte 3");
	REFUSED("[[[[[", "ends");
	REFUSED("1 2", "byte 3: expected nothing after the document");
	REFUSED("{} {}", "nothing after");
	REFUSED("{}x", "nothing after");
	REFUSED("// c\n1", "byte 1");
	REFUSED("\xef\xbb\xbf{}", "byte 1");
	REFUSED("\x0b" "1", "byte 1");
}

Test(json, numbers_are_strict)
{
	REFUSED("01", "nothing after");
	REFUSED("-", "a digit");
	REFUSED("+1", "a value");
	REFUSED(".5", "a value");
	REFUSED("1.", "a digit");
	REFUSED("1.e3", "a digit");
	REFUSED("1e", "a digit");
	REFUSED("1e+", "a digit");
	REFUSED("0x10", "nothing after");
	REFUSED("1e999", "a double");
	REFUSED("-1e999", "a double");
	REFUSED("NaN", "a value");
	REFUSED("Infinity", "a value");
	REFUSED("-Infinity", "a digit");
	REFUSED("1111111111111111111111111111111111111111111111111111111111111111", "62");
	REFUSED("0.000000000000000000000000000000000000000000000000000000000000000001", "62");
}

Test(json, strings_are_strict)
{
	REFUSED("\"", "the end of a string");
	REFUSED("\"abc", "the end of a string");
	REFUSED("\"a\nb\"", "control character");
	REFUSED("\"a\0b\"", "control character");
	REFUSED("\"\\u0000\"", "\\u0000");
	REFUSED("\"\\x41\"", "an escape");
	REFUSED("\"\\\0\"", "an escape");
	REFUSED("\"\\u12\"", "hexadecimal");
	REFUSED("\"\\u12", "hexadecimal");
	REFUSED("\"\\ud800\"", "low surrogate");
	REFUSED("\"\\ud800\\n\"", "low surrogate");
	REFUSED("\"\\ud800\\u0041\"", "low surrogate");
	REFUSED("\"\\udc00\"", "low surrogate");
	REFUSED("\"\\", "an escape");
	REFUSED("\"\\u", "hexadecimal");
	REFUSED("1\0", "nothing after");
	REFUSED("\0", "a value");
	REFUSED("{\"a\":1}\0{\"b\":2}", "nothing after");
}

Test(json, utf8_is_strict)
{
	REFUSED("\"\xff\"", "UTF-8");
	REFUSED("\"\x80\"", "UTF-8");
	REFUSED("\"\xc3\"", "UTF-8");
	REFUSED("\"\xc3", "UTF-8");
	REFUSED("\"\xc0\xaf\"", "UTF-8");
	REFUSED("\"\xc1\xbf\"", "UTF-8");
	REFUSED("\"\xe0\x80\xaf\"", "UTF-8");
	REFUSED("\"\xed\xa0\x80\"", "UTF-8");
	REFUSED("\"\xf0\x80\x80\xaf\"", "UTF-8");
	REFUSED("\"\xf4\x90\x80\x80\"", "UTF-8");
	REFUSED("\"\xf5\x80\x80\x80\"", "UTF-8");
	REFUSED("\"\xf0\x9f\x98", "UTF-8");
	REFUSED("{\"\xff\":1}", "UTF-8");
}

Test(json, good_documents_survive)
{
	static const char *const table[] = {
		"{}", "[]", "null", "true", "false", "0", "-1", "\"\"", "[[],{},[{}]]",
		"{\"a\":1,\"b\":[1,2,{\"c\":null}]}", "\"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80\"",
		"[0.5,1e-07,1e+22,-2.5]", "9007199254740991", "-9007199254740991",
		"\"\\\"\\\\/\\n\\t\"", "{\"A\":1,\"a\":2}", "1234567890123456",
		"\"\\u0001\\u001f\\u007f\"", "0.1",
	};

	for (size_t i = 0; i < ELEMENTS(table); i++) {
		_cleanup_json_ cJSON *json = NULL;
		_cleanup_err_ struct err *e = NULL;
		_cleanup_free_ char *out = NULL;

		cr_assert_eq(parse(table[i], &json, &e), 0, "%s: %s", table[i], err_text(e));
		out = json_print(json);
		cr_assert_str_eq(out, table[i]);
	}
}

Test(json, escapes_are_read)
{
	_cleanup_json_ cJSON *json = NULL;

	cr_assert_eq(parse(" \"\\u00e4\\ud83d\\ude00\\/\\b\" \r\n\t", &json, NULL), 0);
	cr_assert_str_eq(json->valuestring, "\xc3\xa4\xf0\x9f\x98\x80/\b");
}

static char *nested(size_t depth, const char *open, const char *close)
{
	char *text = calloc(1, depth * 8 + 1);

	for (size_t i = 0; i < depth; i++)
		strcpy(text + strlen(text), open);
	for (size_t i = 0; i < depth; i++)
		strcpy(text + strlen(text), close);
	return text;
}

Test(json, depth_is_limited)
{
	_cleanup_free_ char *most = nested(64, "[", "]"), *over = nested(65, "[", "]");
	_cleanup_free_ char *objects = nested(65, "{\"a\":", "}");
	_cleanup_free_ char *deep = malloc(JSON_TEXT_MAX);
	_cleanup_json_ cJSON *json = NULL;

	cr_assert_eq(parse(most, &json, NULL), 0);
	refused(over, strlen(over), "64 levels");
	refused(objects, strlen(objects), "64 levels");
	memset(deep, '[', JSON_TEXT_MAX);
	refused(deep, JSON_TEXT_MAX, "64 levels");
}

Test(json, size_is_limited)
{
	_cleanup_free_ char *text = malloc(JSON_TEXT_MAX + 1);
	_cleanup_json_ cJSON *json = NULL;

	memset(text, ' ', JSON_TEXT_MAX + 1);
	text[0] = '1';
	refused(text, JSON_TEXT_MAX + 1, "at most");
	cr_assert_eq(json_parse(text, JSON_TEXT_MAX, &json, NULL), 0);
}

Test(json, duplicate_keys_are_refused_with_their_place)
{
	REFUSED("{\"a\":1,\"a\":1}", "a: the key is there twice");
	REFUSED("{\"a\":1,\"b\":2,\"\\u0061\":3}", "a: the key is there twice");
	REFUSED("{\"x\":[0,{\"y\":{\"k\":1,\"k\":2}}]}", "x[1].y.k: the key is there twice");
	REFUSED("[[],[{\"k\":1,\"k\":2}]]", "[1][0].k: the key is there twice");
	REFUSED("{\"\":1,\"\":1}", "twice");
}

/* Half a million keys: in time that grows with n log n. */
Test(json, many_keys, .timeout = 30)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_json_ cJSON *json = NULL;
	size_t length = 0;
	FILE *f = open_memstream(&text, &length);

	for (int i = 0; i < 500000; i++)
		fprintf(f, "%c\"%x\":0", i ? ',' : '{', i);
	fputc('}', f);
	fclose(f);
	cr_assert_eq(json_parse(text, length, &json, NULL), 0);
}

/* Every document cut short, and every byte of it changed: no crash, no leak, no loss. */
Test(json, truncated_and_mangled)
{
	static const char whole[] =
		"{\"a\":[1,-2.5e3,true,null],\"b\":{\"c\":\"x\\u00e4\\ud83d\\ude00\xc3\xa4\"}}";
	static const char bytes[] = "\"\\{}[]:,0-.eu \x7f\xff\x80\xc3";

	for (size_t n = 0; n < sizeof(whole) - 1; n++)
		refused(whole, n, "JSON");
	for (size_t at = 0; at < sizeof(whole) - 1; at++) {
		/* The string's own NUL is one of the bytes. */
		for (size_t k = 0; k < sizeof(bytes); k++) {
			_cleanup_json_ cJSON *json = NULL, *again = NULL;
			_cleanup_free_ char *copy = malloc(sizeof(whole) - 1), *out = NULL;

			memcpy(copy, whole, sizeof(whole) - 1);
			copy[at] = bytes[k];
			if (json_parse(copy, sizeof(whole) - 1, &json, NULL) < 0)
				continue;
			out = json_print(json);
			cr_assert_eq(parse(out, &again, NULL), 0, "%s", out);
			cr_assert(cJSON_Compare(json, again, true));
		}
	}
}

Test(json, print_is_valid_utf8_and_exact)
{
	_cleanup_json_ cJSON *o = json_object(), *back = NULL;
	_cleanup_free_ char *text = NULL;

	json_add_string(o, "path", "/data\xff/x\xc3");
	json_add_uint(o, "ns", 9007199254740991);
	json_add_uint(o, "far", 9007199254740992);
	json_add_uint(o, "most", UINT64_MAX);
	json_add_int(o, "least", INT64_MIN);
	json_add_int(o, "minus", -1);
	json_add_ms(o, "ms", 18620456789);
	json_add_ms(o, "zero_ms", 0);
	json_add_double(o, "nan", NAN);
	json_add_double(o, "inf", INFINITY);
	json_add_double(o, "third", 1.0 / 3);
	json_add_string(o, "none", NULL);
	json_add_null(o, "null");
	json_add_bool(o, "yes", true);
	json_add_strv(o, "strv", (char *[]){"a", "b", NULL});
	json_add_strv(o, "empty", NULL);
	json_add_item(o, "item", NULL);
	text = json_print(o);
	cr_assert_str_eq(text,
		"{\"path\":\"/data\xef\xbf\xbd/x\xef\xbf\xbd\",\"ns\":9007199254740991,"
		"\"far\":\"9007199254740992\",\"most\":\"18446744073709551615\","
		"\"least\":\"-9223372036854775808\",\"minus\":-1,\"ms\":18620.457,\"zero_ms\":0,"
		"\"nan\":null,\"inf\":null,\"third\":0.3333333333333333,\"none\":null,"
		"\"null\":null,\"yes\":true,\"strv\":[\"a\",\"b\"],\"empty\":[],\"item\":null}");
	cr_assert_eq(parse(text, &back, NULL), 0);
}

Test(json, print_pretty)
{
	_cleanup_json_ cJSON *o = NULL;
	_cleanup_free_ char *text = NULL;

	cr_assert_eq(parse("{\"a\":[1,{}],\"b\":[]}", &o, NULL), 0);
	text = json_print_pretty(o);
	cr_assert_str_eq(text, "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}");
}

Test(json, print_pretty_keeps_rows_of_numbers)
{
	_cleanup_json_ cJSON *o = NULL;
	_cleanup_free_ char *text = NULL;

	cr_assert_eq(parse("{\"a\":[1,null,2.5],\"b\":[\"x\"]}", &o, NULL), 0);
	text = json_print_pretty(o);
	cr_assert_str_eq(text, "{\n  \"a\": [1,null,2.5],\n  \"b\": [\n    \"x\"\n  ]\n}");
}

/* Tables */

enum colour { RED, BLUE };

struct thing {
	char *name;
	bool on;
	uint64_t big;
	int64_t sign;
	uint32_t mid;
	uint16_t port;
	pid_t pid;
	double real;
	char **list;
	cJSON *any;
	enum colour colour;
	struct thing *inner;
};

static int colour_from_string(const char *s, int *ret)
{
	if (strcmp(s, "blue") != 0)
		return -EINVAL;
	*ret = BLUE;
	return 0;
}

static int inner_parse(const cJSON *item, void *member, struct err **err);

static const struct json_field thing_fields[] = {
	{"name", JSON_STRING, offsetof(struct thing, name), true, NULL, NULL},
	{"on", JSON_BOOL, offsetof(struct thing, on), false, NULL, NULL},
	{"big", JSON_UINT64, offsetof(struct thing, big), false, NULL, NULL},
	{"sign", JSON_INT64, offsetof(struct thing, sign), false, NULL, NULL},
	{"mid", JSON_UINT32, offsetof(struct thing, mid), false, NULL, NULL},
	{"port", JSON_UINT16, offsetof(struct thing, port), false, NULL, NULL},
	{"pid", JSON_PID, offsetof(struct thing, pid), false, NULL, NULL},
	{"real", JSON_DOUBLE, offsetof(struct thing, real), false, NULL, NULL},
	{"list", JSON_STRV, offsetof(struct thing, list), false, NULL, NULL},
	{"any", JSON_ANY, offsetof(struct thing, any), false, NULL, NULL},
	{"colour", JSON_ENUM, offsetof(struct thing, colour), false, colour_from_string, NULL},
	{"inner", JSON_CUSTOM, offsetof(struct thing, inner), false, NULL, inner_parse},
	JSON_FIELD_END,
};

static void thing_done(struct thing *t)
{
	free(t->name);
	strv_free(t->list);
	cJSON_Delete(t->any);
	if (t->inner)
		thing_done(t->inner);
	free(t->inner);
}

static int inner_parse(const cJSON *item, void *member, struct err **err)
{
	struct thing **ret = member;

	if (!*ret)
		*ret = calloc(1, sizeof(**ret));
	return json_dispatch(item, thing_fields, *ret, JSON_REFUSE_UNKNOWN, err);
}

/* The words, or "" for success. Caller frees. */
static char *dispatch(const char *text, struct thing *t, enum json_strictness strictness)
{
	_cleanup_json_ cJSON *json = NULL;
	_cleanup_err_ struct err *e = NULL;

	cr_assert_eq(parse(text, &json, &e), 0, "%s: %s", text, err_text(e));
	if (json_dispatch(json, thing_fields, t, strictness, &e) == 0)
		return strdup("");
	cr_assert_eq(e->code, -EINVAL);
	return strdup(err_text(e));
}

Test(json, dispatch_fills)
{
	_cleanup_(thing_done) struct thing t = {.name = strdup("old")};
	_cleanup_free_ char *words = dispatch(
		"{\"name\":\"x\",\"on\":true,\"big\":\"18446744073709551615\","
		"\"sign\":\"-9223372036854775808\",\"mid\":4294967295,\"port\":65535,\"pid\":1,"
		"\"real\":-0.5,\"list\":[\"a\",\"b\"],\"any\":{\"k\":[1]},\"colour\":\"blue\","
		"\"inner\":{\"name\":\"y\",\"sign\":-7,\"on\":null}}",
		&t, JSON_REFUSE_UNKNOWN);

	cr_assert_str_eq(words, "");
	cr_assert_str_eq(t.name, "x");
	cr_assert(t.on);
	cr_assert_eq(t.big, UINT64_MAX);
	cr_assert_eq(t.sign, INT64_MIN);
	cr_assert_eq(t.mid, UINT32_MAX);
	cr_assert_eq(t.port, 65535);
	cr_assert_eq(t.pid, 1);
	cr_assert_eq(t.real, -0.5);
	cr_assert_eq(strv_length(t.list), 2);
	cr_assert_str_eq(t.list[1], "b");
	cr_assert_eq(t.any->child->child->valuedouble, 1);
	cr_assert_eq(t.colour, BLUE);
	cr_assert_eq(t.inner->sign, -7);
}

Test(json, dispatch_says_where)
{
	static const char *const table[][2] = {
		{"[]", "expected an object, got an array"},
		{"{}", "name: is missing"},
		{"{\"name\":null}", "name: is missing"},
		{"{\"Name\":\"x\"}", "Name: no such key here"},
		{"{\"name\":\"x\",\"nmae\":1}", "nmae: no such key here"},
		{"{\"name\":7}", "name: expected a string, got 7"},
		{"{\"name\":\"x\",\"on\":\"yes\"}", "on: expected true or false, got \"yes\""},
		{"{\"name\":\"x\",\"on\":1}", "on: expected true or false, got 1"},
		{"{\"name\":\"x\",\"big\":-1}", "big: expected a whole number from 0 to"},
		{"{\"name\":\"x\",\"big\":1.5}", "got 1.5"},
		{"{\"name\":\"x\",\"big\":9007199254740992}", "big: expected a whole"},
		{"{\"name\":\"x\",\"big\":9007199254740993}", "big: expected a whole"},
		{"{\"name\":\"x\",\"big\":1e300}", "big: expected a whole"},
		{"{\"name\":\"x\",\"big\":\"18446744073709551616\"}", "big: expected a whole"},
		{"{\"name\":\"x\",\"big\":\"\"}", "big: expected a whole"},
		{"{\"name\":\"x\",\"big\":\"-5\"}", "big: expected a whole"},
		{"{\"name\":\"x\",\"big\":\"--5\"}", "big: expected a whole"},
		{"{\"name\":\"x\",\"big\":\"0x5\"}", "big: expected a whole"},
		{"{\"name\":\"x\",\"big\":true}", "got a boolean"},
		{"{\"name\":\"x\",\"sign\":\"9223372036854775808\"}", "sign: expected"},
		{"{\"name\":\"x\",\"sign\":\"-9223372036854775809\"}", "sign: expected"},
		{"{\"name\":\"x\",\"mid\":4294967296}", "mid: expected a whole number from 0 to "
						       "4294967295, got 4294967296"},
		{"{\"name\":\"x\",\"port\":65536}", "from 0 to 65535"},
		{"{\"name\":\"x\",\"pid\":0}", "from 1 to 2147483647"},
		{"{\"name\":\"x\",\"pid\":-1}", "from 1 to 2147483647"},
		{"{\"name\":\"x\",\"real\":\"1\"}", "real: expected a number"},
		{"{\"name\":\"x\",\"list\":\"a\"}", "list: expected an array of strings"},
		{"{\"name\":\"x\",\"list\":[\"a\",2]}", "list[1]: expected a string, got 2"},
		{"{\"name\":\"x\",\"colour\":\"green\"}", "colour: \"green\" is not one of"},
		{"{\"name\":\"x\",\"colour\":0}", "colour: expected a string, got 0"},
		{"{\"name\":\"x\",\"inner\":[]}", "inner: expected an object, got an array"},
		{"{\"name\":\"x\",\"inner\":{\"name\":\"y\",\"list\":[1]}}",
			"inner.list[0]: expected a string, got 1"},
		{"{\"name\":\"x\",\"inner\":{\"name\":\"y\",\"inner\":{\"on\":3,\"name\":\"z\"}}}",
			"inner.inner.on: expected true or false, got 3"},
	};

	for (size_t i = 0; i < ELEMENTS(table); i++) {
		_cleanup_(thing_done) struct thing t = {0};
		_cleanup_free_ char *words = dispatch(table[i][0], &t, JSON_REFUSE_UNKNOWN);

		cr_assert(strstr(words, table[i][1]), "%s: \"%s\" lacks \"%s\"", table[i][0], words,
			table[i][1]);
	}
}

Test(json, dispatch_can_allow_unknown_keys)
{
	_cleanup_(thing_done) struct thing t = {0};
	_cleanup_free_ char *words =
		dispatch("{\"new\":[1],\"name\":\"x\"}", &t, JSON_ALLOW_UNKNOWN);

	cr_assert_str_eq(words, "");
}

Test(json, err_at_joins_places)
{
	_cleanup_err_ struct err *e = NULL;

	cr_assert_eq(json_err_at(NULL, -EINVAL, "x"), -EINVAL);
	json_err_at(&e, -EINVAL, "delay");
	cr_assert_str_eq(err_text(e), "delay: Invalid argument");
	json_err_at(&e, -EINVAL, "[%d]", 2);
	json_err_at(&e, -EINVAL, "faults");
	cr_assert_str_eq(err_text(e), "faults[2].delay: Invalid argument");
	/* Words put in front end the place. */
	err_wrap(&e, -EINVAL, "read file");
	json_err_at(&e, -EINVAL, "top");
	cr_assert_str_eq(err_text(e), "top: read file: faults[2].delay: Invalid argument");
}

Test(json, get_is_exact)
{
	_cleanup_json_ cJSON *json = NULL;

	cr_assert_eq(parse("{\"Name\":1,\"none\":null}", &json, NULL), 0);
	cr_assert_null(json_get(json, "name"));
	cr_assert_null(json_get(json, "none"));
	cr_assert_null(json_get(NULL, "name"));
	cr_assert_not_null(json_get(json, "Name"));
}

Test(json, strv)
{
	_cleanup_strv_ char **v = NULL, **copy = NULL;

	cr_assert_eq(strv_length(NULL), 0);
	cr_assert_null(strv_copy(NULL));
	cr_assert(!strv_contains(NULL, "a"));
	for (int i = 0; i < 100; i++) {
		char text[8];

		snprintf(text, sizeof(text), "%d", i);
		strv_push(&v, strdup(text));
	}
	cr_assert_eq(strv_length(v), 100);
	copy = strv_copy(v);
	cr_assert_eq(strv_length(copy), 100);
	cr_assert(strv_contains(copy, "99"));
	cr_assert(!strv_contains(copy, "100"));
	strv_free(NULL);
}
