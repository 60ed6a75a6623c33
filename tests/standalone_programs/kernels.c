// Kernels made up to do what few real ones do: tasks of any number, scratch memory in any order, failures half-way.
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "tvm_abi.h"

static void check(int good, const char *what) {
  if (good) return;
  fprintf(stderr, "failed: %s\n", what);
  exit(1);
}

static void *take(uint64_t bytes) {
  unsigned char *data = __TVMBackendAllocWorkspace(TVM_CPU, 0, bytes, TVM_FLOAT, 32);
  check(data != NULL && (uintptr_t)data % 64 == 0, "aligned scratch memory");
  memset(data, 0x5a, bytes);
  return data;
}

static void give(void *data) { __TVMBackendFreeWorkspace(TVM_CPU, 0, data); }

typedef struct {
  atomic_int calls[64];
  int tasks;
} counts;

static int count_task(int task, tvm_group *group, void *closure) {
  counts *seen = closure;
  check(group->tasks == seen->tasks && task >= 0 && task < seen->tasks, "tasks");
  void *outer = take(1000 + 100 * task), *inner = take(10);
  give(outer);  // not the reverse order
  void *next = take(2000);
  give(inner);
  give(next);
  atomic_fetch_add(&seen->calls[task], 1);
  return 0;
}

static int fail_one(int task, tvm_group *group, void *closure) {
  (void)closure;
  take(500 + task);
  return task == group->tasks - 1 ? -1 : 0;
}

static void each_once(int asked, int expected) {
  counts seen = {.tasks = expected};
  check(__TVMBackendParallelLaunch(count_task, &seen, asked) == 0, "launch");
  for (int task = 0; task < 64; ++task) check(seen.calls[task] == (task < expected), "each task once");
}

// The image's first pixel says how many threads there are; negative: fail.
int __tvm_ffi_run(void *self, const tvm_any *arguments, int32_t count, tvm_any *result) {
  check(self == NULL && count == 4, "arguments");
  const tvm_tensor *tensor[4];
  for (int i = 0; i < 4; ++i) {
    check(arguments[i].type == TVM_ANY_TENSOR, "a tensor");
    tensor[i] = arguments[i].value.pointer;
    check(i == 0 || (uintptr_t)tensor[i]->data % 64 == 0, "aligned arrays");
  }
  const int threads = (int)*(const float *)tensor[0]->data;
  void *kept = take(100);
  result->type = TVM_ANY_INT;
  result->value.integer = 0;
  if (threads < 0) {
    check(__TVMBackendParallelLaunch(fail_one, NULL, 0) == -1, "a failure comes back");
    result->value.integer = 1;
    return 0;  // as generated code does: nothing is given back
  }
  each_once(0, threads);
  for (int tasks = 1; tasks < 64; ++tasks) each_once(tasks, tasks);
  void *again = take(100);
  give(again);
  check(take(100) == again, "the same memory again");
  give(again);
  give(kept);
  memset(tensor[1]->data, 0, MODEL_CONSTANT(LOGITS_FLOATS) * sizeof(float));
  return 0;
}

int main(void) {
  float *image = calloc(MODEL_CONSTANT(IMAGE_FLOATS), sizeof(float));
  float *logits = calloc(MODEL_CONSTANT(LOGITS_FLOATS), sizeof(float));
  for (int threads = 1; threads <= 5; ++threads) {
    model *handle;
    check(MODEL(create)(&handle, threads) == 0, "create");
    for (int turn = 0; turn < 6; ++turn) {
      const int failing = turn % 3 == 1;
      image[0] = (float)(failing ? -1 : threads);
      logits[0] = 7;
      const int status = MODEL(run)(handle, image, logits);
      check(status == (failing ? MODEL_CONSTANT(ERROR_MEMORY) : MODEL_CONSTANT(OK)), "status");
      check(logits[0] == (failing ? 7 : 0), "logits written only where all went well");
    }
    MODEL(destroy)(handle);
  }
  free(image);
  free(logits);
  return 0;
}
