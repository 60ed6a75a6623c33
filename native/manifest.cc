#include "manifest.h"

#include <tvm/ffi/extra/json.h>
#include <tvm/ffi/string.h>

#include <fstream>
#include <optional>
#include <sstream>

#include "error.h"

namespace effgen {
namespace {

namespace json = tvm::ffi::json;
using tvm::ffi::String;

constexpr std::int64_t kFormatVersion = 4;
constexpr std::int64_t kMostElements = std::int64_t{1} << 40;

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

  // Positive extents, `rank` of them.
  std::vector<std::int64_t> shape(const char* key, std::size_t rank) const {
    std::vector<std::int64_t> found;
    std::int64_t product = 1;
    for (const json::Value& value : get<json::Array>(key)) {
      found.push_back(element<std::int64_t>(key, value));
      if (found.back() < 1 || found.back() > kMostElements / product) odd(key);
      product *= found.back();
    }
    if (found.size() != rank) odd(key);
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

Table parse(const std::filesystem::path& path, const std::filesystem::path& bundle) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw UserError(bundle.string() + ": no bundle here (no manifest.json); make one with `effgen compile`");
  }
  std::stringstream text;
  text << file.rdbuf();
  String problem;
  json::Value value = json::Parse(String(text.str()), &problem);
  auto object = value.try_cast<json::Object>();
  if (!problem.empty() || !object) {
    throw UserError(path.string() + ": cannot be read as JSON; copy or compile the bundle again");
  }
  return Table(path.string(), *object);
}

}  // namespace

Manifest read_manifest(const std::filesystem::path& bundle) {
  const std::filesystem::path path = bundle / "manifest.json";
  const Table root = parse(path, bundle);
  const std::int64_t version = root.get<std::int64_t>("format_version");
  if (version != kFormatVersion) {
    throw UserError(path.string() + ": format_version = " + std::to_string(version) + ": this effgen-run reads " +
                    std::to_string(kFormatVersion) + "; build it anew, or compile the bundle again");
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
      root.table("output").shape("shape", 2),
      root.strings("steps"),
      root.get<std::int64_t>("workspace_bytes"),
      root.table("tolerance").get<double>("rel_l2"),
  };
  if (manifest.threads < 1) root.odd("threads");
  if (manifest.workspace_bytes < 0 || manifest.workspace_bytes % 4 != 0) root.odd("workspace_bytes");
  if (manifest.output_shape[0] != manifest.input_shape[0]) root.table("output").odd("shape");
  return manifest;
}

std::size_t elements(const std::vector<std::int64_t>& shape) {
  std::size_t product = 1;
  for (std::int64_t extent : shape) product *= static_cast<std::size_t>(extent);
  return product;
}

}  // namespace effgen
