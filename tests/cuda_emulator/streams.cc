// The driver's functions on memory, streams, events and graphs. See __init__.py.
#include <cstdlib>

#include "driver.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

using namespace emulated;

namespace {

Event& event_of(CUevent event) { return *reinterpret_cast<Event*>(event); }
std::shared_ptr<Graph>& graph_of(void* graph) { return *static_cast<std::shared_ptr<Graph>*>(graph); }
void* address(CUdeviceptr pointer) { return reinterpret_cast<void*>(pointer); }

CUresult upload(CUstream stream, void* to, const void* from, size_t bytes) {
  return CUresult(enqueue(stream, [=] { return copy_to_device(to, from, bytes); }));
}
CUresult download(CUstream stream, void* to, const void* from, size_t bytes) {
  return CUresult(enqueue(stream, [=] { return copy_to_host(to, from, bytes); }));
}

}  // namespace

// ---- Contexts: there is one ----

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
  retain_context();
  return *context = reinterpret_cast<CUcontext>(1), CUDA_SUCCESS;
}
EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) { return CUresult(release_context()); }
EXPORT CUresult cuCtxSetCurrent(CUcontext context) { return CUresult(set_context(context != nullptr)); }

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
  return upload(nullptr, address(to), from, bytes);
}
EXPORT CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
  return download(nullptr, to, address(from), bytes);
}
EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  return upload(stream, address(to), from, bytes);
}
EXPORT CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return download(stream, to, address(from), bytes);
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
  if (stream->capture) return CUDA_SUCCESS;
  recorded.recorded = true;
  recorded.seconds = now();
  return CUDA_SUCCESS;
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
