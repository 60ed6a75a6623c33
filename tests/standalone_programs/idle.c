// THREADS HANDLES: so many handles run once and are then idle. Every thread that they started must fall asleep and stay
// so: the kernel counts how often each has left the processor, which a sleeping one never does. An alarm ends who spins.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"

enum { MOST = 16, PATIENCE_S = 600, PAUSE_US = 20000, LOOKS = 15 };

static float image[MODEL_CONSTANT(IMAGE_FLOATS)], logits[MODEL_CONSTANT(LOGITS_FLOATS)];

static void check(int good, const char *what) {
  if (good) return;
  fprintf(stderr, "failed: %s\n", what);
  exit(1);
}

// How often a thread of this process has left the processor; `awake` is counted up where it is not asleep.
static long switches(const char *thread, int *awake) {
  char path[300], line[200], state = '?';
  long count, sum = 0;
  snprintf(path, sizeof path, "/proc/self/task/%s/status", thread);
  FILE *file = fopen(path, "r");
  check(file != NULL, path);
  while (fgets(line, sizeof line, file)) {
    sscanf(line, "State: %c", &state);
    if (sscanf(line, "voluntary_ctxt_switches: %ld", &count) == 1) sum += count;
    if (sscanf(line, "nonvoluntary_ctxt_switches: %ld", &count) == 1) sum += count;
  }
  fclose(file);
  *awake += state != 'S';
  return sum;
}

// The same of all threads but this one, and how many those are.
static long all_switches(int *threads, int *awake) {
  char own[20];
  long sum = 0;
  snprintf(own, sizeof own, "%d", (int)getpid());
  DIR *folder = opendir("/proc/self/task");
  check(folder != NULL, "/proc/self/task");
  *threads = *awake = 0;
  for (struct dirent *entry; (entry = readdir(folder));) {
    if (entry->d_name[0] == '.' || strcmp(entry->d_name, own) == 0) continue;
    sum += switches(entry->d_name, awake);
    ++*threads;
  }
  closedir(folder);
  return sum;
}

int main(int count, char **words) {
  check(count == 3, "words");
  const int threads = atoi(words[1]), handles = atoi(words[2]);
  check(handles >= 1 && handles <= MOST, "handles");
  model *made[MOST];
  int others, awake;
  alarm(PATIENCE_S);
  for (int i = 0; i < handles; ++i) check(MODEL(create)(&made[i], threads) == 0, "create");
  for (int i = 0; i < handles; ++i) check(MODEL(run)(made[i], image, logits) == 0, "run");
  do {
    usleep(PAUSE_US);
    all_switches(&others, &awake);
  } while (awake > 0);
  const long before = all_switches(&others, &awake);
  for (int look = 0; look < LOOKS; ++look) {
    usleep(PAUSE_US);
    check(all_switches(&others, &awake) == before && awake == 0, "a thread woke up");
  }
  printf("%d threads asleep\n", others);
  for (int i = 0; i < handles; ++i) MODEL(destroy)(made[i]);
  return 0;
}
