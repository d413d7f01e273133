// Character references: "&lt;", "&#60;", "&#x3c;" and 2,200 other names.
#pragma once
#include <algorithm>

#include "html.h"

namespace puna::html {

inline void append_character(uint32_t code, std::string& out) {
  if (code < 0x80) {
    out += static_cast<char>(code);
    return;
  }
  const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  constexpr uint32_t FIRST[] = {0, 0xC0, 0xE0, 0xF0};
  out += static_cast<char>(FIRST[more] | code >> 6 * more);
  for (int i = more - 1; i >= 0; i--) out += static_cast<char>(0x80 | (code >> 6 * i & 0x3F));
}

// What numbers of control characters mean: places of Windows-1252.
inline uint32_t referred(uint32_t code) {
  constexpr uint16_t LATIN[] = {0x20AC, 0xFFFD, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
                                0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0xFFFD, 0x017D, 0xFFFD,
                                0xFFFD, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0xFFFD, 0x017E, 0x0178};
  if (code >= 0x80 && code < 0xA0) return LATIN[code - 0x80];
  const bool none = code == 0 || (code >= 0xD800 && code < 0xE000) || code > 0x10FFFF;
  return none ? 0xFFFD : code;
}

inline int digit(char c, int base) {
  const int value = c >= '0' && c <= '9' ? c - '0' : base == 16 && is_letter(c) ? lower(c) - 'a' + 10 : 99;
  return value < base ? value : -1;
}

// Appends what stands for the reference at `at`, whose "&" is there; returns the place behind it.
inline size_t append_reference(const Words& words, std::string_view raw, size_t at, std::string& out) {
  size_t next = at + 1;
  if (next < raw.size() && raw[next] == '#') {
    const bool hexadecimal = next + 1 < raw.size() && lower(raw[next + 1]) == 'x';
    const int base = hexadecimal ? 16 : 10;
    next += 1 + hexadecimal;
    const size_t first = next;
    uint32_t code = 0;
    for (; next < raw.size() && digit(raw[next], base) >= 0; next++)
      code = code > 0x10FFFF ? code : code * base + digit(raw[next], base);
    if (next > first) {
      append_character(referred(code), out);
      return next + (next < raw.size() && raw[next] == ';');
    }
  } else if (next < raw.size() && is_letter(raw[next])) {
    while (next < raw.size() && next - at <= words.longest_reference &&
           (is_letter(raw[next]) || digit(raw[next], 10) >= 0))
      next++;
    next += next < raw.size() && raw[next] == ';';
    for (; next > at + 2; next--) {
      const auto found = words.references.find(raw.substr(at + 1, next - at - 1));
      if (found == words.references.end()) continue;
      out += found->second;
      return next;
    }
  }
  out += '&';
  return at + 1;
}

inline std::string unescaped(const Words& words, std::string_view raw) {
  std::string out;
  out.reserve(raw.size());
  size_t at = 0;
  while (at < raw.size()) {
    const size_t mark = std::min(raw.find('&', at), raw.size());
    out.append(raw, at, mark - at);
    at = mark < raw.size() ? append_reference(words, raw, mark, out) : mark;
  }
  return out;
}

}  // namespace puna::html
