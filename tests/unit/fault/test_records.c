/* What the journal may hold of each fault when it comes back: cut, of other types, of numbers that nothing
 * has. Nothing of that may crash, act on anything, or count as clean. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include "core/cleanup.h"
#include "core/err.h"
#include "core/json.h"
#include "fault/fault.h"

/* Of targets that are gone. */
static const struct {
	const char *fault, *record;
} samples[] = {
	{"net-partition", "{\"netns\": 4026500000, \"pid\": 4194000, \"start_ticks\": 1,"
		" \"programs\": [{\"id\": 4294967295, \"load_time_ns\": 1}],"
		" \"clsact\": {\"netns\": 4026500000, \"netns_cookie\": 4294967295, \"pid\": 4194000,"
		" \"start_ticks\": 1, \"filters\": [{\"ifindex\": 2, \"interface\": \"eth0\","
		" \"direction\": \"in\", \"priority\": 23, \"handle\": 1885995015,"
		" \"name\": \"pgjolt+qdisc:x\", \"program\": 4294967295,"
		" \"tag\": \"2e025fdc43b728ff\", \"our_qdisc\": true}]}}"},
	{"net-shape", "{\"netns\": 4026500000, \"pid\": 4194000, \"start_ticks\": 1,"
		" \"taps\": [\"pjt-1\"], \"programs\": [4294967295]}"},
	{"dns", "{\"netns\": 4026500000, \"pid\": 4194000, \"start_ticks\": 1,"
		" \"taps\": [\"pjt-1\"], \"programs\": [4294967295]}"},
	{"tls-cert", "{\"source\": \"pgjolt-tls-cert-0123456789abcdef\", \"path\": \"/x\","
		" \"pgdata\": \"/nowhere\", \"pid\": 4194000, \"start_ticks\": 1, \"namespace\": 1,"
		" \"reload\": true}"},
	{"proc-freeze", "{\"mechanism\": \"ptrace\", \"processes\":"
		" [{\"pid\": 4194000, \"start_ticks\": 1}]}"},
	{"proc-freeze", "{\"mechanism\": \"cgroup\", \"file\": \"/sys/fs/cgroup/pj-none/cgroup.freeze\","
		" \"mark\": \"x\"}"},
	{"clock-skew", "{\"token\": \"81985529216486895\"}"},
	{"disk-latency", "{\"pid\": 4194000, \"start_ticks\": 1, \"program\": 4294967295}"},
	{"disk-error", "{\"pid\": 4194000, \"start_ticks\": 1, \"program\": 4294967295}"},
	{"cpu-throttle", "{\"folder\": \"/sys/fs/cgroup/pj-none\", \"inode\": 1, \"settings\":"
		" [{\"file\": \"cpu.max\", \"before\": \"max 100000\"}]}"},
	{"disk-throttle", "{\"folder\": \"/sys/fs/cgroup/pj-none\", \"inode\": 1, \"settings\":"
		" [{\"file\": \"io.max\", \"key\": \"7:0\", \"absent\": \"rbps=max\","
		" \"before\": \"rbps=max\"}]}"},
	{"cpu-stress", "{\"workers\": [{\"pid\": 4194000, \"start_ticks\": 1}]}"},
	{"mem-stress", "{\"workers\": [{\"pid\": 4194000, \"start_ticks\": 1}]}"},
	{"disk-stress", "{\"workers\": [{\"pid\": 4194000, \"start_ticks\": 1}]}"},
	{"disk-fill", "{\"dev\": 1, \"inode\": 1}"},
};

static int undo(const struct fault_driver *d, const cJSON *record, struct err **err)
{
	const struct undo u = {.spec = d->spec, .record = (cJSON *)record};
	int r = d->revert ? d->revert(&u, err) : 0;

	return r == 0 && d->verify_clean ? d->verify_clean(&u, err) : r;
}

static cJSON *parse(const char *text)
{
	_cleanup_err_ struct err *err = NULL;
	cJSON *json = NULL;

	cr_assert(json_parse(text, strlen(text), &json, &err) == 0, "%s: %s", text, err_text(err));
	return json;
}

static const struct fault_driver *driver_of(size_t sample)
{
	const struct fault_driver *d = NULL;

	cr_assert(registry_find(samples[sample].fault, &d, NULL) == 0);
	return d;
}

Test(records, a_target_that_is_gone_is_clean)
{
	for (size_t i = 0; i < ELEMENTS(samples); i++) {
		_cleanup_json_ cJSON *record = parse(samples[i].record);
		_cleanup_err_ struct err *err = NULL;
		int r = undo(driver_of(i), record, &err);

		cr_expect(r == 0, "%s: %d %s", samples[i].fault, r, err_text(err));
	}
}

Test(records, what_is_no_record_is_told_apart_from_what_cannot_be_undone_now)
{
	static const char *const others[] = {"[]", "{}", "null", "7", "\"x\"", "true", "{\"x\": 1}",
		"[{\"pid\": 1}]"};

	for (size_t i = 0; i < ELEMENTS(samples); i++) {
		for (size_t k = 0; k < ELEMENTS(others); k++) {
			_cleanup_json_ cJSON *record = parse(others[k]);
			_cleanup_err_ struct err *err = NULL;
			int r = undo(driver_of(i), record, &err);

			cr_expect(r == -EBADMSG, "%s, %s: %d %s", samples[i].fault, others[k], r,
				err_text(err));
		}
	}
}

/* The n-th value below it, in the order of the text; NULL: there are not so many. */
static cJSON *value_at(cJSON *place, size_t *n, cJSON **ret_parent)
{
	cJSON *child;

	cJSON_ArrayForEach(child, place) {
		cJSON *found;

		*ret_parent = place;
		if ((*n)-- == 0)
			return child;
		found = value_at(child, n, ret_parent);
		if (found)
			return found;
	}
	return NULL;
}

static bool is_other_kind(const cJSON *a, const cJSON *b)
{
	return cJSON_IsArray(a) != cJSON_IsArray(b) || cJSON_IsObject(a) != cJSON_IsObject(b) ||
	       cJSON_IsBool(a) != cJSON_IsBool(b);
}

/* false: there is no such value. */
static bool replace(size_t sample, size_t number, const char *text)
{
	_cleanup_json_ cJSON *record = parse(samples[sample].record), *value = parse(text);
	_cleanup_err_ struct err *err = NULL;
	cJSON *parent = NULL, *old;
	char name[32];
	bool other;
	int r;

	old = value_at(record, &number, &parent);
	if (!old)
		return false;
	snprintf(name, sizeof(name), "%s", old->string ? old->string : "[]");
	other = is_other_kind(old, value);
	if (old->string)
		cJSON_ReplaceItemInObjectCaseSensitive(parent, name, steal_ptr(value));
	else
		cJSON_ReplaceItemViaPointer(parent, old, steal_ptr(value));
	r = undo(driver_of(sample), record, &err);
	cr_expect(r <= 0, "%s: %s = %s: %d", samples[sample].fault, name, text, r);
	if (other)
		cr_expect(r == -EBADMSG, "%s: %s = %s: %d %s", samples[sample].fault, name, text, r,
			err_text(err));
	return true;
}

Test(records, each_value_replaced_by_what_it_is_not)
{
	static const char *const values[] = {"1e308", "-1", "1.5", "18446744073709551615", "true", "\"\"",
		"\"/etc/passwd\"", "\"\\u0001\"", "[]", "{}", "[[[[1]]]]", "{\"a\": {\"b\": []}}"};

	for (size_t i = 0; i < ELEMENTS(samples); i++)
		for (size_t k = 0; k < ELEMENTS(values); k++)
			for (size_t n = 0; replace(i, n, values[k]); n++)
				;
}
