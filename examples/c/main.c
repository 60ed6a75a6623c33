/* Classifies one image with the C library that `effgen compile --phi 0 --emit standalone -o build/b0` wrote. From the
   repository's root:

     cc -std=c99 -I build/b0 examples/c/main.c build/b0/libefficientnet_b0.a -lm -lpthread -o build/classify
     build/classify image.f32

   or with the shared library, which the program looks for in b0/ beside itself:

     cc -std=c99 -I build/b0 examples/c/main.c -L build/b0 -lefficientnet_b0 -Wl,-rpath,'$ORIGIN/b0' -o build/classify

   image.f32: the pixels as float32, channel by channel, each (value / 255 - mean) / std. From Python:
     ((pixels / 255 - mean) / std).astype("float32").transpose(2, 0, 1).tofile("image.f32") */
#include <stdio.h>
#include <stdlib.h>

#include "efficientnet_b0.h"

static float image[EFFICIENTNET_B0_BATCH * EFFICIENTNET_B0_CHANNELS * EFFICIENTNET_B0_HEIGHT * EFFICIENTNET_B0_WIDTH];
static float logits[EFFICIENTNET_B0_BATCH * EFFICIENTNET_B0_CLASSES];

static int read_image(const char *path) {
  FILE *file = fopen(path, "rb");
  size_t found;
  if (file == NULL) return 0;
  found = fread(image, sizeof(float), EFFICIENTNET_B0_IMAGE_FLOATS, file);
  fclose(file);
  return found == EFFICIENTNET_B0_IMAGE_FLOATS;
}

/* Prints the five best classes, best first; each is taken out once printed. */
static void print_best(void) {
  int rank, i;
  for (rank = 0; rank < 5 && rank < EFFICIENTNET_B0_CLASSES; ++rank) {
    int best = 0;
    for (i = 1; i < EFFICIENTNET_B0_CLASSES; ++i) {
      if (logits[i] > logits[best]) best = i;
    }
    printf("class %4d  logit %.6f\n", best, logits[best]);
    logits[best] = -1e30f;
  }
}

int main(int count, char **words) {
  efficientnet_b0 *model;
  int status;
  if (count != 2 || !read_image(words[1])) {
    fprintf(stderr, "usage: %s IMAGE: %d x %d x %d float32\n", words[0], EFFICIENTNET_B0_CHANNELS,
            EFFICIENTNET_B0_HEIGHT, EFFICIENTNET_B0_WIDTH);
    return EXIT_FAILURE;
  }
  status = efficientnet_b0_create(&model, 0);
  if (status == EFFICIENTNET_B0_OK) status = efficientnet_b0_run(model, image, logits);
  efficientnet_b0_destroy(model);
  if (status != EFFICIENTNET_B0_OK) {
    fprintf(stderr, "%s: %s\n", words[0], efficientnet_b0_error(status));
    return EXIT_FAILURE;
  }
  print_best();
  return EXIT_SUCCESS;
}
