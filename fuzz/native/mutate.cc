// Feeds a harness without libFuzzer: the seeds as they are, then so many changed copies of them, the same ones each time.
// usage: HARNESS COUNT SEED_FILE...
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Input = std::vector<std::uint8_t>;

class Mutator {
 public:
  explicit Mutator(std::vector<Input> seeds) : seeds_(std::move(seeds)) {}

  Input next() {
    Input input = seeds_[below(seeds_.size())];
    for (std::size_t changes = 1 + below(4); changes > 0; --changes) change(input);
    return input;
  }

 private:
  std::size_t below(std::size_t end) { return end == 0 ? 0 : random_() % end; }

  void change(Input& input) {
    const std::size_t at = below(input.size());
    const auto place = input.begin() + static_cast<std::ptrdiff_t>(at);
    const Input& other = seeds_[below(seeds_.size())];
    const std::size_t from = below(other.size()), length = below(std::min<std::size_t>(other.size() - from, 64) + 1);
    const auto start = other.begin() + static_cast<std::ptrdiff_t>(from);
    switch (below(6)) {
      case 0:
        if (!input.empty()) *place = static_cast<std::uint8_t>(*place ^ 1u << below(8));
        break;
      case 1: {
        static const std::uint8_t odd[] = {0, 0xff, 0x7f, 0x80, '0', '9', '-', '[', '{', '"', ',', '\n'};
        if (!input.empty()) *place = odd[below(sizeof odd)];
        break;
      }
      case 2:
        input.resize(at);
        break;
      case 3:
        input.insert(place, start, start + static_cast<std::ptrdiff_t>(length));
        break;
      case 4:
        input.erase(place, place + static_cast<std::ptrdiff_t>(below(std::min<std::size_t>(input.size() - at, 32) + 1)));
        break;
      default:
        input.insert(place, below(200), input.empty() ? '[' : input[at]);
    }
  }

  std::vector<Input> seeds_;
  std::mt19937_64 random_{1};
};

}  // namespace

int main(int count, char** words) {
  std::vector<Input> seeds;
  for (int i = 2; i < count; ++i) {
    std::ifstream file(words[i], std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  if (seeds.empty()) return 2;
  const auto feed = [](const Input& input) {
    // A copy of exactly its size: what is read behind it is an error of the sanitizer's.
    const Input exact(input.begin(), input.end());
    LLVMFuzzerTestOneInput(exact.data(), exact.size());
  };
  for (const Input& seed : seeds) feed(seed);
  Mutator mutator(seeds);
  const long runs = std::strtol(words[1], nullptr, 10);
  for (long i = 0; i < runs; ++i) feed(mutator.next());
  std::printf("%zu inputs\n", seeds.size() + static_cast<std::size_t>(runs));
}
