#include "idle.h"

#include <pthread.h>
#include <stddef.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pool *idle;  // the last one given back, whose threads may not sleep yet, comes first

static void destroy_idle(void) {
  while (idle != NULL) {
    pool *next = *pool_next(idle);
    pool_destroy(idle);
    idle = next;
  }
}

static void before_fork(void) { pthread_mutex_lock(&lock); }

static void in_parent(void) { pthread_mutex_unlock(&lock); }

// The threads stayed with the parent: the child's next run starts its own. (The pool of a run that another thread was at is
// lost memory; so are that thread's stack and all it had.)
static void in_child(void) {
  while (idle != NULL) {
    pool *next = *pool_next(idle);
    pool_forget(idle);  // by its number this may be the process that has the threads: the first of a namespace is 1
    idle = next;
  }
  pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(before_fork, in_parent, in_child); }

// The library is unloaded, or the process ends: no thread may run code of it after that.
__attribute__((destructor)) static void end_threads(void) { destroy_idle(); }

int pool_take(pool **taken, int threads) {
  pthread_mutex_lock(&lock);
  pool **link = &idle;
  while (*link != NULL && pool_threads(*link) != threads) link = pool_next(*link);
  *taken = *link;
  if (*taken != NULL) *link = *pool_next(*taken);
  pthread_mutex_unlock(&lock);
  return *taken != NULL ? 0 : pool_create(taken, threads);
}

void pool_give_back(pool *given) {
  pthread_mutex_lock(&lock);
  *pool_next(given) = idle;
  idle = given;
  pthread_mutex_unlock(&lock);
}
