// Memory that kernels ask for while they run, and give back in the reverse order: kept by each thread for the next time.
#ifndef EFFGEN_SCRATCH_H
#define EFFGEN_SCRATCH_H

#include "pool.h"

// Takes back what kernels that failed have not given back: no thread of the pool is in a run.
void scratch_reclaim_all(pool *pool);

// Frees what the worker keeps; nothing is in use any more.
void scratch_free_all(worker *worker);

#endif
