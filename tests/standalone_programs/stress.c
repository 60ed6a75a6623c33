// THREADS HANDLES RUNS IMAGE LOGITS: so many handles run at once, each on a thread of its own, a further thread sharing the
// first one; every answer must be the first one's bit for bit. All is done twice, from creating to destroying.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

enum { MOST = 16 };

static float *image, *expected;
static int runs;

static void check(int good, const char *what) {
  if (good) return;
  fprintf(stderr, "failed: %s\n", what);
  exit(1);
}

static void *run_often(void *handle) {
  float *logits = malloc(MODEL_CONSTANT(LOGITS_FLOATS) * sizeof(float));
  for (int i = 0; i < runs; ++i) {
    memset(logits, 0xff, MODEL_CONSTANT(LOGITS_FLOATS) * sizeof(float));
    check(MODEL(run)(handle, image, logits) == 0, "run");
    check(memcmp(logits, expected, MODEL_CONSTANT(LOGITS_FLOATS) * sizeof(float)) == 0, "another answer");
  }
  free(logits);
  return NULL;
}

static void run_all(int threads, int count) {
  model *handles[MOST];
  pthread_t callers[MOST + 1];
  for (int i = 0; i < count; ++i) check(MODEL(create)(&handles[i], threads) == 0, "create");
  for (int i = 0; i <= count; ++i) check(pthread_create(&callers[i], NULL, run_often, handles[i % count]) == 0, "thread");
  for (int i = 0; i <= count; ++i) pthread_join(callers[i], NULL);
  for (int i = 0; i < count; ++i) MODEL(destroy)(handles[i]);
}

int main(int count, char **words) {
  check(count == 6, "words");
  const int threads = atoi(words[1]), handles = atoi(words[2]);
  runs = atoi(words[3]);
  check(handles >= 1 && handles <= MOST, "handles");
  image = malloc(MODEL_CONSTANT(IMAGE_FLOATS) * sizeof(float));
  expected = malloc(MODEL_CONSTANT(LOGITS_FLOATS) * sizeof(float));
  FILE *file = fopen(words[4], "rb");
  check(file && fread(image, sizeof(float), MODEL_CONSTANT(IMAGE_FLOATS), file) == MODEL_CONSTANT(IMAGE_FLOATS), "image");
  fclose(file);
  model *first;
  check(MODEL(create)(&first, threads) == 0, "create");
  check(MODEL(run)(first, image, expected) == 0, "run");
  MODEL(destroy)(first);
  for (int turn = 0; turn < 2; ++turn) run_all(threads, handles);
  file = fopen(words[5], "wb");
  check(file && fwrite(expected, sizeof(float), MODEL_CONSTANT(LOGITS_FLOATS), file) == MODEL_CONSTANT(LOGITS_FLOATS), "logits");
  fclose(file);
  free(image);
  free(expected);
  return 0;
}
