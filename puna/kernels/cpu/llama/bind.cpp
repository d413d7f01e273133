// puna.kernels._llama: packed weights and forward steps as Python objects over NumPy arrays, without the GIL.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "model.h"
#include "sample.h"

namespace nb = nanobind;
using namespace puna::llama;

namespace {

template <class T>
using In = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Out = nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Named = std::tuple<std::string, int64_t, int64_t>;  // kind, rows, inputs
using NamedHalf = std::tuple<int64_t, std::string, In<uint8_t>, In<uint8_t>, float>;  // part, kind, down, up, scale

Shape shape_of(const Named& named) {
  return {kind_named(std::get<0>(named)), std::get<1>(named), std::get<2>(named)};
}

template <class T>
std::vector<T> copied(const In<T>& from) {
  return {from.data(), from.data() + from.size()};
}

void need(bool condition, const char* problem) {
  if (!condition) throw std::invalid_argument(problem);
}

// A batch whose every number is inside what the model has; or std::invalid_argument.
Batch batch_of(const Model& model, const In<int32_t>& tokens, const In<int32_t>& starts, const In<int32_t>& held,
               const std::vector<std::vector<int32_t>>& pages, const In<int32_t>& wanted, const In<int32_t>& hidden,
               const In<int32_t>& adapters) {
  Batch b{copied(tokens), copied(starts), copied(held), pages, copied(wanted), copied(hidden),
          copied(adapters)};
  const auto rows = static_cast<int32_t>(b.tokens.size());
  need(b.starts.size() == b.held.size() + 1 && b.pages.size() == b.held.size(), "a start, a length and pages each");
  need(b.adapters.empty() || b.adapters.size() == b.held.size(), "an adapter each, or none");
  for (int32_t number : b.adapters) need(number == 0 || model.has_adapter(number), "an adapter that is not there");
  need(rows > 0 && b.starts.front() == 0 && b.starts.back() == rows, "sequences cover the rows");
  for (int32_t id : b.tokens) need(id >= 0 && id < model.config().words, "a token outside the vocabulary");
  for (const auto* asked : {&b.wanted, &b.hidden}) {
    for (int32_t row : *asked) need(row >= 0 && row < rows, "a wanted row outside the batch");
  }
  for (size_t s = 0; s < b.held.size(); s++) {
    const int64_t more = b.starts[s + 1] - b.starts[s];
    need(more > 0 && b.held[s] >= 0, "a sequence without rows");
    need(static_cast<int64_t>(b.pages[s].size()) * model.page() >= b.held[s] + more, "a sequence without room");
    for (int32_t page : b.pages[s]) need(page >= 0 && page < model.pages(), "a page outside the cache");
  }
  return b;
}

using Table = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// out (M, rows) = x (M, inputs) times the matrix stored in GGUF's blocks, by the kernels of one set of instructions.
void multiply(const std::string& instructions, const std::string& kind, const In<uint8_t>& stored, const Table& x,
              const Out<float>& out) {
  const Shape shape{kind_named(kind), static_cast<int64_t>(out.shape(1)), static_cast<int64_t>(x.shape(1))};
  const auto rows = static_cast<int64_t>(x.shape(0));
  need(static_cast<int64_t>(stored.size()) == shape.rows * stored_bytes(shape.kind, shape.inputs) &&
           static_cast<int64_t>(out.shape(0)) == rows && shape.rows % ROWS == 0, "shapes that do not fit");
  const Kernels& k = kernels(instructions);
  Activations read;
  read.make_room(rows, shape.inputs);
  const bool plain = shape.kind >= Kind::F16;
  for (int64_t m = 0; m < rows; m++) k.take(x.data() + m * shape.inputs, read, m, plain, !plain);
  std::vector<uint8_t> tile(static_cast<size_t>(tile_bytes(shape.kind, shape.inputs)));
  for (int64_t n = 0; n < shape.tiles(); n++) {
    pack_tile(shape, stored.data(), n, tile.data());
    k.multiply(shape.kind, tile.data(), read, 0, rows, out.data() + n * ROWS, shape.rows);
  }
}

// Rows of a matrix after it was packed, as floats (rows, inputs).
void packed_and_back(const std::string& kind, const In<uint8_t>& stored, const Out<float>& out) {
  const Shape shape{kind_named(kind), static_cast<int64_t>(out.shape(0)), static_cast<int64_t>(out.shape(1))};
  const int64_t size = tile_bytes(shape.kind, shape.inputs);
  need(static_cast<int64_t>(stored.size()) == shape.rows * stored_bytes(shape.kind, shape.inputs), "other bytes");
  std::vector<uint8_t> packed(static_cast<size_t>(shape.tiles() * size));
  for (int64_t n = 0; n < shape.tiles(); n++) pack_tile(shape, stored.data(), n, packed.data() + n * size);
  for (int64_t r = 0; r < shape.rows; r++) unpack_row(shape, packed.data(), r, out.data() + r * shape.inputs);
}

// An array of one entry for each id, or none.
template <class T>
const T* rule(const In<T>& values, size_t size) {
  need(values.size() == 0 || values.size() == size, "a rule for other ids");
  return values.size() ? values.data() : nullptr;
}

int64_t chosen(const std::string& instructions, const In<float>& logits, const std::vector<double>& settings,
               int64_t top_k, const In<bool>& seen, const In<double>& written, const In<double>& bias,
               const In<int32_t>& allowed, double uniform) {
  const size_t n = logits.size();
  need(n > 0 && settings.size() == 6, "a row of logits and six settings");
  need(allowed.size() == 0 || allowed.size() * 32 >= n, "too few bits");
  const Rules rules{settings[0], settings[1], settings[2], settings[3], settings[4], settings[5], top_k,
                    rule(seen, n), rule(written, n), rule(bias, n), allowed.size() ? allowed.data() : nullptr};
  const Kernels& k = kernels(instructions);
  nb::gil_scoped_release released;
  return choose(k, logits.data(), static_cast<int64_t>(n), rules, uniform);
}

// Attention of queries (R, width) over keys and values (S, width), in pages that lie in disorder, in bf16 or as codes;
// query r looks at the first seen[r] positions. out (R, width).
void attend(const std::string& instructions, bool coded, const In<float>& queries, const In<float>& keys,
            const In<float>& values, const In<int32_t>& seen, int page, const Out<float>& out) {
  const auto rows = static_cast<int64_t>(out.shape(0)), width = static_cast<int64_t>(out.shape(1));
  const int64_t count = static_cast<int64_t>(keys.size()) / width, pages = (count + page - 1) / page;
  need(rows <= MOST_ROWS && width % 16 == 0 && page % 16 == 0 && static_cast<int64_t>(seen.size()) == rows &&
           static_cast<int64_t>(queries.size()) == rows * width && keys.size() == values.size(), "shapes that do not fit");
  for (size_t r = 0; r < seen.size(); r++) {
    need(seen.data()[r] > 0 && seen.data()[r] <= count && (r == 0 || seen.data()[r] >= seen.data()[r - 1]), "rising");
  }
  const Kernels& k = kernels(instructions);
  const Form form{coded, page, width};
  const int64_t stride = 2 * form.bytes();  // a page's keys, then its values
  std::vector<float> cache(static_cast<size_t>(pages * stride / 4), NAN);  // where nothing is written
  auto* bytes = reinterpret_cast<uint8_t*>(cache.data());
  std::vector<int32_t> where(static_cast<size_t>(pages));
  for (int64_t n = 0; n < pages; n++) where[static_cast<size_t>(n)] = static_cast<int32_t>(pages - 1 - n);
  std::vector<float> most(MOST_ROWS), total(MOST_ROWS), scales(MOST_ROWS), room(ATTEND_ROOM), narrow(static_cast<size_t>(width));
  for (int64_t t = 0; t < count; t++) {
    uint8_t* place = bytes + where[static_cast<size_t>(t / page)] * stride;
    form.put(k, keys.data() + t * width, values.data() + t * width, t % page, place, place + form.bytes(), narrow.data());
  }
  std::vector<uint16_t> asked(static_cast<size_t>(rows * width));
  form.ask(k, queries.data(), 1, rows, asked.data(), scales.data());
  const Heads heads{asked.data(), scales.data(), seen.data(), static_cast<int>(rows), static_cast<int>(width), bytes,
                    bytes + form.bytes(), where.data(), stride, page, 0, static_cast<int>(count)};
  form.attend(k, heads, {out.data(), most.data(), total.data()}, room.data());
  for (int64_t i = 0; i < rows * width; i++) out.data()[i] /= total[static_cast<size_t>(i / width)];
}

// Numbers as bytes or words; gives what they are to be multiplied by.
template <class Code>
float coded(float (*code)(const float*, int64_t, Code*), const In<float>& numbers, const Out<Code>& out) {
  need(numbers.size() == out.size() && out.size() % 16 == 0, "shapes that do not fit");
  return code(numbers.data(), static_cast<int64_t>(numbers.size()), out.data());
}

}  // namespace

NB_MODULE(_llama, module) {
  nb::set_leak_warnings(false);  // a model that lives until the process ends is no leak
  module.attr("REVISION") = 6;  // the same number stands in puna/kernels/llama.py
  module.def("instructions", &instructions);
  module.def("tile_bytes", [](const std::string& kind, int64_t inputs) { return tile_bytes(kind_named(kind), inputs); });
  module.def("bandwidth", &bandwidth, nb::call_guard<nb::gil_scoped_release>());
  module.def("products", &products, nb::call_guard<nb::gil_scoped_release>());
  module.def("multiply", &multiply);
  module.def("packed_and_back", &packed_and_back);
  module.def("choose", &chosen);
  module.def("odds", [](const std::string& instructions, const In<float>& logits, int64_t size, int64_t k) {
    need(0 < size && size <= static_cast<int64_t>(logits.size()) && k >= 0, "a row of logits");
    const Kernels& by = kernels(instructions);
    nb::gil_scoped_release released;
    return odds(by, logits.data(), static_cast<int64_t>(logits.size()), size, k);
  });
  module.def("norm", [](const std::string& instructions, In<float> x, In<float> weight, float eps, Out<float> out) {
    need(x.size() == weight.size() && x.size() == out.size(), "shapes that do not fit");
    kernels(instructions).norm(x.data(), weight.data(), static_cast<int64_t>(x.size()), eps, out.data());
  });
  module.def("gate", [](const std::string& instructions, Out<float> gate, In<float> up) {
    need(gate.size() == up.size() && up.size() % 16 == 0, "shapes that do not fit");
    kernels(instructions).gate(gate.data(), up.data(), static_cast<int64_t>(up.size()));
  });
  module.def("attend", &attend);
  module.def("turn", [](const std::string& instructions, Out<float> heads, In<float> cos_sin) {
    const auto width = static_cast<int>(heads.shape(1));
    need(width % 16 == 0 && cos_sin.size() == 2 * heads.shape(1), "shapes that do not fit");
    for (size_t i = 0; i < heads.shape(0); i++) {
      kernels(instructions).turn(heads.data() + i * heads.shape(1), cos_sin.data(), width);
    }
  });
  module.def("narrow", [](const std::string& instructions, In<float> numbers, float scale, Out<uint16_t> out) {
    need(numbers.size() == out.size() && out.size() % 16 == 0, "shapes that do not fit");
    kernels(instructions).narrow(numbers.data(), scale, static_cast<int64_t>(out.size()), out.data());
  });
  module.def("to_bytes", [](const std::string& instructions, In<float> numbers, Out<int8_t> out) {
    return coded(kernels(instructions).to_bytes, numbers, out);
  });
  module.def("to_words", [](const std::string& instructions, In<float> numbers, Out<int16_t> out) {
    return coded(kernels(instructions).to_words, numbers, out);
  });
  nb::class_<Model>(module, "Model")
      .def("__init__",
           [](Model* self, const std::vector<int64_t>& sizes, float eps, const std::vector<Named>& matrices,
              const std::vector<float>& frequencies, int threads, const std::string& instructions) {
             need(sizes.size() == 7, "seven sizes");
             const Config c{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], eps};
             std::vector<Shape> shapes;
             for (const Named& named : matrices) shapes.push_back(shape_of(named));
             new (self) Model(c, shapes, frequencies, threads, instructions);
           })
      .def("put",
           [](Model& model, int64_t index, int64_t first, In<uint8_t> from) {
             const Shape& shape = model.shape(index);
             const int64_t row = stored_bytes(shape.kind, shape.inputs), rows = static_cast<int64_t>(from.size()) / row;
             need(first % ROWS == 0 && first + rows <= shape.rows && rows * row == static_cast<int64_t>(from.size()),
                  "rows that the matrix does not have");
             nb::gil_scoped_release released;
             model.put(index, first, rows, from.data());
           })
      .def("put_norm",
           [](Model& model, int64_t index, In<float> from) {
             need(static_cast<int64_t>(from.size()) == model.config().width, "a norm of another width");
             model.put_norm(index, from.data());
           })
      .def("put_adapter",
           [](Model& model, int32_t number, int64_t rank, const std::vector<NamedHalf>& halves) {
             need(number > 0 && rank > 0 && rank % ROWS == 0, "a number above 0, and a rank in tiles");
             std::vector<Half> found;
             for (const auto& [part, kind, down, up, scale] : halves) {
               need(part >= 0 && part < model.config().layers * PARTS, "a part that no layer has");
               const Shape& whole = model.shape(2 + part);
               const Half half{part, kind_named(kind), down.data(), up.data(), scale};
               need(half.kind >= Kind::F16, "numbers in codes");
               need(static_cast<int64_t>(down.size()) == rank * stored_bytes(half.kind, whole.inputs) &&
                        static_cast<int64_t>(up.size()) == whole.rows * stored_bytes(half.kind, rank), "other bytes");
               found.push_back(half);
             }
             nb::gil_scoped_release released;
             model.put_adapter(number, rank, found);
           })
      .def("drop_adapter", &Model::drop_adapter)
      .def("make_cache", &Model::make_cache)
      .def("copy_page",
           [](Model& model, int64_t source, int64_t target) {
             need(std::min(source, target) >= 0 && std::max(source, target) < model.pages() && source != target,
                  "pages outside the cache");
             model.copy_page(source, target);
           })
      .def("step",
           [](Model& model, In<int32_t> tokens, In<int32_t> starts, In<int32_t> held,
              const std::vector<std::vector<int32_t>>& pages, In<int32_t> wanted, In<int32_t> hidden,
              In<int32_t> adapters, Out<float> logits, Out<float> states) {
             const Batch batch = batch_of(model, tokens, starts, held, pages, wanted, hidden, adapters);
             need(logits.shape(0) == batch.wanted.size() &&
                      static_cast<int64_t>(logits.shape(1)) == model.config().words, "logits of another shape");
             need(states.shape(0) == batch.hidden.size() &&
                      static_cast<int64_t>(states.shape(1)) == model.config().width, "hidden states of another shape");
             nb::gil_scoped_release released;
             model.step(batch, logits.data(), states.data());
           })
      .def_prop_ro("bytes", &Model::bytes)
      .def_prop_ro("threads", &Model::threads)
      .def_prop_ro("instructions", [](const Model& model) { return model.kernels().name; });
}
