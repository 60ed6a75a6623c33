// effgen-run: verifies and times a bundle with TVM's runtime alone. See kUsage, docs/native.md.
#include <tvm/ffi/error.h>
#include <tvm/ffi/extra/json.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <new>
#include <stdexcept>

#include "bundle.h"
#include "error.h"
#include "files.h"
#include "judge.h"
#include "machine.h"
#include "manifest.h"
#include "npz.h"
#include "options.h"
#include "printable.h"

namespace effgen {
namespace {

namespace json = tvm::ffi::json;
using tvm::ffi::String;

enum Status { kPassed = 0, kUserError = 1, kUsageError = 2, kMissed = 3 };

// What a run on the golden pair found; times in milliseconds.
struct Report {
  double rel_l2 = 0;
  std::string worst;  // the output that is furthest off, where there are several
  bool passed = false;
  std::vector<double> runs;
  std::vector<double> steps;  // median of each; empty unless asked for
};

// Throws UserError where `array` is not of `shape`, or with `batches` of several such batches in a row.
void check_shape(const std::string& where, const Array& array, const std::vector<std::int64_t>& shape, bool batches) {
  bool fits = array.shape.size() == shape.size();
  for (std::size_t i = 0; fits && i < shape.size(); ++i) {
    fits = i == 0 && batches ? array.shape[i] > 0 && array.shape[i] % shape[i] == 0 : array.shape[i] == shape[i];
  }
  if (fits) return;
  const auto text = [](const std::vector<std::int64_t>& extents) {
    std::string joined;
    for (std::int64_t extent : extents) joined += (joined.empty() ? "" : ", ") + std::to_string(extent);
    return "(" + joined + ")";
  };
  throw UserError(where + ": shape " + text(array.shape) + ": expected " + text(shape) +
                  (batches ? ", or a multiple in front" : "; copy or compile the bundle again"));
}

std::vector<double> timed_runs(Bundle& bundle, const Options& options) {
  std::vector<double> times;
  if (options.runs == 0) return times;
  double total = 0;
  while (times.size() < static_cast<std::size_t>(options.runs) || total < options.min_seconds * 1e3) {
    times.push_back(bundle.time());
    total += times.back();
  }
  return times;
}

std::vector<double> timed_steps(Bundle& bundle, std::size_t steps, std::size_t runs) {
  std::vector<std::vector<double>> times(steps);
  for (std::size_t run = 0; run < runs; ++run) {
    const std::vector<double> one = bundle.trace();
    for (std::size_t step = 0; step < steps; ++step) times[step].push_back(one[step]);
  }
  std::vector<double> medians;
  for (const std::vector<double>& all : times) medians.push_back(quantile(all, 0.5));
  return medians;
}

Report judge_golden(Bundle& bundle, const Manifest& manifest, const Options& options) {
  const std::string where = (options.bundle / "golden.npz").string();
  const std::string golden = checked_content(options.bundle, manifest, "golden.npz");
  const Array image = read_npz(where, golden, "input");
  check_shape(where + ": input", image, manifest.input_shape, false);
  const std::vector<std::vector<float>> found = bundle.run(image.values.data());
  Report report;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const Output& output = manifest.outputs[i];
    const std::string name = found.size() == 1 ? "output" : "output." + std::to_string(i);
    const Array expected = read_npz(where, golden, name);
    check_shape(where + ": " + name, expected, output.shape, false);
    const double distance =
        relative_l2(found[i], expected.values, found[i].size() / static_cast<std::size_t>(output.shape[0]));
    if (found.size() > 1 && (i == 0 || distance > report.rel_l2)) report.worst = output.name;
    report.rel_l2 = std::max(report.rel_l2, distance);
  }
  report.passed = report.rel_l2 <= manifest.tolerance;
  report.runs = timed_runs(bundle, options);
  if (options.layers && !report.runs.empty()) {
    report.steps = timed_steps(bundle, manifest.steps.size(), report.runs.size());
  }
  return report;
}

void print_json(const Report& report, const Manifest& manifest, int threads) {
  json::Object line;
  line.Set(String("model"), String(manifest.name));
  line.Set(String("target"), String(manifest.target));
  line.Set(String("threads"), threads);
  // JSON has no infinity: null where the output is not finite.
  line.Set(String("rel_l2"), std::isfinite(report.rel_l2) ? json::Value(report.rel_l2) : json::Value(nullptr));
  if (!report.worst.empty()) line.Set(String("worst_output"), String(report.worst));
  line.Set(String("tolerance"), manifest.tolerance);
  line.Set(String("passed"), report.passed);
  const auto array = [](const std::vector<double>& values) {
    return json::Array(values.begin(), values.end());
  };
  line.Set(String("runs_ms"), array(report.runs));
  if (!report.runs.empty()) {
    line.Set(String("min_ms"), quantile(report.runs, 0));
    line.Set(String("median_ms"), quantile(report.runs, 0.5));
    line.Set(String("p90_ms"), quantile(report.runs, 0.9));
  }
  if (!report.steps.empty()) line.Set(String("steps_ms"), array(report.steps));
  std::printf("%s\n", std::string(json::Stringify(line)).c_str());
}

void print_text(const Report& report, const Manifest& manifest, int threads) {
  std::printf("model      %s\n", printable(manifest.name).c_str());
  std::printf("target     %s, %d thread%s\n", printable(manifest.target).c_str(), threads, threads == 1 ? "" : "s");
  const std::string worst = report.worst.empty() ? "" : " (" + printable(report.worst) + ")";
  std::printf("golden     relative L2 %.2e%s, tolerance %g: %s\n", report.rel_l2, worst.c_str(), manifest.tolerance,
              report.passed ? "pass" : "FAIL");
  if (!report.runs.empty()) {
    std::printf("time       min %.3f ms, median %.3f ms, p90 %.3f ms (%zu runs)\n", quantile(report.runs, 0),
                quantile(report.runs, 0.5), quantile(report.runs, 0.9), report.runs.size());
  }
  for (std::size_t step = 0; step < report.steps.size(); ++step) {
    std::printf("%10.3f ms  %s\n", report.steps[step], printable(manifest.steps[step]).c_str());
  }
}

// Where the output of this number goes: `answer.npy`, of several `answer.0.npy`, `answer.1.npy`...
std::filesystem::path output_file(std::filesystem::path path, std::size_t number, std::size_t count) {
  if (count > 1) path.replace_extension("." + std::to_string(number) + path.extension().string());
  return path;
}

// Runs the user's images, a batch at a time.
void run_images(Bundle& bundle, const Manifest& manifest, const Options& options) {
  const Array images = read_npy(options.input);
  check_shape(options.input.string(), images, manifest.input_shape, true);
  std::vector<Array> arrays;
  for (const Output& output : manifest.outputs) {
    arrays.push_back({output.shape, {}});
    arrays.back().shape[0] = images.shape[0];
  }
  for (std::size_t at = 0; at < images.values.size(); at += elements(manifest.input_shape)) {
    const std::vector<std::vector<float>> found = bundle.run(images.values.data() + at);
    for (std::size_t i = 0; i < found.size(); ++i) {
      arrays[i].values.insert(arrays[i].values.end(), found[i].begin(), found[i].end());
    }
  }
  for (std::size_t i = 0; i < arrays.size(); ++i) write_npy(output_file(options.output, i, arrays.size()), arrays[i]);
}

Status run(const Options& options) {
  const Manifest manifest = read_manifest(options.bundle);
  check_library(options.bundle / "lib.so");
  if (!options.skip_features) check_features(options.bundle, manifest.target, manifest.features);
  Bundle bundle(options.bundle, manifest, options.threads);
  if (!options.input.empty()) {
    run_images(bundle, manifest, options);
    return kPassed;
  }
  const Report report = judge_golden(bundle, manifest, options);
  (options.json ? print_json : print_text)(report, manifest, bundle.threads());
  if (report.passed) return kPassed;
  std::fprintf(stderr, "effgen-run: %s: golden pair%s: %s %.2e, expected at most %g\n", printable(options.bundle.string()).c_str(),
               report.worst.empty() ? "" : (", output " + printable(report.worst)).c_str(),
               std::isfinite(report.rel_l2) ? "relative L2" : "the output is not finite, relative L2", report.rel_l2,
               manifest.tolerance);
  return kMissed;
}

// The status, once all that was printed is written. Throws UserError where it cannot be, unless the answer was wrong.
Status written(Status status) {
  const bool failed = std::fflush(stdout) != 0 || std::ferror(stdout);
  if (failed && status == kPassed) throw UserError("standard output: cannot be written");
  return status;
}

}  // namespace
}  // namespace effgen

int main(int count, char** words) {
  try {
    const effgen::Options options = effgen::parse_options(count, words);
    if (!options.help) return effgen::written(effgen::run(options));
    std::fputs(effgen::kUsage, stdout);
    return effgen::written(effgen::kPassed);
  } catch (const effgen::UsageError& error) {
    std::fprintf(stderr, "effgen-run: %s\n%s", effgen::printable(error.what()).c_str(), effgen::kUsage);
    return effgen::kUsageError;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "effgen-run: out of memory\n");
  } catch (const std::length_error&) {  // of a file larger than any address
    std::fprintf(stderr, "effgen-run: out of memory\n");
  } catch (const std::exception& error) {  // UserError, and what the file system or TVM's runtime say
    std::fprintf(stderr, "effgen-run: %s\n", effgen::printable(error.what()).c_str());
  }
  return effgen::kUserError;
}
