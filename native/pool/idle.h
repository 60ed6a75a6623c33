// Pools that wait for a run: as many as ever ran at once.
#ifndef EFFGEN_IDLE_H
#define EFFGEN_IDLE_H

#include "pool.h"

// A pool of `threads` threads for the caller alone: one that was given back, or a new one. Returns what `pool_create` does.
int pool_take(pool **taken, int threads);

// The caller's run is over.
void pool_give_back(pool *given);

#endif
