// Twin of puna/data/extract/main.py, which says what each step means.
#include <algorithm>

#include "html.h"

namespace puna::html {

namespace {

// Bytes but for white space.
int64_t length(std::string_view text) {
  int64_t count = 0;
  for (size_t at = 0; at < text.size(); at++) {
    const bool no_break = text[at] == '\xA0' && at && text[at - 1] == '\xC2';
    count += no_break ? -1 : !is_space(text[at]);
  }
  return count;
}

class Search {
 public:
  Main main;

  Search(const Words& words, const std::vector<Node>& nodes, bool title)
      : words_(words), nodes_(nodes), count_(static_cast<int32_t>(nodes.size())) {
    main.first = 0, main.end = count_;
    main.dropped.assign(nodes.size(), 0);
    lengths_.resize(nodes.size());
    for (int32_t at = 0; at < count_; at++)
      if (!nodes[at].tag && !(nodes[at].marks & ALT)) lengths_[at] = length(nodes[at].text);
    drop([&](int32_t, const Node& node) {
      return words_.never[node.tag] || (node.tag == words_.h1 && !title);
    });
    const Tags none;
    drop_called(HIDDEN, none, words.MOST, 0);
    drop_called(EDGE, words.edge_tags, words.MOST, words.LEAST);
    drop_called(FOREIGN, words.foreign_tags, words.MOST, 0);
    drop_called(UNLIKELY, none, words.SOME, 0);
    drop_links(words.link_lists, words.LISTED);
    drop_links(words.link_boxes, words.BOXED);
    measure();
    enter_article();
    descend();
    go_back();
    main.size = std::move(size_);
  }

 private:
  const Words& words_;
  const std::vector<Node>& nodes_;
  const int32_t count_;
  std::vector<int64_t> lengths_, size_, linked_, prose_;
  int64_t total_ = 0, within_ = 0;

  void measure() {
    size_.assign(count_, 0), linked_.assign(count_, 0), prose_.assign(count_, 0);
    for (int32_t at = 0; at < count_; at++) {
      if (main.dropped[at]) {
        at = nodes_[at].end - 1;
        continue;
      }
      const int64_t length = lengths_[at];
      size_[at] = length;
      if (nodes_[at].marks & LINKED) {
        linked_[at] = length;
      } else if (length >= words_.PROSE) {
        prose_[at] = length;
      }
    }
    total_ = 0;
    for (int32_t at = count_ - 1; at >= 0; at--) {
      const int32_t above = nodes_[at].parent;
      if (above < 0) {
        total_ += prose_[at];
        continue;
      }
      size_[above] += size_[at], linked_[above] += linked_[at], prose_[above] += prose_[at];
    }
  }

  template <class Unwanted>
  void drop(Unwanted unwanted) {
    for (int32_t at = 0; at < count_;) {
      const Node& node = nodes_[at];
      if (!main.dropped[at] && node.tag && unwanted(at, node)) main.dropped[at] = 1;
      at = main.dropped[at] ? node.end : at + 1;
    }
  }

  static double part(int64_t of, double share) { return share * static_cast<double>(of); }

  void drop_called(uint8_t mark, const Tags& tags, double share, double least) {
    measure();
    const double most = part(total_, share);
    drop([&](int32_t at, const Node& node) {
      const auto prose = static_cast<double>(prose_[at]);
      return (node.marks & mark || tags[node.tag]) && (prose < least || prose <= most);
    });
  }

  void drop_links(const Tags& tags, double share) {
    measure();
    drop([&](int32_t at, const Node& node) {
      return tags[node.tag] && static_cast<double>(linked_[at]) > part(size_[at], share) &&
             prose_[at] < words_.LABEL;
    });
  }

  bool is_article(const Node& node) const { return words_.likely_tags[node.tag] || node.marks & LIKELY; }

  void enter_article() {
    std::vector<int64_t> inside(count_);
    for (int32_t at = count_ - 1; at > 0; at--) {
      const Node& node = nodes_[at];
      if (node.parent < 0 || !node.tag || main.dropped[at]) continue;
      if (static_cast<double>(prose_[at]) >= part(total_, words_.PART))
        inside[node.parent] += is_article(node) ? prose_[at] : inside[at];
    }
    within_ = total_;
    double least = part(total_, words_.ARTICLE);
    for (int32_t at = 0; at < main.end; at++) {
      if (main.dropped[at]) {
        at = nodes_[at].end - 1;
        continue;
      }
      const double only = std::max(least, part(inside[main.first], words_.ONLY));
      if (!is_article(nodes_[at]) || static_cast<double>(prose_[at]) < only) continue;
      main.first = at, main.end = nodes_[at].end, within_ = prose_[at];
      least = std::max(least, part(within_, words_.INNER));
    }
  }

  void descend() {
    std::vector<int64_t> parts(count_);
    for (int32_t at = 0; at < count_; at++)
      if (nodes_[at].parent >= 0 && words_.parts[nodes_[at].tag] && !main.dropped[at])
        parts[nodes_[at].parent] += prose_[at];
    const double nearly = std::max(words_.LEAST, part(within_, words_.NEARLY));
    for (int32_t at = main.first; at < main.end; at++) {
      const Node& node = nodes_[at];
      if (main.dropped[at]) {
        at = node.end - 1;
        continue;
      }
      if (!words_.containers[node.tag] || static_cast<double>(prose_[at]) < nearly) continue;
      if (at == main.first) continue;
      const int64_t own = words_.parts[node.tag] ? prose_[at] : 0;
      if (node.parent >= 0 && parts[node.parent] - own >= words_.PROSE) return;
      main.first = at, main.end = node.end;
    }
  }

  void go_back() {
    int32_t at = count_ ? nodes_[main.first].parent + 1 : 0;
    for (; 0 < at && at < main.first; at = nodes_[at].end) {
      if (main.dropped[at] || prose_[at] < words_.SUMMARY) continue;
      if (static_cast<double>(linked_[at]) >= part(size_[at], words_.LINKS)) continue;
      main.first = at;
      return;
    }
  }
};

}  // namespace

Main find_main(const Words& words, const std::vector<Node>& nodes, bool title) {
  return std::move(Search(words, nodes, title).main);
}

}  // namespace puna::html
