// The functions of a model's C library, called in any order and with any arguments that its header allows for: NULL,
// thread counts out of range, no place for an output. The kernels are stood in for by a function that touches the first
// and last element of every array that it is given, and as many tasks of the pool as the input says.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

extern "C" {
#include "config.h"
#include "tvm_abi.h"
}

namespace {

bool kernels_fail = false;
int tasks = 0;

// The image is shared: reading is what all tasks may do.
int task(int, tvm_group*, void* data) { return *static_cast<const volatile float*>(data) == 0.5f ? 0 : 1; }

void check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int __tvm_ffi_run(void*, const tvm_any* arguments, std::int32_t count, tvm_any* result) {
  check(count == 4);
  for (int i = 0; i < count; ++i) {
    const auto* tensor = static_cast<const tvm_tensor*>(arguments[i].value.pointer);
    auto* floats = static_cast<float*>(tensor->data);
    const std::int64_t size = tensor->shape[0];
    const bool is_written = i == 1 || i == 3;
    check(i == 0 || reinterpret_cast<std::uintptr_t>(floats) % 64 == 0);
    volatile float sum = floats[0] + floats[size - 1];
    static_cast<void>(sum);
    if (is_written) std::fill_n(floats, size, 2.0f);
    if (i == 0) check(__TVMBackendParallelLaunch(task, floats, tasks) == 0);
  }
  result->value.integer = kernels_fail ? 1 : 0;
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::array<fuzzed*, 3> handles{};
  const std::vector<float> image(FUZZED_IMAGE_FLOATS, 0.5f);
  for (std::size_t at = 0; at + 2 < size && at < 60; at += 3) {
    fuzzed*& handle = handles[data[at + 1] % handles.size()];
    const std::uint8_t choice = data[at + 2];
    switch (data[at] % 5) {
      case 0: {
        static const int counts[] = {1, 2, 0, -1, 3, 1025, 1 << 30, -(1 << 30)};
        const int threads = counts[choice % 8];
        fuzzed* made = nullptr;
        const int status = fuzzed_create(choice & 64 ? nullptr : &made, threads);
        check((status == FUZZED_OK) == (made != nullptr));
        check(!(threads < 0 || threads > FUZZED_MOST_THREADS || choice & 64) || status == FUZZED_ERROR_ARGUMENT);
        if (made != nullptr) {
          fuzzed_destroy(handle);
          handle = made;
        }
        break;
      }
      case 1: {
        // Buffers of exactly the sizes that the header states: a write behind them is an error of the sanitizer's.
        const auto first = std::make_unique<float[]>(fuzzed_floats(0));
        const auto second = std::make_unique<float[]>(fuzzed_floats(1));
        float* const one = choice & 1 ? nullptr : first.get();
        float* const two = choice & 2 ? nullptr : second.get();
        float* const outputs[FUZZED_OUTPUTS] = {one, two};
        kernels_fail = (choice & 4) != 0;
        tasks = 1 + choice / 32;
        const bool wrong = handle == nullptr || choice & 8 || choice & 16;
        const int status = fuzzed_run(handle, choice & 8 ? nullptr : image.data(), choice & 16 ? nullptr : outputs);
        check(status == (wrong ? FUZZED_ERROR_ARGUMENT : kernels_fail ? FUZZED_ERROR_MEMORY : FUZZED_OK));
        if (status == FUZZED_OK && outputs[1] != nullptr) check(second[fuzzed_floats(1) - 1] == 2.0f);
        break;
      }
      case 2:
        fuzzed_destroy(handle);
        handle = nullptr;
        break;
      case 3: {
        int status = 0;
        std::memcpy(&status, data + at, std::min<std::size_t>(sizeof status, size - at));
        check(std::strlen(fuzzed_error(status)) > 0);
        break;
      }
      default: {
        const int output = static_cast<std::int8_t>(choice);
        check((fuzzed_floats(output) > 0) == (output >= -1 && output < FUZZED_OUTPUTS));
      }
    }
  }
  for (fuzzed* handle : handles) fuzzed_destroy(handle);
  return 0;
}
