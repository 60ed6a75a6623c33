#include "manifest.h"

#include <tvm/ffi/extra/json.h>
#include <tvm/ffi/string.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <optional>
#include <system_error>

#include "canonical.h"
#include "error.h"
#include "sha256.h"

namespace effgen {
namespace {

namespace json = tvm::ffi::json;
using tvm::ffi::String;

constexpr std::int64_t kFormatVersion = 7;
constexpr std::int64_t kAlignment = 64;
// As effgen/runtime/fields.py and effgen/files/bounded.py say.
constexpr std::int64_t kMostElements = std::int64_t{1} << 31;
constexpr std::int64_t kMostWorkspace = std::int64_t{1} << 36;
constexpr std::int64_t kMostThreads = 1024;
constexpr std::uintmax_t kMostBytes = 16 << 20;

// An object of the manifest and where it stands, for messages.
class Table {
 public:
  Table(std::string where, json::Object values) : where_(std::move(where)), values_(std::move(values)) {}

  template <typename T>
  std::optional<T> maybe(const char* key) const {
    auto found = values_.Get(String(key));
    return found.has_value() ? found.value().template try_cast<T>() : std::nullopt;
  }

  template <typename T>
  T get(const char* key) const {
    std::optional<T> value = maybe<T>(key);
    if (!value) throw UserError(where_ + ": " + key + ": missing or of another type; compile the bundle again");
    return *value;
  }

  Table table(const char* key) const { return Table(where_ + ": " + key, get<json::Object>(key)); }

  std::vector<std::string> strings(const char* key) const {
    std::vector<std::string> found;
    for (const json::Value& value : get<json::Array>(key)) found.push_back(element<String>(key, value));
    return found;
  }

  // A table of strings.
  std::map<std::string, std::string> names(const char* key) const {
    std::map<std::string, std::string> found;
    for (const auto& [name, value] : get<json::Object>(key)) {
      found.emplace(element<String>(key, name), element<String>(key, value));
    }
    return found;
  }

  // The tables of a list.
  std::vector<Table> tables(const char* key) const {
    std::vector<Table> found;
    for (const json::Value& value : get<json::Array>(key)) {
      found.emplace_back(where_ + ": " + key, element<json::Object>(key, value));
    }
    return found;
  }

  // Positive extents, `rank` of them; 0: any number.
  std::vector<std::int64_t> shape(const char* key, std::size_t rank) const {
    std::vector<std::int64_t> found;
    std::int64_t product = 1;
    for (const json::Value& value : get<json::Array>(key)) {
      found.push_back(element<std::int64_t>(key, value));
      if (found.back() < 1 || found.back() > kMostElements / product) odd(key);
      product *= found.back();
    }
    if (found.empty() || (rank != 0 && found.size() != rank)) odd(key);
    return found;
  }

  [[noreturn]] void odd(const char* key) const {
    throw UserError(where_ + ": " + key + ": makes no sense; compile the bundle again");
  }

 private:
  template <typename T>
  T element(const char* key, const json::Value& value) const {
    std::optional<T> cast = value.try_cast<T>();
    if (!cast) odd(key);
    return *cast;
  }

  std::string where_;
  json::Object values_;
};

std::string text_of(const std::filesystem::path& path, const std::filesystem::path& bundle) {
  std::error_code ignored;
  if (std::filesystem::is_regular_file(bundle, ignored)) {
    throw UserError(bundle.string() + ": is a file: expected a bundle's directory; unpack an archive first");
  }
  // A pipe or a device would be waited for, or never end.
  if (!std::filesystem::is_regular_file(path, ignored)) {
    throw UserError(bundle.string() + ": no bundle here (no manifest.json); make one with `effgen compile`");
  }
  const std::uintmax_t size = std::filesystem::file_size(path, ignored);
  if (size > kMostBytes) {
    throw UserError(path.string() + ": larger than 16 MiB, which no manifest is; copy or compile the bundle again");
  }
  std::ifstream file(path, std::ios::binary);
  std::string text(size, '\0');
  file.read(text.data(), static_cast<std::streamsize>(size));
  if (!file) throw UserError(path.string() + ": cannot be read; copy or compile the bundle again");
  return text;
}

// `canonical`: what `text` is in that form, empty where it is no JSON or nested too deep: TVM's reader, which recurses,
// is given nothing else.
Table parse(const std::filesystem::path& path, const std::string& text, const std::string& canonical) {
  if (canonical.empty()) {
    throw UserError(path.string() + ": cannot be read as JSON; copy or compile the bundle again");
  }
  String problem;
  json::Value value = json::Parse(String(text), &problem);
  auto object = value.try_cast<json::Object>();
  if (!problem.empty() || !object) {
    throw UserError(path.string() + ": cannot be read as JSON; copy or compile the bundle again");
  }
  return Table(path.string(), *object);
}

void check_version(const std::filesystem::path& path, const Table& root) {
  const std::int64_t version = root.get<std::int64_t>("format_version");
  if (version == kFormatVersion) return;
  const bool newer = version > kFormatVersion;
  throw UserError(path.string() + ": format_version = " + std::to_string(version) +
                  (newer ? ": written by a newer effgen, this effgen-run reads " : ": this effgen-run reads ") +
                  std::to_string(kFormatVersion) +
                  (newer ? "; build effgen-run by that effgen" : "; compile the bundle again"));
}

std::vector<Output> read_outputs(const Table& root, std::int64_t batch) {
  const std::vector<Table> tables = root.tables("outputs");
  if (tables.empty()) root.odd("outputs");
  std::vector<Output> outputs;
  for (const Table& table : tables) {
    const std::int64_t start = table.maybe<std::int64_t>("start").value_or(0);
    if (start < 0 || start % kAlignment != 0 || start > 4 * kMostElements) table.odd("start");
    outputs.push_back({table.get<String>("name"), table.shape("shape", 0), static_cast<std::size_t>(start) / 4});
    if (outputs.back().shape[0] != batch) table.odd("shape");
    if (outputs.back().start + elements(outputs.back().shape) > kMostElements) table.odd("shape");
  }
  return outputs;
}

}  // namespace

Manifest read_manifest(const std::filesystem::path& bundle) {
  const std::filesystem::path path = bundle / "manifest.json";
  return manifest_from_text(path, text_of(path, bundle));
}

Manifest manifest_from_text(const std::filesystem::path& path, const std::string& text) {
  const std::string canonical = canonical_json(text, "digest");
  const Table root = parse(path, text, canonical);
  check_version(path, root);
  if (root.get<String>("digest") != sha256(canonical)) {
    throw UserError(path.string() +
                    ": does not match its own digest: it was changed or damaged; copy or compile the bundle again");
  }
  const Table target = root.table("target");
  const std::string kind = root.table("device").get<String>("kind");
  if (kind != "cpu") {
    throw UserError(path.string() + ": device: compiled for " + kind + ": this effgen-run runs on CPUs only");
  }
  Manifest manifest{
      root.get<String>("name"),
      target.get<String>("name"),
      target.strings("features"),
      root.get<std::int64_t>("threads"),
      root.table("input").shape("shape", 4),
      {},
      root.strings("steps"),
      root.get<std::int64_t>("workspace_bytes"),
      root.table("tolerance").get<double>("rel_l2"),
      root.names("files"),
  };
  if (manifest.threads < 1 || manifest.threads > kMostThreads) root.odd("threads");
  if (manifest.workspace_bytes < 0 || manifest.workspace_bytes > kMostWorkspace || manifest.workspace_bytes % 4 != 0) {
    root.odd("workspace_bytes");
  }
  if (!(manifest.tolerance >= 0) || std::isinf(manifest.tolerance)) root.odd("tolerance");
  manifest.outputs = read_outputs(root, manifest.input_shape[0]);
  return manifest;
}

std::size_t elements(const std::vector<std::int64_t>& shape) {
  std::size_t product = 1;
  for (std::int64_t extent : shape) product *= static_cast<std::size_t>(extent);
  return product;
}

std::size_t output_floats(const Manifest& manifest) {
  std::size_t floats = 0;
  for (const Output& output : manifest.outputs) floats = std::max(floats, output.start + elements(output.shape));
  return floats;
}

}  // namespace effgen
