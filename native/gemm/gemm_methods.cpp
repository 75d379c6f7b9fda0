// Python's view of GEMM: packing, multiplying, and reading single rows of packed weights.
#include "arguments.h"
#include "gemm/parts.h"
#include "isa.h"
#include "scratch.h"

#include <cstdlib>
#include <cstring>

using namespace quire;

namespace {

const GemmKernels &kernels() {
  static const GemmKernels *const tables[] = QUIRE_TABLES(gemm);
  return *kernels_for(tables);
}

// Rows that are widened at a time: bounds the memory for it, and is enough to use each weight often.
constexpr int64_t WIDENED_ROWS = 96;

// False when there is no memory for the widened rows.
bool multiply_widened(const GemmKernels &table, GemmCall call, int64_t rows) {
  const bool is_bf16 = call.type == Type::BF16;
  const int64_t stride = (call.depth + 31) / 32 * 32;
  const int64_t most = rows < WIDENED_ROWS ? rows : WIDENED_ROWS;
  float *wide = reinterpret_cast<float *>(scratch(most * stride * int64_t(sizeof(float))));
  if (wide == nullptr) return false;
  const uint16_t *x = static_cast<const uint16_t *>(call.x);
  const int64_t x_stride = call.x_stride, y_size = call.y_type == Type::F32 ? 4 : 2;
  call.x = wide;
  call.x_stride = stride;
  for (int64_t row = 0; row < rows; row += most) {
    const int64_t count = rows - row < most ? rows - row : most;
    in_parallel(count, (1 << 15) / call.depth + 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        (is_bf16 ? table.widen_bf16 : table.widen_f16)(x + (row + r) * x_stride, wide + r * stride, call.depth);
        for (int64_t k = call.depth; k < stride; ++k) wide[r * stride + k] = 0;
      }
    });
    run_parts(is_bf16 ? table.bf16 : table.f16, call, count);
    call.y = static_cast<char *>(call.y) + count * call.y_stride * y_size;
  }
  return true;
}

void gemm(Arguments &arguments) {
  GemmCall call;
  call.type = Type(arguments.integer());
  call.y_type = Type(arguments.integer());
  const int64_t rows = arguments.integer();
  call.columns = arguments.integer();
  call.depth = arguments.integer();
  call.x = arguments.pointer<void>();
  call.x_stride = arguments.integer();
  call.packed = arguments.pointer<void>();
  call.bias = arguments.pointer<void>();
  call.y = arguments.pointer<void>();
  call.y_stride = arguments.integer();
  if (rows <= 0 || call.columns <= 0) return;
  const WithoutLock unlocked(arguments, double(rows) * call.columns * call.depth);
  const GemmKernels &table = kernels();
  if (call.type == Type::F32)
    run_parts(table.f32, call, rows);
  else if (call.type == Type::BF16 && table.bf16_reads_bf16)
    run_parts(table.bf16, call, rows);
  else if (!multiply_widened(table, call, rows))
    arguments.fail_for_memory();
}

// One panel: unit k of row c goes to place [k][c]. A unit is one number, or a pair of bfloat16.
template <typename Unit>
void turn_panel(const Unit *rows, int64_t stride, int64_t width, int64_t units, Unit *panel) {
  // Sixteen units of each row at a time: a cache line of a row is read once.
  for (int64_t first = 0; first < units; first += 16) {
    const int64_t last = first + 16 < units ? first + 16 : units;
    for (int64_t c = 0; c < PANEL; ++c)
      for (int64_t k = first; k < last; ++k) panel[k * PANEL + c] = c < width ? rows[c * stride + k] : Unit(0);
  }
}

// bfloat16 with an odd depth or an odd stride, where pairs cannot be read as one unit.
void pair_panel(const uint16_t *rows, int64_t stride, int64_t width, int64_t depth, uint16_t *panel) {
  for (int64_t k = 0; k < depth; k += 2)
    for (int64_t c = 0; c < PANEL; ++c)
      for (int64_t p = 0; p < 2; ++p) *panel++ = c < width && k + p < depth ? rows[c * stride + k + p] : uint16_t(0);
}

void pack_panel(Type type, const char *rows, int64_t stride, int64_t width, int64_t depth, char *panel) {
  const uint16_t *shorts = reinterpret_cast<const uint16_t *>(rows);
  if (type == Type::F32)
    turn_panel(reinterpret_cast<const uint32_t *>(rows), stride, width, depth, reinterpret_cast<uint32_t *>(panel));
  else if (type == Type::F16)
    turn_panel(shorts, stride, width, depth, reinterpret_cast<uint16_t *>(panel));
  else if (depth % 2 == 0 && stride % 2 == 0 && reinterpret_cast<uintptr_t>(rows) % 4 == 0)
    turn_panel(reinterpret_cast<const uint32_t *>(rows), stride / 2, width, depth / 2,
               reinterpret_cast<uint32_t *>(panel));
  else
    pair_panel(shorts, stride, width, depth, reinterpret_cast<uint16_t *>(panel));
}

// `packed` may be the weight itself if its panels are as large as the rows they are made of: whole ones, even depth.
void gemm_pack(Arguments &arguments) {
  const Type type = Type(arguments.integer());
  const int64_t columns = arguments.integer(), depth = arguments.integer();
  const char *weight = arguments.pointer<char>();
  const int64_t stride = arguments.integer();
  char *packed = arguments.pointer<char>();
  const int64_t size = type == Type::F32 ? 4 : 2, panel_bytes = panel_size(type, depth) * size;
  const bool in_place = packed == weight;
  bool done = true;
  const WithoutLock unlocked(arguments, double(columns) * depth);
  in_parallel(panels_of(columns), 1, [&](int64_t begin, int64_t end) {
    char *copy = in_place ? static_cast<char *>(std::malloc(size_t(panel_bytes))) : nullptr;
    if (in_place && copy == nullptr) {
      done = false;  // every thread that writes writes the same
      return;
    }
    for (int64_t panel = begin; panel < end; ++panel) {
      const int64_t first = panel * PANEL, width = columns - first < PANEL ? columns - first : PANEL;
      const char *rows = weight + first * stride * size;
      if (in_place) rows = static_cast<const char *>(std::memcpy(copy, rows, size_t(panel_bytes)));
      pack_panel(type, rows, stride, width, depth, packed + panel * panel_bytes);
    }
    std::free(copy);
  });
  if (!done) arguments.fail_for_memory();
}

// Row `column` of the weight, out of its panel: a unit (a number, or a pair of bfloat16) from each line of it.
template <typename Unit>
void read_row(const char *packed, int64_t panel_bytes, int64_t column, int64_t units, Unit *row) {
  const Unit *from = reinterpret_cast<const Unit *>(packed + column / PANEL * panel_bytes) + column % PANEL;
  constexpr int64_t AHEAD = 32;
  for (int64_t k = 0; k < units; ++k) {
    if (k + AHEAD < units) __builtin_prefetch(from + (k + AHEAD) * PANEL);
    std::memcpy(row + k, from + k * PANEL, sizeof(Unit));
  }
}

void read_row(Type type, const char *packed, int64_t column, int64_t depth, char *rows, int64_t index) {
  const int64_t size = type == Type::F32 ? 4 : 2, panel_bytes = panel_size(type, depth) * size;
  char *row = rows + index * depth * size;
  if (type == Type::F16) {
    read_row(packed, panel_bytes, column, depth, reinterpret_cast<uint16_t *>(row));
    return;
  }
  const int64_t units = type == Type::F32 ? depth : depth / 2;
  read_row(packed, panel_bytes, column, units, reinterpret_cast<uint32_t *>(row));
  if (type == Type::BF16 && depth % 2 != 0)
    std::memcpy(row + units * 4, packed + column / PANEL * panel_bytes + (units * PANEL + column % PANEL) * 4, 2);
}

void gemm_rows(Arguments &arguments) {
  const Type type = Type(arguments.integer());
  const int64_t columns = arguments.integer(), depth = arguments.integer(), wanted = arguments.integer();
  const char *packed = arguments.pointer<char>();
  const int64_t *ids = arguments.pointer<int64_t>();
  char *rows = arguments.pointer<char>();
  for (int64_t i = 0; i < wanted; ++i)
    if (ids[i] < 0 || ids[i] >= columns)
      return arguments.fail(Fault::INDEX, "Row %lld was asked for; there are %lld.", (long long)ids[i],
                            (long long)columns);
  const WithoutLock unlocked(arguments, double(wanted) * depth * 16);
  in_parallel(wanted, 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      read_row(type, packed, ids[i], depth, rows, i);
  });
}

constexpr Kernel GEMM{"gemm", "iiiiiiiiiii", gemm};
constexpr Kernel GEMM_PACK{"gemm_pack", "iiiiii", gemm_pack};
constexpr Kernel GEMM_ROWS{"gemm_rows", "iiiiiii", gemm_rows};

PyMethodDef methods[] = {
    method<GEMM>("gemm(type, y_type, rows, columns, depth, x, x_stride, packed, bias, y, y_stride)"),
    method<GEMM_PACK>("gemm_pack(type, columns, depth, weight, stride, packed)"),
    method<GEMM_ROWS>("gemm_rows(type, columns, depth, count, packed, ids, rows)"),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

PyMethodDef *gemm_methods() { return methods; }
