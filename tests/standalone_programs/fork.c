// A handle that a child inherits: it refuses to run, can be destroyed and replaced; the parent's goes on. First while
// nothing runs, then while another thread of the parent runs the model. An alarm ends who hangs.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config.h"

enum { NUMBERS = MODEL_CONSTANT(BATCH) * MODEL_CONSTANT(CLASSES), CHILDREN = 20, PATIENCE_S = 60 };

static float image[MODEL_CONSTANT(BATCH) * MODEL_CONSTANT(CHANNELS) * MODEL_CONSTANT(HEIGHT) * MODEL_CONSTANT(WIDTH)];
static float expected[NUMBERS];
static _Atomic int ending;

static void check(int good, const char *what) {
  if (good) return;
  fprintf(stderr, "failed: %s\n", what);
  _exit(1);
}

static void check_run(model *handle) {
  float logits[NUMBERS];
  check(MODEL(run)(handle, image, logits) == MODEL_CONSTANT(OK), "run");
  check(memcmp(logits, expected, sizeof logits) == 0, "another answer");
}

static void in_child(model *inherited, int threads) {
  float logits[NUMBERS];
  model *own;
  alarm(PATIENCE_S);
  check(MODEL(run)(inherited, image, logits) == MODEL_CONSTANT(ERROR_THREAD), "status in the child");
  MODEL(destroy)(inherited);
  check(MODEL(create)(&own, threads) == MODEL_CONSTANT(OK), "create in the child");
  check_run(own);
  MODEL(destroy)(own);
  _exit(0);
}

static void fork_one(model *handle, int threads) {
  int status = -1;
  const pid_t child = fork();
  check(child >= 0, "fork");
  if (child == 0) in_child(handle, threads);
  check(waitpid(child, &status, 0) == child && status == 0, "the child");
}

static void *run_often(void *handle) {
  while (!ending) check_run(handle);
  return NULL;
}

int main(int count, char **words) {
  check(count == 2, "words");
  const int threads = atoi(words[1]);
  model *handle;
  pthread_t other;
  alarm(2 * PATIENCE_S);
  check(MODEL(create)(&handle, threads) == MODEL_CONSTANT(OK), "create");
  check(MODEL(run)(handle, image, expected) == MODEL_CONSTANT(OK), "first run");
  usleep(10000);  // the threads sleep by now
  fork_one(handle, threads);
  check_run(handle);
  check(pthread_create(&other, NULL, run_often, handle) == 0, "thread");
  for (int i = 0; i < CHILDREN; ++i) fork_one(handle, threads);
  ending = 1;
  pthread_join(other, NULL);
  check_run(handle);
  MODEL(destroy)(handle);
  return 0;
}
