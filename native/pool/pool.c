#define _GNU_SOURCE
#include "pool.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cpus.h"
#include "scratch.h"
#include "tvm_abi.h"

// A network is some fifty parallel loops of 20 to 300 us: a thread that slept between them would be woken, for 5 to 50 us,
// each time. So it looks for so long before it sleeps. It does not yield its CPU meanwhile: Linux takes that for having
// had a whole time slice, and whoever else there is has the CPU for milliseconds.
enum { SPIN_NS = 200000, LOOKS = 64 };

// Where others want the CPUs too, what a thread looks for in vain is missing later, when it has work: it then sleeps at
// once. That is so if, of the time of runs that took WINDOW_NS together, the caller was without a CPU for a CROWDED_PART.
enum { WINDOW_NS = 50000000, CROWDED_PART = 10 };

// A number that one thread raises and others wait for.
typedef struct {
  _Alignas(64) atomic_uint value;
  atomic_uint sleepers;
  pthread_mutex_t mutex;
  pthread_cond_t raised;
} gate;

struct pool {
  gate start, finish;
  _Alignas(64) atomic_int unfinished;  // tasks of the loop
  atomic_int failed;
  // Of the loop that runs. Whoever has claimed a task of it may read them: there is no next loop before that is done.
  tvm_body *body;
  void *closure;
  int tasks;
  atomic_bool ending;
  int threads;
  int started;  // how many of the workers have a thread
  int64_t most_spin_ns;
  _Atomic int64_t spin_ns;
  // Of the caller's: when its run began by both clocks, for how long it slept in it; the same of the runs of the window.
  int64_t began_ns, began_cpu_ns, slept_ns;
  int64_t window_ns, taken_ns;
  pid_t owner;  // the process that has the threads: a fork's child has not
  pool *next;
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

static int64_t clock_ns(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
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
    const int64_t now = clock_ns(CLOCK_MONOTONIC);
    if (end == 0) end = now + spin_ns;
    if (now >= end) return false;
  }
}

// Returns the nanoseconds that it slept.
static int64_t gate_wait(gate *gate, unsigned old, int64_t spin_ns) {
  if (raised_while_looking(gate, old, spin_ns)) return 0;
  const int64_t began = clock_ns(CLOCK_MONOTONIC);
  pthread_mutex_lock(&gate->mutex);
  atomic_fetch_add(&gate->sleepers, 1);
  while (atomic_load(&gate->value) == old) pthread_cond_wait(&gate->raised, &gate->mutex);
  atomic_fetch_sub(&gate->sleepers, 1);
  pthread_mutex_unlock(&gate->mutex);
  return clock_ns(CLOCK_MONOTONIC) - began;
}

// A share: which loop it is of (the number that `start` was raised to), its first unclaimed task, and the one after its
// last. Tasks are claimed by whoever has time for them: a thread whose CPU is taken away, or that is not awake yet, holds
// up nothing but the task that it is at. The owner begins at the front of its share, thieves at the end, so that in the
// quiet each thread has the same rows of an image in every loop, and finds them in its own cache.
enum { TASK_BITS = 16, MOST_TASKS = (1 << TASK_BITS) - 1 };

static uint64_t share_of(unsigned loop, int first, int end) {
  return (uint64_t)loop << 2 * TASK_BITS | (uint64_t)first << TASK_BITS | (uint64_t)end;
}

// A task of the share, or -1: none is left, or the loop is over.
static int claim(worker *from, unsigned loop, bool owner) {
  uint64_t share = atomic_load_explicit(&from->share, memory_order_acquire);
  for (;;) {
    const int first = (int)(share >> TASK_BITS & MOST_TASKS), end = (int)(share & MOST_TASKS);
    if (share >> 2 * TASK_BITS != loop || first == end) return -1;
    const uint64_t left = owner ? share_of(loop, first + 1, end) : share_of(loop, first, end - 1);
    if (atomic_compare_exchange_weak_explicit(&from->share, &share, left, memory_order_acq_rel, memory_order_acquire)) {
      return owner ? first : end - 1;
    }
  }
}

static void run_task(pool *pool, int task) {
  tvm_group group = {NULL, pool->tasks};
  if (pool->body(task, &group, pool->closure) != 0) atomic_store(&pool->failed, 1);
}

// Runs tasks of the loop, its own first, while there are any; whether it ended the last one that was left.
static bool run_tasks(worker *self, unsigned loop) {
  pool *pool = self->pool;
  int done = 0;
  for (int turn = 0; turn < pool->threads; ++turn) {
    worker *from = &pool->workers[(self->index + turn) % pool->threads];
    for (int task; (task = claim(from, loop, turn == 0)) >= 0; ++done) run_task(pool, task);
  }
  return done > 0 && atomic_fetch_sub(&pool->unfinished, done) == done;
}

static int64_t spin_ns(pool *pool) { return atomic_load_explicit(&pool->spin_ns, memory_order_relaxed); }

static void *work(void *argument) {
  worker *self = argument;
  pool *pool = self->pool;
  current_worker = self;
  for (unsigned seen = 0;;) {
    gate_wait(&pool->start, seen, spin_ns(pool));
    if (pool->ending) return NULL;
    seen = atomic_load_explicit(&pool->start.value, memory_order_acquire);
    if (run_tasks(self, seen)) gate_raise(&pool->finish);
  }
}

static void share_out(pool *pool, int tasks, unsigned loop) {
  for (int index = 0; index < pool->threads; ++index) {
    const int first = (int)((int64_t)tasks * index / pool->threads);
    const int end = (int)((int64_t)tasks * (index + 1) / pool->threads);
    atomic_store_explicit(&pool->workers[index].share, share_of(loop, first, end), memory_order_release);
  }
}

static void run_alone(tvm_body *body, void *closure, int tasks, atomic_int *failed) {
  tvm_group group = {NULL, tasks};
  for (int task = 0; task < tasks; ++task) {
    if (body(task, &group, closure) != 0) atomic_store_explicit(failed, 1, memory_order_relaxed);
  }
}

static void run_together(pool *pool, tvm_body *body, void *closure, int tasks) {
  const unsigned finished = atomic_load_explicit(&pool->finish.value, memory_order_relaxed);
  const unsigned loop = atomic_load_explicit(&pool->start.value, memory_order_relaxed) + 1;
  pool->body = body;
  pool->closure = closure;
  pool->tasks = tasks;
  atomic_store_explicit(&pool->failed, 0, memory_order_relaxed);
  atomic_store_explicit(&pool->unfinished, tasks, memory_order_relaxed);
  share_out(pool, tasks, loop);
  gate_raise(&pool->start);
  if (!run_tasks(&pool->workers[0], loop)) pool->slept_ns += gate_wait(&pool->finish, finished, spin_ns(pool));
}

// A parallel loop: `tasks` 0 leaves their number to the pool. Returns 0, or -1 where a task failed. Outside of a run, and
// with one thread, it is a plain loop.
static int launch(tvm_body *body, void *closure, int tasks) {
  const int threads = current_worker == NULL ? 1 : current_worker->pool->threads;
  if (tasks <= 0) tasks = threads;
  if (threads == 1 || tasks == 1 || tasks > MOST_TASKS) {
    atomic_int failed = 0;
    run_alone(body, closure, tasks, &failed);
    return failed ? -1 : 0;
  }
  pool *pool = current_worker->pool;
  run_together(pool, body, closure, tasks);
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
  new->most_spin_ns = threads <= usable_cpus() ? SPIN_NS : 0;
  atomic_init(&new->spin_ns, new->most_spin_ns);
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
  pool_forget(pool);
}

bool pool_is_here(const pool *pool) { return pool->owner == getpid(); }

void pool_forget(pool *pool) {
  for (int index = 0; index < pool->threads; ++index) scratch_free_all(&pool->workers[index]);
  free(pool);
}

int pool_threads(const pool *pool) { return pool->threads; }

worker *pool_worker(pool *pool, int index) { return &pool->workers[index]; }

pool **pool_next(pool *pool) { return &pool->next; }

void pool_enter(pool *pool) {
  current_worker = &pool->workers[0];
  if (pool->threads == 1) return;
  pool->slept_ns = 0;
  pool->began_cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  pool->began_ns = clock_ns(CLOCK_MONOTONIC);
}

// How long threads look from now on, by how long the caller was without a CPU of late.
static void watch_others(pool *pool) {
  const int64_t took = clock_ns(CLOCK_MONOTONIC) - pool->began_ns;
  const int64_t had = clock_ns(CLOCK_THREAD_CPUTIME_ID) - pool->began_cpu_ns + pool->slept_ns;
  pool->window_ns += took;
  if (took > had) pool->taken_ns += took - had;
  if (pool->window_ns < WINDOW_NS) return;
  const bool crowded = pool->taken_ns * CROWDED_PART > pool->window_ns;
  atomic_store_explicit(&pool->spin_ns, crowded ? 0 : pool->most_spin_ns, memory_order_relaxed);
  pool->window_ns = pool->taken_ns = 0;
}

void pool_leave(void) {
  pool *pool = current_worker->pool;
  current_worker = NULL;
  if (pool->threads > 1) watch_others(pool);
}
