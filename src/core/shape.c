#include "core/shape.h"

#include <stdio.h>

sl_shape sl_shape_of(int n, const int64_t *dims)
{
    sl_shape shape = {.n = n};
    for (int i = 0; i < n; i++) shape.dim[i] = dims[i];
    return shape;
}

bool sl_shape_equal(sl_shape a, sl_shape b)
{
    if (a.n != b.n) return false;
    for (int i = 0; i < a.n; i++)
        if (a.dim[i] != b.dim[i]) return false;
    return true;
}

int64_t sl_shape_count(sl_shape shape)
{
    int64_t count = 1;
    for (int i = 0; i < shape.n; i++)
        if (shape.dim[i] != SL_BATCH) count *= shape.dim[i];
    return count;
}

int64_t sl_shape_last(sl_shape shape)
{
    return shape.n ? shape.dim[shape.n - 1] : 1;
}

int64_t sl_shape_rows(sl_shape shape)
{
    int64_t rows = 1;
    for (int i = 0; i < shape.n - 1; i++)
        if (shape.dim[i] != SL_BATCH) rows *= shape.dim[i];
    return rows;
}

int64_t sl_packed_count(const sl_shape *shapes, int n)
{
    int64_t count = 0;
    for (int i = 0; i < n; i++) count += (sl_shape_count(shapes[i]) + SL_ALIGN - 1) / SL_ALIGN * SL_ALIGN;
    return count;
}

size_t sl_dtype_size(sl_dtype dtype, size_t real_size)
{
    return dtype == SL_FLOAT ? real_size : dtype == SL_INT ? sizeof(int32_t) : 1;
}

sl_shape_text sl_shape_print(sl_shape shape)
{
    sl_shape_text out = {"scalar"};
    int used = 0;
    for (int i = 0; i < shape.n; i++) {
        const char *sign = i ? "×" : "";
        if (shape.dim[i] == SL_BATCH)
            used += snprintf(out.text + used, sizeof out.text - (size_t)used, "%sn", sign);
        else
            used += snprintf(out.text + used, sizeof out.text - (size_t)used, "%s%lld", sign,
                             (long long)shape.dim[i]);
    }
    return out;
}
