/* SPDX-License-Identifier: Apache-2.0 */
#include "list.h"
#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

size_t split(const char *line, struct entry **first)
{
	size_t words = 0;

	while (*line) {
		const char *end = line;

		while (*end && (isalnum((unsigned char)*end) || *end == '_'))
			end++;
		if (end == line) {
			line++;
			continue;
		}
		find_or_add(first, line, (size_t)(end - line))->seen++;
		words++;
		line = end;
	}
	return words;
}
