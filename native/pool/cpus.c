#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cpus.h"

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Where /proc and /sys are looked for; a test's own tree.
#ifndef CPUS_ROOT
#define CPUS_ROOT ""
#endif

enum { MOST_PATH = 4096, MOST_LINE = 256 };

int usable_cpus(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  const long online = sysconf(_SC_NPROCESSORS_ONLN);  // more CPUs than the set holds
  return online > 0 ? (int)online : 1;
}

static bool read_line(const char *path, char line[MOST_LINE]) {
  FILE *file = fopen(path, "re");
  if (file == NULL) return false;
  const bool read = fgets(line, MOST_LINE, file) != NULL;
  fclose(file);
  return read;
}

// The first of the CPUs that share a core with this one; itself where the kernel does not tell.
static int first_of_core(int cpu) {
  static const char *const names[] = {"core_cpus_list", "thread_siblings_list"};  // the older name, before Linux 5.3
  for (int i = 0; i < 2; ++i) {
    char path[128 + sizeof CPUS_ROOT], line[MOST_LINE];
    snprintf(path, sizeof path, CPUS_ROOT "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, names[i]);
    if (!read_line(path, line)) continue;
    char *end;
    const long first = strtol(line, &end, 10);
    if (end != line && first >= 0 && first < CPU_SETSIZE) return (int)first;
  }
  return cpu;
}

static int physical_cores(void) {
  cpu_set_t usable, cores;
  if (sched_getaffinity(0, sizeof usable, &usable) != 0) return usable_cpus();
  CPU_ZERO(&cores);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &usable)) CPU_SET(first_of_core(cpu), &cores);
  }
  return CPU_COUNT(&cores);
}

// Whole CPUs that the group whose folder this is may use; INT_MAX: it sets no limit.
static int limit_of(const char *folder) {
  char path[MOST_PATH + 32], line[MOST_LINE];
  long long quota = 0, period = 0;
  snprintf(path, sizeof path, "%s/cpu.max", folder);
  if (read_line(path, line)) {
    if (sscanf(line, "%lld %lld", &quota, &period) != 2) return INT_MAX;  // max
  } else {
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    if (!read_line(path, line) || sscanf(line, "%lld", &quota) != 1) return INT_MAX;
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    if (!read_line(path, line) || sscanf(line, "%lld", &period) != 1) return INT_MAX;
  }
  return quota > 0 && period > 0 && quota / period < INT_MAX ? (int)(quota / period) : INT_MAX;
}

// The tightest limit of the group and of those above it, in the hierarchy that is mounted at `mount`. Inside a container,
// the group may not be there by its name from outside: the mount itself then is the container's.
static int tightest(const char *mount, const char *group) {
  char folder[MOST_PATH];
  int most = INT_MAX;
  if (snprintf(folder, sizeof folder, "%s%s", mount, group) >= (int)sizeof folder) return most;
  for (char *end = folder + strlen(folder); end >= folder + strlen(mount); *end = '\0') {
    const int limit = limit_of(folder);
    if (limit < most) most = limit;
    while (end > folder && *--end != '/') continue;
  }
  return most;
}

static bool has_cpu(char *controllers) {
  for (char *rest, *name = strtok_r(controllers, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest)) {
    if (strcmp(name, "cpu") == 0) return true;
  }
  return false;
}

// /proc/self/cgroup has a line ID:CONTROLLERS:GROUP for each hierarchy; version 2's controllers are not named.
static int group_limit(void) {
  FILE *file = fopen(CPUS_ROOT "/proc/self/cgroup", "re");
  char line[MOST_PATH];
  int most = INT_MAX;
  while (file != NULL && fgets(line, sizeof line, file) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':');
    char *group = controllers == NULL ? NULL : strchr(++controllers, ':');
    if (group == NULL) continue;
    *group++ = '\0';
    const bool second = *controllers == '\0';
    if (!second && !has_cpu(controllers)) continue;
    const int limit = tightest(second ? CPUS_ROOT "/sys/fs/cgroup" : CPUS_ROOT "/sys/fs/cgroup/cpu", group);
    if (limit < most) most = limit;
  }
  if (file != NULL) fclose(file);
  return most;
}

int default_threads(void) {
  const int cores = physical_cores(), limit = group_limit();
  const int threads = cores < limit ? cores : limit;
  return threads > 1 ? threads : 1;
}
