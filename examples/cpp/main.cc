// Classifies images with the C library that `effgen compile --phi 0 --emit standalone -o build/b0` wrote, behind a class
// that owns the handle. From the repository's root:
//
//   c++ -std=c++17 -I build/b0 examples/cpp/main.cc build/b0/libefficientnet_b0.a -lm -lpthread -o build/classify
//   build/classify image.f32...
//
// or with the shared library, which the program looks for in b0/ beside itself:
//
//   c++ -std=c++17 -I build/b0 examples/cpp/main.cc -L build/b0 -lefficientnet_b0 -Wl,-rpath,'$ORIGIN/b0' -o build/classify
//
// The files are as for examples/c.
#include <algorithm>
#include <fstream>
#include <iostream>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "efficientnet_b0.h"

namespace {

// Movable; calls from several threads take turns, several models run side by side.
class Model {
 public:
  explicit Model(int threads = 0) {
    efficientnet_b0* made = nullptr;
    check(efficientnet_b0_create(&made, threads));
    handle_.reset(made);
  }

  // Logits of one batch.
  std::vector<float> operator()(const std::vector<float>& image) const {
    if (image.size() != EFFICIENTNET_B0_IMAGE_FLOATS) {
      throw std::invalid_argument("expected " + std::to_string(EFFICIENTNET_B0_IMAGE_FLOATS) + " floats");
    }
    std::vector<float> logits(EFFICIENTNET_B0_LOGITS_FLOATS);
    check(efficientnet_b0_run(handle_.get(), image.data(), logits.data()));
    return logits;
  }

 private:
  static void check(int status) {
    if (status != EFFICIENTNET_B0_OK) throw std::runtime_error(efficientnet_b0_error(status));
  }

  struct Destroy {
    void operator()(efficientnet_b0* handle) const { efficientnet_b0_destroy(handle); }
  };
  std::unique_ptr<efficientnet_b0, Destroy> handle_;
};

std::vector<float> read_image(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<float> image(EFFICIENTNET_B0_IMAGE_FLOATS);
  const auto bytes = static_cast<std::streamsize>(image.size() * sizeof(float));
  if (!file.read(reinterpret_cast<char*>(image.data()), bytes)) {
    throw std::runtime_error("cannot be read: expected " + std::to_string(bytes) + " bytes");
  }
  return image;
}

void print_best(const std::vector<float>& logits) {
  std::vector<std::size_t> order(EFFICIENTNET_B0_CLASSES);
  std::iota(order.begin(), order.end(), 0);
  const auto count = std::min<std::ptrdiff_t>(5, EFFICIENTNET_B0_CLASSES);
  std::partial_sort(order.begin(), order.begin() + count, order.end(),
                    [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  for (auto best = order.begin(); best != order.begin() + count; ++best) {
    std::cout << "class " << *best << "  logit " << logits[*best] << '\n';
  }
}

}  // namespace

int main(int count, char** words) {
  const char* path = "model";
  try {
    const Model model;
    for (int i = 1; i < count; ++i) {
      path = words[i];
      print_best(model(read_image(path)));
    }
  } catch (const std::exception& error) {
    std::cerr << words[0] << ": " << path << ": " << error.what() << '\n';
    return 1;
  }
  return 0;
}
