// The driver's functions on memory, streams, events and graphs. See __init__.py.
#include <cstdlib>

#include "driver.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

using namespace emulated;

namespace {

constexpr int kToDevice = 1, kToHost = 2;

Event& event_of(CUevent event) { return *reinterpret_cast<Event*>(event); }
std::shared_ptr<Graph>& graph_of(void* graph) { return *static_cast<std::shared_ptr<Graph>*>(graph); }
void* address(CUdeviceptr pointer) { return reinterpret_cast<void*>(pointer); }

CUresult copy_on(CUstream stream, void* to, const void* from, size_t bytes, int kind) {
  return CUresult(enqueue(stream, [=] { return copy(to, from, bytes, kind); }));
}

}  // namespace

// ---- Contexts: there is one ----

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
  return *context = reinterpret_cast<CUcontext>(1), CUDA_SUCCESS;
}
EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) { return CUDA_SUCCESS; }
EXPORT CUresult cuCtxSetCurrent(CUcontext context) { return context ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT; }

// ---- Memory ----

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr* pointer, size_t bytes) {
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  void* allocated = nullptr;
  const Error error = allocate(&allocated, bytes);
  *pointer = reinterpret_cast<CUdeviceptr>(allocated);
  return CUresult(error);
}
EXPORT CUresult cuMemFree_v2(CUdeviceptr pointer) {
  const Error error = forbid_in_capture();
  return CUresult(error ? error : release(address(pointer)));
}
EXPORT CUresult cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
  if (Error error = forbid_in_capture()) return CUresult(error);
  *pointer = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  return *pointer ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
EXPORT CUresult cuMemFreeHost(void* pointer) { return free(pointer), CUDA_SUCCESS; }
EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
  return copy_on(nullptr, address(to), from, bytes, kToDevice);
}
EXPORT CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
  return copy_on(nullptr, to, address(from), bytes, kToHost);
}
EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  return copy_on(stream, address(to), from, bytes, kToDevice);
}
EXPORT CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy_on(stream, to, address(from), bytes, kToHost);
}
EXPORT CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream) {
  return CUresult(enqueue(stream, [=] { return fill(address(to), value, bytes); }));
}

// ---- Streams and events ----

EXPORT CUresult cuStreamCreate(CUstream* stream, unsigned flags) {
  *stream = reinterpret_cast<CUstream>(create_stream(!(flags & CU_STREAM_NON_BLOCKING)));
  return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamDestroy_v2(CUstream stream) {
  return CUresult(destroy_stream(reinterpret_cast<Stream*>(stream)));
}
EXPORT CUresult cuEventCreate(CUevent* event, unsigned flags) {
  auto created = new Event;
  created->timing = !(flags & CU_EVENT_DISABLE_TIMING);
  *event = reinterpret_cast<CUevent>(created);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuEventDestroy_v2(CUevent event) {
  delete &event_of(event);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuEventRecord(CUevent event, CUstream handle) {
  Stream* stream = stream_of(handle);
  if (!stream) return CUresult(kInvalidResourceHandle);
  Event& recorded = event_of(event);
  recorded.capture = stream->capture;
  recorded.mode = stream->mode;
  if (stream->capture) return CUDA_SUCCESS;
  recorded.recorded = true;
  recorded.seconds = now();
  return CUDA_SUCCESS;
}
EXPORT CUresult cuEventSynchronize(CUevent event) {
  return CUresult(event_of(event).capture ? kCaptureUnsupported : kSuccess);
}
// Under its first name, which every driver knows; cuda.h would rename it.
#undef cuEventElapsedTime
EXPORT CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
  const Event &from = event_of(start), &to = event_of(end);
  if (!from.recorded || !to.recorded || !from.timing || !to.timing) return CUresult(kInvalidResourceHandle);
  *milliseconds = float((to.seconds - from.seconds) * 1e3);
  return CUDA_SUCCESS;
}

// ---- Graphs ----

EXPORT CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
  return CUresult(begin_capture(stream, int(mode)));
}
EXPORT CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
  std::shared_ptr<Graph> captured;
  *graph = nullptr;
  if (Error error = end_capture(stream, &captured)) return CUresult(error);
  *graph = reinterpret_cast<CUgraph>(new std::shared_ptr<Graph>(captured));
  return CUDA_SUCCESS;
}
EXPORT CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode* nodes, size_t* count) {
  if (nodes) return CUDA_ERROR_NOT_SUPPORTED;
  *count = graph_of(graph)->nodes.size();
  return CUDA_SUCCESS;
}
EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec* executable, CUgraph graph, unsigned long long) {
  if (Error error = forbid_in_capture()) return CUresult(error);
  *executable = reinterpret_cast<CUgraphExec>(new std::shared_ptr<Graph>(graph_of(graph)));
  return CUDA_SUCCESS;
}
EXPORT CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream) {
  std::shared_ptr<Graph> graph = graph_of(executable);
  return CUresult(enqueue(stream, [graph] {
    for (auto& node : graph->nodes)
      if (Error error = node()) return error;
    return kSuccess;
  }));
}
EXPORT CUresult cuGraphDestroy(CUgraph graph) {
  delete &graph_of(graph);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuGraphExecDestroy(CUgraphExec executable) {
  delete &graph_of(executable);
  return CUDA_SUCCESS;
}
