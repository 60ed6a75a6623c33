#include "npz.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string_view>
#include <system_error>

#include "error.h"
#include "manifest.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "arrays are read as they lie in the file");

namespace effgen {
namespace {

// The whole of a file, or a part of it, that cannot be read past its end.
class Bytes {
 public:
  Bytes(std::string where, std::string_view data) : where_(std::move(where)), data_(data) {}

  Bytes part(std::size_t start, std::size_t size) const {
    if (start > data_.size() || size > data_.size() - start) fail("truncated");
    return Bytes(where_, data_.substr(start, size));
  }

  template <typename T>
  T number(std::size_t offset) const {
    T value;
    std::memcpy(&value, part(offset, sizeof(T)).data_.data(), sizeof(T));
    return value;
  }

  bool starts_with(std::string_view text) const { return data_.substr(0, text.size()) == text; }
  std::string_view view() const { return data_; }
  std::size_t size() const { return data_.size(); }

  [[noreturn]] void fail(const std::string& found) const {
    throw UserError(where_ + ": " + found + ": expected an uncompressed array of little-endian float32 in C order; " +
                    "copy the file or make it again");
  }

 private:
  std::string where_;
  std::string_view data_;
};

std::string contents(const std::filesystem::path& path) {
  std::error_code ignored;
  const std::filesystem::file_status status = std::filesystem::status(path, ignored);
  std::ifstream file;
  // A device (/dev/zero) may never end.
  if (std::filesystem::is_regular_file(status) || std::filesystem::is_fifo(status)) file.open(path, std::ios::binary);
  if (!file.is_open()) throw UserError(path.string() + ": cannot be read: expected a file of arrays");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// The text after `key` in the header's Python dict, which numpy writes with single spaces.
std::string_view after(const Bytes& header, std::string_view key) {
  const std::size_t found = header.view().find(key);
  if (found == std::string_view::npos) header.fail("odd header");
  return header.view().substr(found + key.size());
}

std::vector<std::int64_t> shape_from_header(const Bytes& header) {
  std::string_view text = after(header, "'shape': (");
  std::vector<std::int64_t> shape;
  for (std::size_t i = 0; i < text.size() && text[i] != ')'; ++i) {
    if (text[i] == ',' || text[i] == ' ') continue;
    std::int64_t extent = 0;
    for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i) {
      extent = extent * 10 + (text[i] - '0');
      // An extent that the file cannot hold: stops overflow, and an odd character, which would not end the loop.
      if (extent > (std::int64_t{1} << 40)) header.fail("odd shape");
    }
    if (i >= text.size() || (text[i] != ',' && text[i] != ')')) header.fail("odd shape");
    shape.push_back(extent);
    if (text[i] == ')') break;
  }
  return shape;
}

Array array_from_npy(const Bytes& bytes) {
  using namespace std::string_view_literals;
  constexpr std::string_view kMagic = "\x93NUMPY\x01\x00"sv;
  constexpr std::size_t kHeader = 10;
  if (!bytes.starts_with(kMagic)) bytes.fail("no .npy of version 1");
  const Bytes header = bytes.part(kHeader, bytes.number<std::uint16_t>(kMagic.size()));
  if (after(header, "'descr': ").substr(0, 5) != "'<f4'") header.fail("another element type");
  if (after(header, "'fortran_order': ").substr(0, 5) != "False") header.fail("Fortran order");
  Array array{shape_from_header(header), {}};
  std::size_t count = 1;
  for (std::int64_t extent : array.shape) {
    if (extent != 0 && count > bytes.size() / static_cast<std::size_t>(extent)) bytes.fail("truncated");
    count *= static_cast<std::size_t>(extent);
  }
  const Bytes body = bytes.part(kHeader + header.size(), count * sizeof(float));
  array.values.resize(count);
  std::copy_n(body.view().data(), body.size(), reinterpret_cast<char*>(array.values.data()));
  return array;
}

// The member `name` of a zip archive, found by way of the directory at its end.
Bytes member(const Bytes& zip, const std::string& name) {
  constexpr std::string_view kEnd = "PK\x05\x06", kEntry = "PK\x01\x02";
  constexpr std::size_t kEntrySize = 46, kLocalSize = 30;
  const std::size_t end = zip.view().rfind(kEnd);
  if (end == std::string_view::npos) zip.fail("no whole .npz archive");
  std::size_t at = zip.number<std::uint32_t>(end + 16);
  for (int entries = zip.number<std::uint16_t>(end + 10); entries > 0; --entries) {
    const Bytes entry = zip.part(at, kEntrySize);
    if (!entry.starts_with(kEntry)) zip.fail("damaged .npz directory");
    const std::size_t length = entry.number<std::uint16_t>(28);
    if (zip.part(at + kEntrySize, length).view() == name) {
      if (entry.number<std::uint16_t>(10) != 0) zip.fail(name + " is compressed");
      const std::size_t local = entry.number<std::uint32_t>(42);
      const std::size_t names = zip.number<std::uint16_t>(local + 26), extra = zip.number<std::uint16_t>(local + 28);
      // Members of 4 GiB and more have 0xFFFFFFFF here, which is truncated then.
      return zip.part(local + kLocalSize + names + extra, entry.number<std::uint32_t>(20));
    }
    at += kEntrySize + length + entry.number<std::uint16_t>(30) + entry.number<std::uint16_t>(32);
  }
  zip.fail("no array " + name);
}

}  // namespace

Array read_npz(const std::string& where, std::string_view data, const std::string& name) {
  return array_from_npy(member(Bytes(where, data), name + ".npy"));
}

Array read_npy(const std::filesystem::path& path) {
  const std::string data = contents(path);
  return npy_from_bytes(path.string(), data);
}

Array npy_from_bytes(const std::string& where, std::string_view data) { return array_from_npy(Bytes(where, data)); }

void write_npy(const std::filesystem::path& path, const Array& array) {
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (";
  for (std::int64_t extent : array.shape) header += std::to_string(extent) + ", ";
  header += "), }";
  header.append(63 - (10 + header.size()) % 64, ' ');  // data begins at a multiple of 64
  header += '\n';
  std::ofstream file(path, std::ios::binary);
  file.write("\x93NUMPY\x01\x00", 8);
  const auto length = static_cast<std::uint16_t>(header.size());
  file.write(reinterpret_cast<const char*>(&length), sizeof(length));
  file << header;
  file.write(reinterpret_cast<const char*>(array.values.data()),
             static_cast<std::streamsize>(array.values.size() * sizeof(float)));
  file.close();
  if (!file) throw UserError(path.string() + ": cannot be written; give --output a path that can");
}

}  // namespace effgen
