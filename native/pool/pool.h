// Threads that share out the parallel loops of a model's kernels, and what each of them keeps.
#ifndef EFFGEN_POOL_H
#define EFFGEN_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct pool pool;
typedef struct block block;

// One thread: 0 is whoever runs the model at the time.
typedef struct {
  // The tasks of the running loop that are this worker's to begin with, as far as nobody has claimed them (pool.c).
  _Alignas(64) _Atomic uint64_t share;
  _Alignas(64) pool *pool;
  int index;
  pthread_t thread;
  block *free_blocks, *used_blocks;  // scratch.c
} worker;

// The worker that this thread is; NULL outside of a run.
extern _Thread_local worker *current_worker;

// Starts `threads` - 1 threads. Returns 0, ENOMEM, or another number of errno.h where a thread cannot be had.
int pool_create(pool **made, int threads);

// Ends the threads; in a child that was forked, it frees only. NULL is allowed.
void pool_destroy(pool *pool);

// Whether this process made the pool, and so has its threads.
bool pool_is_here(const pool *pool);

// Frees what a fork's child has of its parent's pool: no thread of it.
void pool_forget(pool *pool);

// The thread that calls the kernels among them.
int pool_threads(const pool *pool);

// Worker `index`, from 0 to `pool_threads` - 1.
worker *pool_worker(pool *pool, int index);

// Where whoever keeps pools in a list has the next one.
pool **pool_next(pool *pool);

// The calling thread is the pool's first worker from here to `pool_leave`: one thread at a time.
void pool_enter(pool *pool);
void pool_leave(void);

#endif
