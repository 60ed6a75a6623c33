// What a bundle's manifest.json says, as far as running it goes.
#ifndef EFFGEN_NATIVE_MANIFEST_H_
#define EFFGEN_NATIVE_MANIFEST_H_

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace effgen {

// One of what a network gives.
struct Output {
  std::string name;
  std::vector<std::int64_t> shape;  // batch first
  std::size_t start;                // in the array of all outputs, in floats
};

struct Manifest {
  std::string name;
  std::string target;
  std::vector<std::string> features;  // instruction sets, as /proc/cpuinfo spells them
  std::int64_t threads;
  std::vector<std::int64_t> input_shape;   // batch, channels, height, width
  std::vector<Output> outputs;
  std::vector<std::string> steps;          // kernels in the order of their calls
  std::int64_t workspace_bytes;
  double tolerance;  // relative L2
  std::map<std::string, std::string> files;  // name -> SHA-256
};

// Throws UserError: no bundle there, another format, a manifest that misses its own digest, a device that this program
// cannot run on, keys missing or odd.
Manifest read_manifest(const std::filesystem::path& bundle);

// The same of the text of the file `path`, which messages name.
Manifest manifest_from_text(const std::filesystem::path& path, const std::string& text);

// Elements of an array of this shape.
std::size_t elements(const std::vector<std::int64_t>& shape);

// Floats of the array of all outputs.
std::size_t output_floats(const Manifest& manifest);

}  // namespace effgen

#endif  // EFFGEN_NATIVE_MANIFEST_H_
