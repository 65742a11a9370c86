/* address.h - do a domain's NBD host and a server's address mean the same place? */
#ifndef XMSNAP_ADDRESS_H
#define XMSNAP_ADDRESS_H

#include <stdbool.h>

/* Both "HOST:PORT" or "[V6]:PORT".  @served may have no host, or that of all interfaces: then any
 * address of this machine means it.  Names are looked up. */
bool address_same(const char *wanted, const char *served);

#endif
