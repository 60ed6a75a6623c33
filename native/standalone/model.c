// The functions of a model's header, over the kernels' own `run`.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "config.h"
#include "cpus.h"
#include "pool.h"
#include "processor.h"
#include "scratch.h"
#include "tvm_abi.h"

#define PUBLIC __attribute__((visibility("default")))

#define OK MODEL_CONSTANT(OK)
#define ERROR_ARGUMENT MODEL_CONSTANT(ERROR_ARGUMENT)
#define ERROR_MEMORY MODEL_CONSTANT(ERROR_MEMORY)
#define ERROR_THREAD MODEL_CONSTANT(ERROR_THREAD)
#define ERROR_PROCESSOR MODEL_CONSTANT(ERROR_PROCESSOR)

#define IMAGE_FLOATS MODEL_CONSTANT(IMAGE_FLOATS)

// Kernels take for granted that all arrays but the image begin at such multiples (effgen/runtime/arrays.py).
enum { ALIGNMENT = 64, HUGE_PAGE = 2 << 20 };

extern const float effgen_weights[];  // weights.S

struct MODEL_HANDLE {
  pthread_mutex_t one_call;
  pool *pool;
  float *workspace;
  float *outputs;  // aligned, which the caller's need not be
};

static const size_t output_floats[] = MODEL_OUTPUT_FLOATS, output_starts[] = MODEL_OUTPUT_STARTS;

static int check_processor(void) {
  static const char *const needed[] = MODEL_FEATURES;
  for (const char *const *name = needed; *name != NULL; ++name) {
    if (!has_feature(*name)) return ERROR_PROCESSOR;
  }
  return OK;
}

// Aligned, not set; large arrays in large pages, where the system has them for the asking. NULL: out of memory.
static float *new_floats(size_t count) {
  const size_t bytes = count * sizeof(float), step = bytes >= HUGE_PAGE ? HUGE_PAGE : ALIGNMENT;
  float *made = aligned_alloc(step, (bytes + step - 1) / step * step);
  if (made != NULL && step == HUGE_PAGE) madvise(made, bytes, MADV_HUGEPAGE);
  return made;
}

static int fill(model *new, int threads) {
  new->workspace = new_floats(MODEL_WORKSPACE_FLOATS);
  new->outputs = new_floats(MODEL_ARRAY_FLOATS);
  if (new->workspace == NULL || new->outputs == NULL) return ERROR_MEMORY;
  const int failed = pool_create(&new->pool, threads);
  if (failed) return failed == ENOMEM ? ERROR_MEMORY : ERROR_THREAD;
  return OK;
}

PUBLIC int MODEL(create)(model **handle, int threads) {
  if (handle == NULL) return ERROR_ARGUMENT;
  *handle = NULL;
  if (threads < 0 || threads > MODEL_CONSTANT(MOST_THREADS)) return ERROR_ARGUMENT;
  int status = check_processor();
  if (status != OK) return status;
  if (threads == 0) {
    const int most = default_threads();
    threads = MODEL_CONSTANT(THREADS) < most ? MODEL_CONSTANT(THREADS) : most;
  }
  model *new = calloc(1, sizeof *new);
  if (new == NULL) return ERROR_MEMORY;
  if (pthread_mutex_init(&new->one_call, NULL) != 0) {
    free(new);
    return ERROR_MEMORY;
  }
  status = fill(new, threads);
  if (status == OK) {
    *handle = new;
  } else {
    MODEL(destroy)(new);
  }
  return status;
}

// Calls the kernels; whether all of them ran. Those that do not are out of memory.
static int call_kernels(model *self, const float *image) {
  int64_t counts[] = {IMAGE_FLOATS, MODEL_ARRAY_FLOATS, MODEL_WEIGHTS_FLOATS, MODEL_WORKSPACE_FLOATS};
  void *const data[] = {(void *)image, self->outputs, (void *)effgen_weights, self->workspace};
  tvm_tensor tensors[4];
  tvm_any arguments[4], result = {0, 0, {0}};
  for (int i = 0; i < 4; ++i) {
    tensors[i] = (tvm_tensor){data[i], {TVM_CPU, 0}, 1, {TVM_FLOAT, 32, 1}, &counts[i], NULL, 0};
    arguments[i] = (tvm_any){TVM_ANY_TENSOR, 0, {.pointer = &tensors[i]}};
  }
  const int refused = __tvm_ffi_run(NULL, arguments, 4, &result);
  return !refused && result.value.integer == 0;
}

// Where there is an image, a handle and a place for each output.
static int run(model *handle, const float *image, float *const *outputs) {
  // Before the lock: in a child, it may be held by a thread that only the parent has.
  if (!pool_is_here(handle->pool)) return ERROR_THREAD;
  pthread_mutex_lock(&handle->one_call);
  pool_enter(handle->pool);
  const int ran = call_kernels(handle, image);
  pool_leave();
  if (!ran) scratch_reclaim_all(handle->pool);
  for (int i = 0; ran && i < MODEL_OUTPUTS; ++i) {
    if (outputs[i] != NULL) memcpy(outputs[i], handle->outputs + output_starts[i], output_floats[i] * sizeof(float));
  }
  pthread_mutex_unlock(&handle->one_call);
  return ran ? OK : ERROR_MEMORY;
}

#if MODEL_OUTPUTS == 1
PUBLIC int MODEL(run)(model *handle, const float *image, float *output) {
  return handle == NULL || image == NULL || output == NULL ? ERROR_ARGUMENT : run(handle, image, &output);
}
#else
PUBLIC int MODEL(run)(model *handle, const float *image, float *const outputs[MODEL_OUTPUTS]) {
  return handle == NULL || image == NULL || outputs == NULL ? ERROR_ARGUMENT : run(handle, image, outputs);
}
#endif

PUBLIC void MODEL(destroy)(model *handle) {
  if (handle == NULL) return;
  pool_destroy(handle->pool);
  free(handle->outputs);
  free(handle->workspace);
  pthread_mutex_destroy(&handle->one_call);
  free(handle);
}

PUBLIC size_t MODEL(floats)(int output) {
  if (output == -1) return IMAGE_FLOATS;
  return output >= 0 && output < MODEL_OUTPUTS ? output_floats[output] : 0;
}

PUBLIC const char *MODEL(error)(int status) {
  switch (status) {
    case OK: return "no error";
    case ERROR_ARGUMENT: return "a wrong argument: NULL, or a thread count out of range";
    case ERROR_MEMORY: return "out of memory";
    case ERROR_THREAD: return "the system starts no more threads, or the handle is from before a fork";
    case ERROR_PROCESSOR: return "this processor lacks an instruction set out of those needed: " MODEL_FEATURES_TEXT;
  }
  return "not a status of this library";
}

// Which argument the kernels refuse is of no interest: these are always right.
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  (void)kind, (void)parts, (void)count;
}
