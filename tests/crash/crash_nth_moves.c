/* crash_nth_moves.c - of the many calls of resize, compact, optimize, fill some fail in turn */
#include "nth.h"

int main(void)
{
	static const struct nth_jobs *const sets[] = { &nth_moves };

	return nth_main(sets, 1, 2, true, 1);
}
