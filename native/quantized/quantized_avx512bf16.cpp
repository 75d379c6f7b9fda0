// Quantised products with AVX-512's dot products: of bfloat16, the codes made into it by tables, and of bytes.
#include "quantized/avx512.h"

namespace quire {
namespace {

inline __m512bh as_bf16(__m512i x) {
  __m512bh pairs;
  __builtin_memcpy(&pairs, &x, sizeof pairs);
  return pairs;
}

// The whole numbers 0 to 127 in bfloat16, their low bytes and their high ones apart.
struct ByteTables {
  uint8_t low[128], high[128];

  constexpr ByteTables() : low{}, high{} {
    for (int i = 1; i < 128; ++i) {
      int power = 0;
      while ((i >> power) > 1) ++power;
      const int bits = (127 + power) << 7 | ((i << (7 - power)) & 0x7f);
      low[i] = uint8_t(bits & 0xff);
      high[i] = uint8_t(bits >> 8);
    }
  }
};

// A 4-bit code less 8, for any fifth bit: the instruction looks at five.
struct HalfByteTable {
  uint16_t words[32];

  constexpr HalfByteTable() : words{} {
    const ByteTables bytes;
    for (int i = 0; i < 32; ++i) {
      const int number = (i & 15) - 8, size = number < 0 ? -number : number;
      words[i] = uint16_t((number < 0 ? 0x8000 : 0) | bytes.high[size] << 8 | bytes.low[size]);
    }
  }
};

alignas(64) constexpr ByteTables BYTE_TABLES;
alignas(64) constexpr HalfByteTable HALF_BYTE_TABLE;

// Inputs in bfloat16 as the caller has them.
struct DotArithmetic {
  using Lanes = quire::Lanes;
  using Input = uint16_t;
  using GroupSum = float;
  using Sum = __m512;
  static constexpr bool READS_X = true;
  static constexpr int UNROLLED = 2;

  static inline Sum zero() { return _mm512_setzero_ps(); }
  static inline Sum start(float) { return zero(); }
  template <int BITS>
  static inline Sum start(float inputs, const char *zeros) {
    return WidenedArithmetic<Lanes>::template start<BITS>(inputs, zeros);
  }
  static inline __m512 finish(Sum sum) { return sum; }

  // Sixteen outputs by four of depth: the first two in `pairs[0]`, the others in `pairs[1]`.
  static inline void widen_bytes(const char *weights, __m512i (&pairs)[2]) {
    const __m512i code = _mm512_loadu_si512(weights);  // the tables' instruction leaves the sign out
    const __m512i low = _mm512_permutex2var_epi8(_mm512_load_si512(BYTE_TABLES.low), code,
                                                 _mm512_load_si512(BYTE_TABLES.low + 64));
    const __m512i unsigned_high = _mm512_permutex2var_epi8(_mm512_load_si512(BYTE_TABLES.high), code,
                                                           _mm512_load_si512(BYTE_TABLES.high + 64));
    const __m512i high =
        _mm512_ternarylogic_epi32(unsigned_high, code, _mm512_set1_epi8(char(0x80)), 0xf8);  // a | b & c
    pairs[0] = _mm512_unpacklo_epi8(low, high);
    pairs[1] = _mm512_unpackhi_epi8(low, high);
  }

  template <int R>
  static inline void multiply(__m512i left, __m512i right, __m512 (&sum)[R][2], const RowPointers<R> &x, int offset) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m512bh pair = as_bf16(_mm512_set1_epi32(x.template read<int>(r, offset)));
      sum[r][0] = _mm512_dpbf16_ps(sum[r][0], as_bf16(left), pair);
      sum[r][1] = _mm512_dpbf16_ps(sum[r][1], as_bf16(right), pair);
    }
  }

  template <int BITS, int R>
  static inline void quad(const char *weights, __m512 (&sum)[R][2], const RowPointers<R> &x, int offset) {
    if constexpr (BITS == 8) {
      __m512i left[2], right[2];
      widen_bytes(weights, left);
      widen_bytes(weights + 64, right);
      multiply<R>(left[0], right[0], sum, x, offset);
      multiply<R>(left[1], right[1], sum, x, offset + 4);
    } else {
      const __m512i codes = _mm512_loadu_si512(weights), table = _mm512_load_si512(HALF_BYTE_TABLE.words);
      const auto numbers = [&](int shift) {
        return _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, unsigned(shift)), table);
      };
      multiply<R>(numbers(0), numbers(4), sum, x, offset);
      multiply<R>(numbers(8), numbers(12), sum, x, offset + 4);
    }
  }
};

// Inputs of 8 bits: four products at once, added to 32 bits without saturation.
struct ByteArithmetic {
  using Lanes = quire::Lanes;
  using Input = int8_t;
  using GroupSum = int32_t;
  using Sum = Sixteen;
  static constexpr bool READS_X = false;
  static constexpr int UNROLLED = 4;

  static inline Sum zero() { return Lanes::whole(0); }
  static inline Sum start(int32_t inputs) { return Lanes::whole(inputs); }
  template <int BITS>
  static inline Sum start(int32_t inputs, const char *zeros) {
    return PairedArithmetic<Lanes>::template start<BITS>(inputs, zeros);
  }
  static inline __m512 finish(Sum sum) { return Lanes::to_float(sum); }

  template <int BITS, int R>
  static inline void quad(const char *weights, Sixteen (&sum)[R][2], const RowPointers<R> &x, int offset) {
    __m512i left = _mm512_loadu_si512(weights), right;
    if constexpr (BITS == 8) {
      right = _mm512_loadu_si512(weights + 64);
    } else {
      const __m512i half = _mm512_set1_epi8(0x0f);
      right = _mm512_and_si512(_mm512_srli_epi16(left, 4), half);
      left = _mm512_and_si512(left, half);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m512i inputs = _mm512_set1_epi32(x.template read<int>(r, offset));
      sum[r][0] = Sixteen(_mm512_dpbusd_epi32(__m512i(sum[r][0]), left, inputs));
      sum[r][1] = Sixteen(_mm512_dpbusd_epi32(__m512i(sum[r][1]), right, inputs));
    }
  }
};

// Sixteen numbers at a time to whole ones, to the nearest and to even, each quad in the order of a packed weight.
void round_quads(const float *x, float inverse, int64_t count, int8_t *codes) {
  const __m128i places = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
  for (int64_t k = 0; k < count; k += 16) {
    const int64_t left = count - k;
    const __mmask16 mask = left < 16 ? __mmask16((1 << left) - 1) : __mmask16(0xffff);
    const __m512i whole = _mm512_cvt_roundps_epi32(
        _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + k), _mm512_set1_ps(inverse)),
        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __mmask16 quads = left < 16 ? __mmask16((1 << (left + QUAD - 1) / QUAD * QUAD) - 1) : __mmask16(0xffff);
    _mm_mask_storeu_epi8(codes + k, quads, _mm_shuffle_epi8(_mm512_cvtepi32_epi8(whole), places));
  }
}

void widen(const Inputs &inputs, int64_t first, int64_t last) { widen_rows(gemm_avx512bf16, inputs, first, last); }
void quantise(const Inputs &inputs, int64_t first, int64_t last) {
  quantise_rows(gemm_avx512bf16, round_quads, inputs, first, last);
}

}  // namespace

const QuantizedKernels quantized_avx512bf16 = {
    product<WidenedArithmetic<Lanes>, Vectors, ROWS>(widen),
    product<ByteArithmetic, Vectors, ROWS>(quantise),
    product<DotArithmetic, Vectors, ROWS>(widen),
};

}  // namespace quire
