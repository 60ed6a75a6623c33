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

// Calls `check` with each of the `count` entries of a table that begins at `start`.
template <typename Entry, typename Check>
void for_each(std::ifstream& file, std::uint64_t start, int count, const Check& check) {
  file.seekg(static_cast<std::streamoff>(start));
  Entry entry;
  for (int i = 0; i < count && file.read(reinterpret_cast<char*>(&entry), sizeof(entry)); ++i) check(entry);
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
  const std::uintmax_t size = std::filesystem::file_size(library);
  const auto fail = [&library](const char* found) {
    throw UserError(library.string() + ": " + found + "; copy or compile the bundle again");
  };
  std::array<char, sizeof(Elf64_Ehdr)> data{};
  file.read(data.data(), data.size());
  if (!file || std::memcmp(data.data(), ELFMAG, SELFMAG) != 0 || data[EI_CLASS] != ELFCLASS64) fail("no shared library");
  Elf64_Ehdr header;
  std::memcpy(&header, data.data(), sizeof(header));
  if (header.e_machine != kThisMachine) {
    throw UserError(library.string() + ": lib.so is for " + architecture_name(header.e_machine) +
                    ", this machine is " + architecture_name(kThisMachine) + "; compile for a target of this machine");
  }
  if (header.e_type != ET_DYN || header.e_phentsize != sizeof(Elf64_Phdr)) fail("no shared library");
  if (header.e_shnum != 0 && header.e_shentsize != sizeof(Elf64_Shdr)) fail("no shared library");
  // The dynamic loader maps what these tables say, and dies where the file ends early.
  const auto is_inside = [size](std::uintmax_t start, std::uintmax_t length) {
    return length == 0 || (start <= size && length <= size - start);
  };
  bool loaded = false, dynamic = false;
  const auto check_segment = [&](const Elf64_Phdr& segment) {
    if (segment.p_type != PT_LOAD && segment.p_type != PT_DYNAMIC) return;
    (segment.p_type == PT_LOAD ? loaded : dynamic) = true;
    if (!is_inside(segment.p_offset, segment.p_filesz) || segment.p_filesz > segment.p_memsz) fail("truncated");
  };
  const auto check_section = [&](const Elf64_Shdr& section) {
    if (section.sh_type != SHT_NOBITS && !is_inside(section.sh_offset, section.sh_size)) fail("truncated");
  };
  if (!is_inside(header.e_phoff, std::uintmax_t{header.e_phnum} * sizeof(Elf64_Phdr))) fail("truncated");
  if (!is_inside(header.e_shoff, std::uintmax_t{header.e_shnum} * sizeof(Elf64_Shdr))) fail("truncated");
  for_each<Elf64_Phdr>(file, header.e_phoff, header.e_phnum, check_segment);
  for_each<Elf64_Shdr>(file, header.e_shoff, header.e_shnum, check_section);
  if (!file) fail("cannot be read");
  if (!loaded || !dynamic) fail("no shared library");
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
