#include "model.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <stdexcept>

namespace puna::llama {
namespace {
constexpr int64_t LARGE = 2 << 20;  // a large page
constexpr int PIECE = 512;  // positions mixed apart and then put together: a row's sums never depend on its batch
}  // namespace

Arena::Arena(int64_t bytes) : bytes_((bytes + 2 * LARGE - 1) / LARGE * LARGE) {
  void* p = mmap(nullptr, static_cast<size_t>(bytes_), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  madvise(p, static_cast<size_t>(bytes_), MADV_HUGEPAGE);
#endif
  data_ = static_cast<uint8_t*>(p);
}
Arena::~Arena() { munmap(data_, static_cast<size_t>(bytes_)); }

Model::Model(const Config& config, std::vector<Shape> matrices, std::vector<float> frequencies, int threads,
             const std::string& instructions)
    : config_(config), frequencies_(std::move(frequencies)), kernels_(&llama::kernels(instructions)), pool_(threads) {
  const Config& c = config_;
  const bool fits = c.heads % c.groups == 0 && c.head_width % 16 == 0 && c.hidden % 16 == 0 && c.width % 16 == 0 &&
                    static_cast<int64_t>(matrices.size()) == 2 + c.layers * PARTS &&
                    static_cast<int64_t>(frequencies_.size()) == c.head_width / 2;
  if (!fits) throw std::invalid_argument("widths must be multiples of 16, and all matrices named");
  lay_out(matrices);
  arena_ = std::make_unique<Arena>(bytes_);
  norms_.resize(static_cast<size_t>(2 * c.layers + 1));
  own_.resize(static_cast<size_t>(pool_.threads()));
  for (Thread& own : own_) own.room.resize(ATTEND_ROOM), own.mixed.resize(static_cast<size_t>(MOST_ROWS * c.head_width));
}

// One matrix after the other; but tiles of a gate and of its `up`, which are read in turns, side by side.
void Model::lay_out(const std::vector<Shape>& shapes) {
  for (size_t i = 0; i < shapes.size(); i++) {
    const int64_t size = tile_bytes(shapes[i].kind, shapes[i].inputs);
    const bool paired = i >= 2 && (i - 2) % PARTS == GATE;
    const int64_t more = paired ? tile_bytes(shapes[i + 1].kind, shapes[i + 1].inputs) : 0;
    if (paired && shapes[i].rows != shapes[i + 1].rows) throw std::invalid_argument("a gate of other rows than its up");
    matrices_.push_back({shapes[i], bytes_, size + more});
    if (paired) matrices_.push_back({shapes[i + 1], bytes_ + size, size + more});
    bytes_ += (shapes[i].tiles() * (size + more) + 63) / 64 * 64;
    if (paired) i++;
  }
}

void Model::put(int64_t index, int64_t first, int64_t rows, const uint8_t* from) {
  const Matrix& m = matrices_[static_cast<size_t>(index)];
  const Shape some{m.shape.kind, rows, m.shape.inputs};
  const std::function<void(int)> all = [&](int t) {
    pool_.share(t, some.tiles(), [&](int64_t n) { pack_tile(some, from, n, m.tile(*arena_, first / ROWS + n)); });
  };
  pool_.run(all);
}

void Model::put_norm(int64_t index, const float* from) {
  norms_.at(static_cast<size_t>(index)).assign(from, from + config_.width);
}

int64_t Model::make_cache(int64_t pages, int64_t page, bool coded) {
  if (page % 16) throw std::invalid_argument("a page holds a multiple of 16 positions");
  if (coded && config_.head_width > WIDEST) throw std::invalid_argument("heads too wide for sums of 32 bits");
  pages_ = pages, form_ = {coded, page, config_.head_width};
  const int64_t bytes = config_.layers * pages * config_.groups * form_.bytes();
  keys_ = std::make_unique<Arena>(bytes), values_ = std::make_unique<Arena>(bytes);
  return 2 * bytes;
}

void Model::copy_page(int64_t source, int64_t target) {
  const int64_t page = config_.groups * form_.bytes();
  for (const auto& arena : {keys_.get(), values_.get()}) {
    for (int64_t n = 0; n < config_.layers; n++) {
      uint8_t* layer = arena->data() + n * pages_ * page;
      std::memcpy(layer + target * page, layer + source * page, static_cast<size_t>(page));
    }
  }
}

void Model::step(const Batch& batch, float* logits, float* states) {
  plan(batch);
  const std::function<void(int)> all = [&](int t) { work(batch, t, logits, states); };
  pool_.run(all);
}

// Room for the batch.
void Model::plan(const Batch& batch) {
  const Config& c = config_;
  const auto rows = static_cast<int64_t>(batch.tokens.size());
  const int64_t heads = c.heads + 2 * c.groups;
  room(x_, rows * c.width), room(qkv_, rows * heads * c.head_width), room(mixed_, rows * c.heads * c.head_width);
  room(hidden_, rows * c.hidden), room(turns_, rows * 2 * c.head_width), room(sequence_, rows);
  room(queries_, rows * c.heads * c.head_width), room(query_scales_, rows * c.heads);
  const int64_t most = std::max(rows, 2 * static_cast<int64_t>(batch.wanted.size()));
  shared_.make_room(rows, std::max({c.width, c.hidden, c.heads * c.head_width})), shared_.make_room(most, c.width);
  for (Thread& own : own_) {
    room(own.normed, std::max(c.width, c.heads * c.head_width));
    room(own.tile, most * ROWS), room(own.up, rows * ROWS);
  }
  plan_attention(batch);
  plan_adapters(batch);
}

void Model::plan_attention(const Batch& batch) {
  const int each = static_cast<int>(config_.heads / config_.groups);
  runs_.clear(), items_.clear();
  int64_t blocks = 0, place = 0;
  for (size_t s = 0; s < batch.held.size(); s++) {
    const int first = batch.starts[s], last = batch.starts[s + 1];
    for (int m = first, stop; m < last; m = stop) {
      stop = std::min(last, m + 16 - (batch.held[s] + m - first) % 16);
      runs_.push_back({static_cast<int>(s), m, stop});
    }
    for (int m = first; m < last; m++) sequence_[static_cast<size_t>(m)] = static_cast<int32_t>(s);
    blocks += config_.groups * (((last - first) * each + MOST_ROWS - 1) / MOST_ROWS);
  }
  const bool few = blocks < 4 * pool_.threads();  // then threads share the pieces of the same queries
  for (size_t s = 0; s < batch.held.size(); s++) {
    const int queries = (batch.starts[s + 1] - batch.starts[s]) * each;
    for (int first = 0; first < queries; first += MOST_ROWS) {
      const int count = std::min(MOST_ROWS, queries - first), seen = batch.held[s] + (first + count - 1) / each + 1;
      const int pieces = (seen + PIECE - 1) / PIECE, step = few ? 1 : pieces;
      for (int g = 0; g < config_.groups; g++, place += pieces) {
        for (int p = 0; p < pieces; p += step) {
          items_.push_back({static_cast<int>(s), g, first, count, p, p + step, pieces, place});
        }
      }
    }
  }
  room(partial_, place * MOST_ROWS * (config_.head_width + 2));
  if (static_cast<int64_t>(done_.size()) < place) done_ = std::vector<std::atomic<int>>(static_cast<size_t>(place));
}

void Model::work(const Batch& batch, int t, float* logits, float* states) {
  begin(batch, t);
  pool_.wait();
  for (int64_t n = 0; n < config_.layers; n++) layer(batch, n, t);
  end(batch, t, logits, states);
}

// Embeddings, and each row's angles: cos of a pair twice, and -sin, sin.
void Model::begin(const Batch& batch, int t) {
  const Config& c = config_;
  const auto rows = static_cast<int64_t>(batch.tokens.size());
  for (int64_t m = t; m < rows; m += pool_.threads()) {
    const auto s = static_cast<size_t>(sequence_[static_cast<size_t>(m)]);
    const auto position = static_cast<float>(batch.held[s] + m - batch.starts[s]);
    unpack_row(matrices_[0].shape, matrices_[0].tile(*arena_, 0), batch.tokens[static_cast<size_t>(m)], x_.data() + m * c.width);
    float *cos = turns_.data() + m * 2 * c.head_width, *sin = cos + c.head_width;
    for (int64_t i = 0; i < c.head_width / 2; i++) {
      const float angle = position * frequencies_[static_cast<size_t>(i)];
      cos[2 * i] = cos[2 * i + 1] = std::cos(angle);
      sin[2 * i + 1] = std::sin(angle), sin[2 * i] = -sin[2 * i + 1];
    }
  }
}

void Model::layer(const Batch& batch, int64_t n, int t) {
  const Config& c = config_;
  const auto rows = static_cast<int64_t>(batch.tokens.size());
  const int64_t mixed_width = c.heads * c.head_width, stride = (c.heads + 2 * c.groups) * c.head_width;
  Thread& own = own_[static_cast<size_t>(t)];
  const auto normed = [&](const std::vector<float>& weight) {
    return [&, w = weight.data()](int64_t m) {
      kernels_->norm(x_.data() + m * c.width, w, c.width, c.eps, own.normed.data());
      return own.normed.data();
    };
  };
  const Matrix &q = part(n, Q), &k = part(n, K), &v = part(n, V), &gate = part(n, GATE), &up = part(n, UP);
  const Activations& read = prepare(t, rows, c.width, {&q, &k, &v}, normed(norms_[static_cast<size_t>(2 * n)]));
  const int64_t tiles[] = {q.shape.tiles(), k.shape.tiles(), v.shape.tiles()}, all = tiles[0] + tiles[1] + tiles[2];
  lower(n, {Q, K, V}, read, t);
  pool_.share(t, all, [&](int64_t i) {
    const int which = i < tiles[0] ? 0 : i < tiles[0] + tiles[1] ? 1 : 2;
    const int64_t tile = i - (which > 0 ? tiles[0] : 0) - (which > 1 ? tiles[1] : 0);
    const Matrix& m = part(n, static_cast<Part>(which));
    kernels_->multiply(m.shape.kind, m.tile(*arena_, tile), read, 0, rows, qkv_.data() + i * ROWS, stride);
    raise(n, static_cast<Part>(which), which, tile, qkv_.data() + i * ROWS, stride, t);
  });
  pool_.wait();
  remember(batch, n, t);
  pool_.wait();
  mix(batch, n, t);
  pool_.wait();
  const Activations& told = prepare(t, rows, mixed_width, {&part(n, O)},
                                    [&](int64_t m) { return mixed_.data() + m * mixed_width; });
  add_product(t, n, O, told, rows);
  const Activations& again =
      prepare(t, rows, c.width, {&gate, &up}, normed(norms_[static_cast<size_t>(2 * n + 1)]));
  lower(n, {GATE, UP}, again, t);
  pool_.share(t, gate.shape.tiles(), [&](int64_t i) {
    float* out = hidden_.data() + i * ROWS;
    kernels_->multiply(gate.shape.kind, gate.tile(*arena_, i), again, 0, rows, out, c.hidden);
    kernels_->multiply(up.shape.kind, up.tile(*arena_, i), again, 0, rows, own.up.data(), ROWS);
    raise(n, GATE, 0, i, out, c.hidden, t), raise(n, UP, 1, i, own.up.data(), ROWS, t);
    for (int64_t m = 0; m < rows; m++) kernels_->gate(out + m * c.hidden, own.up.data() + m * ROWS, ROWS);
  });
  pool_.wait();
  const Activations& wide =
      prepare(t, rows, c.hidden, {&part(n, DOWN)}, [&](int64_t m) { return hidden_.data() + m * c.hidden; });
  add_product(t, n, DOWN, wide, rows);
}

// Rows of numbers as `readers` want them. One row: each thread makes its own, which is quicker than to wait.
template <class Row>
const Activations& Model::prepare(int t, int64_t rows, int64_t inputs, std::initializer_list<const Matrix*> readers,
                                  Row row) {
  bool plain = !stretches_.empty(), codes = false;
  for (const Matrix* m : readers) (is_plain(m->shape.kind) ? plain : codes) = true;
  if (rows == 1) {
    Activations& own = own_[static_cast<size_t>(t)].own;
    own.make_room(1, inputs);
    kernels_->take(row(0), own, 0, plain, codes);
    return own;
  }
  if (t == 0) shared_.shape(rows, inputs);
  pool_.wait();
  for (int64_t m = t; m < rows; m += pool_.threads()) kernels_->take(row(m), shared_, m, plain, codes);
  pool_.wait();
  return shared_;
}

// x += the product, by whoever has time; then all wait.
void Model::add_product(int t, int64_t layer, Part which, const Activations& x, int64_t rows) {
  const Matrix& matrix = part(layer, which);
  lower(layer, {which}, x, t);
  const int64_t tiles = matrix.shape.tiles();
  float* tile = own_[static_cast<size_t>(t)].tile.data();
  pool_.share(t, tiles, [&](int64_t i) {
    kernels_->multiply(matrix.shape.kind, matrix.tile(*arena_, i), x, 0, rows, tile, ROWS);
    raise(layer, which, 0, i, tile, ROWS, t);
    for (int64_t m = 0; m < rows; m++) kernels_->add(x_.data() + m * config_.width + i * ROWS, tile + m * ROWS, ROWS);
  });
  pool_.wait();
}

// Queries and keys turned, keys and values into the cache.
void Model::remember(const Batch& batch, int64_t n, int t) {
  const Config& c = config_;
  const int64_t width = c.head_width, each = c.heads / c.groups, stride = (c.heads + 2 * c.groups) * width;
  const auto rows = static_cast<int64_t>(batch.tokens.size());
  const float scale = 1 / std::sqrt(static_cast<float>(width));
  void* narrow = own_[static_cast<size_t>(t)].mixed.data();
  pool_.share(t, static_cast<int64_t>(runs_.size()) * c.groups, [&](int64_t i) {
    const Run& run = runs_[static_cast<size_t>(i / c.groups)];
    const auto s = static_cast<size_t>(run.sequence);
    const int64_t group = i % c.groups;
    for (int64_t m = run.first; m < run.last; m++) {
      float *q = qkv_.data() + m * stride + group * each * width, *k = qkv_.data() + m * stride + (c.heads + group) * width;
      const float *v = k + c.groups * width, *turn = turns_.data() + m * 2 * width;
      for (int64_t h = 0; h < each; h++) kernels_->turn(q + h * width, turn, static_cast<int>(width));
      kernels_->turn(k, turn, static_cast<int>(width));
      const int64_t query = (group * rows + m) * each;
      form_.ask(*kernels_, q, scale, each, queries_.data() + query * width, query_scales_.data() + query);
      const int64_t position = batch.held[s] + m - batch.starts[s];
      const int64_t page = batch.pages[s][static_cast<size_t>(position / form_.page)];
      const int64_t head = ((n * pages_ + page) * c.groups + group) * form_.bytes();
      form_.put(*kernels_, k, v, position % form_.page, keys_->data() + head, values_->data() + head, narrow);
    }
  });
}

void Model::mix(const Batch& batch, int64_t n, int t) {
  Thread& own = own_[static_cast<size_t>(t)];
  pool_.share(t, static_cast<int64_t>(items_.size()), [&](int64_t i) { mix_one(batch, n, items_[static_cast<size_t>(i)], own); });
}

void Model::mix_one(const Batch& batch, int64_t n, const Item& item, Thread& own) {
  const Config& c = config_;
  const int64_t each = c.heads / c.groups, width = c.head_width, page = c.groups * form_.bytes();
  const auto s = static_cast<size_t>(item.sequence);
  const auto rows = static_cast<int64_t>(batch.tokens.size());
  const int64_t head = n * pages_ * page + item.group * form_.bytes();
  const int64_t query = (item.group * rows + batch.starts[s]) * each + item.first;
  int32_t seen[MOST_ROWS];
  for (int r = 0; r < item.count; r++) seen[r] = batch.held[s] + (item.first + r) / static_cast<int>(each) + 1;
  Heads heads{queries_.data() + query * width,
              query_scales_.data() + query,
              seen,
              item.count,
              static_cast<int>(width),
              keys_->data() + head,
              values_->data() + head,
              batch.pages[s].data(),
              page,
              static_cast<int>(form_.page),
              0,
              0};
  float* parts = partial_.data() + item.place * MOST_ROWS * (width + 2);
  for (int p = item.begin; p < item.end; p++) {
    float* part = parts + p * MOST_ROWS * (width + 2);
    heads.first = p * PIECE, heads.last = (p + 1) * PIECE;
    form_.attend(*kernels_, heads, {part, part + MOST_ROWS * width, part + MOST_ROWS * (width + 1)}, own.room.data());
  }
  auto& done = done_[static_cast<size_t>(item.place)];  // who ends last puts the pieces together
  if (done.fetch_add(item.end - item.begin) + item.end - item.begin < item.pieces) return;
  done = 0;
  for (int r = 0; r < item.count; r++) {
    const int64_t query = item.first + r, row = batch.starts[s] + query / each;
    put_together(parts, r, item.pieces, mixed_.data() + (row * c.heads + item.group * each + query % each) * width);
  }
}

// Row r of the queries: what its pieces mixed, each scaled to the greatest score of all.
void Model::put_together(const float* parts, int r, int pieces, float* out) const {
  const int64_t width = config_.head_width, size = MOST_ROWS * (width + 2);
  float top = -1e30f, sum = 0;
  for (int p = 0; p < pieces; p++) top = std::max(top, parts[p * size + MOST_ROWS * width + r]);
  std::fill(out, out + width, 0.0f);
  for (int p = 0; p < pieces; p++) {
    const float* piece = parts + p * size;
    const float share = std::exp(piece[MOST_ROWS * width + r] - top);
    sum += share * piece[MOST_ROWS * (width + 1) + r];
    for (int64_t d = 0; d < width; d++) out[d] += share * piece[r * width + d];
  }
  for (int64_t d = 0; d < width; d++) out[d] /= sum;
}

// Hidden states as asked, and the logits of the wanted rows. What codes of 8 bits leave of a row is a second row of
// codes: a quarter of all error would come from here, and the head is one product of many.
void Model::end(const Batch& batch, int t, float* logits, float* states) {
  const Config& c = config_;
  const auto wanted = static_cast<int64_t>(batch.wanted.size()), asked = static_cast<int64_t>(batch.hidden.size());
  Thread& own = own_[static_cast<size_t>(t)];
  const auto normed = [&](int32_t row, float* out) {
    kernels_->norm(x_.data() + row * c.width, norms_.back().data(), c.width, c.eps, out);
  };
  for (int64_t i = t; i < asked; i += pool_.threads()) normed(batch.hidden[static_cast<size_t>(i)], states + i * c.width);
  if (wanted == 0) return;
  const Matrix& head = this->head();
  const bool plain = is_plain(head.shape.kind);
  const int64_t each = plain ? 1 : 2, threads = wanted == 1 ? 1 : pool_.threads();
  Activations& x = wanted == 1 ? own.own : shared_;
  if (wanted == 1) {
    x.make_room(each, c.width);
  } else {
    if (t == 0) x.shape(wanted * each, c.width);
    pool_.wait();
  }
  for (int64_t i = wanted == 1 ? 0 : t; i < wanted; i += threads) {
    normed(batch.wanted[static_cast<size_t>(i)], own.normed.data());
    for (int64_t k = 0; k < each; k++) {
      kernels_->take(own.normed.data(), x, i * each + k, plain, !plain);
      if (!plain) x.take_off(i * each + k, own.normed.data());
    }
  }
  if (wanted > 1) pool_.wait();
  pool_.share(t, head.shape.tiles(), [&](int64_t n) {
    kernels_->multiply(head.shape.kind, head.tile(*arena_, n), x, 0, wanted * each, own.tile.data(), ROWS);
    const int64_t count = std::min<int64_t>(ROWS, c.words - n * ROWS);
    for (int64_t i = 0; i < wanted; i++) {
      const float *first = own.tile.data() + i * each * ROWS, *rest = first + (each - 1) * ROWS;
      float* out = logits + i * c.words + n * ROWS;
      for (int64_t r = 0; r < count; r++) out[r] = plain ? first[r] : first[r] + rest[r];
    }
  });
}

}  // namespace puna::llama
