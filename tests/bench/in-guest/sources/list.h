/* SPDX-License-Identifier: Apache-2.0 */
/* Words and how often they were seen, in the order of the first time. */
#ifndef LIST_H
#define LIST_H
#include <stddef.h>

struct entry {
	char *word;
	size_t seen;
	struct entry *next;
};

struct entry *find_or_add(struct entry **first, const char *word, size_t length);
void sort(struct entry **first);
size_t split(const char *line, struct entry **first);
#endif
