// What the runner writes to a terminal of strings that come from files.
#include "printable.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string found = effgen::printable({reinterpret_cast<const char*>(data), size});
  for (const char byte : found) {
    if (static_cast<unsigned char>(byte) < 0x20 || byte == 0x7f) std::abort();
  }
  if (effgen::printable(found) != found) std::abort();  // nothing is left that it would change
  return 0;
}
