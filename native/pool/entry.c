// What a bundle's library gives away beside the kernels' own `run` and `trace` (effgen/compiler/entry.py), which run on the
// calling thread alone:
//
//   run_on(threads, image, outputs, weights, workspace) -> status
//   trace_on(threads, image, outputs, weights, workspace, clock) -> status
//
// `status`: 0, the number (from 1) of the step that failed for want of memory, or the negative errno.h number for which no
// thread could be started.
#include <errno.h>
#include <stddef.h>

#include "idle.h"
#include "scratch.h"
#include "tvm_abi.h"

enum { MOST_THREADS = 1024 };

typedef int steps(void *self, const tvm_any *arguments, int32_t count, tvm_any *result);

// Where TVM's own library is loaded too it is told why arguments are refused, and raises that; the linker gives this
// function to whoever calls the other (--wrap).
void __real_TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) __attribute__((weak));

void __wrap_TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  if (__real_TVMFFIErrorSetRaisedFromCStrParts != NULL) __real_TVMFFIErrorSetRaisedFromCStrParts(kind, parts, count);
}

static int refuse(const char *why) {
  TVMFFIErrorSetRaisedFromCStrParts("TypeError", &why, 1);
  return -1;
}

static int run_steps(steps *run, void *self, const tvm_any *arguments, int32_t count, tvm_any *result) {
  if (count < 1 || arguments[0].type != TVM_ANY_INT) return refuse("expected a number of threads, and arrays");
  const int64_t threads = arguments[0].value.integer;
  if (threads < 1 || threads > MOST_THREADS) return refuse("expected from 1 to 1024 threads");
  pool *mine;
  const int failed = pool_take(&mine, (int)threads);
  if (failed) {
    *result = (tvm_any){TVM_ANY_INT, 0, {.integer = -failed}};
    return 0;
  }
  pool_enter(mine);
  const int refused = run(self, arguments + 1, count - 1, result);
  pool_leave();
  if (refused || result->value.integer != 0) scratch_reclaim_all(mine);
  pool_give_back(mine);
  return refused;
}

#define PUBLIC __attribute__((visibility("default")))

PUBLIC int __tvm_ffi_run_on(void *self, const tvm_any *arguments, int32_t count, tvm_any *result) {
  return run_steps(__tvm_ffi_run, self, arguments, count, result);
}

PUBLIC int __tvm_ffi_trace_on(void *self, const tvm_any *arguments, int32_t count, tvm_any *result) {
  return run_steps(__tvm_ffi_trace, self, arguments, count, result);
}
