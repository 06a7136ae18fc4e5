// A first-in first-out ring that grows by doubling up to a bound, and never shrinks. Not thread-safe.
#pragma once
#include <cassert>
#include <cstddef>
#include <vector>

namespace kvferry {

template <typename Item>
class Ring {
 public:
  explicit Ring(size_t bound) : bound_(bound) {}

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  bool full() const { return size_ >= bound_; }

  // False when full.
  bool push(const Item& item) {
    if (full()) return false;
    if (size_ == items_.size()) grow();
    items_[(first_ + size_++) & (items_.size() - 1)] = item;
    return true;
  }

  Item& at(size_t index) {
    assert(index < size_);
    return items_[(first_ + index) & (items_.size() - 1)];
  }

  Item& front() { return at(0); }

  void pop() {
    assert(size_ > 0);
    first_ = (first_ + 1) & (items_.size() - 1);
    size_ -= 1;
  }

  void clear() { first_ = size_ = 0; }

 private:
  void grow() {
    std::vector<Item> larger(items_.empty() ? 16 : items_.size() * 2);
    for (size_t index = 0; index < size_; index++) larger[index] = at(index);
    items_.swap(larger);
    first_ = 0;
  }

  std::vector<Item> items_;
  size_t first_ = 0;
  size_t size_ = 0;
  size_t bound_;
};

}  // namespace kvferry
