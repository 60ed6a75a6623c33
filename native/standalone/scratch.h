// Memory that kernels ask for while they run, and give back in the reverse order: kept by each thread for the next time.
#ifndef EFFGEN_SCRATCH_H
#define EFFGEN_SCRATCH_H

#include "pool.h"

// Takes back what a kernel that failed has not given back.
void scratch_reclaim(worker *worker);

// Frees what the worker keeps; nothing is in use any more.
void scratch_free_all(worker *worker);

#endif
