// Memory that a coder works in; kept from call to call, so that its pages are there. One thread at a time.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "rans.h"

namespace kvferry::codec {

class Scratch {
 public:
  // At least `count` bytes, of any content; valid until the next call.
  uint8_t* need(size_t count) {
    if (count > count_) {
      bytes_.reset(new uint8_t[count]);
      count_ = count;
    }
    return bytes_.get();
  }

  // At least `count` tables, of any content.
  RansTable* tables(size_t count) {
    if (tables_.size() < count) tables_.resize(count);
    return tables_.data();
  }

 private:
  std::unique_ptr<uint8_t[]> bytes_;
  std::vector<RansTable> tables_;
  size_t count_ = 0;
};

}  // namespace kvferry::codec
