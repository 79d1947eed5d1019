/* SPDX-License-Identifier: Apache-2.0 */
#include "list.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct entry *find_or_add(struct entry **first, const char *word, size_t length)
{
	struct entry **at = first;

	for (; *at; at = &(*at)->next)
		if (strlen((*at)->word) == length && !memcmp((*at)->word, word, length))
			return *at;
	*at = calloc(1, sizeof(**at));
	if (!*at || !((*at)->word = strndup(word, length))) {
		fprintf(stderr, "words: %s\n", strerror(errno));
		exit(1);
	}
	return *at;
}

/* The most frequent first. */
void sort(struct entry **first)
{
	struct entry *sorted = NULL;

	while (*first) {
		struct entry *taken = *first, **at = &sorted;

		*first = taken->next;
		while (*at && (*at)->seen >= taken->seen)
			at = &(*at)->next;
		taken->next = *at;
		*at = taken;
	}
	*first = sorted;
}
