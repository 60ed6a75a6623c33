// The errors that a user can cause, and nothing else.
#ifndef EFFGEN_NATIVE_ERROR_H_
#define EFFGEN_NATIVE_ERROR_H_

#include <stdexcept>

namespace effgen {

// One line that says where, what was found, what was expected and what to do; the program exits 1.
struct UserError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Options that make no sense; the program exits 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace effgen

#endif  // EFFGEN_NATIVE_ERROR_H_
