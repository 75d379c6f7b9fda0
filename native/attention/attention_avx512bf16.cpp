// Attention with AVX-512 and its bfloat16 dot product: for bfloat16 queries the weights are bfloat16 too.
#include "attention/avx512.h"

namespace quire::attention {
namespace {

inline __m512bh as_pairs(__m512i x) {
  __m512bh pairs;
  __builtin_memcpy(&pairs, &x, sizeof pairs);
  return pairs;
}

struct PairsOfBf16 {
  using T = uint16_t;
  using Left = uint32_t;
  using Right = __m512bh;
  using Wide = PairsOfBf16;
  static constexpr bool HAS_SCALES = false;
  static constexpr int PAIR = 2, LEFT_STEP = 1, COLUMNS = 4;

  static inline __m512bh load(const uint16_t *at) { return as_pairs(_mm512_loadu_si512(at)); }
  static inline __m512bh factor(const uint32_t *x) { return as_pairs(_mm512_set1_epi32(int(*x))); }
  static inline __m512 dot(__m512 sum, __m512bh right, __m512bh left) { return _mm512_dpbf16_ps(sum, right, left); }
  static inline void widen(__m512bh x, uint16_t *to, int64_t i, int64_t) { std::memcpy(to + i * 2, &x, sizeof x); }

  static inline void clear(uint32_t *to, int64_t begin, int64_t end) {
    std::memset(reinterpret_cast<char *>(to) + begin * 2, 0, size_t(end - begin) * 2);
  }
  static inline void put(uint32_t *to, const __m512 *x, int vectors) {
    int v = 0;
    for (; v + 2 <= vectors; v += 2) {
      const __m512bh both = _mm512_cvtne2ps_pbh(x[v + 1], x[v]);
      std::memcpy(to + v * 8, &both, sizeof both);
    }
    if (v == vectors) return;
    const __m256bh last = _mm512_cvtneps_pbh(x[v]);
    std::memcpy(to + v * 8, &last, sizeof last);
  }
};

// Each code's two bytes in bfloat16, without its sign.
struct Fp8Bytes {
  alignas(64) uint8_t low[128] = {}, high[128] = {};
  constexpr Fp8Bytes() {
    for (int code = 0; code < 128; ++code) {
      const int exponent = code >> 3, fraction = code & 7;
      int number = (exponent + 120) << 7 | fraction << 4;
      if (exponent == 0)  // fractions of 2^-6
        number = fraction == 0 ? 0 : fraction == 1 ? 118 << 7 : fraction < 4 ? 119 << 7 | (fraction & 1) << 6
                                                                             : 120 << 7 | (fraction & 3) << 5;
      if (code == 127) number = 0x7fc0;
      low[code] = uint8_t(number & 0xff);
      high[code] = uint8_t(number >> 8);
    }
  }
};

constexpr Fp8Bytes fp8_bytes;

struct PairsOfFp8 : PairsOfBf16 {
  using T = uint8_t;
  using Wide = PairsOfBf16;

  static inline __m512bh load(const uint8_t *at) {
    static constexpr char TWICE[64] = {0,  0,  1,  1,  2,  2,  3,  3,  4,  4,  5,  5,  6,  6,  7,  7,
                                       8,  8,  9,  9,  10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15,
                                       16, 16, 17, 17, 18, 18, 19, 19, 20, 20, 21, 21, 22, 22, 23, 23,
                                       24, 24, 25, 25, 26, 26, 27, 27, 28, 28, 29, 29, 30, 30, 31, 31};
    const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(at));
    const __m512i twice = _mm512_permutexvar_epi8(_mm512_loadu_si512(TWICE), _mm512_castsi256_si512(codes));
    const __m512i high = _mm512_mask2_permutex2var_epi8(_mm512_load_si512(fp8_bytes.high), twice, HIGH,
                                                        _mm512_load_si512(fp8_bytes.high + 64));
    const __m512i size = _mm512_mask2_permutex2var_epi8(_mm512_load_si512(fp8_bytes.low), high, ~HIGH,
                                                        _mm512_load_si512(fp8_bytes.low + 64));
    constexpr int OR_SIGN = 0xf8;  // a | (b & c)
    return as_pairs(_mm512_ternarylogic_epi32(size, twice, _mm512_set1_epi16(int16_t(0x8000)), OR_SIGN));
  }

 private:
  static constexpr __mmask64 HIGH = 0xaaaaaaaaaaaaaaaau;
};

struct PairsOfInt8 : PairsOfBf16 {
  using T = uint8_t;
  using Wide = PairsOfBf16;
  static constexpr bool HAS_SCALES = true;

  static inline __m512bh load(const uint8_t *at) {
    return _mm512_cvtne2ps_pbh(widened(at + 16), widened(at));
  }

 private:
  static inline __m512 widened(const uint8_t *at) {
    const __m128i numbers = _mm_loadu_si128(reinterpret_cast<const __m128i *>(at));
    return _mm512_maskz_cvtepi32_ps(0xffff, _mm512_maskz_cvtepi8_epi32(0xffff, numbers));
  }
};

struct QueriesAsTheyAre {
  using T = uint16_t;
  static inline void take(const uint16_t *from, uint32_t *to, int64_t count) {
    std::memcpy(to, from, size_t(count) * 2);
  }
  static inline void narrow(const float *from, uint16_t *to, int64_t count) {
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) {
      const __m256bh narrowed = _mm512_cvtneps_pbh(_mm512_loadu_ps(from + i));
      std::memcpy(to + i, &narrowed, sizeof narrowed);
    }
    for (; i < count; ++i) to[i] = to_bf16(from[i]);
  }
};

}  // namespace

const Kernels kernels_avx512bf16 = kernels<Vectors, PairsOfBf16, PairsOfFp8, PairsOfInt8, QueriesAsTheyAre>();

}  // namespace quire::attention
