// How far outputs are from their reference, as effgen/verify.py defines it, and statistics of times.
#ifndef EFFGEN_NATIVE_JUDGE_H_
#define EFFGEN_NATIVE_JUDGE_H_

#include <cstddef>
#include <vector>

namespace effgen {

// norm(found - expected) / norm(expected) in double of the worst row of `size` values, an image's; infinite where a value of
// `found` or the quotient is not finite. A row of zeros is matched by zeros only.
double relative_l2(const std::vector<float>& found, const std::vector<float>& expected, std::size_t size);

// The value below which `share` (0..1) of the values lie, interpolated between neighbours as numpy does.
double quantile(std::vector<double> values, double share);

}  // namespace effgen

#endif  // EFFGEN_NATIVE_JUDGE_H_
