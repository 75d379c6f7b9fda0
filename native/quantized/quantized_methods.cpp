// Python's view of quantised products: packing, multiplying, and reading single rows of packed weights.
#include "arguments.h"
#include "gemm/parts.h"
#include "isa.h"
#include "quantized/quantized.h"
#include "scratch.h"

using namespace quire;

namespace {

const QuantizedKernels &kernels() {
#if defined(__x86_64__)
  static const QuantizedKernels *const tables[4] = {&quantized_portable, &quantized_avx2, &quantized_avx512,
                                                    &quantized_avx512bf16};
#else
  static const QuantizedKernels *const tables[4] = {&quantized_portable, nullptr, nullptr, nullptr};
#endif
  return *kernels_for(tables);
}

// Bytes of prepared rows at a time: they stay in the second-level cache while every panel passes by.
constexpr int64_t PREPARED_BYTES = 256 << 10;
constexpr int64_t LEAST_ROWS = 96;  // but enough of them to use each weight often

int64_t up_to(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

// False when there is no memory for the prepared rows.
bool multiply_prepared(const QuantizedProduct &product, GemmKernel kernel, bool reads_x, QuantizedCall call, int64_t rows) {
  int64_t stride_bytes = up_to(call.depth * product.input_size, 64);
  if (stride_bytes % 512 == 0) stride_bytes += 64;  // else the rows of a tile share few places of the first-level cache
  int64_t most = PREPARED_BYTES / stride_bytes / 12 * 12;
  if (most < LEAST_ROWS) most = LEAST_ROWS;
  if (most > rows) most = rows;
  const int64_t row_bytes = reads_x ? 0 : most * stride_bytes;
  const int64_t scale_bytes = up_to(most * 4, 64);
  const int64_t sum_bytes = up_to(most * call.form.groups(call.depth) * 4, 64);
  char *const memory = scratch(row_bytes + scale_bytes + sum_bytes);
  if (memory == nullptr) return false;
  const bool needs_sums = call.form.int8_inputs || call.form.has_zeros;
  float *const scales = reinterpret_cast<float *>(memory + row_bytes);
  void *const sums = needs_sums ? memory + row_bytes + scale_bytes : nullptr;
  Inputs inputs = {call.x, call.x_stride, call.type, call.depth, call.form, reads_x ? nullptr : memory,
                   stride_bytes / product.input_size, sums, scales};
  call.group_sums = sums;
  call.row_scales = call.form.int8_inputs ? scales : nullptr;
  if (!reads_x) {
    call.x = memory;
    call.x_stride = inputs.stride;
  }
  const int64_t x_bytes = inputs.x_stride * (call.type == Type::F32 ? 4 : 2);
  const int64_t y_bytes = call.y_stride * (call.y_type == Type::F32 ? 4 : 2);
  for (int64_t row = 0; row < rows; row += most) {
    const int64_t count = rows - row < most ? rows - row : most;
    inputs.x = static_cast<const char *>(inputs.x) + (row > 0 ? most * x_bytes : 0);
    if (reads_x) call.x = inputs.x;
    in_parallel(count, (1 << 15) / call.depth + 1,
                [&](int64_t begin, int64_t end) { product.prepare(inputs, begin, end); });
    run_parts(kernel, call, count);
    call.y = static_cast<char *>(call.y) + count * y_bytes;
  }
  return true;
}

bool multiply(const QuantizedCall &call, int64_t rows) {
  const QuantizedKernels &table = kernels();
  const bool reads_x = !call.form.int8_inputs && call.type == Type::BF16 && table.bf16.bits8 != nullptr;
  const QuantizedProduct &product = call.form.int8_inputs ? table.integers : reads_x ? table.bf16 : table.widened;
  const GemmKernel kernel = call.form.bits == 8 ? product.bits8 : product.bits4;
  if (!reads_x || call.form.has_zeros) return multiply_prepared(product, kernel, reads_x, call, rows);
  run_parts(kernel, call, rows);
  return true;
}

Form form_of(Arguments &arguments) {
  Form form;
  form.bits = arguments.integer();
  form.group = arguments.integer();
  form.has_zeros = arguments.integer() != 0;
  form.int8_inputs = arguments.integer() != 0;
  return form;
}

void quantized(Arguments &arguments) {
  QuantizedCall call = {};
  call.form = form_of(arguments);
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
  if (!multiply(call, rows)) arguments.fail_for_memory();
}

// Writes the size of a packed weight in bytes.
void quantized_bytes(Arguments &arguments) {
  const Form form = form_of(arguments);
  const int64_t columns = arguments.integer(), depth = arguments.integer();
  *arguments.pointer<int64_t>() = panels_of(columns) * form.panel_bytes(depth);
}

void quantized_pack(Arguments &arguments) {
  const Form form = form_of(arguments);
  const int64_t columns = arguments.integer(), depth = arguments.integer();
  const uint8_t *codes = arguments.pointer<uint8_t>();
  const int64_t stride = arguments.integer();
  const float *scales = arguments.pointer<float>();
  const uint8_t *zeros = arguments.pointer<uint8_t>();
  char *packed = arguments.pointer<char>();
  const WithoutLock unlocked(arguments, double(columns) * depth);
  in_parallel(panels_of(columns), 1, [&](int64_t begin, int64_t end) {
    pack_panels(form, columns, depth, codes, stride, scales, zeros, packed, begin, end);
  });
}

void quantized_rows(Arguments &arguments) {
  const Form form = form_of(arguments);
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
  const int64_t row_bytes = depth * (type == Type::F32 ? 4 : 2);
  in_parallel(wanted, 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) unpack_row(form, depth, packed, ids[i], type, rows + i * row_bytes);
  });
}

// The first four arguments of each are the form: bits, group, has_zeros, int8_inputs.
constexpr Kernel QUANTIZED{"quantized", "iiiiiiiiiiiiiii", quantized};
constexpr Kernel QUANTIZED_BYTES{"quantized_bytes", "iiiiiii", quantized_bytes};
constexpr Kernel QUANTIZED_PACK{"quantized_pack", "iiiiiiiiiii", quantized_pack};
constexpr Kernel QUANTIZED_ROWS{"quantized_rows", "iiiiiiiiiii", quantized_rows};

PyMethodDef methods[] = {
    method<QUANTIZED>("quantized(*form, type, y_type, rows, columns, depth, x, x_stride, packed, bias, y, y_stride)"),
    method<QUANTIZED_BYTES>("quantized_bytes(*form, columns, depth, bytes)"),
    method<QUANTIZED_PACK>("quantized_pack(*form, columns, depth, codes, stride, scales, zeros, packed)"),
    method<QUANTIZED_ROWS>("quantized_rows(*form, type, columns, depth, count, packed, ids, rows)"),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

PyMethodDef *quantized_methods() { return methods; }
