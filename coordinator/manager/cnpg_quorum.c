#include "manager/cnpg_quorum.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/text.h"
#include "kube/kube.h"

/* More standbys than any Cluster has: an object with more is taken for none. */
#define NAMES_MAX 128
#define NAMES_SHOWN 16

struct set {
	const char *names[NAMES_MAX];	/* each once */
	size_t n;
	bool too_many;
};

const char *cnpg_word(char to[CNPG_WORD], const char *word)
{
	size_t n = 0;

	for (; word && word[n] && n < CNPG_WORD - 1; n++)
		to[n] = word[n] > ' ' && word[n] < 0x7f ? word[n] : '?';
	if (word && word[n])
		memcpy(to + n - 3, "...", 3);
	to[n] = '\0';
	return to;
}

/* The annotation is of 1.27 and, until it is gone, goes before the field. */
static bool is_asked_for(const cJSON *cluster)
{
	const char *older = kube_annotation(cluster, "alpha.cnpg.io/failoverQuorum");

	if (!cJSON_IsObject(kube_field(cluster, "spec.postgresql.synchronous")))
		return false;
	if (older && (strcasecmp(older, "true") == 0 || strcmp(older, "1") == 0))
		return true;
	if (older && (strcasecmp(older, "false") == 0 || strcmp(older, "0") == 0))
		return false;
	return cJSON_IsTrue(kube_field(cluster, "spec.postgresql.synchronous.failoverQuorum"));
}

static void read_set(const cJSON *quorum, struct set *s)
{
	const cJSON *list = kube_field(quorum, "status.standbyNames"), *item;

	if (!cJSON_IsArray(list))
		return;
	cJSON_ArrayForEach(item, list)
	{
		size_t i = 0;

		if (!cJSON_IsString(item) || !*item->valuestring)
			continue;
		while (i < s->n && strcmp(s->names[i], item->valuestring) != 0)
			i++;
		if (i < s->n)
			continue;
		s->too_many = s->n == NAMES_MAX;
		if (s->too_many)
			return;
		s->names[s->n++] = item->valuestring;
	}
}

static bool is_ready(const struct pod *pods, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(pods[i].name, name) == 0)
			return pods[i].ready;
	return false;
}

/* R: those of the set that could be promoted. The primary is the one that is lost. */
static size_t count_ready(const struct set *s, const char *primary, const struct pod *pods, size_t n_pods)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++)
		n += strcmp(s->names[i], primary) != 0 && is_ready(pods, n_pods, s->names[i]);
	return n;
}

/* 0: it says none, or what no cluster has. */
static unsigned standby_number(const cJSON *quorum)
{
	const cJSON *number = kube_field(quorum, "status.standbyNumber");

	return cJSON_IsNumber(number) && number->valuedouble >= 1 && number->valuedouble <= NAMES_MAX ?
		(unsigned)number->valuedouble : 0;
}

/* "ANY 1 of main-2, main-3 (told by main-1)". Caller frees. */
static char *words_of(const cJSON *quorum, const struct set *s)
{
	const char *method = kube_text(quorum, "status.method");
	const char *primary = kube_text(quorum, "status.primary");
	unsigned number = standby_number(quorum);
	char word[CNPG_WORD], *text;

	if (!(method && *method) && !number && !s->n)
		return text_format("it is empty");
	text = text_format("%s %u of ", method && *method ? cnpg_word(word, method) : "(no method)",
		number);
	for (size_t i = 0; i < s->n && i < NAMES_SHOWN; i++) {
		char *longer = text_format("%s%s%s", text, i ? ", " : "", cnpg_word(word, s->names[i]));

		free(text);
		text = longer;
	}
	if (!s->n || s->n > NAMES_SHOWN || (primary && *primary)) {
		char *longer = text_format("%s%s%s%s%s", text, s->n ? "" : "nobody",
			s->n > NAMES_SHOWN ? " and others" : "", primary && *primary ? ", told by " : "",
			cnpg_word(word, primary));

		free(text);
		text = longer;
	}
	return text;
}

static enum cnpg_quorum judge(const struct set *s, unsigned written, const char *primary,
	const struct pod *pods, size_t n_pods, char **ret)
{
	size_t ready = count_ready(s, primary, pods, n_pods);
	bool allows = ready + written > s->n;
	char word[CNPG_WORD];

	if (!written || !s->n || s->too_many) {
		*ret = text_format("a failover would be refused until the primary writes who is synchronous");
		return QUORUM_RESET;
	}
	*ret = text_format("were %s lost now, a failover would be %s: R %zu (ready of them) + W %u is %sabove "
		"N %zu", *primary ? cnpg_word(word, primary) : "the primary",
		allows ? "allowed" : "refused by the quorum", ready, written, allows ? "" : "not ", s->n);
	return allows ? QUORUM_ALLOWS : QUORUM_REFUSES;
}

enum cnpg_quorum cnpg_quorum_judge(const cJSON *cluster, const cJSON *quorum, const struct pod *pods,
	size_t n_pods, char **ret)
{
	const char *primary = kube_text(cluster, "status.currentPrimary");
	struct set s = {.n = 0};
	_cleanup_free_ char *words = NULL, *why = NULL;
	enum cnpg_quorum found = QUORUM_OFF;

	*ret = NULL;
	read_set(quorum, &s);
	if (is_asked_for(cluster))
		found = judge(&s, standby_number(quorum), primary ? primary : "", pods, n_pods, &why);
	else if (!quorum)
		return found;
	words = quorum ? words_of(quorum, &s) : text_format("there is no FailoverQuorum");
	*ret = text_format("quorum: %s; %s", words, why ? why : "it is not in force");
	return found;
}
