/* The CPU kernels of elementwise operations, reductions, pooling and batch normalisation against literal
 * loops: every element the same float, for odd shapes and padded batches. */
#include "kernel_case.h"

#include "core/math.h"

/* --- elementwise
 * -------------------------------------------------------------------------------------------------- */

/* The element of `in` under element i of `out`, as numpy broadcasts. */
static float under(sl_tensor in, sl_shape out, int64_t i)
{
    int64_t at = 0, step = 1;
    for (int d = out.n - 1; d >= 0; d--) {
        const int64_t index = i % out.dim[d], e = d - (out.n - in.shape.n);
        i /= out.dim[d];
        if (e < 0) continue;
        if (in.shape.dim[e] > 1) at += index * step;
        step *= in.shape.dim[e];
    }
    return floats(in)[at];
}

static sl_shape broadcast_shape(sl_shape a, sl_shape b)
{
    sl_shape out = a.n > b.n ? a : b;
    for (int d = 0; d < out.n; d++) {
        const int da = d - (out.n - a.n), db = d - (out.n - b.n);
        const int64_t x = da >= 0 ? a.dim[da] : 1, y = db >= 0 ? b.dim[db] : 1;
        out.dim[d] = x == 1 ? y : x;
    }
    return out;
}

static void check_binary(sl_op op, sl_tensor a, sl_tensor b, bool in_place)
{
    kernel_case c = {.op = op, .in = {a, b}, .n_in = 2, .n_out = 1, .in_place = in_place};
    const sl_shape shape = broadcast_shape(a.shape, b.shape);
    c.out[0] = tensor(SL_FLOAT, shape.n, shape.dim);
    const int64_t n = sl_shape_count(shape);
    float *want = room(n);
    for (int64_t i = 0; i < n; i++) {
        const float u = under(a, shape, i), v = under(b, shape, i);
        want[i] = op == SL_OP_ADD ? u + v : op == SL_OP_SUB ? u - v : op == SL_OP_MUL ? u * v : u / v;
    }
    run_case(&c);
    check_output(&c, 0, want);
    end_case();
}

static void binary(void **state)
{
    (void)state;
    const sl_shape pairs[][2] = {
        {{0}, {0}},
        {{1, {7}}, {0}},
        {{0}, {2, {3, 5}}},
        {{2, {129, 10}}, {1, {10}}},
        {{1, {10}}, {2, {129, 10}}},
        {{2, {33, 70}}, {1, {70}}},
        {{2, {37, 10}}, {2, {37, 1}}},
        {{2, {37, 1}}, {2, {1, 13}}},
        {{3, {5, 1, 9}}, {2, {7, 1}}},
        {{4, {3, 4, 5, 6}}, {4, {3, 4, 5, 6}}},
        {{4, {3, 4, 5, 6}}, {4, {3, 1, 5, 1}}},
        {{4, {3, 1, 5, 1}}, {4, {1, 4, 1, 6}}},
        {{4, {3, 4, 5, 6}}, {1, {6}}},
        {{4, {3, 1, 1, 6}}, {4, {3, 4, 5, 6}}},
        {{2, {0, 4}}, {1, {4}}},
        {{2, {300, 211}}, {2, {300, 211}}}, /* several threads */
        {{2, {300, 211}}, {1, {211}}},
        {{2, {9000, 8}}, {1, {8}}},
        {{2, {9000, 8}}, {0}},
    };
    for (size_t p = 0; p < sizeof pairs / sizeof *pairs; p++)
        for (int op = SL_OP_ADD; op <= SL_OP_DIV; op++) {
            const sl_shape a = pairs[p][0], b = pairs[p][1];
            const bool fits = sl_shape_equal(a, broadcast_shape(a, b));
            for (int in_place = 0; in_place <= fits; in_place++)
                check_binary((sl_op)op, reals(1, -3, 3, a.n, a.dim), reals(2, 0.5, 2, b.n, b.dim), in_place);
        }
}

static float unary_by_hand(sl_op op, float x, float scale, float shift)
{
    if (op == SL_OP_AFFINE) return scale * x + shift;
    if (op == SL_OP_EXP) return r_exp(x);
    if (op == SL_OP_LOG) return r_log(x);
    if (op == SL_OP_RECIPROCAL) return 1 / x;
    if (op == SL_OP_SQUARE) return x * x;
    if (op == SL_OP_SQRT) return sqrtf(x);
    return x < scale ? scale : x > shift ? shift : x;
}

static void unary(void **state)
{
    (void)state;
    const sl_op ops[] = {SL_OP_AFFINE, SL_OP_EXP,  SL_OP_LOG, SL_OP_RECIPROCAL,
                         SL_OP_SQUARE, SL_OP_SQRT, SL_OP_CLIP};
    const int64_t sizes[] = {0, 1, 5, 63, 50001};
    const sl_affine_attr attr = {0.7, 1.9};
    for (int o = 0; o < 7; o++)
        for (int s = 0; s < 5; s++)
            for (int in_place = 0; in_place < 2; in_place++) {
                sl_tensor x = reals(3, 0.1, 4, 1, &sizes[s]);
                if (sizes[s] > 4) floats(x)[3] = NAN;
                kernel_case c = {
                    .op = ops[o], .in = {x}, .n_in = 1, .n_out = 1, .attr = &attr, .in_place = in_place};
                c.out[0] = tensor(SL_FLOAT, 1, &sizes[s]);
                float *want = room(sizes[s]);
                for (int64_t i = 0; i < sizes[s]; i++)
                    want[i] = unary_by_hand(ops[o], floats(x)[i], (float)attr.scale, (float)attr.shift);
                run_case(&c);
                check_output(&c, 0, want);
                end_case();
            }
}

static void broadcasts_and_fills(void **state)
{
    (void)state;
    const sl_shape pairs[][2] = {{{0}, {2, {7, 9}}},
                                 {{1, {9}}, {2, {7, 9}}},
                                 {{2, {7, 1}}, {2, {7, 9}}},
                                 {{3, {3, 1, 5}}, {4, {2, 3, 4, 5}}},
                                 {{4, {2, 1, 4, 1}}, {4, {2, 3, 4, 5}}},
                                 {{2, {400, 1}}, {2, {400, 111}}}};
    for (int p = 0; p < 6; p++) {
        const sl_shape in = pairs[p][0], out = pairs[p][1];
        kernel_case c = {.op = SL_OP_BROADCAST, .in = {reals(4, -1, 1, in.n, in.dim)}, .n_in = 1, .n_out = 1};
        const int64_t n = sl_shape_count(out);
        float *want = room(n);
        for (int64_t i = 0; i < n; i++) want[i] = under(c.in[0], out, i);
        c.out[0] = tensor(SL_FLOAT, out.n, out.dim);
        run_case(&c);
        check_output(&c, 0, want);
        end_case();
    }
    for (int dtype = SL_FLOAT; dtype <= SL_INT; dtype++) {
        const sl_shape_attr attr = {{1, {7}}, 3};
        kernel_case c = {.op = SL_OP_FILL, .n_out = 1, .attr = &attr};
        c.out[0] = tensor((sl_dtype)dtype, DIMS(7));
        run_case(&c);
        for (int i = 0; i < 7; i++) {
            if (dtype == SL_INT)
                assert_int_equal(((int32_t *)c.out[0].data)[i], 3);
            else
                assert_true(floats(c.out[0])[i] == 3);
        }
        end_case();
    }
}

/* Each input at the next multiple of SL_ALIGN elements; the gaps keep what they hold. */
static void pack(void **state)
{
    (void)state;
    kernel_case c = {.op = SL_OP_PACK, .n_in = 4, .n_out = 1};
    c.in[0] = reals(1, -1, 1, DIMS(3, 5));
    c.in[1] = reals(2, -1, 1, SCALAR);
    c.in[2] = reals(3, -1, 1, DIMS(17));
    c.in[3] = reals(4, -1, 1, DIMS(16));
    c.out[0] = tensor(SL_FLOAT, DIMS(80));
    const int first[] = {0, 16, 32, 64}, count[] = {15, 1, 17, 16};
    float *want = room(80);
    for (int i = 0; i < 4; i++) memcpy(want + first[i], c.in[i].data, (size_t)count[i] * sizeof(float));
    run_case(&c);
    check_output(&c, 0, want);
    /* an input that lies at its place already */
    float *flat = room(80);
    memcpy(flat, want, 15 * sizeof(float));
    sl_tensor in[4] = {c.in[0], c.in[1], c.in[2], c.in[3]}, out = c.out[0];
    in[0].data = out.data = flat;
    sl_call call = {.in = in, .out = &out, .n_in = 4, .n_out = 1, .device = case_contexts[0]->device};
    find_kernel(SL_OP_PACK, COPY_PLAIN)->run(&call);
    check_same("pack in place", flat, want, 80);
    check_guard(flat, 80 * sizeof(float));
    end_case();
}

/* --- reductions
 * --------------------------------------------------------------------------------------------------- */

static void check_sum_to(sl_shape in, sl_shape out, int64_t batch, int32_t valid)
{
    kernel_case c = {.op = SL_OP_SUM_TO,
                     .in = {reals(5, -1, 2, in.n, in.dim)},
                     .n_in = 1,
                     .n_out = 1,
                     .batched = batch > 0,
                     .batch = batch,
                     .valid = valid,
                     .tolerance = 1e-4};
    c.out[0] = tensor(SL_FLOAT, out.n, out.dim);
    const int64_t n = sl_shape_count(in), results = sl_shape_count(out);
    const bool batch_summed = in.n > out.n || (in.n && out.dim[0] == 1 && in.dim[0] > 1);
    const int64_t end = batch > 0 && batch_summed ? n / batch * valid : n;
    float *want = room(results), *term = room(n);
    /* element i belongs to the result under it */
    int64_t *owner = case_memory((size_t)(n + 1) * sizeof *owner);
    for (int64_t i = 0; i < n; i++) {
        int64_t rest = i, at = 0, step = 1;
        for (int d = in.n - 1; d >= 0; d--) {
            const int64_t index = rest % in.dim[d], e = d - (in.n - out.n);
            rest /= in.dim[d];
            if (e < 0) continue;
            if (out.dim[e] > 1) at += index * step;
            step *= out.dim[e];
        }
        owner[i] = at;
    }
    for (int64_t r = 0; r < results; r++) {
        int64_t terms = 0;
        for (int64_t i = 0; i < end; i++)
            if (owner[i] == r) term[terms++] = floats(c.in[0])[i];
        want[r] = sum_by_rule(term, terms);
    }
    run_case(&c);
    check_output(&c, 0, want);
    end_case();
}

static void sum_to(void **state)
{
    (void)state;
    const sl_shape pairs[][2] = {
        {{0}, {0}},
        {{1, {1}}, {0}},
        {{2, {7, 9}}, {2, {7, 9}}},
        {{2, {7, 9}}, {1, {9}}},
        {{2, {7, 9}}, {2, {7, 1}}},
        {{2, {7, 9}}, {0}},
        {{2, {2500, 10}}, {1, {10}}},
        {{2, {1300, 70}}, {1, {70}}},
        {{2, {3, 5000}}, {2, {3, 1}}},
        {{1, {70001}}, {0}},
        {{1, {70001}}, {1, {1}}},
        {{3, {4, 5, 6}}, {3, {4, 1, 6}}},
        {{3, {4, 5, 6}}, {3, {1, 5, 1}}},
        {{4, {5, 3, 7, 2}}, {4, {5, 1, 7, 1}}},
        {{4, {5, 3, 7, 2}}, {4, {1, 3, 1, 2}}},
        {{4, {40, 3, 70, 2}}, {4, {1, 3, 1, 2}}},
        {{4, {3, 70, 2, 40}}, {4, {3, 1, 2, 1}}},
        {{4, {2, 3, 50, 65}}, {4, {2, 3, 1, 65}}},
        {{4, {5, 1, 7, 2}}, {3, {1, 7, 2}}},
        {{2, {0, 4}}, {1, {4}}},
    };
    for (size_t p = 0; p < sizeof pairs / sizeof *pairs; p++) check_sum_to(pairs[p][0], pairs[p][1], 0, 0);
    for (int32_t valid = 0; valid <= 6; valid += 3) {
        check_sum_to((sl_shape){2, {6, 9}}, (sl_shape){1, {9}}, 6, valid);
        check_sum_to((sl_shape){2, {6, 9}}, (sl_shape){2, {6, 1}}, 6, valid); /* the batch stays: all rows */
        check_sum_to((sl_shape){4, {6, 20, 30, 3}}, (sl_shape){1, {3}}, 6, valid);
        check_sum_to((sl_shape){4, {6, 20, 30, 3}}, (sl_shape){4, {1, 1, 30, 1}}, 6, valid);
        check_sum_to((sl_shape){4, {6, 20, 30, 3}}, (sl_shape){0}, 6, valid);
    }
}

static void check_mean(sl_shape shape, bool per_sample, int64_t batch, int32_t valid)
{
    const sl_mean_attr attr = {per_sample, shape};
    const int64_t n = sl_shape_count(shape), end = batch ? n / batch * valid : n;
    const float divisor = per_sample ? (batch ? (float)valid : 1.0f) : (float)end;
    kernel_case c = {.op = SL_OP_MEAN,
                     .in = {reals(6, -1, 2, shape.n, shape.dim)},
                     .n_in = 1,
                     .n_out = 1,
                     .attr = &attr,
                     .batched = batch > 0,
                     .batch = batch,
                     .valid = valid,
                     .tolerance = 1e-4};
    c.out[0] = tensor(SL_FLOAT, SCALAR);
    const float want = sum_by_rule(c.in[0].data, end) / divisor;
    run_case(&c);
    check_output(&c, 0, &want);

    kernel_case back = c;
    back.op = SL_OP_MEAN_VJP;
    back.in[0] = reals(7, 1, 2, SCALAR);
    back.out[0] = tensor(SL_FLOAT, shape.n, shape.dim);
    float *dx = room(n);
    for (int64_t i = 0; i < n; i++) dx[i] = i < end ? *floats(back.in[0]) / divisor : 0;
    run_case(&back);
    check_output(&back, 0, dx);
    end_case();
}

static void mean(void **state)
{
    (void)state;
    for (int per_sample = 0; per_sample < 2; per_sample++) {
        check_mean((sl_shape){0}, per_sample, 0, 0);
        check_mean((sl_shape){2, {37, 41}}, per_sample, 0, 0);
        check_mean((sl_shape){3, {64, 30, 31}}, per_sample, 0, 0);
        for (int32_t valid = 1; valid <= 6; valid++) {
            check_mean((sl_shape){1, {6}}, per_sample, 6, valid);
            check_mean((sl_shape){3, {6, 200, 101}}, per_sample, 6, valid);
        }
    }
}

static void norm(void **state)
{
    (void)state;
    const int64_t sizes[] = {1, 5, 1024, 1025, 3071, 100003};
    for (int s = 0; s < 6; s++) {
        kernel_case c = {.op = SL_OP_NORM, .in = {reals(8, -1, 1, 1, &sizes[s])}, .n_in = 1, .n_out = 1};
        c.out[0] = tensor(SL_FLOAT, SCALAR);
        float *square = room(sizes[s]);
        for (int64_t i = 0; i < sizes[s]; i++) square[i] = floats(c.in[0])[i] * floats(c.in[0])[i];
        const float want = sqrtf(sum_by_rule(square, sizes[s]));
        c.tolerance = 1e-5;
        run_case(&c);
        check_output(&c, 0, &want);
        end_case();
    }
}

static void count_correct(void **state)
{
    (void)state;
    for (int64_t k = 1; k <= 11; k += 5)
        for (int32_t valid = 0; valid <= 40; valid += 13) {
            kernel_case c = {.op = SL_OP_COUNT_CORRECT,
                             .n_in = 2,
                             .n_out = 1,
                             .batched = true,
                             .batch = 40,
                             .valid = valid};
            c.in[0] = reals(9, -1, 1, DIMS(40, k));
            c.in[1] = integers(SL_INT, 10, 0, k == 1 ? 2 : (int)k, DIMS(40));
            c.out[0] = tensor(SL_FLOAT, SCALAR);
            for (int64_t i = 0; i < 40 * k; i++) /* ties: the first counts */
                floats(c.in[0])[i] = rintf(floats(c.in[0])[i] * 3);
            float want = 0;
            for (int r = 0; r < valid; r++) {
                const float *score = floats(c.in[0]) + r * k;
                const int label = ((int32_t *)c.in[1].data)[r];
                bool right = k == 1 ? (score[0] > 0) == label : true;
                for (int i = 0; k > 1 && i < k; i++)
                    right = right && (i < label ? score[i] < score[label] : score[i] <= score[label]);
                want += right;
            }
            run_case(&c);
            check_output(&c, 0, &want);
            end_case();
        }
}

/* --- pooling
 * ------------------------------------------------------------------------------------------------------ */

static void check_pool(int64_t n, int64_t h, int64_t w, int64_t ch, sl_pool_attr attr, bool with_nan)
{
    const int64_t oh = (h + 2 * attr.pad[0] - attr.kernel[0]) / attr.stride[0] + 1;
    const int64_t ow = (w + 2 * attr.pad[1] - attr.kernel[1]) / attr.stride[1] + 1;
    const int64_t pixels = n * h * w * ch, windows = n * oh * ow * ch;
    attr.size[0] = (int)h;
    attr.size[1] = (int)w;
    sl_tensor x = reals(11, -2, 2, DIMS(n, h, w, ch)), dy = reals(12, -1, 1, DIMS(n, oh, ow, ch));
    for (int64_t i = 0; i < pixels; i++) floats(x)[i] = rintf(floats(x)[i] * 2) / 2; /* ties */
    for (int64_t i = 0; with_nan && i < pixels; i += 7) floats(x)[i] = NAN;
    for (int64_t i = 0; i < windows; i += 5) floats(dy)[i] = -0.0f; /* a sum begins at +0 and stays +0 */
    float *y = room(windows), *average = room(windows), *dx = room(pixels), *dx_average = room(pixels);
    int32_t *index = case_memory((size_t)(windows + 1) * sizeof *index);
    memset(dx, 0, (size_t)pixels * sizeof *dx);
    memset(dx_average, 0, (size_t)pixels * sizeof *dx);
    const float area = (float)(attr.kernel[0] * attr.kernel[1]);
    int64_t at = 0;
    for (int64_t in = 0; in < n; in++)
        for (int64_t oy = 0; oy < oh; oy++)
            for (int64_t ox = 0; ox < ow; ox++)
                for (int64_t c = 0; c < ch; c++, at++) {
                    float sum = 0;
                    int64_t chosen = -1;
                    index[at] = -1;
                    for (int ky = 0; ky < attr.kernel[0]; ky++)
                        for (int kx = 0; kx < attr.kernel[1]; kx++) {
                            const int64_t iy = oy * attr.stride[0] - attr.pad[0] + ky;
                            const int64_t ix = ox * attr.stride[1] - attr.pad[1] + kx;
                            if (iy < 0 || iy >= h || ix < 0 || ix >= w) continue;
                            const int64_t pixel = ((in * h + iy) * w + ix) * ch + c;
                            const float v = floats(x)[pixel];
                            sum += v;
                            dx_average[pixel] += floats(dy)[at];
                            if (chosen >= 0 && !(v > y[at]) && !isnan(v)) continue;
                            y[at] = v;
                            index[at] = ky * attr.kernel[1] + kx;
                            chosen = pixel;
                        }
                    average[at] = sum / area;
                    dx[chosen] += floats(dy)[at];
                }
    for (int64_t i = 0; i < pixels; i++) dx_average[i] = dx_average[i] / area;

    kernel_case c = {.op = SL_OP_MAX_POOL2D, .in = {x}, .n_in = 1, .n_out = 2, .attr = &attr};
    c.out[0] = tensor(SL_FLOAT, DIMS(n, oh, ow, ch));
    c.out[1] = tensor(SL_INT, DIMS(n, oh, ow, ch));
    kernel_case without = c, back = c, mean_pool = c, mean_back = c;
    run_case(&c);
    check_output(&c, 0, y);
    check_same_ints("max_pool2d index", c.out[1].data, index, windows);
    without.absent[1] = true;
    run_case(&without);
    check_output(&without, 0, y);

    back.op = SL_OP_MAX_POOL2D_VJP;
    back.in[0] = dy;
    back.in[1] = c.out[1];
    back.n_in = 2;
    back.n_out = 1;
    back.out[0] = tensor(SL_FLOAT, DIMS(n, h, w, ch));
    run_case(&back);
    check_output(&back, 0, dx);

    mean_pool.op = SL_OP_AVG_POOL2D;
    mean_pool.n_out = 1;
    run_case(&mean_pool);
    check_output(&mean_pool, 0, average);
    mean_back.op = SL_OP_AVG_POOL2D_VJP;
    mean_back.in[0] = dy;
    mean_back.n_out = 1;
    mean_back.out[0] = tensor(SL_FLOAT, DIMS(n, h, w, ch));
    run_case(&mean_back);
    check_output(&mean_back, 0, dx_average);
    end_case();
}

static void pooling(void **state)
{
    (void)state;
    const int64_t channels[] = {1, 3, 8, 16, 21, 70};
    for (int c = 0; c < 6; c++)
        for (int with_nan = 0; with_nan < 2; with_nan++) {
            check_pool(2, 6, 8, channels[c], (sl_pool_attr){{2, 2}, {2, 2}, {0, 0}, {0, 0}}, with_nan);
            check_pool(3, 7, 5, channels[c], (sl_pool_attr){{2, 2}, {2, 2}, {0, 0}, {0, 0}}, with_nan);
            check_pool(2, 7, 8, channels[c], (sl_pool_attr){{3, 3}, {2, 2}, {1, 1}, {0, 0}}, with_nan);
            check_pool(2, 9, 6, channels[c], (sl_pool_attr){{3, 2}, {1, 2}, {1, 0}, {0, 0}}, with_nan);
            check_pool(2, 9, 9, channels[c], (sl_pool_attr){{2, 2}, {3, 4}, {0, 1}, {0, 0}}, with_nan);
            check_pool(2, 5, 7, channels[c], (sl_pool_attr){{5, 7}, {1, 1}, {0, 0}, {0, 0}}, with_nan);
            check_pool(1, 1, 1, channels[c], (sl_pool_attr){{3, 3}, {1, 1}, {1, 1}, {0, 0}}, with_nan);
        }
    check_pool(8, 24, 24, 16, (sl_pool_attr){{2, 2}, {2, 2}, {0, 0}, {0, 0}}, false);
}

/* --- batch normalisation
 * ------------------------------------------------------------------------------------------ */

static float column_sum(const float *term, int64_t rows, int64_t c, int64_t column)
{
    float *one = malloc((size_t)(rows + 1) * sizeof *one);
    for (int64_t r = 0; r < rows; r++) one[r] = term[r * c + column];
    const float sum = sum_by_rule(one, rows);
    free(one);
    return sum;
}

static void check_batch_norm(sl_shape shape, int64_t batch, int32_t valid)
{
    const sl_batch_norm_attr attr = {1e-3f, 0.1f};
    const int64_t c = sl_shape_last(shape), n = sl_shape_count(shape), rows = n / c;
    const int64_t count = batch ? rows / batch * valid : rows;
    const float divisor = (float)(count ? count : 1);
    sl_tensor x = reals(20, -1, 3, shape.n, shape.dim), dy = reals(21, -1, 1, shape.n, shape.dim);
    sl_tensor gamma = reals(22, 0.5, 2, DIMS(c)), beta = reals(23, -1, 1, DIMS(c));
    float *mean = room(c), *var = room(c), *invstd = room(c), *y = room(n), *term = room(n), *xhat = room(n);
    float *dgamma = room(c), *dbeta = room(c), *dx = room(n), *dx_apply = room(n);
    for (int64_t i = 0; i < c; i++) mean[i] = column_sum(floats(x), count, c, i) / divisor;
    for (int64_t i = 0; i < n; i++) term[i] = (floats(x)[i] - mean[i % c]) * (floats(x)[i] - mean[i % c]);
    for (int64_t i = 0; i < c; i++) var[i] = column_sum(term, count, c, i) / divisor;
    for (int64_t i = 0; i < c; i++) invstd[i] = 1 / sqrtf(var[i] + attr.epsilon);
    for (int64_t i = 0; i < n; i++) xhat[i] = (floats(x)[i] - mean[i % c]) * invstd[i % c];
    for (int64_t i = 0; i < n; i++) y[i] = xhat[i] * floats(gamma)[i % c] + floats(beta)[i % c];
    for (int64_t i = 0; i < n; i++) term[i] = floats(dy)[i] * xhat[i];
    for (int64_t i = 0; i < c; i++) {
        dbeta[i] = column_sum(floats(dy), count, c, i);
        dgamma[i] = column_sum(term, count, c, i);
    }
    for (int64_t i = 0; i < n; i++) {
        const float factor = floats(gamma)[i % c] * invstd[i % c];
        const float inner = (floats(dy)[i] - dbeta[i % c] / divisor) - xhat[i] * (dgamma[i % c] / divisor);
        dx[i] = i < count * c ? factor * inner : 0;
        dx_apply[i] = i < count * c ? factor * floats(dy)[i] : 0;
    }

    kernel_case forward = {.op = SL_OP_BATCH_NORM,
                           .in = {x, gamma, beta},
                           .n_in = 3,
                           .n_out = 3,
                           .attr = &attr,
                           .batched = batch > 0,
                           .batch = batch,
                           .valid = valid,
                           .tolerance = 1e-4};
    forward.out[0] = tensor(SL_FLOAT, shape.n, shape.dim);
    forward.out[1] = tensor(SL_FLOAT, DIMS(c));
    forward.out[2] = tensor(SL_FLOAT, DIMS(c));
    kernel_case back = forward, apply = forward, lonely = forward;
    run_case(&forward);
    check_output(&forward, 0, y);
    check_output(&forward, 1, mean);
    check_output(&forward, 2, var);
    lonely.absent[1] = lonely.absent[2] = true;
    run_case(&lonely);
    check_output(&lonely, 0, y);

    const sl_tensor statistics[] = {forward.out[1], forward.out[2]};
    back.op = SL_OP_BATCH_NORM_VJP;
    back.n_in = 5;
    memcpy(back.in, (sl_tensor[]){dy, x, gamma, statistics[0], statistics[1]}, 5 * sizeof *back.in);
    kernel_case back_apply = back;
    run_case(&back);
    check_output(&back, 0, dx);
    check_output(&back, 1, dgamma);
    check_output(&back, 2, dbeta);
    back_apply.op = SL_OP_BATCH_NORM_APPLY_VJP;
    run_case(&back_apply);
    check_output(&back_apply, 0, dx_apply);
    check_output(&back_apply, 1, dgamma);
    check_output(&back_apply, 2, dbeta);

    apply.op = SL_OP_BATCH_NORM_APPLY;
    apply.n_in = 5;
    apply.n_out = 1;
    apply.in[3] = statistics[0];
    apply.in[4] = statistics[1];
    kernel_case in_place = apply;
    run_case(&apply);
    check_output(&apply, 0, y);
    in_place.in_place = true;
    run_case(&in_place);
    check_output(&in_place, 0, y);

    kernel_case track = {.op = SL_OP_BATCH_NORM_TRACK,
                         .n_in = 5,
                         .attr = &attr,
                         .effect = true,
                         .batched = batch > 0,
                         .batch = batch,
                         .valid = valid,
                         .tolerance = 1e-5};
    sl_tensor running_mean = reals(24, -1, 1, DIMS(c)), running_var = reals(25, 0.5, 2, DIMS(c));
    memcpy(track.in, (sl_tensor[]){statistics[0], statistics[1], running_mean, running_var, x},
           5 * sizeof *track.in);
    run_case(&track);
    for (int64_t i = 0; i < c && count > 1; i++) {
        const float unbiased = var[i] * ((float)count / (float)(count - 1));
        floats(running_mean)[i] = (1 - attr.momentum) * floats(running_mean)[i] + attr.momentum * mean[i];
        floats(running_var)[i] = (1 - attr.momentum) * floats(running_var)[i] + attr.momentum * unbiased;
    }
    check_same("running mean", track.after[2], floats(running_mean), c);
    check_same("running variance", track.after[3], floats(running_var), c);
    end_case();
}

static void batch_norm(void **state)
{
    (void)state;
    check_batch_norm((sl_shape){2, {1, 5}}, 0, 0);
    check_batch_norm((sl_shape){2, {37, 1}}, 0, 0);
    check_batch_norm((sl_shape){2, {128, 32}}, 0, 0);
    check_batch_norm((sl_shape){2, {2500, 3}}, 0, 0);
    check_batch_norm((sl_shape){2, {130, 131}}, 0, 0);
    for (int32_t valid = 0; valid <= 5; valid++) {
        check_batch_norm((sl_shape){2, {5, 64}}, 5, valid);
        check_batch_norm((sl_shape){4, {5, 13, 17, 9}}, 5, valid);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(binary),     cmocka_unit_test(unary),         cmocka_unit_test(broadcasts_and_fills),
        cmocka_unit_test(pack),       cmocka_unit_test(sum_to),        cmocka_unit_test(mean),
        cmocka_unit_test(norm),       cmocka_unit_test(count_correct), cmocka_unit_test(pooling),
        cmocka_unit_test(batch_norm),
    };
    return cmocka_run_group_tests(tests, open_contexts, close_contexts);
}
