/* SPDX-License-Identifier: MIT
 * The stations of the ring. Each receives from `in`, passes on to `out`, and
 * adds its mark to the numbers among the values; bytes go on as they are. It
 * first shows that a deadline ends its wait, says so on `ready`, and closes
 * `out` once `in` is closed and drained. Each returns 0 when all went well. */
#ifndef RING_H
#define RING_H

#include <stdint.h>
#include <treadle.h>

typedef struct station {
    tdl_chan *in, *out, *ready;
    int64_t   mark;
} station;

int lua_station(const station *s);    /* on a thread of its own: a lua_State, treadle.run */
int python_station(const station *s); /* on a thread of its own, without the GIL */

void python_start(void); /* before and after all python_stations, on one thread */
int  python_stop(void);

#endif
