#include "judge.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace effgen {

double relative_l2(const std::vector<float>& found, const std::vector<float>& expected, std::size_t size) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  double worst = 0;
  for (std::size_t row = 0; row < expected.size(); row += size) {
    double difference = 0, norm = 0;
    for (std::size_t i = row; i < row + size; ++i) {
      if (!std::isfinite(found[i])) return kInfinity;
      const double reference = expected[i], error = found[i] - reference;
      difference += error * error;
      norm += reference * reference;
    }
    const double ratio = difference == 0 ? 0 : std::sqrt(difference / norm);
    worst = std::max(worst, std::isnan(ratio) ? kInfinity : ratio);
  }
  return worst;
}

double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const double place = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const double above = values[std::min(below + 1, values.size() - 1)];
  return values[below] + (above - values[below]) * (place - static_cast<double>(below));
}

}  // namespace effgen
