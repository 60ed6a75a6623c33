// The files that a bundle's manifest lists.
#ifndef EFFGEN_NATIVE_FILES_H_
#define EFFGEN_NATIVE_FILES_H_

#include <filesystem>
#include <string>

#include "manifest.h"

namespace effgen {

// The whole content of a file of the bundle. Throws UserError where it is missing, lies elsewhere by a symbolic link,
// cannot be read, or has another SHA-256 than the manifest says.
std::string checked_content(const std::filesystem::path& bundle, const Manifest& manifest, const std::string& name);

}  // namespace effgen

#endif  // EFFGEN_NATIVE_FILES_H_
