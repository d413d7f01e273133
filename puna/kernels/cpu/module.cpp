// puna.kernels._native: the kernels as Python functions over NumPy arrays; none holds the GIL while it works.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unordered_map.h>
#include <nanobind/stl/vector.h>

#include "html.h"
#include "text.h"
#include "words.h"

namespace nb = nanobind;

namespace {

template <class T>
using In = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// A NumPy array that owns the vector.
template <class T>
nb::object give(std::vector<T>&& values, std::initializer_list<size_t> shape) {
  auto* kept = new std::vector<T>(std::move(values));
  nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, T>(kept->data(), shape, owner));
}

template <class T>
nb::object give(std::vector<T>&& values) {
  size_t size = values.size();
  return give(std::move(values), {size});
}

puna::Column column(const In<uint8_t>& data, const In<int64_t>& offsets) {
  return {data.data(), offsets.data(), static_cast<int64_t>(offsets.size()) - 1};
}

template <class Work>
auto without_gil(Work work) {
  nb::gil_scoped_release released;
  return work();
}

puna::Hashes hashes_of(const In<uint64_t>& hashes, const In<int64_t>& first) {
  return {hashes.data(), first.data(), static_cast<int64_t>(first.size()) - 1};
}

puna::Known known_of(const In<uint64_t>& known, const In<uint8_t>& sieve) {
  int shift = 61;  // 8 bits are told apart by the upper 3 of a hash
  for (size_t size = sieve.size(); size > 1; size /= 2) shift--;
  return {known.data(), static_cast<int64_t>(known.size()), sieve.data(), shift};
}

nb::tuple hits(puna::Hits&& found) {
  return nb::make_tuple(give(std::move(found.which)), give(std::move(found.places)));
}

void words(nb::module_& module) {
  module.def("words", [](In<uint8_t> data, In<int64_t> offsets, const std::string& meaning) {
    auto found = without_gil([&] { return puna::words(column(data, offsets), meaning); });
    return nb::make_tuple(give(std::move(found.hashes)), give(std::move(found.starts)),
                          give(std::move(found.ends)), give(std::move(found.first)));
  });
  module.def("runs", [](In<uint64_t> hashes, In<int64_t> first, int64_t n) {
    auto found = without_gil([&] { return puna::runs(hashes_of(hashes, first), n); });
    return nb::make_tuple(give(std::move(found.hashes)), give(std::move(found.words)),
                          give(std::move(found.offsets)));
  });
  module.def("said_before", [](In<uint64_t> hashes, In<int64_t> first, int64_t n, int64_t times) {
    return give(without_gil([&] { return puna::said_before(hashes_of(hashes, first), n, times); }));
  });
  module.def("sets", [](In<uint64_t> hashes, In<int64_t> first) {
    auto found = without_gil([&] { return puna::sets(hashes_of(hashes, first)); });
    return nb::make_tuple(give(std::move(found.hashes)), give(std::move(found.offsets)));
  });
  module.def("shared", [](In<uint64_t> hashes, In<int64_t> first, In<int64_t> left, In<int64_t> right) {
    return give(without_gil([&] {
      const auto pairs = static_cast<int64_t>(left.size());
      return puna::shared(hashes_of(hashes, first), left.data(), right.data(), pairs);
    }));
  });
  module.def("lookup", [](In<uint64_t> hashes, In<uint64_t> known, In<uint8_t> sieve) {
    const auto count = static_cast<int64_t>(hashes.size());
    return hits(without_gil([&] { return puna::lookup(hashes.data(), count, known_of(known, sieve)); }));
  });
  module.def("known_runs", [](In<uint64_t> hashes, In<int64_t> first, int64_t n, In<uint64_t> known,
                              In<uint8_t> sieve) {
    return hits(without_gil(
        [&] { return puna::known_runs(hashes_of(hashes, first), n, known_of(known, sieve)); }));
  });
}

// (text, title, robots, tdm, refused) of a page, or None where its bytes are not plain UTF-8; `decoded` says
// that they are.
nb::object read_page(const puna::html::Words& words, const nb::bytes& data,
                     const puna::html::Settings& settings, bool decoded) {
  const std::string_view html(data.c_str(), data.size());
  puna::html::Page page;
  const bool read = without_gil([&] {
    if (!decoded && !puna::html::is_plain_utf8(html)) return false;
    page = puna::html::read_page(words, html, settings);
    return true;
  });
  if (!read) return nb::none();
  return nb::make_tuple(page.text, page.title, page.robots, page.tdm, page.refused);
}

}  // namespace

NB_MODULE(_native, module) {
  module.attr("REVISION") = 3;
  words(module);
  module.def("line_hashes", [](In<uint8_t> data, In<int64_t> offsets) {
    auto found = without_gil([&] { return puna::line_hashes(column(data, offsets)); });
    return nb::make_tuple(give(std::move(found.hashes)), give(std::move(found.lengths)),
                          give(std::move(found.starts)), give(std::move(found.ends)),
                          give(std::move(found.offsets)));
  });
  module.def("line_marks", [](In<uint8_t> data, In<int64_t> offsets) {
    auto found = without_gil([&] { return puna::line_marks(column(data, offsets)); });
    return nb::make_tuple(give(std::move(found.pieces)), give(std::move(found.longest)),
                          give(std::move(found.sentences)), give(std::move(found.marks)),
                          give(std::move(found.starts)), give(std::move(found.ends)),
                          give(std::move(found.offsets)));
  });
  module.def("counters", [](In<uint8_t> data, In<int64_t> offsets, In<uint64_t> stop_words,
                            int64_t short_line, bool repeats) {
    std::vector<uint64_t> stops(stop_words.data(), stop_words.data() + stop_words.size());
    auto counts =
        without_gil([&] { return puna::counters(column(data, offsets), stops, short_line, repeats); });
    return give(std::move(counts), {offsets.size() - 1, size_t{puna::COUNTERS}});
  });
  module.def("join_spans", [](In<uint8_t> data, In<int64_t> starts, In<int64_t> ends, In<int64_t> offsets,
                              bool feeds) {
    std::vector<int64_t> places;
    const auto rows = static_cast<int64_t>(offsets.size()) - 1;
    auto joined = without_gil([&] {
      return puna::join_spans(data.data(), {starts.data(), ends.data()}, offsets.data(), rows, feeds, places);
    });
    return nb::make_tuple(give(std::move(joined)), give(std::move(places)));
  });
  module.def(
      "minhash",
      [](In<uint8_t> data, In<int64_t> offsets, In<uint32_t> multiply, In<uint32_t> add, int64_t n,
         int64_t fewest, const std::string& instructions) {
        auto least = without_gil([&] {
          const auto count = static_cast<int64_t>(multiply.size());
          const puna::Permutations permutations{multiply.data(), add.data(), count};
          return puna::minhash(column(data, offsets), permutations, n, fewest, instructions);
        });
        return give(std::move(least), {offsets.size() - 1, multiply.size()});
      },
      nb::arg("data"), nb::arg("offsets"), nb::arg("multiply"), nb::arg("add"), nb::arg("n"),
      nb::arg("fewest"), nb::arg("instructions") = "");
  module.def("instruction_sets", &puna::instruction_sets);
  using puna::html::Words;
  nb::class_<Words>(module, "Html")
      .def(nb::init<const puna::html::Lists&,
                    const std::map<std::string, std::vector<std::vector<std::string>>>&,
                    const puna::html::Numbers&, const std::unordered_map<std::string, std::string>&>())
      .def("page", [](const Words& words, nb::bytes data, int64_t most_depth, int64_t most_tags,
                      int64_t most_attributes, bool markdown, bool title, bool alts, bool decoded) {
        return read_page(words, data, {most_depth, most_tags, most_attributes, markdown, title, alts},
                         decoded);
      });
}
