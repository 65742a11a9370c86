/* suite.h - a unit program in one line: run these tests, say how many failed */
#ifndef TEST_SUITE_H
#define TEST_SUITE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* @tests: as START_TEST names them, NULL-terminated.  For main() to return. */
static inline int suite_run(const char *name, const TTest *const *tests)
{
	Suite *suite = suite_create(name);
	TCase *tc = tcase_create(name);
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_set_timeout(tc, 60);
	for (; *tests; tests++)
		tcase_add_test(tc, *tests);
	suite_add_tcase(suite, tc);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}

/* SEED=n of the environment, else @seed; printed, so that a failure can be repeated. */
static inline unsigned long long suite_seed(unsigned long long seed)
{
	const char *text = getenv("SEED");

	if (text)
		seed = strtoull(text, NULL, 0);
	printf("SEED=%llu\n", seed);
	return seed;
}

/* QUICK of the environment: of what is tried everywhere one of @n places is enough, as for a build
 * with sanitizers, which comes after one without. */
static inline unsigned suite_stride(unsigned n)
{
	return getenv("QUICK") ? n : 1;
}

#endif
