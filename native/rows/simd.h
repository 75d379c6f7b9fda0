// Sixteen floats at a time, whatever the instructions: the compiler splits them where registers are shorter. Every
// kernel file compiles this for itself (all of it has internal linkage). Lanes and order are the same everywhere, so sums
// have the same bits on all instruction sets; exp and what is made of it differ in the last bit where there is no fused
// multiply-add.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(QUIRE_NEON)  // asked for by its files: on Arm the compiler's own macros do not tell it from the portable one
#include <arm_neon.h>
#endif

#define QUIRE_INLINE static inline __attribute__((always_inline))
#define QUIRE_INLINE_MEMBER inline __attribute__((always_inline))

namespace {

constexpr int64_t LANES = 16;
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));
typedef double Doubles __attribute__((vector_size(64)));  // eight of them

struct Float32 {
  float bits;
};
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

QUIRE_INLINE Floats all(float value) { return Floats{} + value; }
QUIRE_INLINE Floats larger(Floats a, Floats b) { return a > b ? a : b; }

template <typename To, typename From>
QUIRE_INLINE To bit_cast(const From &from) {
  static_assert(sizeof(To) == sizeof(From), "");
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

QUIRE_INLINE Floats load(const Float32 *from) {
  Floats x;
  std::memcpy(&x, from, sizeof(x));
  return x;
}

QUIRE_INLINE void store(Float32 *to, Floats x) { std::memcpy(to, &x, sizeof(x)); }

QUIRE_INLINE Floats widened_bfloat16(Halves halves) {
#if defined(__AVX512F__)
  return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)halves), 16);
#else
  return bit_cast<Floats>(__builtin_convertvector(halves, Words) << 16);
#endif
}

QUIRE_INLINE Floats load(const BFloat16 *from) {
  Halves halves;
  std::memcpy(&halves, from, sizeof(halves));
  return widened_bfloat16(halves);
}

// To the nearest, ties to even; NaN stays NaN. AVX512_BF16 makes 0 of subnormal numbers.
QUIRE_INLINE Halves rounded_bfloat16(Floats x) {
#if defined(__AVX512BF16__)
  return (Halves)_mm512_cvtneps_pbh((__m512)x);
#elif defined(QUIRE_NEON) && defined(__ARM_FEATURE_BF16)
  bfloat16x8_t parts[2];
  float32x4_t from[4];
  std::memcpy(from, &x, sizeof(from));
  for (int half = 0; half < 2; ++half)
    parts[half] = vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(from[2 * half]), from[2 * half + 1]);
  return bit_cast<Halves>(parts);
#else
  const Words bits = bit_cast<Words>(x);
  const Words even = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Words quiet = Words{} + 0x7fc0;
  return __builtin_convertvector(x == x ? even : quiet, Halves);
#endif
}

QUIRE_INLINE void store(BFloat16 *to, Floats x) {
  const Halves halves = rounded_bfloat16(x);
  std::memcpy(to, &halves, sizeof(halves));
}

#if defined(__AVX512F__)
QUIRE_INLINE Floats load(const Float16 *from) {
  return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)));
}
QUIRE_INLINE void store(Float16 *to, Floats x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__F16C__)
QUIRE_INLINE Floats load(const Float16 *from) {
  Floats x;
  for (int half = 0; half < 2; ++half) {
    const __m256 part = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from + 8 * half)));
    std::memcpy(reinterpret_cast<char *>(&x) + 32 * half, &part, 32);
  }
  return x;
}
QUIRE_INLINE void store(Float16 *to, Floats x) {
  for (int half = 0; half < 2; ++half) {
    __m256 part;
    std::memcpy(&part, reinterpret_cast<const char *>(&x) + 32 * half, 32);
    _mm_storeu_si128(reinterpret_cast<__m128i *>(to + 8 * half), _mm256_cvtps_ph(part, _MM_FROUND_TO_NEAREST_INT));
  }
}
#elif defined(QUIRE_NEON)
QUIRE_INLINE Floats load(const Float16 *from) {
  float32x4_t parts[4];
  for (int part = 0; part < 4; ++part)
    parts[part] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(&from[4 * part].bits)));
  return bit_cast<Floats>(parts);
}
QUIRE_INLINE void store(Float16 *to, Floats x) {
  float32x4_t parts[4];
  std::memcpy(parts, &x, sizeof(parts));
  for (int part = 0; part < 4; ++part) vst1_u16(&to[4 * part].bits, vreinterpret_u16_f16(vcvt_f16_f32(parts[part])));
}
#else
QUIRE_INLINE float widened(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000) << 16, magnitude = half & 0x7fff;
  if (magnitude >= 0x7c00) return bit_cast<float>(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  // The exponent moves from bias 15 to 127 by a product, which is right for subnormal numbers too.
  const float scaled = bit_cast<float>(magnitude << 13) * 0x1p112f;
  return bit_cast<float>(sign | bit_cast<uint32_t>(scaled));
}
QUIRE_INLINE uint16_t narrowed(float value) {
  const uint32_t bits = bit_cast<uint32_t>(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return uint16_t(sign | 0x7e00);
  if (magnitude >= 0x477ff000) return uint16_t(sign | 0x7c00);
  if (magnitude < 0x38800000)  // Subnormal: adding 0.5 leaves the mantissa in the low bits, rounded.
    return uint16_t(sign | (bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000));
  return uint16_t(sign | (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13);
}
QUIRE_INLINE Floats load(const Float16 *from) {
  Floats x;
  for (int lane = 0; lane < LANES; ++lane) x[lane] = widened(from[lane].bits);
  return x;
}
QUIRE_INLINE void store(Float16 *to, Floats x) {
  for (int lane = 0; lane < LANES; ++lane) to[lane].bits = narrowed(x[lane]);
}
#endif

// The first `count` lanes; the others are 0, and are not written.
template <typename Real>
QUIRE_INLINE Floats load_some(const Real *from, int64_t count) {
  if (count >= LANES) return load(from);
  Real lanes[LANES] = {};
  std::memcpy(lanes, from, size_t(count) * sizeof(Real));
  return load(lanes);
}

template <typename Real>
QUIRE_INLINE void store_some(Real *to, Floats x, int64_t count) {
  if (count >= LANES) return store(to, x);
  Real lanes[LANES];
  store(lanes, x);
  std::memcpy(to, lanes, size_t(count) * sizeof(Real));
}

// What is left of x after it was stored as Real and read again.
template <typename Real>
QUIRE_INLINE Floats rounded(Floats x) {
  Real lanes[LANES];
  store(lanes, x);
  return load(lanes);
}
template <>
inline __attribute__((always_inline)) Floats rounded<Float32>(Floats x) {
  return x;
}
template <>
inline __attribute__((always_inline)) Floats rounded<BFloat16>(Floats x) {
  return widened_bfloat16(rounded_bfloat16(x));
}

// By halves: lane i with lane i + 8, then 4, 2, 1.
QUIRE_INLINE float sum_of(Floats x) {
  typedef float Eight __attribute__((vector_size(32)));
  typedef float Four __attribute__((vector_size(16)));
  Eight a, b;
  std::memcpy(&a, &x, 32);
  std::memcpy(&b, reinterpret_cast<const char *>(&x) + 32, 32);
  a += b;
  Four c, d;
  std::memcpy(&c, &a, 16);
  std::memcpy(&d, reinterpret_cast<const char *>(&a) + 16, 16);
  c += d;
  return (c[0] + c[2]) + (c[1] + c[3]);
}

QUIRE_INLINE double sum_of(Doubles x) { return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7])); }

// The sum of all lanes, in double precision.
QUIRE_INLINE Doubles paired(Floats x) {
  typedef float Eight __attribute__((vector_size(32)));
  Eight a, b;
  std::memcpy(&a, &x, 32);
  std::memcpy(&b, reinterpret_cast<const char *>(&x) + 32, 32);
  return __builtin_convertvector(a, Doubles) + __builtin_convertvector(b, Doubles);
}

QUIRE_INLINE float largest_of(Floats x) {
  float best = x[0];
  for (int lane = 1; lane < LANES; ++lane) best = x[lane] > best ? x[lane] : best;
  return best;
}

// a * b + c, rounded once where the instructions allow it.
QUIRE_INLINE Floats fused(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  Floats y;
  for (int half = 0; half < 2; ++half) {
    __m256 parts[3];
    std::memcpy(&parts[0], reinterpret_cast<const char *>(&a) + 32 * half, 32);
    std::memcpy(&parts[1], reinterpret_cast<const char *>(&b) + 32 * half, 32);
    std::memcpy(&parts[2], reinterpret_cast<const char *>(&c) + 32 * half, 32);
    parts[0] = _mm256_fmadd_ps(parts[0], parts[1], parts[2]);
    std::memcpy(reinterpret_cast<char *>(&y) + 32 * half, &parts[0], 32);
  }
  return y;
#elif defined(QUIRE_NEON)
  float32x4_t left[4], right[4], sum[4];
  std::memcpy(left, &a, sizeof(left));
  std::memcpy(right, &b, sizeof(right));
  std::memcpy(sum, &c, sizeof(sum));
  for (int part = 0; part < 4; ++part) sum[part] = vfmaq_f32(sum[part], left[part], right[part]);
  return bit_cast<Floats>(sum);
#else
  return a * b + c;
#endif
}
QUIRE_INLINE Floats fused(Floats a, Floats b, float c) { return fused(a, b, all(c)); }
QUIRE_INLINE Floats fused(Floats a, float b, float c) { return fused(a, all(b), all(c)); }

// e to the x, to about one unit in the last place; 0 and infinity where float32 ends. Source: Cephes' expf.
QUIRE_INLINE Floats exp_of(Floats x) {
  x = x < -104.0f ? all(-104.0f) : x;
  x = x > 89.0f ? all(89.0f) : x;
  const Floats shifted = fused(x, 1.44269504088896341f, 12582912.0f);
  const Floats whole = shifted - 12582912.0f;
  const Floats r = fused(whole, all(2.12194440e-4f), fused(whole, all(-0.693359375f), x));
  Floats y = fused(r, 1.9875691500e-4f, 1.3981999507e-3f);
  y = fused(y, r, 8.3334519073e-3f);
  y = fused(y, r, 4.1665795894e-2f);
  y = fused(y, r, 1.6666665459e-1f);
  y = fused(y, r, 5.0000001201e-1f);
  y = fused(y, r * r, r) + 1.0f;
#if defined(__AVX512F__)
  return (Floats)_mm512_scalef_ps((__m512)y, (__m512)whole);
#else
  // In two factors: a single power of two would leave the range of float32 before the product does.
  const Ints power = bit_cast<Ints>(shifted) - 0x4b400000, half = power >> 1;
  return y * bit_cast<Floats>((half + 127) << 23) * bit_cast<Floats>((power - half + 127) << 23);
#endif
}

QUIRE_INLINE Floats magnitude_of(Floats x) { return bit_cast<Floats>(bit_cast<Words>(x) & 0x7fffffffu); }

// The magnitude of the first with the sign of the second; the first is not negative.
QUIRE_INLINE Floats signed_like(Floats magnitude, Floats sign) {
  return bit_cast<Floats>(bit_cast<Words>(magnitude) | (bit_cast<Words>(sign) & 0x80000000u));
}

QUIRE_INLINE Floats tanh_of(Floats x) {
  const Floats e = exp_of(magnitude_of(x) * -2.0f);
  return signed_like((1.0f - e) / (1.0f + e), x);
}

// Two pieces fitted for float32: around 0 a polynomial in x squared, beyond 1 - exp(polynomial).
QUIRE_INLINE Floats erf_of(Floats x) {
  const Floats t = magnitude_of(x), s = x * x;
  Floats far = fused(t, -1.72853470e-5f, 3.83197126e-4f);
  far = fused(far, s, fused(t, -3.88396438e-3f, 2.42546219e-2f));
  far = fused(far, t, -1.06777877e-1f);
  far = fused(far, t, -6.34846687e-1f);
  far = fused(far, t, -1.28717512e-1f);
  far = fused(far, t, -t);
  far = signed_like(1.0f - exp_of(far), x);
  Floats near = fused(s, -5.96761703e-4f, 4.99119423e-3f);
  near = fused(near, s, -2.67681349e-2f);
  near = fused(near, s, 1.12819925e-1f);
  near = fused(near, s, -3.76125336e-1f);
  near = fused(near, s, 1.28379166e-1f);
  near = fused(near, x, x);
  return t > 0.927734375f ? far : near;
}

}  // namespace
