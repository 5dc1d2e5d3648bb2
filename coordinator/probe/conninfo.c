#include "probe/conninfo.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include "core/clock.h"
#include "core/units.h"

#define PG_PORT_DEFAULT 5432

struct pg_settings {
	PQconninfoOption *options;	/* PQconninfoFree() */
};

void pg_endpoints_done(struct pg_endpoints *e)
{
	for (size_t i = 0; i < e->count; i++) {
		free(e->items[i].host);
		free(e->items[i].address);
	}
	free(e->items);
	*e = (struct pg_endpoints){0};
}

static bool is_numeric(const char *host)
{
	unsigned char address[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

/* Libpq's words without the line ends. */
static int set_pq_error(struct err **err, int code, const char *what, const char *words)
{
	size_t length = strlen(words);

	while (length > 0 && words[length - 1] == '\n')
		length--;
	return err_set(err, code, "%s: %.*s", what, (int)length, words);
}

/*
 * libpq alone knows how service file, environment and defaults come together, and it tells only of a
 * connection (PQconninfo()). So it is given a connection whose last setting it must refuse before it
 * touches the network: all others are then resolved.
 */
#define REFUSED_ATTRS "pgjolt-settings-only"

void pg_login_done(struct pg_login *l)
{
	if (l->password)
		explicit_bzero(l->password, strlen(l->password));
	free(l->user);
	free(l->password);
	free(l->database);
	*l = (struct pg_login){0};
}

/* Somebody names a database, or a service that may. */
static bool names_database(const PQconninfoOption *options)
{
	if (getenv("PGDATABASE") || getenv("PGSERVICE"))
		return true;
	for (const PQconninfoOption *o = options; o && o->keyword; o++)
		if (o->val && (strcmp(o->keyword, "dbname") == 0 || strcmp(o->keyword, "service") == 0))
			return true;
	return false;
}

int pg_settings_new(const char *conninfo, const struct pg_login *login, struct pg_settings **ret,
	struct err **err)
{
	const char *keywords[6] = {"dbname", "target_session_attrs"};
	const char *values[6] = {conninfo, REFUSED_ATTRS};
	bool own_database = names_database(NULL);
	size_t n = 2;
	_cleanup_(pg_settings_freep) struct pg_settings *s = calloc(1, sizeof(*s));
	PQconninfoOption *parsed;
	PGconn *conn;
	int r = 0;

	if (!s)
		return err_errno(err, -ENOMEM, "connection settings");
	if (conninfo) {
		char *words = NULL;

		/* A text without "=" would be taken for the name of a database. */
		parsed = PQconninfoParse(conninfo, &words);
		if (!parsed) {
			r = set_pq_error(err, -EINVAL, "connection settings",
				words ? words : "no memory");
			PQfreemem(words);
			return r;
		}
		own_database = names_database(parsed);
		PQconninfoFree(parsed);
	}
	/* Of a keyword that comes twice, the last value counts; an empty one leaves the default. */
	if (login && login->user) {
		keywords[n] = "user";
		values[n++] = login->user;
	}
	if (login && login->password) {
		keywords[n] = "password";
		values[n++] = login->password;
	}
	if (login && login->database && !own_database) {
		keywords[n] = "dbname";
		values[n++] = login->database;
	}
	conn = PQconnectStartParams(keywords, values, 1);
	if (!conn)
		return err_errno(err, -ENOMEM, "connection settings");
	if (!strstr(PQerrorMessage(conn), REFUSED_ATTRS))
		r = set_pq_error(err, -EINVAL, "connection settings", PQerrorMessage(conn));
	else if (!(s->options = PQconninfo(conn)))
		r = err_errno(err, -ENOMEM, "connection settings");
	PQfinish(conn);
	if (r < 0)
		return r;
	*ret = steal_ptr(s);
	return 0;
}

void pg_settings_free(struct pg_settings *s)
{
	if (!s)
		return;
	PQconninfoFree(s->options);
	free(s);
}

const char *pg_settings_get(const struct pg_settings *s, const char *keyword)
{
	for (const PQconninfoOption *o = s->options; o && o->keyword; o++)
		if (strcmp(o->keyword, keyword) == 0)
			return o->val && *o->val ? o->val : NULL;
	return NULL;
}

/* Takes host and address. */
static int add_endpoint(struct pg_endpoints *list, char *host, char *address, uint16_t port,
	int instance)
{
	struct pg_endpoint e = {
		.host = host,
		.address = address,
		.port = port,
		.instance = instance,
		.socket = host && (*host == '/' || *host == '@'),
	};
	struct pg_endpoint *items = reallocarray(list->items, list->count + 1, sizeof(*items));

	if (items)
		list->items = items;
	if (items && !e.address && e.host && !e.socket && is_numeric(e.host))
		e.address = strdup(e.host);
	if (!items || (!e.address && e.host && is_numeric(e.host))) {
		free(host);
		free(address);
		return -ENOMEM;
	}
	list->items[list->count++] = e;
	return 0;
}

/* The next element of a comma-separated list, allocated; NULL at its end. */
static char *next_element(const char **list)
{
	const char *start = *list;
	size_t length;

	if (!start)
		return NULL;
	length = strcspn(start, ",");
	*list = start[length] == ',' ? start + length + 1 : NULL;
	return strndup(start, length);
}

static int own_endpoints(const struct pg_settings *s, const struct run_record *r,
	struct pg_endpoints *ret, struct err **err)
{
	const char *hosts = pg_settings_get(s, "host");
	const char *addresses = pg_settings_get(s, "hostaddr");
	const char *ports = pg_settings_get(s, "port");

	while (hosts || addresses) {
		char *host = next_element(&hosts);
		char *address = next_element(&addresses);
		/* One port is for all hosts; libpq has checked the counts. */
		bool last_port = !ports || !strchr(ports, ',');
		const char *port_list = ports;
		_cleanup_free_ char *port_text = next_element(&port_list);
		uint64_t port = PG_PORT_DEFAULT;
		int e;

		if (!last_port)
			ports = port_list;
		if (port_text && *port_text) {
			e = count_parse(port_text, 1, 65535, &port, err);
			if (e < 0) {
				free(host);
				free(address);
				return err_wrap(err, e, "connection settings: port");
			}
		}
		if (address && !*address) {
			free(address);
			address = NULL;
		}
		if (host && !*host) {
			free(host);
			host = NULL;
		}
		/* An empty place in the list stands for this machine. */
		if (!host && !address)
			host = strdup("localhost");
		e = pg_find_instance(r, address ? address : host, (uint16_t)port);
		e = add_endpoint(ret, host, address, (uint16_t)port, e);
		if (e < 0)
			return err_errno(err, e, "connection settings");
	}
	return 0;
}

bool pg_settings_have_hosts(const struct pg_settings *s)
{
	return pg_settings_get(s, "host") || pg_settings_get(s, "hostaddr");
}

int pg_endpoints_add(struct pg_endpoints *list, const char *host, const char *address, uint16_t port,
	struct err **err)
{
	char *h = strdup(host), *a = strdup(address);

	if (h && a)
		return add_endpoint(list, h, a, port, -1) < 0 ? err_errno(err, -ENOMEM, "%s", host) : 0;
	free(h);
	free(a);
	return err_errno(err, -ENOMEM, "%s", host);
}

void pg_endpoint_move(struct pg_endpoint *e, const char *address)
{
	free(e->host);
	free(e->address);
	e->host = strdup(address);
	e->address = strdup(address);
	if (!e->host || !e->address)
		abort();
}

int pg_settings_endpoints(const struct pg_settings *s, const struct run_record *r,
	struct pg_endpoints *ret, struct err **err)
{
	struct pg_endpoints list = {0};
	int e = 0;

	if (pg_settings_have_hosts(s))
		e = own_endpoints(s, r, &list, err);
	else
		for (size_t i = 0; e == 0 && i < r->n_instances; i++)
			if (r->instances[i].host)
				e = pg_instance_endpoint(r, i, &list, err);
	if (e == 0 && list.count == 0)
		e = err_set(err, -EINVAL, "no host to connect to: the connection settings name "
			"none and no instance has an address");
	if (e < 0) {
		pg_endpoints_done(&list);
		return e;
	}
	*ret = list;
	return 0;
}

int pg_instance_endpoint(const struct run_record *r, size_t instance, struct pg_endpoints *ret,
	struct err **err)
{
	const struct run_instance *i = &r->instances[instance];
	char *host;

	if (!i->host)
		return err_set(err, -EINVAL, "instance %s has no address", i->name);
	host = strdup(i->host);
	if (!host || add_endpoint(ret, host, NULL, i->port, (int)instance) < 0)
		return err_errno(err, -ENOMEM, "instance %s", i->name);
	return 0;
}

/* The same host: by number if both are numeric, else by letter. */
static bool same_host(const char *a, const char *b)
{
	unsigned char na[sizeof(struct in6_addr)], nb[sizeof(struct in6_addr)];

	if (inet_pton(AF_INET, a, na) == 1 && inet_pton(AF_INET, b, nb) == 1)
		return memcmp(na, nb, sizeof(struct in_addr)) == 0;
	if (inet_pton(AF_INET6, a, na) == 1 && inet_pton(AF_INET6, b, nb) == 1)
		return memcmp(na, nb, sizeof(struct in6_addr)) == 0;
	return strcasecmp(a, b) == 0;
}

int pg_find_instance(const struct run_record *r, const char *address, uint16_t port)
{
	int found = -1;

	for (size_t i = 0; i < r->n_instances; i++) {
		if (!r->instances[i].host || r->instances[i].port != port ||
			!same_host(r->instances[i].host, address))
			continue;
		if (found >= 0)
			return -1;
		found = (int)i;
	}
	return found;
}

struct param_list {
	const char **keywords, **values;
	size_t count;
};

static void param_add(struct param_list *l, const char *keyword, const char *value)
{
	if (!value)
		return;
	l->keywords[l->count] = keyword;
	l->values[l->count++] = value;
}

/* Set by us for each connection: what the user says of these does not apply. */
static bool is_ours(const char *keyword)
{
	static const char *const ours[] = {"host", "hostaddr", "port", "target_session_attrs",
		"application_name", "connect_timeout", "load_balance_hosts"};

	for (size_t i = 0; i < ELEMENTS(ours); i++)
		if (strcmp(keyword, ours[i]) == 0)
			return true;
	return false;
}

PGconn *pg_settings_connect(const struct pg_settings *s, const struct pg_endpoint *e,
	const char *address, const char *attrs, const char *application_name,
	uint64_t tcp_timeout_ns)
{
	char port[8], tcp_timeout[24];
	_cleanup_free_ const char **keywords = NULL;
	_cleanup_free_ const char **values = NULL;
	struct param_list list = {0};
	size_t n = 0;

	while (s->options[n].keyword)
		n++;
	keywords = calloc(n + 16, sizeof(*keywords));
	values = calloc(n + 16, sizeof(*values));
	if (!keywords || !values)
		return NULL;
	list.keywords = keywords;
	list.values = values;
	snprintf(port, sizeof(port), "%u", e->port);
	snprintf(tcp_timeout, sizeof(tcp_timeout), "%llu", tcp_timeout_ns / NS_PER_MS);
	for (const PQconninfoOption *o = s->options; o->keyword; o++)
		if (!is_ours(o->keyword) && o->val && *o->val)
			param_add(&list, o->keyword, o->val);
	param_add(&list, "host", e->host);
	param_add(&list, "hostaddr", address);
	param_add(&list, "port", port);
	param_add(&list, "target_session_attrs", attrs);
	param_add(&list, "application_name", application_name);
	/* Half-open connections end within the time limit, unless the user has limits of his own. */
	if (!pg_settings_get(s, "tcp_user_timeout"))
		param_add(&list, "tcp_user_timeout", tcp_timeout);
	if (!pg_settings_get(s, "keepalives_idle")) {
		param_add(&list, "keepalives_idle", "2");
		param_add(&list, "keepalives_interval", "1");
		param_add(&list, "keepalives_count", "3");
	}
	return PQconnectStartParams(keywords, values, 0);
}
