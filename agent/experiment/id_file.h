/*
 * The ids that served, in the journal's folder (file "ids"), so that a request that is sent again stays refused
 * when the agent was started anew. A request has no time in it, so what is kept is a number of them:
 * at least the last ID_MEMORY_GENERATION, a line each ("SECONDS-SINCE-1970 ID"), in at most 1.3 MiB.
 */
#pragma once

#include "core/err.h"
#include "experiment/id_memory.h"

#define ID_FILE_NAME "ids"

struct id_file;

/*
 * Adds what the file holds to m, creates it where there is none. folder: borrowed. A file that is damaged is no error:
 * what can be read of it counts, *ret_damage (caller frees; NULL: none) says what cannot, and the file is
 * written anew. Where not even that works, id_file_add() fails.
 */
int id_file_open(int folder, struct id_memory *m, struct id_file **ret, char **ret_damage, struct err **err);
void id_file_free(struct id_file *f);
/* On disk on return (fdatasync(2)): an id that a power cut forgets would serve twice. */
int id_file_add(struct id_file *f, const char *id, struct err **err);
