// JSON in the one form that the manifest's digest is taken of (effgen/runtime/manifest.py).
#ifndef EFFGEN_NATIVE_CANONICAL_H_
#define EFFGEN_NATIVE_CANONICAL_H_

#include <string>
#include <string_view>

namespace effgen {

// The object `json` without white space, its keys sorted and the outermost one's `left_out` left out. Names and numbers
// stay as they are spelt, which is how Python's json module spells them. Empty where the text is no JSON object.
std::string canonical_json(std::string_view json, std::string_view left_out);

}  // namespace effgen

#endif  // EFFGEN_NATIVE_CANONICAL_H_
