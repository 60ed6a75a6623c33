// Linked with --wrap for what is replaced here: memory and threads run out, each time a little later, until all is well.
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "config.h"

void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);

static _Atomic long allocations_left, threads_left;

void *__wrap_aligned_alloc(size_t alignment, size_t bytes) {
  return allocations_left-- > 0 ? __real_aligned_alloc(alignment, bytes) : NULL;
}

void *__wrap_calloc(size_t count, size_t bytes) { return allocations_left-- > 0 ? __real_calloc(count, bytes) : NULL; }

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
  return threads_left-- > 0 ? __real_pthread_create(thread, attributes, start, argument) : EAGAIN;
}

static float image[MODEL_CONSTANT(BATCH) * MODEL_CONSTANT(CHANNELS) * MODEL_CONSTANT(HEIGHT) * MODEL_CONSTANT(WIDTH)];
static float logits[MODEL_CONSTANT(BATCH) * MODEL_CONSTANT(CLASSES)];

// The statuses of creating and running with so much to spare.
static void attempt(long allocations, long threads, int *created, int *ran) {
  model *handle = (model *)&handle;
  allocations_left = allocations;
  threads_left = threads;
  *created = MODEL(create)(&handle, 3);
  *ran = *created == 0 ? MODEL(run)(handle, image, logits) : 0;
  if (*created != 0 && handle != NULL) abort();
  if (*ran != 0) {  // it stays usable
    allocations_left = 1000;
    if (MODEL(run)(handle, image, logits) != 0) abort();
  }
  MODEL(destroy)(handle);
}

int main(void) {
  int created = -1, ran = -1, short_creates = 0, short_runs = 0;
  for (long allowed = 0; created != 0 || ran != 0; ++allowed) {
    attempt(allowed, 1000, &created, &ran);
    if (created != 0 && created != MODEL_CONSTANT(ERROR_MEMORY)) abort();
    if (ran != 0 && ran != MODEL_CONSTANT(ERROR_MEMORY)) abort();
    short_creates += created != 0;
    short_runs += ran != 0;
  }
  printf("%d %d\n", short_creates, short_runs);
  for (long allowed = 0; allowed < 2; ++allowed) {
    attempt(1000, allowed, &created, &ran);
    if (created != MODEL_CONSTANT(ERROR_THREAD)) abort();
  }
  return 0;
}
