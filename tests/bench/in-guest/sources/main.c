/* SPDX-License-Identifier: Apache-2.0 */
/* Counts words: something small to compile. */
#include "list.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

int main(void)
{
	struct entry *entries = NULL;
	char line[4096];
	size_t words = 0;

	while (fgets(line, sizeof(line), stdin))
		words += split(line, &entries);
	sort(&entries);
	for (struct entry *at = entries; at; at = at->next)
		printf("%8zu %s\n", at->seen, at->word);
	printf("%8zu in all\n", words);
	return EXIT_SUCCESS;
}
