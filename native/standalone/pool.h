// The threads of one handle, and what each of them keeps.
#ifndef EFFGEN_POOL_H
#define EFFGEN_POOL_H

#include <pthread.h>
#include <stdbool.h>

typedef struct pool pool;
typedef struct block block;

// One thread: 0 is whoever runs the model at the time.
typedef struct {
  _Alignas(64) pool *pool;
  int index;
  pthread_t thread;
  block *free_blocks, *used_blocks;
} worker;

// The worker that this thread is; NULL outside of a run.
extern _Thread_local worker *current_worker;

// Starts `threads` - 1 threads. Returns 0, ENOMEM, or another number of errno.h where a thread cannot be had.
int pool_create(pool **made, int threads);

// Ends the threads and frees what they kept; in a child that was forked, it frees only. NULL is allowed.
void pool_destroy(pool *pool);

// Whether this process made the pool, and so has its threads.
bool pool_is_here(const pool *pool);

// The calling thread is the pool's first worker from here to `pool_leave`, which is told whether the kernels failed: one
// thread at a time.
void pool_enter(pool *pool);
void pool_leave(pool *pool, int failed);

// CPUs that this process may use.
int usable_cpus(void);

#endif
