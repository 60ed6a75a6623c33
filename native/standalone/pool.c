#define _GNU_SOURCE
#include "pool.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "scratch.h"
#include "tvm_abi.h"

// A network is some fifty parallel loops of 20 to 300 us: a thread that slept between them would be woken, for 5 to 50 us,
// each time. So it looks for so long before it sleeps, and gives its CPU away now and then meanwhile.
enum { SPIN_NS = 200000, LOOKS = 64 };

// A number that one thread raises and others wait for.
typedef struct {
  _Alignas(64) atomic_uint value;
  atomic_uint sleepers;
  pthread_mutex_t mutex;
  pthread_cond_t raised;
} gate;

struct pool {
  gate start, finish;
  _Alignas(64) atomic_int unfinished;
  atomic_int failed;
  // Of the loop that runs; written before `start` is raised.
  tvm_body *body;
  void *closure;
  int tasks;
  bool ending;
  int threads;
  int started;  // how many of the workers have a thread
  int64_t spin_ns;
  pid_t owner;  // the process that has the threads: a fork's child has not
  worker workers[];
};

_Thread_local worker *current_worker;

static inline void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");  // `yield` costs nothing, and saves nothing, on most cores
#endif
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int gate_init(gate *gate) {
  atomic_init(&gate->value, 0);
  atomic_init(&gate->sleepers, 0);
  int failed = pthread_mutex_init(&gate->mutex, NULL);
  if (failed) return failed;
  failed = pthread_cond_init(&gate->raised, NULL);
  if (failed) pthread_mutex_destroy(&gate->mutex);
  return failed;
}

static void gate_destroy(gate *gate) {
  pthread_cond_destroy(&gate->raised);
  pthread_mutex_destroy(&gate->mutex);
}

// Either the sleeper sees the new value before it sleeps, or this sees the sleeper: both are sequentially consistent.
static void gate_raise(gate *gate) {
  atomic_fetch_add(&gate->value, 1);
  if (atomic_load(&gate->sleepers) == 0) return;
  // Whoever is about to sleep does so once the lock is free; woken after that, nobody has to wait for it.
  pthread_mutex_lock(&gate->mutex);
  pthread_mutex_unlock(&gate->mutex);
  pthread_cond_broadcast(&gate->raised);
}

static bool raised_while_looking(gate *gate, unsigned old, int64_t spin_ns) {
  int64_t end = 0;
  for (;;) {
    for (int look = 0; look < LOOKS; ++look) {
      if (atomic_load_explicit(&gate->value, memory_order_acquire) != old) return true;
      relax();
    }
    const int64_t now = now_ns();
    if (end == 0) end = now + spin_ns;
    if (now >= end) return false;
    sched_yield();
  }
}

static void gate_wait(gate *gate, unsigned old, int64_t spin_ns) {
  if (raised_while_looking(gate, old, spin_ns)) return;
  pthread_mutex_lock(&gate->mutex);
  atomic_fetch_add(&gate->sleepers, 1);
  while (atomic_load(&gate->value) == old) pthread_cond_wait(&gate->raised, &gate->mutex);
  atomic_fetch_sub(&gate->sleepers, 1);
  pthread_mutex_unlock(&gate->mutex);
}

// The tasks of worker `index`: every `threads`th.
static void run_tasks(pool *pool, int index) {
  tvm_group group = {NULL, pool->tasks};
  for (int task = index; task < pool->tasks; task += pool->threads) {
    if (pool->body(task, &group, pool->closure) != 0) atomic_store(&pool->failed, 1);
  }
}

static void *work(void *argument) {
  worker *self = argument;
  pool *pool = self->pool;
  current_worker = self;
  for (unsigned seen = 0;; ++seen) {
    gate_wait(&pool->start, seen, pool->spin_ns);
    if (pool->ending) return NULL;
    run_tasks(pool, self->index);
    if (atomic_fetch_sub(&pool->unfinished, 1) == 1) gate_raise(&pool->finish);
  }
}

// A parallel loop: `tasks` 0 leaves their number to the pool. Returns 0, or -1 where a task failed.
static int launch(tvm_body *body, void *closure, int tasks) {
  pool *pool = current_worker->pool;
  const unsigned finished = atomic_load_explicit(&pool->finish.value, memory_order_relaxed);
  pool->body = body;
  pool->closure = closure;
  pool->tasks = tasks > 0 ? tasks : pool->threads;
  atomic_store_explicit(&pool->failed, 0, memory_order_relaxed);
  if (pool->threads > 1) {
    atomic_store_explicit(&pool->unfinished, pool->threads - 1, memory_order_relaxed);
    gate_raise(&pool->start);
  }
  run_tasks(pool, 0);
  if (pool->threads > 1) gate_wait(&pool->finish, finished, pool->spin_ns);
  return atomic_load_explicit(&pool->failed, memory_order_relaxed) ? -1 : 0;
}

int (*const __TVMBackendParallelLaunch)(tvm_body *, void *, int) = launch;

// Signals go to the program's own threads: ours inherit that all are blocked.
static int start_threads(pool *pool) {
  sigset_t all, before;
  sigfillset(&all);
  int failed = pthread_sigmask(SIG_SETMASK, &all, &before);
  if (failed) return failed;
  while (!failed && pool->started < pool->threads) {
    worker *next = &pool->workers[pool->started];
    failed = pthread_create(&next->thread, NULL, work, next);
    if (!failed) ++pool->started;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return failed;
}

int pool_create(pool **made, int threads) {
  const size_t bytes = sizeof(pool) + (size_t)threads * sizeof(worker);
  pool *new = aligned_alloc(_Alignof(pool), bytes);  // a multiple: both begin at cache lines
  *made = NULL;
  if (new == NULL) return ENOMEM;
  memset(new, 0, bytes);
  new->threads = threads;
  new->started = 1;
  new->owner = getpid();
  new->spin_ns = threads <= usable_cpus() ? SPIN_NS : 0;
  for (int index = 0; index < threads; ++index) {
    new->workers[index].pool = new;
    new->workers[index].index = index;
  }
  int failed = gate_init(&new->start);
  if (failed) goto no_start;
  failed = gate_init(&new->finish);
  if (failed) goto no_finish;
  failed = start_threads(new);
  if (failed) {
    pool_destroy(new);
    return failed;
  }
  *made = new;
  return 0;

no_finish:
  gate_destroy(&new->start);
no_start:
  free(new);
  return failed;
}

static void end_threads(pool *pool) {
  pool->ending = true;
  gate_raise(&pool->start);
  for (int index = 1; index < pool->started; ++index) pthread_join(pool->workers[index].thread, NULL);
  gate_destroy(&pool->finish);
  gate_destroy(&pool->start);
}

// A child has no threads to join, and its copies of the gates say that threads sleep there: to destroy these would wait
// for them.
void pool_destroy(pool *pool) {
  if (pool == NULL) return;
  if (pool_is_here(pool)) end_threads(pool);
  for (int index = 0; index < pool->threads; ++index) scratch_free_all(&pool->workers[index]);
  free(pool);
}

bool pool_is_here(const pool *pool) { return pool->owner == getpid(); }

void pool_enter(pool *pool) { current_worker = &pool->workers[0]; }

void pool_leave(pool *pool, int failed) {
  current_worker = NULL;
  for (int index = 0; failed && index < pool->threads; ++index) scratch_reclaim(&pool->workers[index]);
}

int usable_cpus(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  const long online = sysconf(_SC_NPROCESSORS_ONLN);  // more CPUs than the set holds
  return online > 0 ? (int)online : 1;
}
