// A model of three outputs by its header alone: all of them into a file, then without the second, which nothing touches.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "feature_pyramid.h"

static float image[FEATURE_PYRAMID_IMAGE_FLOATS];
static float first[FEATURE_PYRAMID_OUTPUT0_FLOATS], second[FEATURE_PYRAMID_OUTPUT1_FLOATS];
static float third[FEATURE_PYRAMID_OUTPUT2_FLOATS], again[FEATURE_PYRAMID_OUTPUT2_FLOATS];

static void check(int good, const char *what) {
  if (good) return;
  fprintf(stderr, "failed: %s\n", what);
  exit(1);
}

int main(int count, char **words) {
  static const int shape[] = FEATURE_PYRAMID_OUTPUT0_SHAPE;
  size_t size = 1;
  for (size_t axis = 0; axis < sizeof shape / sizeof *shape; ++axis) size *= (size_t)shape[axis];
  check(count == 3 && FEATURE_PYRAMID_OUTPUTS == 3 && size == FEATURE_PYRAMID_OUTPUT0_FLOATS, "words or constants");
  FILE *file = fopen(words[1], "rb");
  check(file != NULL && fread(image, sizeof image, 1, file) == 1 && fclose(file) == 0, "the image");
  feature_pyramid *model;
  check(feature_pyramid_create(&model, 2) == FEATURE_PYRAMID_OK, "create");
  float *outputs[FEATURE_PYRAMID_OUTPUTS] = {first, second, third};
  check(feature_pyramid_run(model, image, outputs) == FEATURE_PYRAMID_OK, "run");
  file = fopen(words[2], "wb");
  check(file != NULL && fwrite(first, sizeof first, 1, file) == 1, "the first output");
  check(fwrite(second, sizeof second, 1, file) == 1 && fwrite(third, sizeof third, 1, file) == 1, "the others");
  check(fclose(file) == 0, "closing");
  memset(second, 0, sizeof second);
  float *but_one[FEATURE_PYRAMID_OUTPUTS] = {first, NULL, again};
  check(feature_pyramid_run(model, image, but_one) == FEATURE_PYRAMID_OK, "run without the second");
  check(memcmp(third, again, sizeof third) == 0, "another third output");
  for (size_t i = 0; i < FEATURE_PYRAMID_OUTPUT1_FLOATS; ++i) check(second[i] == 0, "the second was written");
  check(feature_pyramid_run(model, image, NULL) == FEATURE_PYRAMID_ERROR_ARGUMENT, "no outputs");
  feature_pyramid_destroy(model);
  return 0;
}
