// SHA-256 (FIPS 180-4), by the processor's own instructions where it has them.
#ifndef EFFGEN_NATIVE_SHA256_H_
#define EFFGEN_NATIVE_SHA256_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace effgen {

class Sha256 {
 public:
  // Takes `count` blocks of 64 bytes into the eight words of `state`.
  using Compress = void (*)(std::uint32_t* state, const unsigned char* blocks, std::size_t count);

  // What the processor has instructions for, else `portable`.
  static Compress fastest();
  static void portable(std::uint32_t* state, const unsigned char* blocks, std::size_t count);

  explicit Sha256(Compress compress = fastest()) : compress_(compress) {}

  void update(std::string_view data);

  // The hash of all that was given, as 64 hexadecimal digits. Nothing can be given after it.
  std::string digest();

 private:
  Compress compress_;
  std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<unsigned char, 64> rest_{};  // the bytes after the last whole block
  std::uint64_t bytes_ = 0;
};

// The hash of `data`, as 64 hexadecimal digits.
std::string sha256(std::string_view data);

}  // namespace effgen

#endif  // EFFGEN_NATIVE_SHA256_H_
