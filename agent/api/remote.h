/*
 * Mutual TLS on TCP: its PEM files are read again whenever they change (inotify(7) on their folders, so
 * that the exchange of a Secret volume's "..data" link is seen too). New connections get what is new;
 * those there are end by themselves. Files that are no good change nothing and are told as an error.
 */
#pragma once

#include "core/err.h"

struct api_server;
struct remote;

/* As server->agent->config says. */
int remote_new(struct api_server *server, struct remote **ret, struct err **err);
void remote_free(struct remote *r);
/* Where it listens, in words. Borrowed. */
const char *remote_where(const struct remote *r);
