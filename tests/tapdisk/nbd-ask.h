/* nbd-ask.h - requests over one connection, in each form of transmission */
#ifndef TESTS_NBD_ASK_H
#define TESTS_NBD_ASK_H

#include "nbd-world.h"

/* Between nbd_ask_open and nbd_ask_close: */
extern struct world nbd_ask_world;
extern struct wire nbd_ask_wire; /* of nbd_ask_begin */
extern enum wire_mode nbd_ask_mode;
extern uint8_t *nbd_ask_big; /* 64 MiB and some: what is sent, and what comes back */

#define NBD_ASK_EACH_MODE(m) for (enum wire_mode m = WIRE_SIMPLE; m <= WIRE_EXTENDED; m++)

void nbd_ask_open(void);
void nbd_ask_close(void);
/* A connection to export @name. */
void nbd_ask_begin(enum wire_mode mode, const char *name);
/* A request with a cookie of its own. */
struct wire_request nbd_ask_request(uint16_t type, uint64_t offset, uint64_t length,
				    uint16_t flags);
/* Sends one and waits: its error. */
uint32_t nbd_ask(uint16_t type, uint64_t offset, uint64_t length, uint16_t flags);
/* It serves on. */
void nbd_ask_alive(void);

#endif
