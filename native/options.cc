#include "options.h"

#include <cmath>
#include <limits>

#include "error.h"

namespace effgen {

const char* const kUsage =
    "usage: effgen-run BUNDLE [options]\n"
    "Runs a bundle on its golden pair, compares with the expected output and times it.\n"
    "  --threads N        threads of a run; default: what the bundle was compiled for, at most the physical cores here\n"
    "  --runs N           timed runs at least; default: 10; 0: none\n"
    "  --min-time S       seconds of timed runs at least; default: 1\n"
    "  --layers           the median time of each step too\n"
    "  --input FILE.npy --output FILE.npy\n"
    "                     run these images (float32, a multiple of the bundle's batch) instead, and write the outputs;\n"
    "                     of several one file each: FILE.0.npy, FILE.1.npy...\n"
    "  --json             one line of JSON on standard output\n"
    "  --skip-features    do not look in /proc/cpuinfo, which under an emulator is another machine's\n"
    "exit status: 0 passed, 3 the golden pair was missed, 1 an error, 2 wrong options\n";

namespace {

double number(const std::string& option, const std::string& text) {
  std::size_t used = 0;
  double value = std::numeric_limits<double>::quiet_NaN();
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  if (used == 0 || used != text.size() || !std::isfinite(value) || value < 0) {
    throw UsageError(option + " " + text + ": expected a number from 0");
  }
  return value;
}

int whole(const std::string& option, const std::string& text) {
  const double value = number(option, text);
  if (value != std::floor(value) || value > std::numeric_limits<int>::max()) {
    throw UsageError(option + " " + text + ": expected a whole number");
  }
  return static_cast<int>(value);
}

}  // namespace

Options parse_options(int count, char** words) {
  Options options;
  bool timing = false;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    const auto value = [&]() -> std::string {
      if (i + 1 >= count) throw UsageError(word + ": expected a value after it");
      return words[++i];
    };
    if (word == "--threads") {
      options.threads = whole(word, value());
    } else if (word == "--runs") {
      options.runs = whole(word, value());
      timing = true;
    } else if (word == "--min-time") {
      options.min_seconds = number(word, value());
      timing = true;
    } else if (word == "--input") {
      options.input = value();
    } else if (word == "--output") {
      options.output = value();
    } else if (word == "--layers") {
      options.layers = timing = true;
    } else if (word == "--json") {
      options.json = true;
    } else if (word == "--skip-features") {
      options.skip_features = true;
    } else if (word == "--help" || word == "-h") {
      options.help = true;
    } else if (word.rfind("-", 0) == 0) {
      throw UsageError("unknown option " + word);
    } else if (options.bundle.empty()) {
      options.bundle = word;
    } else {
      throw UsageError(word + ": expected one bundle");
    }
  }
  if (options.help) return options;
  if (options.bundle.empty()) throw UsageError("expected the directory of a bundle");
  if (options.input.empty() != options.output.empty()) throw UsageError("--input and --output: expected both");
  if (timing && !options.input.empty()) throw UsageError("--input: images of your own are run once, not timed");
  return options;
}

}  // namespace effgen
