// Quantised weights into panels, and single rows out of them.
#include <cstring>

#include "numbers.h"
#include "quantized/quantized.h"

namespace quire {

namespace {

// A code as it is stored.
uint8_t stored(const Form &form, uint8_t code) {
  if (form.bits == 4) return code;
  if (form.int8_inputs) return uint8_t(code + form.middle());
  return code < 0x80 ? code : uint8_t(0x80 | -int8_t(code));
}

// The codes of up to 32 outputs in quads; `codes` begins at the group.
void pack_quads(const Form &form, const uint8_t *codes, int64_t stride, int64_t width, int64_t length, uint8_t *to) {
  const uint8_t nought = uint8_t(form.middle());
  for (int64_t first = 0; first < length; first += QUAD, to += form.quad_bytes()) {
    if (form.bits == 4) std::memset(to, 0, size_t(form.quad_bytes()));
    for (int64_t c = 0; c < PANEL; ++c)
      for (int64_t i = 0; i < QUAD; ++i) {
        const bool is_there = c < width && first + i < length;
        const uint8_t code = is_there ? stored(form, codes[c * stride + first + i]) : nought;
        uint8_t &place = to[form.place(c, i)];
        place = form.bits == 8 ? code : uint8_t(place | code << (c < PANEL / 2 ? 0 : 4));
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
  const int offset = form.bits == 8 ? int(form.middle()) : 0;
  char *to = packed + first * form.panel_bytes(depth);
  for (int64_t panel = first; panel < last; ++panel) {
    const int64_t column = panel * PANEL, width = columns - column < PANEL ? columns - column : PANEL;
    for (int64_t group = 0; group < groups; ++group) {
      float panel_scales[PANEL] = {};
      for (int64_t c = 0; c < width; ++c) panel_scales[c] = scales[(column + c) * groups + group];
      std::memcpy(to, panel_scales, sizeof panel_scales);
      if (form.has_zeros) {
        uint8_t panel_zeros[PANEL] = {};
        for (int64_t c = 0; c < width; ++c) panel_zeros[c] = uint8_t(zeros[(column + c) * groups + group] + offset);
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
  const int64_t c = column % PANEL, quad_bytes = form.quad_bytes(), at = form.place(c, 0);
  const int shift = form.bits == 4 && c >= PANEL / 2 ? 4 : 0;
  for (int64_t first = 0; first < depth; first += form.group) {
    float scale;
    std::memcpy(&scale, panel + c * 4, 4);
    const int32_t zero = form.has_zeros ? uint8_t(panel[PANEL * 4 + c]) : int32_t(form.middle());
    const int64_t length = depth - first < form.group ? depth - first : form.group;
    const char *quads = panel + form.head_bytes();
    for (int64_t k = 0; k < length; k += QUAD, quads += quad_bytes) {
      __builtin_prefetch(quads + AHEAD * quad_bytes + at);
      for (int64_t i = 0; i < QUAD && k + i < length; ++i) {
        const uint8_t byte = uint8_t(quads[form.place(c, i)]);
        int32_t code = form.bits == 4 ? byte >> shift & 15 : byte;
        if (form.bits == 8 && !form.int8_inputs && byte >= 0x80) code = 0x80 - byte;
        store(float(code - zero) * scale, type, row, first + k + i);
      }
    }
    panel = quads;
  }
}

}  // namespace quire
