#include "canonical.h"

#include <algorithm>
#include <stdexcept>
#include <utility>
#include <vector>

namespace effgen {
namespace {

constexpr int kDeepest = 32;  // effgen/files/bounded.py; a manifest nests six deep

struct NoJson : std::runtime_error {
  NoJson() : std::runtime_error("no JSON") {}
};

class Reader {
 public:
  Reader(std::string_view text, std::string_view left_out)
      : text_(text), left_out_("\"" + std::string(left_out) + "\"") {}

  std::string whole() {
    if (peek() != '{') throw NoJson();
    std::string found = object(0);
    if (peek() != '\0') throw NoJson();
    return found;
  }

 private:
  std::string value(int depth) {
    if (depth > kDeepest) throw NoJson();
    switch (peek()) {
      case '{':
        return object(depth);
      case '[':
        return array(depth);
      case '"':
        return string();
      default:
        return word();
    }
  }

  std::string object(int depth) {
    std::vector<std::pair<std::string, std::string>> members;
    take('{');
    for (bool more = peek() != '}'; more; more = comma()) {
      peek();
      std::string key = string();
      take(':');
      std::string what = value(depth + 1);
      if (depth > 0 || key != left_out_) members.emplace_back(std::move(key), std::move(what));
    }
    take('}');
    std::sort(members.begin(), members.end());
    std::string found = "{";
    for (const auto& [key, what] : members) found += (found.size() > 1 ? "," : "") + key + ":" + what;
    return found + "}";
  }

  std::string array(int depth) {
    std::string found = "[";
    take('[');
    for (bool more = peek() != ']'; more; more = comma()) found += (found.size() > 1 ? "," : "") + value(depth + 1);
    take(']');
    return found + "]";
  }

  std::string string() {
    if (at_ >= text_.size() || text_[at_] != '"') throw NoJson();
    std::size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != '"') end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) throw NoJson();
    return cut(end + 1);
  }

  // A number, true, false or null.
  std::string word() {
    const std::size_t end = std::min(text_.find_first_of(",]}: \t\r\n", at_), text_.size());
    if (end == at_) throw NoJson();
    return cut(end);
  }

  std::string cut(std::size_t end) {
    std::string found(text_.substr(at_, end - at_));
    at_ = end;
    return found;
  }

  // The next character that is no white space; 0 at the end.
  char peek() {
    at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size());
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  void take(char expected) {
    if (peek() != expected) throw NoJson();
    ++at_;
  }

  bool comma() {
    if (peek() != ',') return false;
    ++at_;
    return true;
  }

  std::string_view text_;
  std::string left_out_;
  std::size_t at_ = 0;
};

}  // namespace

std::string canonical_json(std::string_view json, std::string_view left_out) {
  try {
    return Reader(json, left_out).whole();
  } catch (const NoJson&) {
    return "";
  }
}

}  // namespace effgen
