// A fake libcudart.so.13 on top of the fake libcuda.so.1. See __init__.py.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "driver.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

using namespace emulated;

static_assert(int(cudaErrorStreamCaptureUnsupported) == kCaptureUnsupported);
static_assert(int(cudaErrorInvalidResourceHandle) == kInvalidResourceHandle);

namespace {

thread_local cudaError_t last_error = cudaSuccess;

cudaError_t result(Error error) {
  if (error != kSuccess) last_error = cudaError_t(error);
  return cudaError_t(error);
}
cudaError_t check_device(int device) { return result(device == 0 ? kSuccess : int(cudaErrorInvalidDevice)); }

Event& event_of(cudaEvent_t event) { return *reinterpret_cast<Event*>(event); }
std::shared_ptr<Graph>& graph_of(void* graph) { return *static_cast<std::shared_ptr<Graph>*>(graph); }

}  // namespace

// ---- The device ----

EXPORT cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
EXPORT cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
EXPORT cudaError_t cudaSetDevice(int device) { return check_device(device); }
EXPORT cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
EXPORT cudaError_t cudaRuntimeGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
EXPORT cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr number, int device) {
  if (cudaError_t error = check_device(device)) return error;
  *value = attribute(int(number));
  return result(*value < 0 ? int(cudaErrorInvalidValue) : kSuccess);
}
EXPORT cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (cudaError_t error = check_device(device)) return error;
  memset(properties, 0, sizeof *properties);
  snprintf(properties->name, sizeof properties->name, "%s", device_name());
  properties->totalGlobalMem = total_memory();
  properties->sharedMemPerBlock = size_t(attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK));
  properties->sharedMemPerBlockOptin = size_t(attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN));
  properties->sharedMemPerMultiprocessor =
      size_t(attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR));
  properties->reservedSharedMemPerBlock = size_t(attribute(CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK));
  properties->regsPerBlock = attribute(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK);
  properties->regsPerMultiprocessor = attribute(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR);
  properties->warpSize = attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE);
  properties->maxThreadsPerBlock = attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
  for (int i = 0; i < 3; ++i) {
    properties->maxThreadsDim[i] = attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X + i);
    properties->maxGridSize[i] = attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X + i);
  }
  properties->totalConstMem = size_t(attribute(CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY));
  properties->major = compute_capability() / 10;
  properties->minor = compute_capability() % 10;
  properties->multiProcessorCount = attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
  properties->maxThreadsPerMultiProcessor = attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR);
  properties->maxBlocksPerMultiProcessor = attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR);
  properties->l2CacheSize = attribute(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
  properties->memoryBusWidth = attribute(CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);
  properties->concurrentKernels = 1;
  properties->unifiedAddressing = 1;
  return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceSynchronize() { return result(forbid_in_capture()); }

EXPORT cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}
EXPORT cudaError_t cudaPeekAtLastError() { return last_error; }
EXPORT const char* cudaGetErrorName(cudaError_t error) { return error_name(error); }
EXPORT const char* cudaGetErrorString(cudaError_t error) { return error_text(error); }

// ---- Memory ----

EXPORT cudaError_t cudaMalloc(void** pointer, size_t bytes) { return result(allocate(pointer, bytes)); }
EXPORT cudaError_t cudaFree(void* pointer) {
  const Error error = forbid_in_capture();
  return result(error ? error : release(pointer));
}
EXPORT cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  if (Error error = forbid_in_capture()) return result(error);
  *pointer = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  return result(*pointer || !bytes ? kSuccess : int(cudaErrorMemoryAllocation));
}
EXPORT cudaError_t cudaFreeHost(void* pointer) { return free(pointer), cudaSuccess; }
EXPORT cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
  *total = total_memory();
  *available = *total - allocated_bytes();
  return cudaSuccess;
}
EXPORT cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                                   cudaStream_t stream) {
  return result(enqueue(stream, [=] { return copy(to, from, bytes, kind); }));
}
EXPORT cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
EXPORT cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, cudaStream_t stream) {
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
}
EXPORT cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return result(enqueue(stream, [=] { return fill(to, value, bytes); }));
}
EXPORT cudaError_t cudaMemset(void* to, int value, size_t bytes) { return cudaMemsetAsync(to, value, bytes, nullptr); }

// ---- Streams and events ----

EXPORT cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  *stream = reinterpret_cast<cudaStream_t>(create_stream(!(flags & cudaStreamNonBlocking)));
  return cudaSuccess;
}
EXPORT cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}
EXPORT cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return result(destroy_stream(reinterpret_cast<Stream*>(stream)));
}
EXPORT cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return result(synchronize(stream)); }
EXPORT cudaError_t cudaStreamQuery(cudaStream_t stream) { return result(synchronize(stream)); }

EXPORT cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  auto created = new Event;
  created->timing = !(flags & cudaEventDisableTiming);
  *event = reinterpret_cast<cudaEvent_t>(created);
  return cudaSuccess;
}
EXPORT cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
EXPORT cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete &event_of(event);
  return cudaSuccess;
}
EXPORT cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  Stream* stream = stream_of(handle);
  if (!stream) return result(kInvalidResourceHandle);
  Event& recorded = event_of(event);
  recorded.capture = stream->capture;
  recorded.mode = stream->mode;
  if (stream->capture) return cudaSuccess;
  recorded.recorded = true;
  recorded.seconds = now();
  return cudaSuccess;
}
EXPORT cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return result(event_of(event).capture ? kCaptureUnsupported : kSuccess);
}
EXPORT cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }
EXPORT cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const Event &from = event_of(start), &to = event_of(end);
  if (!from.recorded || !to.recorded || !from.timing || !to.timing) return result(kInvalidResourceHandle);
  *milliseconds = float((to.seconds - from.seconds) * 1e3);
  return cudaSuccess;
}
// Work is done in the order it is given, so there is nothing to wait for; but waiting for an event of a captured
// stream brings this one into the capture.
EXPORT cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  Stream* stream = stream_of(handle);
  if (!stream) return result(kInvalidResourceHandle);
  const Event& awaited = event_of(event);
  if (awaited.capture && !stream->capture) {
    stream->capture = awaited.capture;
    stream->mode = awaited.mode;
  }
  return cudaSuccess;
}

// ---- Graphs ----

EXPORT cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  return result(begin_capture(stream, int(mode)));
}
EXPORT cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  Stream* stream = stream_of(handle);
  if (!stream) return result(kInvalidResourceHandle);
  *status = !stream->capture         ? cudaStreamCaptureStatusNone
            : stream->capture->valid ? cudaStreamCaptureStatusActive
                                     : cudaStreamCaptureStatusInvalidated;
  return cudaSuccess;
}
EXPORT cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  std::shared_ptr<Graph> captured;
  *graph = nullptr;
  if (Error error = end_capture(stream, &captured)) return result(error);
  *graph = reinterpret_cast<cudaGraph_t>(new std::shared_ptr<Graph>(captured));
  return cudaSuccess;
}
EXPORT cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (nodes) return result(int(cudaErrorNotSupported));
  *count = graph_of(graph)->nodes.size();
  return cudaSuccess;
}
EXPORT cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  if (Error error = forbid_in_capture()) return result(error);
  *executable = reinterpret_cast<cudaGraphExec_t>(new std::shared_ptr<Graph>(graph_of(graph)));
  return cudaSuccess;
}
EXPORT cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
EXPORT cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  std::shared_ptr<Graph> graph = graph_of(executable);
  return result(enqueue(stream, [graph] {
    for (auto& node : graph->nodes)
      if (Error error = node()) return error;
    return kSuccess;
  }));
}
EXPORT cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete &graph_of(graph);
  return cudaSuccess;
}
EXPORT cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete &graph_of(executable);
  return cudaSuccess;
}
