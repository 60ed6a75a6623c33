// The runner's reader of manifests: as it comes, and with a digest that is right, which lets the rest be looked at.
#include "manifest.h"

#include <cstddef>
#include <cstdint>
#include <string>

#include "canonical.h"
#include "error.h"
#include "sha256.h"

namespace {

void read(const std::string& text) {
  try {
    effgen::manifest_from_text("manifest.json", text);
  } catch (const effgen::UserError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  read(text);
  const std::string canonical = effgen::canonical_json(text, "digest");
  if (canonical.size() > 2) read("{\"digest\":\"" + effgen::sha256(canonical) + "\"," + canonical.substr(1));
  return 0;
}
