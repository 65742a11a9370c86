/* crash_nth.c - each call of every operation fails in turn */
#include "nth.h"

int main(void)
{
	static const struct nth_jobs *const sets[] = { &nth_appear, &nth_change, &nth_read };

	return nth_main(sets, sizeof(sets) / sizeof(sets[0]), 3, false, 3);
}
