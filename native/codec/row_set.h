// Rows that are quantized together, with codes, parameters and ranges of their own: all that are coded of a tile, or of a delta its anchors and then the others.
#pragma once
#include <cstddef>
#include <vector>

#include "spec.h"

namespace kvferry::codec {

struct RowSet {
  enum class Kind { all, anchors, others };
  Kind kind;
  size_t count;
  size_t anchor;  // rows from one anchor to the next

  // Which of the coded rows it is, and which of the anchors it is held against.
  size_t row(size_t i) const { return kind == Kind::all ? i : kind == Kind::anchors ? i * anchor : i + anchor_of(i) + 1; }
  size_t anchor_of(size_t i) const { return i / (anchor - 1); }
};

inline std::vector<RowSet> row_sets(const Spec& spec, size_t rows) {
  const size_t anchor = spec.anchor, anchors = anchor == 0 ? 0 : (rows + anchor - 1) / anchor;
  if (anchor == 0) return {{RowSet::Kind::all, rows, 0}};
  return {{RowSet::Kind::anchors, anchors, anchor}, {RowSet::Kind::others, rows - anchors, anchor}};
}

}  // namespace kvferry::codec
