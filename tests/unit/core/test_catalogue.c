#include <criterion/criterion.h>
#include <ctype.h>
#include <string.h>
#include "core/catalogue.h"

/* Takes JSON with ' for ". NULL: taken; else the words. Caller frees. */
static char *ask(const char *fault, const char *text, struct params **ret)
{
	_cleanup_err_ struct err *e = NULL;
	_cleanup_json_ cJSON *json = NULL;
	_cleanup_free_ char *copy = strdup(text);
	const struct fault_spec *spec = NULL;
	struct params *p = NULL;

	for (char *c = copy; *c; c++)
		if (*c == '\'')
			*c = '"';
	cr_assert_eq(catalogue_find(fault, &spec, &e), 0, "%s", err_text(e));
	cr_assert_eq(json_parse(copy, strlen(copy), &json, &e), 0, "%s", err_text(e));
	if (params_from_json(spec, json, &p, &e) < 0) {
		cr_assert_eq(e->code, -EINVAL);
		return strdup(err_text(e));
	}
	if (ret)
		*ret = p;
	else
		params_free(p);
	return NULL;
}

static void taken(const char *fault, const char *text)
{
	_cleanup_(params_freep) struct params *p = NULL, *again = NULL;
	_cleanup_free_ char *words = ask(fault, text, &p);
	_cleanup_json_ cJSON *json = NULL, *second = NULL;
	_cleanup_err_ struct err *e = NULL;

	cr_assert_null(words, "%s %s: %s", fault, text, words);
	/* What the coordinator sends is the canonical form with every default in it: it must pass the
	 * same checks and stay as it is. */
	json = params_to_json(p);
	cr_assert_eq(params_from_json(p->spec, json, &again, &e), 0, "%s: %s", text, err_text(e));
	second = params_to_json(again);
	cr_assert(cJSON_Compare(json, second, true), "%s", text);
}

static void refused(const char *fault, const char *text, const char *words)
{
	_cleanup_free_ char *got = ask(fault, text, NULL);

	cr_assert_not_null(got, "%s %s was taken", fault, text);
	cr_assert(strstr(got, words), "%s: \"%s\" lacks \"%s\"", text, got, words);
}

Test(catalogue, net_partition)
{
	taken("net-partition", "{}");
	taken("net-partition", "{'peers':'dcs=10.0.0.1:2379,fd00::/8','direction':'in',"
			       "'action':'reject','percent':'0.1%','protocol':'udp','ports':'53'}");
	refused("net-partition", "{'percent':'0%'}", "percent: 0% is out of range");
	refused("net-partition", "{'action':'burn'}", "drop|reject");
	refused("net-partition", "{'direction':'up'}", "both|in|out");
	refused("net-partition", "{'protocol':'icmp','ports':'80'}", "icmp has none");
	refused("net-partition", "{'protocol':'icmp','peers':'10.0.0.1:80'}", "icmp none");
	taken("net-partition", "{'protocol':'icmp','peers':'10.0.0.1'}");
	refused("net-partition", "{'delay':'1s'}", "no parameter \"delay\"");
}

Test(catalogue, net_shape_takes)
{
	taken("net-shape", "{'delay':'0.5ms'}");
	taken("net-shape", "{'delay':'20ms','jitter':'20ms','distribution':'pareto',"
			   "'correlation':'25%','reorder':'5%'}");
	taken("net-shape", "{'loss':5,'loss-correlation':'10%'}");
	taken("net-shape", "{'loss-model':'gilbert-elliott','ge-p':'1%','ge-r':'25%'}");
	taken("net-shape", "{'loss-model':'gilbert-elliott','ge-p':'1%','ge-r':'25%',"
			   "'ge-loss-bad':'50%','ge-loss-good':'1%'}");
	taken("net-shape", "{'duplicate':'1%'}");
	taken("net-shape", "{'corrupt':'0.01%'}");
	taken("net-shape", "{'corrupt':'1%','corrupt-mode':'bit'}");
	taken("net-shape", "{'corrupt':'1%','corrupt-mode':'payload','protocol':'tcp'}");
	taken("net-shape", "{'rate':'1MiB/s','burst':'1MiB','limit':'1GiB'}");
}

Test(catalogue, dns)
{
	taken("dns", "{'mode':'nxdomain'}");
	taken("dns", "{'mode':'delay','delay':'2s','names':['example.com','.svc.cluster.local.']}");
	refused("dns", "{}", "mode");
	refused("dns", "{'mode':'refused'}", "nxdomain|servfail|timeout|delay");
	refused("dns", "{'mode':'delay'}", "mode delay needs it");
	refused("dns", "{'mode':'timeout','delay':'1s'}", "is for mode delay");
	refused("dns", "{'mode':'timeout','names':['*.com']}", "no patterns");
	refused("dns", "{'mode':'timeout','names':['a..com']}", "1 to 63");
}

Test(catalogue, net_shape_refuses)
{
	refused("net-shape", "{}", "nothing is asked for");
	refused("net-shape", "{'delay':'0'}", "nothing is asked for");
	refused("net-shape", "{'loss':'0%','limit':'1MiB'}", "nothing is asked for");
	refused("net-shape", "{'delay':'61s'}", "allowed: 0..1m");
	refused("net-shape", "{'jitter':'1ms'}", "jitter: needs delay");
	refused("net-shape", "{'delay':'1ms','jitter':'2ms'}", "2ms is above the delay of 1ms");
	refused("net-shape", "{'delay':'1ms','correlation':'5%'}", "correlation: needs jitter");
	refused("net-shape", "{'delay':'1ms','distribution':'normal'}", "needs jitter");
	refused("net-shape", "{'reorder':'5%','loss':'1%'}", "reorder: needs delay");
	refused("net-shape", "{'delay':'1ms','corrupt-mode':'payload'}", "payload needs corrupt");
	refused("net-shape", "{'corrupt':'1%','corrupt-mode':'byte'}", "bit|payload");
	refused("net-shape", "{'corrupt':'1%','corrupt-mode':'payload','protocol':'udp'}", "about TCP");
	refused("net-shape", "{'burst':'1MiB','delay':'1ms'}", "burst: needs rate");
	refused("net-shape", "{'loss-correlation':'1%','delay':'1ms'}", "needs loss");
	refused("net-shape", "{'ge-p':'1%'}", "loss-model gilbert-elliott");
	refused("net-shape", "{'delay':'1ms','ge-loss-bad':'50%'}", "loss-model gilbert-elliott");
	refused("net-shape", "{'loss-model':'gilbert-elliott'}", "needs ge-p and ge-r");
	refused("net-shape", "{'loss-model':'gilbert-elliott','ge-p':'1%'}", "needs ge-p and ge-r");
	refused("net-shape", "{'loss-model':'gilbert-elliott','ge-p':'1%','ge-r':'1%','loss':'1%'}",
		"for loss-model random");
	refused("net-shape", "{'rate':'1kbit'}", "allowed: 8kbit..100gbit");
	refused("net-shape", "{'delay':'1ms','limit':'1KiB'}", "allowed: 64KiB..1GiB");
	refused("net-shape", "{'delay':'1ms','limit':'2GiB'}", "allowed: 64KiB..1GiB");
	refused("net-shape", "{'delay':'1ms','protocol':'icmp','ports':'1'}", "icmp");
}

Test(catalogue, proc_kill)
{
	taken("proc-kill", "{}");
	taken("proc-kill", "{'process':'all','signal':'QUIT','every':'2s'}");
	taken("proc-kill", "{'process':'title','titles':'walsender,background writer',"
			   "'percent':'25%','signal':15}");
	taken("proc-kill", "{'process':'manager'}");
	taken("proc-kill", "{'process':'title','application':'billing*','client':'10.0.0.0/8','count':2}");
	refused("proc-kill", "{'process':'title'}", "one is required with process title");
	refused("proc-kill", "{'process':'manager','client':'10.0.0.1'}", "client: needs process title");
	refused("proc-kill", "{'application':'psql'}", "application: needs process title");
	refused("proc-kill", "{'titles':'walsender'}", "titles: needs process title");
	refused("proc-kill", "{'signal':'STOP'}", "proc-freeze");
	refused("proc-kill", "{'signal':'TTIN'}", "proc-freeze");
	refused("proc-kill", "{'every':'1ms'}", "allowed: 10ms..1h");
	refused("proc-kill", "{'percent':'0'}", "out of range");
}

Test(catalogue, proc_freeze)
{
	taken("proc-freeze", "{}");
	taken("proc-freeze", "{'mechanism':'cgroup'}");
	taken("proc-freeze", "{'processes':'titles','titles':'walreceiver'}");
	taken("proc-freeze", "{'processes':'manager'}");
	taken("proc-freeze", "{'processes':'titles','application':'billing','percent':'50%'}");
	refused("proc-freeze", "{'processes':'titles'}", "one is required with processes titles");
	refused("proc-freeze", "{'processes':'manager','count':1}", "need processes titles");
	refused("proc-freeze", "{'titles':'walreceiver'}", "needs processes titles");
	refused("proc-freeze", "{'mechanism':'cgroup','processes':'postgres'}", "whole cgroup");
	refused("proc-freeze", "{'mechanism':'cgroup','processes':'titles','titles':'x'}",
		"whole cgroup");
}

Test(catalogue, clock_skew)
{
	taken("clock-skew", "{'offset':'1h'}");
	taken("clock-skew", "{'offset':'87600h','direction':'back','clocks':'both'}");
	taken("clock-skew", "{'offset':'87600h','clocks':'realtime'}");
	taken("clock-skew", "{'offset':'10m','clocks':'monotonic'}");
	refused("clock-skew", "{'offset':'601s','clocks':'monotonic'}", "offset: 10m1s forward");
	refused("clock-skew", "{'offset':'1h','clocks':'both'}", "allowed: up to 10m");
	taken("clock-skew", "{'drift':500,'direction':'back','clocks':'both','processes':'all'}");
	taken("clock-skew", "{'offset':'90s','strobe':'5s','after':'20s','mechanism':'stub'}");
	refused("clock-skew", "{}", "are required");
	refused("clock-skew", "{'offset':'0','drift':0}", "are required");
	refused("clock-skew", "{'offset':'-1h'}", "offset");
	refused("clock-skew", "{'offset':'90000h'}", "out of range");
	refused("clock-skew", "{'drift':900001}", "out of range");
	refused("clock-skew", "{'offset':'1h','strobe':'1ms'}", "out of range");
	refused("clock-skew", "{'offset':'1h','direction':'up'}", "forward|back");
}

Test(catalogue, find)
{
	_cleanup_err_ struct err *e = NULL;
	const struct fault_spec *spec = NULL;

	cr_assert_eq(catalogue_find("net-partiton", &spec, &e), -EINVAL);
	cr_assert(strstr(err_text(e), "did you mean \"net-partition\"?"), "%s", err_text(e));
	cr_assert_eq(catalogue_find("volcano", &spec, &e), -EINVAL);
	cr_assert_eq(catalogue_find(NULL, &spec, &e), -EINVAL);
	cr_assert_eq(catalogue_find("", &spec, &e), -EINVAL);
	cr_assert_null(spec);
	cr_assert_eq(catalogue_find("net-shape", &spec, &e), 0);
	cr_assert_eq(spec, &fault_net_shape);
}

static void check_param(const struct fault_spec *f, const struct param_spec *p)
{
	for (const char *c = p->name; *c; c++)
		cr_assert(islower((unsigned char)*c) || (*c == '-' && c != p->name), "%s", p->name);
	cr_assert(p->help && strlen(p->help) > 10, "%s %s", f->name, p->name);
	cr_assert_eq(p->help[strlen(p->help) - 1], '.', "%s %s", f->name, p->name);
	cr_assert(p->type < PARAM_TYPE_MAX);
	cr_assert(!p->max || p->min <= p->max);
	cr_assert(p->type != PARAM_ENUM || p->choices);
	cr_assert(!(p->required && p->fallback));
}

Test(catalogue, entries_are_complete)
{
	for (const struct fault_spec *const *f = catalogue_faults(); *f; f++) {
		const struct fault_spec *s = *f;

		cr_assert(s->summary && s->description && s->mechanism && s->needs && s->leaves);
		cr_assert_geq(s->n_examples, 3);
		for (size_t i = 0; i < s->n_params; i++) {
			check_param(s, &s->params[i]);
			for (size_t k = 0; k < i; k++)
				cr_assert_str_neq(s->params[i].name, s->params[k].name);
		}
		for (const struct fault_spec *const *g = catalogue_faults(); g != f; g++)
			cr_assert_str_neq((*g)->name, s->name);
	}
}

/* Reads "--NAME VALUE" of an example into parameters, as the command line does. */
static void check_example(const struct fault_spec *s, const char *command)
{
	_cleanup_free_ char *copy = strdup(command);
	_cleanup_json_ cJSON *o = json_object();
	_cleanup_(params_freep) struct params *p = NULL;
	_cleanup_err_ struct err *e = NULL;
	bool target = false, duration = false;
	char *rest = NULL, *word = strtok_r(copy, " ", &rest);

	cr_assert_str_eq(word, s->name);
	while ((word = strtok_r(NULL, " ", &rest))) {
		char *value = strtok_r(NULL, " ", &rest);

		cr_assert(strncmp(word, "--", 2) == 0 && value, "%s", command);
		if (strcmp(word, "--target") == 0)
			target = true;
		else if (strcmp(word, "--for") == 0)
			duration = duration_parse(value, &(uint64_t){0}, NULL) == 0;
		else
			json_add_string(o, word + 2, value);
	}
	cr_assert(target && duration, "%s", command);
	cr_assert_eq(params_from_json_unresolved(s, o, &p, &e), 0, "%s: %s", command, err_text(e));
}

Test(catalogue, examples_are_valid)
{
	for (const struct fault_spec *const *f = catalogue_faults(); *f; f++)
		for (size_t i = 0; i < (*f)->n_examples; i++)
			check_example(*f, (*f)->examples[i].command);
}

Test(catalogue, help_says_all_and_fits_a_terminal)
{
	for (const struct fault_spec *const *f = catalogue_faults(); *f; f++) {
		_cleanup_free_ char *help = catalogue_help(*f), *page = catalogue_markdown(*f);
		_cleanup_free_ char *lifetime = NULL;
		char *line, *rest = NULL;

		for (size_t i = 0; i < (*f)->n_params; i++) {
			_cleanup_free_ char *flag = NULL, *row = NULL;

			cr_assert_geq(asprintf(&flag, "--%s", (*f)->params[i].name), 0);
			cr_assert(strstr(help, flag));
			cr_assert_geq(asprintf(&row, "| `%s` |", (*f)->params[i].name), 0);
			cr_assert(strstr(page, row));
		}
		cr_assert_geq(asprintf(&lifetime, "Lifetime: %s", lifetime_to_string((*f)->lifetime)), 0);
		cr_assert(strstr(help, lifetime));
		for (line = strtok_r(help, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
			if (!strstr(line, "pgjolt inject"))
				cr_assert_leq(strlen(line), 80, "%s", line);
	}
}

Test(catalogue, as_data)
{
	for (const struct fault_spec *const *f = catalogue_faults(); *f; f++) {
		_cleanup_json_ cJSON *o = catalogue_json(*f), *back = NULL;
		_cleanup_free_ char *text = json_print(o);
		_cleanup_err_ struct err *e = NULL;

		cr_assert_eq(json_parse(text, strlen(text), &back, &e), 0, "%s", err_text(e));
		cr_assert_eq(cJSON_GetArraySize(json_get(back, "params")), (int)(*f)->n_params);
		cr_assert_str_eq(json_get(back, "name")->valuestring, (*f)->name);
	}
}

Test(catalogue, ranges)
{
	static const struct {
		struct param_spec spec;
		const char *text;
	} table[] = {
		{{.type = PARAM_COUNT}, ""},
		{{.type = PARAM_COUNT, .min = 1}, "at least 1"},
		{{.type = PARAM_COUNT, .max = 5}, "0..5"},
		{{.type = PARAM_DURATION, .min = 100000, .max = 600000000000}, "100us..10m"},
		{{.type = PARAM_PERCENT}, "0%..100%"},
		{{.type = PARAM_BOOL}, "true|false"},
		{{.type = PARAM_TEXT}, ""},
	};

	for (size_t i = 0; i < ELEMENTS(table); i++) {
		_cleanup_free_ char *text = param_range_text(&table[i].spec);

		cr_assert_str_eq(text, table[i].text);
	}
}

Test(catalogue, disk_faults)
{
	taken("disk-latency", "{'delay':'20ms'}");
	taken("disk-latency", "{'delay':'20ms','jitter':'5ms','distribution':'pareto','percent':'10%',"
			      "'operations':['read','open'],'paths':['wal','base/16384/*'],"
			      "'titles':['checkpointer'],'mechanism':'file'}");
	refused("disk-latency", "{}", "delay");
	refused("disk-latency", "{'delay':'1ms','jitter':'2ms'}", "jitter");
	refused("disk-latency", "{'delay':'1ms','distribution':'normal'}", "needs jitter");
	refused("disk-latency", "{'delay':'1ms','operations':['fly']}", "fdatasync");
	refused("disk-latency", "{'delay':'1ms','operations':['fsync'],'mechanism':'file'}", "mechanism");
	refused("disk-latency", "{'delay':'1ms','paths':['wall']}", "wall");
	refused("disk-latency", "{'delay':'1ms','paths':['../x']}", "below PGDATA");
	refused("disk-latency", "{'delay':'1ms','paths':['/etc/*']}", "below PGDATA");
	refused("disk-latency", "{'delay':'1ms','percent':'0%'}", "percent");
	taken("disk-error", "{}");
	taken("disk-error", "{'errno':'ENOSPC','after':5,'operations':'write','paths':'temp'}");
	refused("disk-error", "{'errno':'EPERM'}", "EROFS");
	refused("disk-error", "{'errno':'EROFS','operations':['read'],'mechanism':'file'}", "EROFS");
}

Test(catalogue, cpu_throttle)
{
	taken("cpu-throttle", "{}");
	taken("cpu-throttle", "{'quota':'150%'}");
	taken("cpu-throttle", "{'quota':'10000%'}");
	refused("cpu-throttle", "{'quota':'10001%'}", "above 10000%");
	refused("cpu-throttle", "{'quota':'10001%'}", "allowed: 1%..10000%");
	refused("cpu-throttle", "{'quota':'0.5%'}", "out of range");
	refused("cpu-throttle", "{'quota':'99999999%'}", "above 10000%");
	refused("cpu-stress", "{'load':'101%'}", "above 100%");
}
