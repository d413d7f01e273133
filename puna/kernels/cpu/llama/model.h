// A Llama in packed weights, and its whole forward step: ids in, logits out, for any number of sequences at once.
#pragma once
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cache.h"
#include "kernels.h"
#include "pool.h"

namespace puna::llama {

struct Config {
  int64_t width, layers, heads, groups, head_width, hidden, words;
  float eps;
};

enum Part { Q, K, V, O, GATE, UP, DOWN, PARTS };  // of a layer

template <class T>
void room(std::vector<T>& v, int64_t size) {
  if (static_cast<int64_t>(v.size()) < size) v.resize(static_cast<size_t>(size));
}

// Memory in large pages, zeros at first; taken from the machine only where it is touched.
class Arena {
 public:
  explicit Arena(int64_t bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  uint8_t* data() const { return data_; }

 private:
  uint8_t* data_;
  int64_t bytes_;
};

// What one step reads: new positions of sequences, one sequence after the other.
struct Batch {
  std::vector<int32_t> tokens;     // (rows,)
  std::vector<int32_t> starts;     // (sequences + 1,): which rows are a sequence's
  std::vector<int32_t> held;       // (sequences,): positions in the cache before
  std::vector<std::vector<int32_t>> pages;  // of each sequence, with room for what is new
  std::vector<int32_t> wanted;     // rows whose logits are asked for
  std::vector<int32_t> hidden;     // rows whose last hidden states are asked for
  std::vector<int32_t> adapters;   // of each sequence, 0: none; or empty
};

// What an adapter adds to one matrix, as plain numbers of one kind: down (rank, inputs), up (rows, rank).
struct Half {
  int64_t part;  // layer * PARTS + Part
  Kind kind;
  const uint8_t *down, *up;  // up: rows of q and k in GGUF's order
  float scale;
};

class Model {
 public:
  // matrices: embedding, head (no rows: the embedding's), then PARTS of every layer. frequencies: radians a
  // position of each pair of neighbouring channels (head_width / 2,).
  Model(const Config& config, std::vector<Shape> matrices, std::vector<float> frequencies, int threads,
        const std::string& instructions);

  // Rows first ... first + rows - 1 of matrix number `index` from GGUF's blocks, rows of q and k in GGUF's order.
  // `first` is a multiple of ROWS. All threads pack.
  void put(int64_t index, int64_t first, int64_t rows, const uint8_t* from);
  void put_norm(int64_t index, const float* from);  // two of every layer, then the last
  int64_t make_cache(int64_t pages, int64_t page, bool coded);  // forgets what was there; gives its bytes

  // `rank` is the same for all of an adapter, a multiple of 16: lower ones are filled with zeros.
  void put_adapter(int32_t number, int64_t rank, const std::vector<Half>& halves);
  void drop_adapter(int32_t number);
  bool has_adapter(int32_t number) const { return adapters_.count(number); }

  void copy_page(int64_t source, int64_t target);

  // Reads the batch. logits (wanted, words); states (hidden, width), normed.
  void step(const Batch& batch, float* logits, float* states);

  const Config& config() const { return config_; }
  const Kernels& kernels() const { return *kernels_; }
  int threads() const { return pool_.threads(); }
  int64_t pages() const { return pages_; }
  int64_t page() const { return form_.page; }
  int64_t bytes() const { return bytes_; }  // of the packed weights
  const Shape& shape(int64_t index) const { return matrices_.at(static_cast<size_t>(index)).shape; }

 private:
  struct Matrix {
    Shape shape;
    int64_t place, stride;  // bytes in the arena: of tile 0, and from a tile to the next
    uint8_t* tile(const Arena& arena, int64_t n) const { return arena.data() + place + n * stride; }
  };
  struct Run {  // rows of one sequence whose positions lie in the same 16: one thread writes them to the cache
    int sequence;
    int64_t first, last;
  };
  struct Item {  // queries of one key-value head of one sequence, over some of the pieces that they see
    int sequence, group, first, count;  // query `first` of the sequence: token first / (heads a group)
    int begin, end, pieces;             // pieces begin ... end - 1 of so many
    int64_t place;                      // of piece 0 among the partial results
  };
  struct Thread {  // what a thread alone writes to
    Activations own;
    std::vector<float> normed, tile, up, room, mixed, raised;
  };
  struct LowRank {  // no rows: nothing
    Matrix down, up;
    float scale;
  };
  struct Adapter {
    int64_t rank;
    std::vector<LowRank> parts;  // (layers * PARTS,)
    std::unique_ptr<Arena> arena;
  };
  struct Stretch {  // rows with the same adapter
    const Adapter* adapter;
    int64_t first, rows;
  };
  static constexpr size_t SIDES = 3;  // parts that read the same x, at most

  void work(const Batch& batch, int t, float* logits, float* states);
  void layer(const Batch& batch, int64_t layer, int t);
  void plan(const Batch& batch);
  void plan_attention(const Batch& batch);
  void begin(const Batch& batch, int t);
  void remember(const Batch& batch, int64_t layer, int t);
  void mix(const Batch& batch, int64_t layer, int t);
  void mix_one(const Batch& batch, int64_t layer, const Item& item, Thread& own);
  void put_together(const float* parts, int r, int pieces, float* out) const;
  void end(const Batch& batch, int t, float* logits, float* states);

  void plan_adapters(const Batch& batch);
  void lower(int64_t layer, std::initializer_list<Part> parts, const Activations& x, int t);
  void raise(int64_t layer, Part part, int side, int64_t tile, float* out, int64_t stride, int t);

  template <class Row>
  const Activations& prepare(int t, int64_t rows, int64_t inputs, std::initializer_list<const Matrix*> readers, Row row);
  void add_product(int t, int64_t layer, Part part, const Activations& x, int64_t rows);
  void lay_out(const std::vector<Shape>& shapes);
  const Matrix& part(int64_t layer, Part which) const {
    return matrices_[static_cast<size_t>(2 + layer * PARTS + which)];
  }
  const Matrix& head() const { return matrices_[matrices_[1].shape.rows ? 1 : 0]; }

  Config config_;
  std::vector<Matrix> matrices_;
  std::vector<float> frequencies_;
  std::vector<std::vector<float>> norms_;
  const Kernels* kernels_;
  Pool pool_;
  std::unique_ptr<Arena> arena_, keys_, values_;
  int64_t bytes_ = 0, pages_ = 0;
  Form form_;  // of keys_ and values_
  std::map<int32_t, Adapter> adapters_;

  std::vector<Thread> own_;
  Activations shared_;
  std::vector<float> x_, qkv_, mixed_, hidden_, turns_, partial_, query_scales_;
  std::vector<uint16_t> queries_;  // (groups, rows, heads a group, Dh), as query_scales_ without Dh
  std::vector<int32_t> sequence_;  // of a row
  std::vector<Run> runs_;
  std::vector<Item> items_;
  std::vector<Stretch> stretches_;  // of the step; none: no sequence has an adapter
  std::vector<Activations> lowered_;  // SIDES of each stretch
  std::vector<std::atomic<int>> done_;  // pieces of the queries whose first piece has this place
};

// Bytes a second that so many threads read of memory, the best of a few tries.
double bandwidth(int threads);

// Products and sums of bytes a second, in registers: two for each multiplication, as is usual.
double products(int threads);

}  // namespace puna::llama
