// The runner's readers of arrays.
#include "npz.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "error.h"

namespace {

template <typename Read>
void check(const Read& read) {
  try {
    const effgen::Array array = read();
    std::size_t count = 1;
    for (const std::int64_t extent : array.shape) count *= static_cast<std::size_t>(extent);
    if (count != array.values.size()) std::abort();  // whoever goes by the shape would read beyond the values
  } catch (const effgen::UserError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  check([&] { return effgen::read_npz("golden.npz", bytes, "input"); });
  check([&] { return effgen::read_npz("golden.npz", bytes, "output"); });
  check([&] { return effgen::npy_from_bytes("images.npy", bytes); });
  return 0;
}
