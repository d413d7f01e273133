#include "text.h"

#include <string_view>

#include "counting.h"

namespace puna {

namespace {

template <class Each>
void each_text(Column texts, Each each) {
  Text text;
  for (int64_t row = 0; row < texts.rows; row++) {
    text.read(texts.data + texts.offsets[row], texts.offsets[row + 1] - texts.offsets[row]);
    each(text, texts.offsets[row]);
  }
}

int64_t begins_with_bullet(uint32_t code) {
  for (uint32_t bullet : {0x2Du, 0x2Au, 0x2022u, 0x2023u, 0x25CFu, 0x25AAu, 0x25E6u, 0x2013u})
    if (code == bullet) return 1;
  return 0;
}

class Counter {
 public:
  Counter(const std::vector<uint64_t>& listed, int64_t short_line)
      : stops(listed.size()), short_line(short_line) {
    stop_words.begin(stops);
    for (uint64_t stop : listed) stop_words.count(stop);
  }

  void count(Text& text, int64_t* out, bool repeats) {
    std::fill(out, out + COUNTERS, 0);
    out[0] = text.size();
    count_words(text, out);
    count_lines(text, out);
    if (!repeats) return;
    runs.read(text.words);
    for (int64_t n = 2; n <= 4; n++) out[21 + n] = runs.most_frequent(n, seen, repeats);
    for (int64_t n = 5; n <= 10 && repeats; n++) {
      out[21 + n] = runs.repeated(n, seen);
      repeats = out[21 + n] > 0;  // without repeats of n words there are none of n + 1
    }
  }

 private:
  size_t stops;
  int64_t short_line;
  Seen stop_words, seen, lines, paragraphs;
  Runs runs;

  void count_words(Text& text, int64_t* out) {
    int64_t dots = 0, piece = 0;  // where the piece between blanks begins
    size_t told = 0;              // words of the pieces before
    auto close_piece = [&](int64_t end) {
      bool alphabetic = false;
      for (; told < text.words.size(); told++) alphabetic |= text.words[told].alphabetic;
      out[21] += end > piece, out[22] += alphabetic, piece = end + 1;
    };
    text.find_words([&](int64_t i) {
      if (text.is(i, SPACE | FEED)) close_piece(i);
      uint32_t code = text.code(i);
      const bool after_word = !text.words.empty() && text.words.back().behind == i;
      const bool joins = after_word && i + 1 < text.size() && text.is(i + 1, BEGINS | ALONE);
      out[4] += text.is(i, OUTSIDE) && !joins && !(i && text.code(i - 1) == code);
      out[5] += code == '#';
      dots = code != '.' ? 0 : i && text.code(i - 1) == '.' ? dots + 1 : 1;
      out[6] += (dots && dots % 3 == 0) || code == 0x2026;
    });
    close_piece(text.size());
    out[1] = static_cast<int64_t>(text.words.size());
    seen.begin(stops);
    for (const Word& word : text.words) {
      out[2] += word.behind - word.first;
      out[3] += word.alphabetic;
      out[7] += stop_words.times(word.hash) && seen.count(word.hash) == 1;
    }
  }

  void count_lines(const Text& text, int64_t* out) {
    const auto feeds = std::count(text.kinds.begin(), text.kinds.end(), FEED);
    lines.begin(feeds + 1), paragraphs.begin(feeds + 1);
    uint64_t paragraph = 0;
    int64_t size = -1;  // of the paragraph so far; -1: none
    auto close = [&] {
      if (size < 0) return;
      bool again = paragraphs.count(mix(paragraph)) > 1;
      out[18]++, out[19] += again, out[20] += again ? size : 0;
      paragraph = 0, size = -1;
    };
    out[9] = feeds;
    text.each_line([&](int64_t, int64_t, int64_t left, int64_t right) {
      if (left == right) return close();
      uint64_t hash = text.hash(left, right);
      bool again = lines.count(hash) > 1;
      int64_t length = right - left;
      paragraph = paragraph * GOLDEN + hash, size += 1 + length;
      out[8] += text.sentences(left, right);
      out[10]++, out[11] += length;
      out[12] += begins_with_bullet(text.code(left));
      out[13] += text.code(right - 1) == 0x2026 || text.ends_in_dots(left, right);
      out[14] += text.is(right - 1, ENDS), out[15] += length <= short_line;
      out[16] += again, out[17] += again ? length : 0;
    });
    close();
  }
};

enum Mark : uint8_t {
  TERMINAL_MARK = 1,
  JAVASCRIPT = 2,
  LOREM_IPSUM = 4,
  CURLY_BRACKET = 8,
  NAMES_POLICY = 16
};
struct Phrase {
  std::string_view words;
  uint8_t mark;
};
constexpr Phrase PHRASES[] = {
    {"javascript", JAVASCRIPT},     {"lorem ipsum", LOREM_IPSUM},     {"{", CURLY_BRACKET},
    {"terms of use", NAMES_POLICY}, {"privacy policy", NAMES_POLICY}, {"cookie policy", NAMES_POLICY},
    {"uses cookies", NAMES_POLICY}, {"use of cookies", NAMES_POLICY}, {"use cookies", NAMES_POLICY},
};

// Which phrases a text holds, ASCII capitals or not; it is asked once for the text, then for lines where it
// does.
class Phrases {
 public:
  void read(const uint8_t* at, int64_t bytes) {
    lowered_.assign(at, at + bytes);
    for (char& c : lowered_) c += c >= 'A' && c <= 'Z' ? 'a' - 'A' : 0;
    held_.clear();
    const bool cookie = lowered_.find("cookie") != std::string::npos;
    for (const Phrase& phrase : PHRASES) {
      bool about_cookies = phrase.words.find("cookie") != std::string_view::npos;
      if ((cookie || !about_cookies) && lowered_.find(phrase.words) != std::string::npos)
        held_.push_back(phrase);
    }
  }

  uint8_t marks(int64_t start, int64_t end) const {
    uint8_t marks = 0;
    std::string_view line(lowered_.data() + start, end - start);
    for (const Phrase& phrase : held_)
      if (line.find(phrase.words) != std::string_view::npos) marks |= phrase.mark;
    return marks;
  }

 private:
  std::string lowered_;
  std::vector<Phrase> held_;
};

bool ends_like_a_sentence(const Text& text, int64_t left, int64_t right) {
  const uint32_t last = text.code(right - 1);
  const bool mark = last == '.' || last == '?' || last == '!' || last == '"' || last == '\'';
  return mark && !text.ends_in_dots(left, right);
}

}  // namespace

LineColumns line_hashes(Column texts) {
  LineColumns found;
  found.offsets.push_back(0);
  each_text(texts, [&](Text& text, int64_t first) {
    Places places(text, first);
    text.each_line([&](int64_t start, int64_t end, int64_t left, int64_t right) {
      found.hashes.push_back(right > left ? text.hash(left, right) : 0);
      found.lengths.push_back(static_cast<int32_t>(right - left));
      found.starts.push_back(places.of(start)), found.ends.push_back(places.of(end));
    });
    found.offsets.push_back(static_cast<int64_t>(found.hashes.size()));
  });
  return found;
}

MarkColumns line_marks(Column texts) {
  MarkColumns found;
  Phrases phrases;
  found.offsets.push_back(0);
  each_text(texts, [&](Text& text, int64_t first) {
    Places places(text, first);
    const int64_t row = static_cast<int64_t>(found.offsets.size()) - 1;
    phrases.read(texts.data + first, texts.offsets[row + 1] - first);
    text.each_line([&](int64_t, int64_t, int64_t left, int64_t right) {
      if (left == right) return;
      int32_t pieces = 0, longest = 0, piece = 0;
      for (int64_t i = left; i < right; i++) {
        piece = text.is(i, SPACE) ? 0 : piece + 1;
        pieces += piece == 1, longest = std::max(longest, piece);
      }
      int64_t start = places.of(left), end = places.of(right);
      found.pieces.push_back(pieces), found.longest.push_back(longest);
      found.sentences.push_back(static_cast<int32_t>(text.sentences(left, right)));
      found.marks.push_back(phrases.marks(start - first, end - first) |
                            (ends_like_a_sentence(text, left, right) ? TERMINAL_MARK : 0));
      found.starts.push_back(start), found.ends.push_back(end);
    });
    found.offsets.push_back(static_cast<int64_t>(found.marks.size()));
  });
  return found;
}

std::vector<int64_t> counters(Column texts, const std::vector<uint64_t>& stop_words, int64_t short_line,
                              bool repeats) {
  std::vector<int64_t> counts(texts.rows * COUNTERS);
  Counter counter(stop_words, short_line);
  int64_t* out = counts.data();
  each_text(texts, [&](Text& text, int64_t) { counter.count(text, out, repeats), out += COUNTERS; });
  return counts;
}

std::vector<uint8_t> join_spans(const uint8_t* data, Spans spans, const int64_t* offsets, int64_t rows,
                                bool feeds, std::vector<int64_t>& places) {
  std::vector<uint8_t> joined;
  places.assign(1, 0);
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t i = offsets[row]; i < offsets[row + 1]; i++) {
      if (feeds && i > offsets[row]) joined.push_back('\n');
      joined.insert(joined.end(), data + spans.starts[i], data + spans.ends[i]);
    }
    places.push_back(static_cast<int64_t>(joined.size()));
  }
  return joined;
}

}  // namespace puna
