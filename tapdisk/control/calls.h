/* calls.h - the methods: inside the control service only */
#ifndef TAPDISK_CONTROL_CALLS_H
#define TAPDISK_CONTROL_CALLS_H

#include "slots.h"

/* calls-life.c */
void call_attach(struct call *call);
void call_detach(struct call *call);
void call_open(struct call *call);
void call_close(struct call *call);
void call_pause(struct call *call);
void call_unpause(struct call *call);
void call_stop(struct call *call);
/* calls-change.c */
void call_snapshot(struct call *call);
void call_resize(struct call *call);
void call_throttle(struct call *call);
void call_retry(struct call *call);
void call_export(struct call *call);
void call_unexport(struct call *call);
/* calls-query.c */
void call_list(struct call *call);
void call_stats(struct call *call);
void call_clients(struct call *call);
void call_events(struct call *call);

#endif
