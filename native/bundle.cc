#include "bundle.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <system_error>

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

// Throws UserError where the library takes another number of floats as `name` than the bundle has. `said`: its refusal
// of a call without arguments, which quotes what it takes: "weights: Tensor([9920], float32)".
void check_floats(const std::string& where, const std::string& said, const std::string& name, std::size_t floats) {
  const std::string before = name + ": Tensor([";
  const std::size_t found = said.find(before);
  if (found == std::string::npos) return;  // of another TVM: it refuses its arrays itself when it is called
  const std::string taken = said.substr(found + before.size(), said.find(']', found) - found - before.size());
  if (taken == std::to_string(floats)) return;
  throw UserError(where + ": takes an array " + name + " of " + taken + " numbers, the bundle has one of " +
                  std::to_string(floats) + ": its files do not belong together; copy or compile the bundle again");
}

// What the library says of its arrays beside what the manifest and weights.bin say, before there is memory for them.
void check_arrays(const Function& trace, const std::filesystem::path& folder, const Manifest& manifest) {
  std::string said;
  try {
    trace();
  } catch (const tvm::ffi::Error& error) {
    said = error.message();
  }
  const std::string where = (folder / "lib.so").string();
  check_floats(where, said, "image", elements(manifest.input_shape));
  check_floats(where, said, "logits", output_floats(manifest));
  std::error_code missing;  // which read_weights says
  const std::uintmax_t weights = std::filesystem::file_size(folder / "weights.bin", missing);
  if (!missing) check_floats(where, said, "weights", weights / sizeof(float));
  check_floats(where, said, "workspace", static_cast<std::size_t>(manifest.workspace_bytes) / sizeof(float));
  const std::string steps = "clock: Tensor([" + std::to_string(manifest.steps.size() + 1) + ", 2]";
  if (said.find("clock: Tensor([") != std::string::npos && said.find(steps) == std::string::npos) {
    throw UserError(where + ": has another number of steps than the manifest says; copy or compile the bundle again");
  }
}

// The function that runs with a clock, once the library's arrays were seen to be the bundle's.
Function checked_trace(const Module& library, const std::filesystem::path& folder, const Manifest& manifest) {
  check_arrays(function_of(library, "trace", folder / "lib.so"), folder, manifest);
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
