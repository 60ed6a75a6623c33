#include "machine.h"

#include <elf.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "error.h"

namespace effgen {
namespace {

#if defined(__x86_64__)
constexpr int kThisMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr int kThisMachine = EM_AARCH64;
#else
#error "name this architecture's ELF machine here and in architecture_name"
#endif

std::string architecture_name(int machine) {
  switch (machine) {
    case EM_X86_64:
      return "x86_64";
    case EM_AARCH64:
      return "aarch64";
    case EM_ARM:
      return "arm";
    case EM_RISCV:
      return "riscv";
    default:
      return "ELF machine " + std::to_string(machine);
  }
}

std::set<std::string> cpu_features() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string key, word;
    words >> key;
    if (key != "flags" && key != "Features") continue;
    std::set<std::string> found;
    while (words >> word) found.insert(word);
    return found;
  }
  return {};
}

}  // namespace

void check_library(const std::filesystem::path& library) {
  std::ifstream file(library, std::ios::binary);
  if (!file) throw UserError(library.string() + ": missing from the bundle; copy or compile it again");
  std::array<char, sizeof(Elf64_Ehdr)> data{};
  file.read(data.data(), data.size());
  if (!file || std::memcmp(data.data(), ELFMAG, SELFMAG) != 0) {
    throw UserError(library.string() + ": no shared library; copy or compile the bundle again");
  }
  Elf64_Ehdr header;
  std::memcpy(&header, data.data(), sizeof(header));
  if (header.e_machine != kThisMachine) {
    throw UserError(library.string() + ": lib.so is for " + architecture_name(header.e_machine) +
                    ", this machine is " + architecture_name(kThisMachine) + "; compile for a target of this machine");
  }
  // The section headers come last. The dynamic loader maps what it is told to, and dies where the file ends early.
  const std::uintmax_t end = header.e_shoff + std::uintmax_t{header.e_shnum} * header.e_shentsize;
  if (end > std::filesystem::file_size(library)) {
    throw UserError(library.string() + ": truncated; copy or compile the bundle again");
  }
}

void check_features(const std::filesystem::path& bundle, const std::string& target,
                    const std::vector<std::string>& features) {
  const std::set<std::string> present = cpu_features();
  std::string missing;
  for (const std::string& feature : features) {
    if (present.count(feature) == 0) missing += (missing.empty() ? "" : ", ") + feature;
  }
  if (!missing.empty()) {
    throw UserError(bundle.string() + ": compiled for " + target + ", this processor lacks " + missing +
                    "; compile for another target (under an emulator: --skip-features)");
  }
}

}  // namespace effgen
