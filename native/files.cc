#include "files.h"

#include <fstream>
#include <string_view>
#include <system_error>

#include "error.h"
#include "sha256.h"

namespace effgen {
namespace {

void check_file(const std::filesystem::path& bundle, const std::string& name) {
  const std::filesystem::path file = bundle / name;
  std::error_code failed;
  if (!std::filesystem::is_regular_file(file, failed)) {
    throw UserError(file.string() + ": missing from the bundle; copy or compile it again");
  }
  if (std::filesystem::canonical(file).parent_path() != std::filesystem::canonical(bundle)) {
    throw UserError(file.string() + ": is a symbolic link that leaves the bundle; copy what it points to");
  }
}

void check_hash(const std::filesystem::path& bundle, const Manifest& manifest, const std::string& name,
                std::string_view content) {
  const auto stated = manifest.files.find(name);
  if (stated == manifest.files.end()) {
    throw UserError((bundle / "manifest.json").string() + ": files: no hash of " + name + "; compile the bundle again");
  }
  const std::string found = sha256(content);
  if (found != stated->second) {
    throw UserError((bundle / name).string() + ": SHA-256 is " + found.substr(0, 12) + "..., the manifest says " +
                    stated->second.substr(0, 12) +
                    "...: the file was changed or damaged; copy or compile the bundle again");
  }
}

}  // namespace

std::string checked_content(const std::filesystem::path& bundle, const Manifest& manifest, const std::string& name) {
  check_file(bundle, name);
  std::ifstream file(bundle / name, std::ios::binary | std::ios::ate);
  std::string content(file ? static_cast<std::size_t>(file.tellg()) : 0, '\0');
  file.seekg(0).read(content.data(), static_cast<std::streamsize>(content.size()));
  if (!file) throw UserError((bundle / name).string() + ": cannot be read; copy or compile the bundle again");
  check_hash(bundle, manifest, name, content);
  return content;
}

}  // namespace effgen
