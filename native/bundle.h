// A loaded bundle: the library's functions and the arrays that they work on.
#ifndef EFFGEN_NATIVE_BUNDLE_H_
#define EFFGEN_NATIVE_BUNDLE_H_

#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "manifest.h"

namespace effgen {

class Bundle {
 public:
  // `threads`: default the manifest's, at most the CPUs there are. Throws UserError: a library or weights that cannot
  // be loaded, or a thread count that this process cannot have.
  Bundle(const std::filesystem::path& folder, const Manifest& manifest, std::optional<int> threads);

  int threads() const { return threads_; }

  // All outputs for one batch, in the manifest's order; `image` holds as many floats as the manifest's input shape. Throws UserError where the
  // library refuses its arrays or is out of memory.
  std::vector<std::vector<float>> run(const float* image);

  // Milliseconds of one run on the image of the last one.
  double time();

  // Milliseconds of each step in one run on the image of the last one.
  std::vector<double> trace();

 private:
  void call(const tvm::ffi::Function& function, bool traced);

  std::filesystem::path folder_;
  const Manifest& manifest_;
  int threads_;
  tvm::ffi::Module library_;
  tvm::ffi::Function run_, trace_;
  tvm::ffi::Tensor image_, outputs_, weights_, workspace_, clock_;
};

}  // namespace effgen

#endif  // EFFGEN_NATIVE_BUNDLE_H_
