// The machine under the program: its architecture and instruction sets.
#ifndef EFFGEN_NATIVE_MACHINE_H_
#define EFFGEN_NATIVE_MACHINE_H_

#include <filesystem>
#include <string>
#include <vector>

namespace effgen {

// Throws UserError where the library is missing, truncated, no ELF file, or for another architecture than this
// program.
void check_library(const std::filesystem::path& library);

// Throws UserError where /proc/cpuinfo lacks one of `features`. `bundle` and `target` are for the message.
void check_features(const std::filesystem::path& bundle, const std::string& target,
                    const std::vector<std::string>& features);

}  // namespace effgen

#endif  // EFFGEN_NATIVE_MACHINE_H_
