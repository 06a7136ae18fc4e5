// Which instructions the coders use: chosen once, by what this CPU has. All give the same bytes; the scalar code is the oracle.
#pragma once
#include <cstdint>
#include <vector>

namespace kvferry::codec {

enum class Isa : uint8_t { scalar = 0, avx2 = 1, avx512 = 2, neon = 3 };

// AVX-512 means F, BW, DQ, VL, VBMI and VBMI2 (Ice Lake, Zen 4); AVX2 comes with FMA, F16C and BMI2. NEON is every
// arm64's, in the matrix product alone: coders there are the scalar ones.
Isa best_isa();
const char* isa_name(Isa isa);
// What this CPU has, best first; "scalar" is always there.
std::vector<Isa> isas();
// For tests; false if this CPU lacks it.
bool isa_by_name(const char* name, Isa* isa);

}  // namespace kvferry::codec
