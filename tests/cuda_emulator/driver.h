// What the fake libcuda.so.1 (driver.cc) and libcudart.so.13 (runtime.cc) share: one device's memory, streams, graphs.
// All work is done at once, in the calling thread; the functions return CUDA's error numbers.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

namespace emulated {

// The runtime's errors have the driver's numbers.
using Error = int;
constexpr Error kSuccess = CUDA_SUCCESS;
constexpr int kInvalidResourceHandle = 400, kCaptureUnsupported = 900, kCaptureInvalidated = 901,
              kCaptureImplicit = 906;

struct Graph {
  std::vector<std::function<Error()>> nodes;  // in the order of their capture, which is one they may run in
  bool valid = true;
};

struct Stream {
  bool blocking = true;               // waits for the default stream, and that one for it
  int mode = 0;                       // of the capture
  std::shared_ptr<Graph> capture;     // what records it; null: nothing does
  bool origin = false;                // the capture began here
};

struct Event {
  bool timing = true, recorded = false;
  double seconds = 0;
  std::shared_ptr<Graph> capture;  // recorded by a stream that is captured
  int mode = 0;
};

int compute_capability();       // 90: 9.0
int attribute(int number);      // CUdevice_attribute; -1: unknown
const char* device_name();
size_t total_memory();
const char* error_name(int error);
const char* error_text(int error);

// Null and the special handles of the default stream give that one; nullptr: no such stream.
Stream* stream_of(void* handle);
Stream* create_stream(bool blocking);
Error destroy_stream(Stream* stream);

// Does `work` now, or records it where the stream is being captured.
Error enqueue(void* stream, std::function<Error()> work);
Error begin_capture(void* stream, int mode);
Error end_capture(void* stream, std::shared_ptr<Graph>* graph);
// For calls that wait for work: an error in a stream that is captured, and the end of that capture.
Error synchronize(void* stream);
// For calls that no capture allows (unless it is relaxed): allocations, waiting for the device.
Error forbid_in_capture();

Error allocate(void** pointer, size_t bytes);
Error release(void* pointer);
size_t allocated_bytes();
// Both check what lies in device memory to be wholly inside one allocation.
Error copy(void* to, const void* from, size_t bytes, int kind);
Error fill(void* to, int value, size_t bytes);
// cudaMemcpyDefault's question.
bool is_device(const void* pointer);

double now();

}  // namespace emulated
