// Quantised weights into panels, and single rows out of them.
#include <cstring>

#include "numbers.h"
#include "quantized/quantized.h"

namespace quire {

namespace {

// The codes of up to 32 outputs in quads; `codes` begins at the group.
void pack_quads(const Form &form, const uint8_t *codes, int64_t stride, int64_t width, int64_t length, uint8_t *to) {
  const uint8_t nought = uint8_t(form.middle()), turned = form.bits == 8 ? 0x80 : 0;  // signed to unsigned
  for (int64_t first = 0; first < length; first += QUAD, to += form.quad_bytes()) {
    uint8_t quad[PANEL][QUAD];
    for (int64_t c = 0; c < PANEL; ++c)
      for (int64_t i = 0; i < QUAD; ++i)
        quad[c][QUAD_PLACES[i]] =
            c < width && first + i < length ? uint8_t(codes[c * stride + first + i] ^ turned) : nought;
    if (form.bits == 8) {
      std::memcpy(to, quad, sizeof quad);
    } else {
      for (int64_t c = 0; c < PANEL / 2; ++c)
        for (int64_t i = 0; i < QUAD; ++i) to[c * QUAD + i] = uint8_t(quad[c][i] | quad[c + PANEL / 2][i] << 4);
    }
  }
}

void store(float number, Type type, void *row, int64_t k) {
  if (type == Type::F32)
    static_cast<float *>(row)[k] = number;
  else
    static_cast<uint16_t *>(row)[k] = type == Type::BF16 ? to_bf16(number) : to_f16(number);
}

}  // namespace

void pack_panels(const Form &form, int64_t columns, int64_t depth, const uint8_t *codes, int64_t stride, const float *scales,
                 const uint8_t *zeros, char *packed, int64_t first, int64_t last) {
  const int64_t groups = form.groups(depth);
  const int signed_by = form.bits == 8 ? 128 : 0;
  char *to = packed + first * form.panel_bytes(depth);
  for (int64_t panel = first; panel < last; ++panel) {
    const int64_t column = panel * PANEL, width = columns - column < PANEL ? columns - column : PANEL;
    for (int64_t group = 0; group < groups; ++group) {
      float panel_scales[PANEL] = {};
      for (int64_t c = 0; c < width; ++c) panel_scales[c] = scales[(column + c) * groups + group];
      std::memcpy(to, panel_scales, sizeof panel_scales);
      if (form.has_zeros) {
        uint8_t panel_zeros[PANEL] = {};
        for (int64_t c = 0; c < width; ++c) panel_zeros[c] = uint8_t(zeros[(column + c) * groups + group] + signed_by);
        std::memcpy(to + sizeof panel_scales, panel_zeros, sizeof panel_zeros);
      }
      to += form.head_bytes();
      const int64_t length = form.length(depth, group);
      pack_quads(form, codes + column * stride + group * form.group, stride, width, length, reinterpret_cast<uint8_t *>(to));
      to += (length + QUAD - 1) / QUAD * form.quad_bytes();
    }
  }
}

void unpack_row(const Form &form, int64_t depth, const char *packed, int64_t column, Type type, void *row) {
  constexpr int64_t AHEAD = 16;  // quads: a row's lie in lines of their own
  const char *panel = packed + column / PANEL * form.panel_bytes(depth);
  const int64_t c = column % PANEL, quad_bytes = form.quad_bytes();
  const bool is_high = form.bits == 4 && c >= PANEL / 2;
  const int64_t at = (form.bits == 4 ? c % (PANEL / 2) : c) * QUAD;
  for (int64_t first = 0; first < depth; first += form.group) {
    float scale;
    std::memcpy(&scale, panel + c * 4, 4);
    const int32_t zero = form.has_zeros ? uint8_t(panel[PANEL * 4 + c]) : int32_t(form.middle());
    const int64_t length = depth - first < form.group ? depth - first : form.group;
    const char *quads = panel + form.head_bytes();
    for (int64_t k = 0; k < length; k += QUAD, quads += quad_bytes) {
      __builtin_prefetch(quads + AHEAD * quad_bytes + at);
      for (int64_t i = 0; i < QUAD && k + i < length; ++i) {
        int32_t code = uint8_t(quads[at + QUAD_PLACES[i]]);
        if (form.bits == 4) code = is_high ? code >> 4 : code & 15;
        store(float(code - zero) * scale, type, row, first + k + i);
      }
    }
    panel = quads;
  }
}

}  // namespace quire
