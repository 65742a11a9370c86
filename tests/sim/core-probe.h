/* core-probe.h - looks at how the core uses a driver: every call in its order, every request once
 *
 * The disk stays what it is; its table of functions is exchanged for one that
 * looks, and now and then refuses to start or to be parked.
 */
#ifndef TEST_CORE_PROBE_H
#define TEST_CORE_PROBE_H

#include "tapdisk/drivers/driver.h"
#include "tests/lib/rng.h"

/* No disk is looked at; @rng is borrowed. */
void probe_open(struct rng *rng);
/* @disk was just opened. */
void probe_attach(struct disk *disk);
/* All disks must have been closed. */
void probe_none(void);

#endif
