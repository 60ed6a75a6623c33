// Strings that come from files, as a terminal may have them.
#ifndef EFFGEN_NATIVE_PRINTABLE_H_
#define EFFGEN_NATIVE_PRINTABLE_H_

#include <string>
#include <string_view>

namespace effgen {

// `text` on one line, without what a terminal would obey: control characters (C0, DEL, and UTF-8's C1), the marks that
// turn the direction of writing round, and bytes that are no UTF-8, each as \xNN.
std::string printable(std::string_view text);

}  // namespace effgen

#endif  // EFFGEN_NATIVE_PRINTABLE_H_
