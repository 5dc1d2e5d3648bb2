/*
 * How clients connect: libpq's own conventions (service file, passfile, environment, conninfo text),
 * resolved once, and the hosts that they name. libpq resolves host names in a blocking way, so names
 * are resolved here by a thread, again and again, and libpq gets addresses (hostaddr) alone.
 */
#pragma once

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include "core/err.h"
#include "run/run_record.h"

/* One place to connect to. */
struct pg_endpoint {
	char *host;		/* as given; NULL if only an address was */
	char *address;		/* numeric; NULL: a unix socket, or a name (see resolver) */
	bool socket;		/* host is the folder of a unix socket, or abstract */
	uint16_t port;
	int instance;		/* of the record, where known; else -1 */
};

struct pg_endpoints {
	struct pg_endpoint *items;
	size_t count;
};

void pg_endpoints_done(struct pg_endpoints *e);

struct pg_settings;

/* Who connects, from a Secret: user and password win over all else, database where nobody names one.
 * Each may be NULL. Never logged. */
struct pg_login {
	char *user, *password, *database;
};
/* The password is wiped. */
void pg_login_done(struct pg_login *l);

/* conninfo: as in PQconnectdb(), or NULL; login may be NULL. -EINVAL with libpq's words; it names no
 * password. */
int pg_settings_new(const char *conninfo, const struct pg_login *login, struct pg_settings **ret,
	struct err **err);
void pg_settings_free(struct pg_settings *s);
DEFINE_CLEANUP(struct pg_settings, pg_settings_free)
/* Of a setting that is in force; NULL if none. */
const char *pg_settings_get(const struct pg_settings *s, const char *keyword);

/* The user's own settings name hosts. */
bool pg_settings_have_hosts(const struct pg_settings *s);
/* One more place: a Service, whose name certificates and password files know it by. */
int pg_endpoints_add(struct pg_endpoints *list, const char *host, const char *address, uint16_t port,
	struct err **err);
/* It has this address (numeric) from now on. */
void pg_endpoint_move(struct pg_endpoint *e, const char *address);

/* The hosts of the user's own settings, or else every instance of the record. */
int pg_settings_endpoints(const struct pg_settings *s, const struct run_record *r,
	struct pg_endpoints *ret, struct err **err);
/* One instance, straight. */
int pg_instance_endpoint(const struct run_record *r, size_t instance, struct pg_endpoints *ret,
	struct err **err);

/* Index of the instance that listens at address (numeric or a host as in the record) and port;
 * -1 if none or more than one does. */
int pg_find_instance(const struct run_record *r, const char *address, uint16_t port);

/* Starts connecting to one endpoint at one address (NULL: unix socket). attrs as in
 * target_session_attrs. Never blocks on names. Caller PQfinish()es; NULL without memory. */
PGconn *pg_settings_connect(const struct pg_settings *s, const struct pg_endpoint *e,
	const char *address, const char *attrs, const char *application_name,
	uint64_t tcp_timeout_ns);
