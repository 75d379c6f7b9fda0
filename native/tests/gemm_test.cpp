// Matrix products, and what they convert on the way.
#include "gemm/gemm.h"

#include "tests/check.h"

namespace quire::tests {

namespace {

const GemmKernels &kernels() {
  static const GemmKernels *const tables[] = QUIRE_TABLES(gemm);
  return *kernels_for(tables);
}

Type type_of(Kind kind) { return kind == Kind::F32 ? Type::F32 : kind == Kind::BF16 ? Type::BF16 : Type::F16; }

struct Shape {
  Kind kind, y_kind;
  int64_t rows, columns, depth;
  bool has_bias;
};

// Weights in panels, as gemm.h has them.
Array packed(const Array &weight, const Shape &shape) {
  const int64_t size = panel_size(type_of(shape.kind), shape.depth), step = shape.kind == Kind::BF16 ? 2 : 1;
  Array panels(shape.kind, panels_of(shape.columns) * size);
  for (int64_t i = 0; i < panels_of(shape.columns) * size; ++i) {
    const int64_t within = i % size, k = within / (PANEL * step) * step + within % step;
    const int64_t column = i / size * PANEL + within / step % PANEL;
    const bool is_there = column < shape.columns && k < shape.depth;
    panels.set(i, is_there ? float(weight.get(column * shape.depth + k)) : 0.0f);
  }
  return panels;
}

struct Product {
  Array x, wide, weight, panels, bias;
  GemmCall call;
  GemmKernel kernel;

  Product(const Shape &shape, Numbers &numbers, int64_t x_stride)
      : x(shape.kind, shape.rows * x_stride, numbers),
        wide(Kind::F32, shape.rows * (x_stride + 32)),
        weight(shape.kind, shape.columns * shape.depth, numbers),
        panels(packed(weight, shape)),
        bias(shape.kind, shape.columns, numbers) {
    const GemmKernels &table = kernels();
    call = {x.at(0), x_stride, panels.at(0), shape.has_bias ? bias.at(0) : nullptr, nullptr, 0, shape.columns,
            shape.depth, type_of(shape.kind), type_of(shape.y_kind)};
    kernel = shape.kind == Kind::F32 ? table.f32 : shape.kind == Kind::BF16 ? table.bf16 : table.f16;
    if (shape.kind == Kind::F32 || (shape.kind == Kind::BF16 && table.bf16_reads_bf16)) return;
    const int64_t stride = x_stride + 32;
    for (int64_t i = 0; i < shape.rows * stride; ++i) wide.set(i, 0.0f);
    for (int64_t r = 0; r < shape.rows; ++r)
      (shape.kind == Kind::BF16 ? table.widen_bf16 : table.widen_f16)(
          static_cast<const uint16_t *>(x.at(r * x_stride)), static_cast<float *>(wide.at(r * stride)), shape.depth);
    call.x = wide.at(0);
    call.x_stride = stride;
  }
};

void check_product(Report &report, const Shape &shape, Numbers &numbers) {
  const int64_t x_stride = shape.depth + 3, y_stride = shape.columns + 5, panels = panels_of(shape.columns);
  Product product(shape, numbers, x_stride);
  Array whole(shape.y_kind, shape.rows * y_stride), parts = whole;
  product.call.y = whole.at(0);
  product.call.y_stride = y_stride;
  product.kernel(product.call, {0, shape.rows, 0, panels});
  const auto tell = [&](bool holds, const char *what) {
    report.expect(holds, "%s -> %s [%lld x %lld x %lld]%s: %s", name_of(shape.kind), name_of(shape.y_kind),
                  (long long)shape.rows, (long long)shape.columns, (long long)shape.depth,
                  shape.has_bias ? " + bias" : "", what);
  };
  bool is_near = true, is_inside = true;
  const Array untouched(shape.y_kind, 1);
  for (int64_t r = 0; r < shape.rows; ++r) {
    for (int64_t c = 0; c < shape.columns; ++c) {
      double sum = shape.has_bias ? product.bias.get(c) : 0, size = std::fabs(sum);
      for (int64_t k = 0; k < shape.depth; ++k) {
        const double term = product.x.get(r * x_stride + k) * product.weight.get(c * shape.depth + k);
        sum += term;
        size += std::fabs(term);
      }
      const double bound = double(shape.depth + 4) * 0x1p-23 * size + std::fabs(sum) * spacing(shape.y_kind);
      is_near &= std::fabs(whole.get(r * y_stride + c) - sum) <= bound;
    }
    for (int64_t c = shape.columns; c < y_stride; ++c) is_inside &= whole.same(r * y_stride + c, untouched, 0, 1);
  }
  tell(is_near, "differs from the sums in float64");
  tell(is_inside, "wrote beside the result");
  product.call.y = parts.at(0);
  for (int64_t r = 0; r < shape.rows; ++r)
    for (int64_t p = 0; p < panels; ++p) product.kernel(product.call, {r, r + 1, p, p + 1});
  tell(parts == whole, "row by row and panel by panel it has other bits");
  Array moved(shape.y_kind, shape.rows * y_stride);
  product.call.y = moved.at(0);
  product.kernel(product.call, {shape.rows / 3, shape.rows, 0, panels});
  product.kernel(product.call, {0, shape.rows / 3, 0, panels});
  tell(moved == whole, "cut in another place it has other bits");
}

// Every number of 16 bits to float32, and float32 numbers of all sizes back through the end of a product by one.
void check_conversions(Report &report, Numbers &numbers) {
  std::vector<uint16_t> halves(1 << 16);
  std::vector<float> wide(1 << 16);
  for (int which = 0; which < 2; ++which) {
    const auto widen = which == 0 ? kernels().widen_bf16 : kernels().widen_f16;
    for (int i = 0; i < 1 << 16; ++i) halves[size_t(i)] = uint16_t(i);
    widen(halves.data(), wide.data(), 1 << 16);
    bool is_same = true;
    for (int i = 0; i < 1 << 16; ++i) {
      const float x = which == 0 ? from_bf16(uint16_t(i)) : from_f16(uint16_t(i));
      is_same &= x == x ? bits_of(wide[size_t(i)]) == bits_of(x) : wide[size_t(i)] != wide[size_t(i)];
    }
    report.expect(is_same, "%s to float32", which == 0 ? "bf16" : "f16");
  }
  const float one = 1.0f;
  Array weight(Kind::F32, PANEL);
  for (int c = 0; c < PANEL; ++c) weight.set(c, c == 0 ? one : 0.0f);
  for (const Kind kind : {Kind::BF16, Kind::F16}) {
    bool is_same = true;
    for (int i = 0; i < 4000; ++i) {
      // Random bits; every fourth lies half way between two numbers of 16 bits.
      const float x = float_of(i % 4 == 0 ? numbers.bits() << 16 | 0x8000 : i % 4 == 1 ? numbers.bits() << 13 | 0x1000
                                                                                      : numbers.bits());
      uint16_t y;
      const GemmCall call = {&x, 1, weight.at(0), nullptr, &y, 1, 1, 1, Type::F32, type_of(kind)};
      kernels().f32(call, {0, 1, 0, 1});
      const uint16_t expected = kind == Kind::BF16 ? to_bf16(x) : to_f16(x);
      is_same &= x == x ? y == expected || (x == 0 && (y & 0x7fff) == 0)
                        : (kind == Kind::BF16 ? from_bf16(y) : from_f16(y)) != 0;
    }
    report.expect(is_same, "float32 to %s", name_of(kind));
  }
}

}  // namespace

void check_gemm(Report &report) {
  Numbers numbers(1);
  for (const Kind kind : KINDS)
    for (const int64_t rows : {1, 2, 3, 4, 5, 13, 31})
      for (const int64_t columns : {1, 31, 32, 33, 100})
        for (const int64_t depth : {1, 2, 7, 8, 33, 130})
          check_product(report, {kind, depth % 3 == 0 ? Kind::F32 : kind, rows, columns, depth, columns % 2 == 0}, numbers);
  check_conversions(report, numbers);
}

}  // namespace quire::tests
