// What the fake libcuda.so.1 is made of (driver.cc): one device's memory, streams, graphs. Its functions on them are in
// streams.cc. All work is done at once, in the calling thread; errors are CUDA's numbers.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

namespace emulated {

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
};

struct Event {
  bool timing = true, recorded = false;
  double seconds = 0;
};

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
// Between host and device; what lies in device memory must be wholly inside one allocation.
Error copy_to_device(void* to, const void* from, size_t bytes);
Error copy_to_host(void* to, const void* from, size_t bytes);
Error fill(void* to, int value, size_t bytes);
// The primary context: users, and whether the calling thread has made it current.
void retain_context();
Error release_context();
Error set_context(bool current);

double now();

}  // namespace emulated
