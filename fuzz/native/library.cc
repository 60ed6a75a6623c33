// What the runner looks at before lib.so is handed to the dynamic loader, which is not called here.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "error.h"
#include "machine.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const int file = memfd_create("lib.so", 0);
  if (file < 0 || ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != static_cast<ssize_t>(size)) std::abort();
  try {
    effgen::check_library("/proc/self/fd/" + std::to_string(file));
  } catch (const effgen::UserError&) {
  }
  return 0;
}
