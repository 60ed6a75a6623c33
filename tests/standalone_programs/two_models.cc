// Two models in one program, at once: IMAGE LOGITS of tiny_phi0, IMAGE LOGITS of efficientnet_b0.
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "efficientnet_b0.h"
#include "tiny_phi0.h"

template <typename Handle>
void classify(int (*create)(Handle**, int), int (*run)(Handle*, const float*, float*), void (*destroy)(Handle*),
              std::size_t pixels, std::size_t classes, const std::string& source, const std::string& target) {
  std::vector<float> image(pixels), logits(classes);
  std::ifstream(source, std::ios::binary).read(reinterpret_cast<char*>(image.data()), pixels * sizeof(float));
  Handle* handle;
  if (create(&handle, 2) != 0) std::terminate();
  for (int i = 0; i < 50; ++i) {
    if (run(handle, image.data(), logits.data()) != 0) std::terminate();
  }
  destroy(handle);
  std::ofstream(target, std::ios::binary).write(reinterpret_cast<char*>(logits.data()), classes * sizeof(float));
}

int main(int, char** words) {
  std::thread tiny([&] {
    classify(tiny_phi0_create, tiny_phi0_run, tiny_phi0_destroy, TINY_PHI0_IMAGE_FLOATS, TINY_PHI0_LOGITS_FLOATS,
             words[1], words[2]);
  });
  classify(efficientnet_b0_create, efficientnet_b0_run, efficientnet_b0_destroy, EFFICIENTNET_B0_IMAGE_FLOATS,
           EFFICIENTNET_B0_LOGITS_FLOATS, words[3], words[4]);
  tiny.join();
}
