// Adapters: what a sequence's adapter adds to the matrices, y += scale * up * down * x, for its rows alone.
#include <stdexcept>

#include "model.h"

namespace puna::llama {

void Model::put_adapter(int32_t number, int64_t rank, const std::vector<Half>& halves) {
  Adapter& adapter = adapters_[number];
  adapter = {rank, std::vector<LowRank>(static_cast<size_t>(config_.layers * PARTS)), nullptr};
  int64_t bytes = 0;
  const auto placed = [&](Shape shape) {
    const Matrix m{shape, bytes, tile_bytes(shape.kind, shape.inputs)};
    bytes += (shape.tiles() * m.stride + 63) / 64 * 64;
    return m;
  };
  for (const Half& h : halves) {
    const Shape& whole = matrices_.at(static_cast<size_t>(2 + h.part)).shape;
    LowRank& low = adapter.parts.at(static_cast<size_t>(h.part));
    low = {placed({h.kind, rank, whole.inputs}), placed({h.kind, whole.rows, rank}), h.scale};
  }
  adapter.arena = std::make_unique<Arena>(bytes);
  for (const Half& h : halves) {
    const LowRank& low = adapter.parts[static_cast<size_t>(h.part)];
    for (const auto& [matrix, from] : {std::pair{&low.down, h.down}, std::pair{&low.up, h.up}}) {
      for (int64_t n = 0; n < matrix->shape.tiles(); n++) pack_tile(matrix->shape, from, n, matrix->tile(*adapter.arena, n));
    }
  }
}

void Model::drop_adapter(int32_t number) { adapters_.erase(number); }

// Rows that follow each other and have the same adapter, and room for what their adapter makes of them.
void Model::plan_adapters(const Batch& batch) {
  stretches_.clear();
  for (size_t s = 0; s < batch.adapters.size(); s++) {
    const int64_t first = batch.starts[s], rows = batch.starts[s + 1] - first;
    const Adapter* adapter = batch.adapters[s] ? &adapters_.at(batch.adapters[s]) : nullptr;
    if (!adapter) continue;
    if (!stretches_.empty() && stretches_.back().adapter == adapter &&
        stretches_.back().first + stretches_.back().rows == first) {
      stretches_.back().rows += rows;
    } else {
      stretches_.push_back({adapter, first, rows});
    }
  }
  if (lowered_.size() < stretches_.size() * SIDES) lowered_.resize(stretches_.size() * SIDES);
  for (size_t i = 0; i < stretches_.size() * SIDES; i++) {
    lowered_[i].make_room(stretches_[i / SIDES].rows, stretches_[i / SIDES].adapter->rank);
  }
  int64_t most = 0;
  for (const Stretch& stretch : stretches_) most = std::max(most, stretch.rows);
  for (Thread& own : own_) room(own.raised, most * ROWS);
}

// scale * down * x of all adapters, for parts that read the same x; then all threads wait.
void Model::lower(int64_t layer, std::initializer_list<Part> parts, const Activations& x, int t) {
  if (stretches_.empty()) return;
  int64_t turn = 0;
  for (size_t i = 0; i < stretches_.size(); i++) {
    const Stretch& stretch = stretches_[i];
    size_t side = i * SIDES;
    for (Part part : parts) {
      const LowRank& low = stretch.adapter->parts[static_cast<size_t>(layer * PARTS + part)];
      Activations& to = lowered_[side++];
      for (int64_t n = 0; n < low.down.shape.tiles(); n++) {
        if (turn++ % pool_.threads() != t) continue;
        float* out = to.values.data() + n * ROWS;
        kernels_->multiply(low.down.shape.kind, low.down.tile(*stretch.adapter->arena, n), x, stretch.first, stretch.rows,
                           out, to.inputs);
        for (int64_t m = 0; m < stretch.rows; m++) {
          for (int64_t r = 0; r < ROWS; r++) out[m * to.inputs + r] *= low.scale;
        }
      }
    }
  }
  pool_.wait();
}

// out (rows, stride) of one tile of a part += up * what was lowered; `side`: which of the parts lowered together.
void Model::raise(int64_t layer, Part part, int side, int64_t tile, float* out, int64_t stride, int t) {
  float* raised = own_[static_cast<size_t>(t)].raised.data();
  for (size_t i = 0; i < stretches_.size(); i++) {
    const Stretch& stretch = stretches_[i];
    const LowRank& low = stretch.adapter->parts[static_cast<size_t>(layer * PARTS + part)];
    if (!low.up.shape.rows) continue;
    const Activations& from = lowered_[i * SIDES + static_cast<size_t>(side)];
    kernels_->multiply(low.up.shape.kind, low.up.tile(*stretch.adapter->arena, tile), from, 0, stretch.rows, raised, ROWS);
    for (int64_t m = 0; m < stretch.rows; m++) kernels_->add(out + (stretch.first + m) * stride, raised + m * ROWS, ROWS);
  }
}

}  // namespace puna::llama
