/*
 * Parameters of a fault: described once, in the catalogue, which validates, prints help and writes
 * the docs. On the wire a parameter is a JSON string with its unit ("20ms"), a number, a bool or an
 * array of strings; parsed it is one of the values below, in base units.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "core/err.h"
#include "core/json.h"
#include "core/peer.h"
#include "core/units.h"

enum param_type {
	PARAM_BOOL,
	PARAM_COUNT,		/* uint64_t */
	PARAM_DURATION,		/* ns */
	PARAM_PERCENT,		/* ppm, 0..1,000,000, or up to a max that is above */
	PARAM_BYTES,
	PARAM_RATE,		/* bits a second */
	PARAM_ENUM,		/* index into choices */
	PARAM_SIGNAL,		/* "KILL", "SIGKILL" or a number -> signal number */
	PARAM_TEXT,
	PARAM_TEXTS,		/* list of text; a single string is a list, cut at its commas */
	PARAM_PEERS,		/* list of peer texts, core/peer.h */
	PARAM_PORTS,		/* "5432,8000-8010": list of ranges, as peers with only ports set */
	PARAM_TYPE_MAX,
};

struct param_spec {
	const char *name;		/* lower-case, "-" inside */
	enum param_type type;
	bool required;
	const char *fallback;		/* default, as text in the wire form; NULL: not set */
	uint64_t min, max;		/* of the value in base units, inclusive; max 0: no bound */
	const char *const *choices;	/* PARAM_ENUM: NULL-terminated */
	const char *help;		/* one sentence */
};

struct param_value {
	bool set;			/* given or by default */
	bool given;			/* not by default */
	uint64_t number;		/* all scalar types, bool included */
	char *text;
	char **texts;			/* PARAM_TEXTS, and PARAM_PEERS as written */
	struct peer_list peers;		/* PARAM_PEERS, PARAM_PORTS */
};

/* A number of a scalar parameter as text that parses back ("20ms", "12.5%", "KILL"). */
char *param_number_format(const struct param_spec *p, uint64_t number,
	char buf[static UNITS_TEXT_MAX]);

struct fault_spec;

struct params {
	const struct fault_spec *spec;
	struct param_value values[];	/* as many as the spec has parameters */
};

void params_free(struct params *p);
DEFINE_CLEANUP(struct params, params_free)

/* json: an object or NULL. Every error names fault, parameter, what was given, what is allowed.
 * Calls the spec's own check() last. */
int params_from_json(const struct fault_spec *spec, const cJSON *json, struct params **ret,
	struct err **err);
/* The same before the coordinator has resolved the peers: a peer may be a name (peer_name_parse());
 * texts hold the peers as written, the list of peers stays empty. */
int params_from_json_unresolved(const struct fault_spec *spec, const cJSON *json,
	struct params **ret, struct err **err);
/* The canonical object: every parameter that is set, in its shortest text. Caller deletes. */
cJSON *params_to_json(const struct params *p);

/* By name. A name that the spec does not have is a bug and aborts. The value of a parameter that is
 * not set is 0 / false / NULL / an empty list. */
bool params_is_set(const struct params *p, const char *name);
uint64_t params_number(const struct params *p, const char *name);
const char *params_text(const struct params *p, const char *name);
char *const *params_texts(const struct params *p, const char *name);
const struct peer_list *params_peers(const struct params *p, const char *name);
