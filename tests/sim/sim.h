/* sim.h - a world in which a seed decides time and order: loop.h and engine.h over storage in memory
 *
 * Programs of tests/sim link this loop and this engine instead of the real ones.  Nothing
 * happens but in sim_step(): the tasks put off, then one thing, chosen at random: an operation takes
 * effect or its end is told, a thread works or its end is told, or, when nothing else can, time goes
 * on to the next timer.
 */
#ifndef TEST_SIM_H
#define TEST_SIM_H

#include "tapdisk/engine/engine.h"
#include "tests/lib/io-mem.h"
#include "tests/lib/rng.h"

/* @rng is borrowed.  One world at a time: a loop and its engine. */
void sim_open(struct rng *rng, struct loop **loop, struct engine **engine);
/* Nothing is in flight and everything opened was closed. */
void sim_close(void);
/* False: nothing can happen any more. */
bool sim_step(void);
/* Operations in flight. */
unsigned sim_flying(void);

/* An engine file over @io, borrowed; freed by sim_close. */
struct engine_file *sim_file(struct vhd_io *io);
/* One of 1000 operations fails with a transient error; 0: none does. */
void sim_faults(unsigned per_mille);
/* Do syncs fail too? */
void sim_sync_faults(bool on);

#endif
