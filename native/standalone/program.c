// A model as a program: see kUsage. Needs the header and the library of the model alone.
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config.h"

enum { USER_ERROR = 1, USAGE_ERROR = 2, BEST = 5, MOST_RUNS = 1000000 };

static const char kUsage[] =
    "usage: " MODEL_TITLE " [--threads N] [--runs N] IMAGE [OUTPUT]\n"
    "  IMAGE        the batch as raw little-endian float32, NCHW, normalised; - is standard input\n"
    "  OUTPUT       a file to write the outputs to, one after the other, raw little-endian float32\n"
    "  --threads N  threads of a run; default: what the model was compiled for, where there are so many CPUs\n"
    "  --runs N     time N more runs\n";

typedef struct {
  int threads, runs;
  const char *image, *output;
} options;

static int fail(const char *where, const char *what) {
  fprintf(stderr, MODEL_TITLE ": %s: %s\n", where, what);
  return USER_ERROR;
}

static int misused(const char *word, const char *expected) {
  fprintf(stderr, MODEL_TITLE ": %s: %s\n%s", word, expected, kUsage);
  return USAGE_ERROR;
}

// A whole number from `least` to `most`, or -1.
static int whole_number(const char *text, int least, int most) {
  char *end;
  errno = 0;
  const long value = strtol(text, &end, 10);
  return *text == '\0' || *end != '\0' || errno != 0 || value < least || value > most ? -1 : (int)value;
}

static int parse(int count, char **words, options *chosen) {
  for (int i = 1; i < count; ++i) {
    const char *word = words[i];
    const int threads = strcmp(word, "--threads") == 0, runs = strcmp(word, "--runs") == 0;
    if (threads || runs) {
      if (++i == count) return misused(word, "expected a number after it");
      const int number = whole_number(words[i], runs ? 0 : 1, runs ? MOST_RUNS : MODEL_CONSTANT(MOST_THREADS));
      if (number < 0) return misused(word, runs ? "expected from 0 to 1000000" : "expected from 1 to 1024");
      *(threads ? &chosen->threads : &chosen->runs) = number;
    } else if (word[0] == '-' && word[1] != '\0') {
      return misused(word, "unknown option");
    } else if (chosen->image == NULL) {
      chosen->image = word;
    } else if (chosen->output == NULL) {
      chosen->output = word;
    } else {
      return misused(word, "expected an image and a file for its outputs, nothing more");
    }
  }
  return chosen->image == NULL ? misused("IMAGE", "missing") : 0;
}

// Reads exactly one batch.
static int read_image(const char *path, float *image) {
  FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
  if (file == NULL) return fail(path, strerror(errno));
  const size_t wanted = MODEL_CONSTANT(IMAGE_FLOATS);
  const size_t found = fread(image, sizeof(float), wanted, file);
  const int whole = found == wanted && fgetc(file) == EOF;
  if (file != stdin) fclose(file);
  if (whole) return 0;
  char expected[96];
  snprintf(expected, sizeof expected, "expected %zu bytes: %d x %d x %d x %d float32", wanted * sizeof(float),
           MODEL_CONSTANT(BATCH), MODEL_CONSTANT(CHANNELS), MODEL_CONSTANT(HEIGHT), MODEL_CONSTANT(WIDTH));
  return fail(path, expected);
}

static const size_t output_floats[] = MODEL_OUTPUT_FLOATS;

// Of all outputs together.
static size_t all_floats(void) {
  size_t sum = 0;
  for (int i = 0; i < MODEL_OUTPUTS; ++i) sum += output_floats[i];
  return sum;
}

// Writes all outputs one after the other to `values`.
static int run_model(model *handle, const float *image, float *values) {
#if MODEL_OUTPUTS == 1
  return MODEL(run)(handle, image, values);
#else
  float *outputs[MODEL_OUTPUTS];
  for (int i = 0; i < MODEL_OUTPUTS; ++i) {
    outputs[i] = values;
    values += output_floats[i];
  }
  return MODEL(run)(handle, image, outputs);
#endif
}

static int write_outputs(const char *path, const float *values) {
  FILE *file = fopen(path, "wb");
  if (file == NULL) return fail(path, strerror(errno));
  const size_t count = all_floats();
  const int written = fwrite(values, sizeof(float), count, file) == count;
  return fclose(file) == 0 && written ? 0 : fail(path, "cannot be written");
}

#if MODEL_IS_CLASSIFIER
// A number of the output as a probability. Logits: `most` is the greatest, `sum` of all exp(logit - most).
static double probability(double value, double most, double sum) {
  switch (MODEL_OUTPUT) {
    case LOGITS:  // of one alone, yes or no, a softmax would be sure
      return MODEL_CONSTANT(CLASSES) == 1 ? 1 / (1 + exp(-value)) : exp(value - most) / sum;
    case LOG_PROBABILITIES:
      return exp(value);
    default:
      return value;
  }
}

// The best classes of one image with their probabilities.
static void print_best(const float *logits, int image) {
  const int classes = MODEL_CONSTANT(CLASSES);
  float most = -INFINITY;
  for (int i = 0; i < classes; ++i) most = logits[i] > most ? logits[i] : most;
  double sum = 0;
  for (int i = 0; i < classes; ++i) sum += exp(logits[i] - most);
  float bound = INFINITY;  // the class printed last
  int last = -1;
  for (int rank = 0; rank < BEST && rank < classes; ++rank) {
    int best = -1;
    for (int i = 0; i < classes; ++i) {
      const int left = logits[i] < bound || (logits[i] == bound && i > last);
      if (left && (best < 0 || logits[i] > logits[best])) best = i;
    }
    if (best < 0) return;  // not a number
    if (MODEL_CONSTANT(BATCH) > 1) printf("image %d  ", image);
    printf("class %4d  %.6f\n", best, probability(logits[best], most, sum));
    bound = logits[best];
    last = best;
  }
}

static void print_answer(const float *logits) {
  for (int i = 0; i < MODEL_CONSTANT(BATCH); ++i) print_best(logits + (size_t)i * MODEL_CONSTANT(CLASSES), i);
}
#else
// The range and the mean of each output.
static void print_answer(const float *values) {
  static const char *const titles[] = MODEL_OUTPUT_TITLES;
  for (int i = 0; i < MODEL_OUTPUTS; ++i) {
    float least = INFINITY, most = -INFINITY;
    double sum = 0;
    for (size_t k = 0; k < output_floats[i]; ++k) {
      least = fminf(least, values[k]);
      most = fmaxf(most, values[k]);
      sum += values[k];
    }
    printf("%s  from %g to %g, mean %g\n", titles[i], least, most, sum / (double)output_floats[i]);
    values += output_floats[i];
  }
}
#endif

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static int time_runs(model *handle, int runs, const float *image, float *values) {
  double *ms = malloc((size_t)runs * sizeof *ms);
  if (ms == NULL) return MODEL_CONSTANT(ERROR_MEMORY);
  int status = MODEL_CONSTANT(OK);
  for (int i = 0; i < runs && status == MODEL_CONSTANT(OK); ++i) {
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    status = run_model(handle, image, values);
    clock_gettime(CLOCK_MONOTONIC, &end);
    ms[i] = (double)(end.tv_sec - start.tv_sec) * 1e3 + (double)(end.tv_nsec - start.tv_nsec) * 1e-6;
  }
  if (status == MODEL_CONSTANT(OK)) {
    qsort(ms, (size_t)runs, sizeof *ms, by_value);
    printf("min %.3f ms, median %.3f ms, p90 %.3f ms (%d runs)\n", ms[0], ms[runs / 2], ms[runs * 9 / 10], runs);
  }
  free(ms);
  return status;
}

static int answer(const options *chosen, float *image, float *values) {
  const int unread = read_image(chosen->image, image);
  if (unread) return unread;
  model *handle;
  int status = MODEL(create)(&handle, chosen->threads);
  if (status == MODEL_CONSTANT(OK)) status = run_model(handle, image, values);
  if (status == MODEL_CONSTANT(OK) && chosen->runs > 0) status = time_runs(handle, chosen->runs, image, values);
  MODEL(destroy)(handle);
  if (status != MODEL_CONSTANT(OK)) return fail("cannot run", MODEL(error)(status));
  print_answer(values);
  if (fflush(stdout) != 0) return fail("standard output", "cannot be written");
  return chosen->output == NULL ? 0 : write_outputs(chosen->output, values);
}

int main(int count, char **words) {
  options chosen = {0, 0, NULL, NULL};
  if (count == 2 && strcmp(words[1], "--help") == 0) return fputs(kUsage, stdout) < 0 ? USER_ERROR : 0;
  const int wrong = parse(count, words, &chosen);
  if (wrong) return wrong;
  float *image = malloc(MODEL_CONSTANT(IMAGE_FLOATS) * sizeof *image);
  float *values = malloc(all_floats() * sizeof *values);
  const int status = image != NULL && values != NULL ? answer(&chosen, image, values) : fail("cannot run", "out of memory");
  free(image);
  free(values);
  return status;
}
