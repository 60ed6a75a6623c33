// The runner's command line, a word a line.
#include "options.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::istringstream lines(std::string(reinterpret_cast<const char*>(data), size));
  std::vector<std::string> words{"effgen-run"};
  for (std::string line; std::getline(lines, line);) words.push_back(line.substr(0, line.find('\0')));
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  try {
    const effgen::Options options = effgen::parse_options(static_cast<int>(words.size()), pointers.data());
    if (options.runs < 0 || !(options.min_seconds >= 0) || (options.threads && *options.threads < 0)) std::abort();
  } catch (const effgen::UsageError&) {
  }
  return 0;
}
