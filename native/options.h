// What the command line says.
#ifndef EFFGEN_NATIVE_OPTIONS_H_
#define EFFGEN_NATIVE_OPTIONS_H_

#include <filesystem>
#include <optional>
#include <string>

namespace effgen {

extern const char* const kUsage;

struct Options {
  std::filesystem::path bundle;
  std::optional<int> threads;
  int runs = 10;
  double min_seconds = 1;
  std::filesystem::path input, output;  // both or neither
  bool layers = false;
  bool json = false;
  bool skip_features = false;
  bool help = false;
};

// Throws UsageError.
Options parse_options(int count, char** words);

}  // namespace effgen

#endif  // EFFGEN_NATIVE_OPTIONS_H_
