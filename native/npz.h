// Arrays as numpy writes them: .npy version 1, and .npz archives that are not compressed. Little-endian float32 only.
#ifndef EFFGEN_NATIVE_NPZ_H_
#define EFFGEN_NATIVE_NPZ_H_

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace effgen {

struct Array {
  std::vector<std::int64_t> shape;
  std::vector<float> values;  // C order
};

// The array called `name` in the archive `data`, which messages call `where`. Throws UserError: truncated, compressed,
// not float32 in C order.
Array read_npz(const std::string& where, std::string_view data, const std::string& name);

// Throws UserError as `read_npz` does, and where the file is unreadable.
Array read_npy(const std::filesystem::path& path);

// As `read_npy`, of a file's content.
Array npy_from_bytes(const std::string& where, std::string_view data);

// Throws UserError where the file cannot be written.
void write_npy(const std::filesystem::path& path, const Array& array);

}  // namespace effgen

#endif  // EFFGEN_NATIVE_NPZ_H_
