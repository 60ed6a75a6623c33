#include "printable.h"

#include <cstdint>

namespace effgen {
namespace {

struct Character {
  std::uint32_t code;
  std::size_t size;  // bytes; 0: no UTF-8
};

// The character at the beginning of `text`, which is not empty (RFC 3629: no surrogates, no longer form than needed).
Character first(std::string_view text) {
  const auto byte = [text](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned char head = byte(0);
  if (head < 0x80) return {head, 1};
  const std::size_t size = head >= 0xf0 ? 4 : head >= 0xe0 ? 3 : 2;
  if (head < 0xc2 || head > 0xf4 || text.size() < size) return {0, 0};
  std::uint32_t code = head & (0x7fu >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {0, 0};
    code = code << 6 | (byte(i) & 0x3fu);
  }
  constexpr std::uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool odd = code < kLeast[size] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff);
  return {code, odd ? 0 : size};
}

bool is_obeyed(std::uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x061c || (code >= 0x200b && code <= 0x200f) ||
         (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x206f) || code == 0xfeff ||
         (code >= 0xfff9 && code <= 0xfffb) || (code >= 0xe0000 && code <= 0xe007f);
}

}  // namespace

std::string printable(std::string_view text) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string found;
  while (!text.empty()) {
    const Character character = first(text);
    const std::size_t size = character.size == 0 ? 1 : character.size;
    if (character.size > 0 && !is_obeyed(character.code)) {
      found += text.substr(0, size);
    } else {
      for (const char byte : text.substr(0, size)) {
        found += {'\\', 'x', kDigits[static_cast<unsigned char>(byte) >> 4], kDigits[byte & 0xf]};
      }
    }
    text.remove_prefix(size);
  }
  return found;
}

}  // namespace effgen
