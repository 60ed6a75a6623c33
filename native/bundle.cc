#include "bundle.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <system_error>
#include <utility>

#include "error.h"
#include "files.h"
#include "pool/cpus.h"

namespace effgen {
namespace {

using tvm::ffi::Function;
using tvm::ffi::Module;
using tvm::ffi::Tensor;

constexpr DLDataType kFloat{kDLFloat, 32, 1};
constexpr DLDataType kLong{kDLInt, 64, 1};
// What kernels may assume of where their arguments begin (effgen/runtime/arrays.py).
constexpr std::size_t kAlignment = 64;

struct HostMemory {
  void AllocData(DLTensor* tensor) {
    const std::size_t bytes = tvm::ffi::GetDataSize(*tensor);
    tensor->data = std::aligned_alloc(kAlignment, (bytes + kAlignment) / kAlignment * kAlignment);
    if (tensor->data == nullptr) throw std::bad_alloc();
  }
  void FreeData(DLTensor* tensor) { std::free(tensor->data); }
};

// Where the arrays lie. These three functions know, nothing else: another kind of device begins here.
Tensor allocate(std::vector<std::int64_t> shape, DLDataType type = kFloat) {
  return Tensor::FromNDAlloc(HostMemory(), tvm::ffi::ShapeView(shape.data(), shape.size()), type, {kDLCPU, 0});
}

void upload(const void* data, const Tensor& tensor) {
  std::memcpy(tensor.data_ptr(), data, tvm::ffi::GetDataSize(static_cast<std::size_t>(tensor.numel()), tensor.dtype()));
}

template <typename T>
std::vector<T> download(const Tensor& tensor) {
  std::vector<T> values(static_cast<std::size_t>(tensor.numel()));
  std::memcpy(values.data(), tensor.data_ptr(), values.size() * sizeof(T));
  return values;
}

// The error's text on one line, without the signature that TVM puts in its middle.
std::string one_line(const tvm::ffi::Error& error) {
  const std::string text = error.message();
  const std::size_t first = text.find('\n'), last = text.rfind('\n');
  if (first == std::string::npos) return text;
  std::string line = text.substr(0, first);
  const std::string_view surplus = " when calling:";
  if (line.size() > surplus.size() && line.substr(line.size() - surplus.size()) == surplus) {
    line.resize(line.size() - surplus.size());
  }
  const std::size_t word = text.find_first_not_of(' ', last + 1);
  return word == std::string::npos ? line : line + ", " + text.substr(word);
}

Module load_library(const std::filesystem::path& folder, const Manifest& manifest) {
  const std::filesystem::path path = folder / "lib.so";
  checked_content(folder, manifest, "lib.so");  // loading it runs code of it
  try {
    return Module::LoadFromFile(std::filesystem::absolute(path).string());  // a bare name would be searched for
  } catch (const tvm::ffi::Error& error) {
    throw UserError(path.string() + ": cannot be loaded: " + one_line(error) + "; copy or compile the bundle again");
  }
}

Function function_of(const Module& library, const char* name, const std::filesystem::path& path) {
  tvm::ffi::Optional<Function> found = library->GetFunction(name);
  if (!found.has_value()) {
    throw UserError(path.string() + ": has no function " + name + "; compile the bundle again");
  }
  return found.value();
}

// What the library says of its arrays beside what the manifest and weights.bin say, before there is memory for them.
// `size_of`: how many numbers the array of a place has (effgen/compiler/entry.py).
void check_arrays(const Function& size_of, const std::filesystem::path& folder, const Manifest& manifest) {
  std::error_code missing;  // which read_weights says
  const std::uintmax_t weights = std::filesystem::file_size(folder / "weights.bin", missing);
  const std::pair<const char*, std::uintmax_t> sizes[] = {
      {"image", elements(manifest.input_shape)},
      {"logits", output_floats(manifest)},
      {"weights", weights / sizeof(float)},
      {"workspace", static_cast<std::uintmax_t>(manifest.workspace_bytes) / sizeof(float)},
      {"clock", 2 * (manifest.steps.size() + 1)},
  };
  int number = 0;
  for (const auto& [name, size] : sizes) {
    const std::int64_t taken = size_of(number++).cast<std::int64_t>();
    if (static_cast<std::uintmax_t>(taken) == size || (missing && std::string(name) == "weights")) continue;
    throw UserError((folder / "lib.so").string() + ": takes an array " + name + " of " + std::to_string(taken) +
                    " numbers, the bundle has one of " + std::to_string(size) +
                    ": its files do not belong together; copy or compile the bundle again");
  }
}

// The function that runs with a clock, once the library's arrays were seen to be the bundle's.
Function checked_trace(const Module& library, const std::filesystem::path& folder, const Manifest& manifest) {
  check_arrays(function_of(library, "array_size", folder / "lib.so"), folder, manifest);
  return function_of(library, "trace_on", folder / "lib.so");
}

Tensor read_weights(const std::filesystem::path& folder, const Manifest& manifest) {
  const std::string data = checked_content(folder, manifest, "weights.bin");
  if (data.empty() || data.size() % sizeof(float) != 0) {
    throw UserError((folder / "weights.bin").string() + ": " + std::to_string(data.size()) +
                    " bytes: expected whole floats; compile the bundle again");
  }
  Tensor weights = allocate({static_cast<std::int64_t>(data.size() / sizeof(float))});
  upload(data.data(), weights);
  return weights;
}

// The threads that a call will use.
int checked_threads(std::optional<int> asked, std::int64_t compiled_for) {
  const int most = usable_cpus();
  if (asked && (*asked < 1 || *asked > most)) {
    throw UserError("--threads " + std::to_string(*asked) + ": expected from 1 to " + std::to_string(most) +
                    ", the CPUs of this process");
  }
  return asked.value_or(static_cast<int>(std::min<std::int64_t>(compiled_for, default_threads())));
}

}  // namespace

Bundle::Bundle(const std::filesystem::path& folder, const Manifest& manifest, std::optional<int> threads)
    : folder_(folder),
      manifest_(manifest),
      threads_(checked_threads(threads, manifest.threads)),
      library_(load_library(folder, manifest)),
      run_(function_of(library_, "run_on", folder / "lib.so")),
      trace_(checked_trace(library_, folder, manifest)),
      image_(allocate({static_cast<std::int64_t>(elements(manifest.input_shape))})),
      outputs_(allocate({static_cast<std::int64_t>(output_floats(manifest))})),
      weights_(read_weights(folder, manifest)),
      workspace_(allocate({manifest.workspace_bytes / 4})),
      clock_(allocate({static_cast<std::int64_t>(manifest.steps.size()) + 1, 2}, kLong)) {}

std::vector<std::vector<float>> Bundle::run(const float* image) {
  upload(image, image_);
  // A number that nothing writes must not pass by what lay there before.
  const std::vector<float> poison(output_floats(manifest_), std::numeric_limits<float>::quiet_NaN());
  upload(poison.data(), outputs_);
  call(run_, false);
  const std::vector<float> all = download<float>(outputs_);
  std::vector<std::vector<float>> outputs;
  for (const Output& output : manifest_.outputs) {
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(output.start);
    outputs.emplace_back(first, first + static_cast<std::ptrdiff_t>(elements(output.shape)));
  }
  return outputs;
}

double Bundle::time() {
  const auto start = std::chrono::steady_clock::now();
  call(run_, false);
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

std::vector<double> Bundle::trace() {
  call(trace_, true);
  const std::vector<std::int64_t> clock = download<std::int64_t>(clock_);
  std::vector<double> times;
  for (std::size_t i = 2; i < clock.size(); i += 2) {
    times.push_back(static_cast<double>(clock[i] - clock[i - 2]) * 1e3 +
                    static_cast<double>(clock[i + 1] - clock[i - 1]) * 1e-6);
  }
  return times;
}

void Bundle::call(const Function& function, bool traced) {
  int failed = 0;
  try {
    failed = traced ? function(threads_, image_, outputs_, weights_, workspace_, clock_).cast<int>()
                    : function(threads_, image_, outputs_, weights_, workspace_).cast<int>();
  } catch (const tvm::ffi::Error& error) {
    throw UserError(folder_.string() + ": the library refuses its arrays: " + one_line(error) +
                    ": weights.bin, manifest.json and lib.so do not belong together; copy or compile the bundle again");
  }
  if (failed < 0) {
    throw UserError(manifest_.name + ": cannot start " + std::to_string(threads_) + " threads: " +
                    std::strerror(-failed) + "; give --threads 1, or raise the limit (ulimit -u, ulimit -v)");
  }
  if (failed > 0) {
    const auto step = static_cast<std::size_t>(failed - 1);
    throw UserError(manifest_.name + ": out of memory in " +
                    (step < manifest_.steps.size() ? manifest_.steps[step] : "an unknown step"));
  }
}

}  // namespace effgen
