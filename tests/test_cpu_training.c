/* The CPU kernels of losses, random numbers and the training step against literal loops, and the optimisers
 * against PyTorch's formulas in double precision. */
#include "kernel_case.h"

#include "core/math.h"
#include "slope/optim.h"

/* --- softmax and losses
 * ------------------------------------------------------------------------------------------- */

/* Everything about rows of logits that spread over [-spread, spread]. */
static void check_rows(int64_t rows, int64_t k, double spread, int64_t batch, int32_t valid)
{
    const int64_t n = rows * k;
    sl_tensor z = reals(30, -spread, spread, DIMS(rows, k)), dy = reals(31, -1, 1, DIMS(rows, k));
    sl_tensor label = integers(SL_INT, 32, 0, (int)k, DIMS(rows)), dloss = reals(33, 0.1, 1, DIMS(rows));
    float *p = room(n), *log_p = room(n), *loss = room(rows), *e = room(k), *term = room(k);
    float *dz_softmax = room(n), *dz_log = room(n), *dz = room(n);
    const int64_t count = batch ? valid : rows;
    for (int64_t r = 0; r < rows; r++) {
        const float *row = floats(z) + r * k, *drow = floats(dy) + r * k;
        const int32_t right = ((int32_t *)label.data)[r];
        float max = row[0];
        for (int64_t i = 0; i < k; i++) max = row[i] > max ? row[i] : max;
        for (int64_t i = 0; i < k; i++) e[i] = r_exp(row[i] - max);
        const float sum = sum_by_rule(e, k), log_sum = r_log(sum), dsum = sum_by_rule(drow, k);
        for (int64_t i = 0; i < k; i++) p[r * k + i] = e[i] / sum;
        for (int64_t i = 0; i < k; i++) log_p[r * k + i] = (row[i] - max) - log_sum;
        for (int64_t i = 0; i < k; i++) term[i] = drow[i] * p[r * k + i];
        const float dot = sum_by_rule(term, k);
        for (int64_t i = 0; i < k; i++) {
            const int64_t at = r * k + i;
            dz_softmax[at] = p[at] * (drow[i] - dot);
            dz_log[at] = drow[i] - r_exp(log_p[at]) * dsum;
            dz[at] = r < count ? floats(dloss)[r] * (p[at] - (i == right ? 1.0f : 0.0f)) : 0;
        }
        loss[r] = r < count ? log_sum - (row[right] - max) : 0;
    }
    const double tolerance = 1e-5 * (1 + spread / 100);
    kernel_case c = {.op = SL_OP_SOFTMAX,
                     .in = {z},
                     .n_in = 1,
                     .n_out = 1,
                     .tolerance = tolerance,
                     .batched = batch > 0,
                     .batch = batch,
                     .valid = valid};
    c.out[0] = tensor(SL_FLOAT, DIMS(rows, k));
    kernel_case log_case = c;
    for (int in_place = 0; in_place < 2; in_place++) {
        kernel_case a = c, b = c;
        b.op = SL_OP_LOG_SOFTMAX;
        a.in_place = b.in_place = in_place;
        run_case(&a);
        check_output(&a, 0, p);
        run_case(&b);
        check_output(&b, 0, log_p);
        c.out[0] = a.out[0];
        log_case.out[0] = b.out[0];
    }
    kernel_case back = {
        .op = SL_OP_SOFTMAX_VJP, .in = {dy, c.out[0]}, .n_in = 2, .n_out = 1, .tolerance = tolerance};
    back.out[0] = tensor(SL_FLOAT, DIMS(rows, k));
    kernel_case back_log = back;
    run_case(&back);
    check_output(&back, 0, dz_softmax);
    back_log.op = SL_OP_LOG_SOFTMAX_VJP;
    back_log.in[1] = log_case.out[0];
    back_log.tolerance = tolerance * (double)k;
    run_case(&back_log);
    check_output(&back_log, 0, dz_log);

    kernel_case ce = {.op = SL_OP_SOFTMAX_CROSS_ENTROPY,
                      .in = {z, label},
                      .n_in = 2,
                      .n_out = 2,
                      .tolerance = tolerance,
                      .batched = batch > 0,
                      .batch = batch,
                      .valid = valid};
    ce.out[0] = tensor(SL_FLOAT, DIMS(rows));
    ce.out[1] = tensor(SL_FLOAT, DIMS(rows, k));
    kernel_case loss_only = ce, p_only = ce;
    run_case(&ce);
    check_output(&ce, 0, loss);
    check_output(&ce, 1, p);
    loss_only.absent[1] = true;
    run_case(&loss_only);
    check_output(&loss_only, 0, loss);
    p_only.absent[0] = true;
    run_case(&p_only);
    check_output(&p_only, 1, p);

    kernel_case ce_back = {.op = SL_OP_SOFTMAX_CROSS_ENTROPY_VJP,
                           .in = {dloss, ce.out[1], label},
                           .n_in = 3,
                           .n_out = 1,
                           .tolerance = tolerance,
                           .batched = batch > 0,
                           .batch = batch,
                           .valid = valid};
    ce_back.out[0] = tensor(SL_FLOAT, DIMS(rows, k));
    run_case(&ce_back);
    check_output(&ce_back, 0, dz);
    end_case();
}

static void softmax_rows(void **state)
{
    (void)state;
    const int64_t widths[] = {1, 2, 3, 10, 16, 17, 33, 100, 1024, 1025, 2049, 5000};
    for (int w = 0; w < 12; w++) {
        check_rows(7, widths[w], 5, 0, 0);
        check_rows(5, widths[w], 1e4, 5, 3);
    }
    check_rows(1, 10, 5, 1, 1);
    check_rows(1500, 10, 5, 1500, 1499);
    check_rows(128, 10, 1e4, 128, 0);
}

/* NaN and infinite logits give what the formula gives; a label that is no class gives NaN, not a wild read.
 */
static void softmax_odd_values(void **state)
{
    (void)state;
    kernel_case c = {.op = SL_OP_SOFTMAX_CROSS_ENTROPY, .n_in = 2, .n_out = 2};
    c.in[0] = reals(1, -1, 1, DIMS(5, 40));
    c.in[1] = integers(SL_INT, 1, 0, 40, DIMS(5));
    floats(c.in[0])[3] = NAN;
    floats(c.in[0])[40] = -INFINITY;
    ((int32_t *)c.in[1].data)[1] = 7;
    floats(c.in[0])[80 + 39] = NAN;
    ((int32_t *)c.in[1].data)[3] = -1;
    ((int32_t *)c.in[1].data)[4] = 40;
    c.out[0] = tensor(SL_FLOAT, DIMS(5));
    c.out[1] = tensor(SL_FLOAT, DIMS(5, 40));
    run_case(&c);
    const float *loss = floats(c.out[0]), *p = floats(c.out[1]);
    assert_true(isnan(loss[0]) && isnan(loss[2]) && isnan(loss[3]) && isnan(loss[4]));
    assert_true(isfinite(loss[1]) && p[40] == 0);
    for (int i = 0; i < 40; i++) assert_true(isnan(p[i]) && isnan(p[80 + i]));

    kernel_case back = {.op = SL_OP_SOFTMAX_CROSS_ENTROPY_VJP, .n_in = 3, .n_out = 1};
    back.in[0] = reals(2, 1, 2, DIMS(5));
    back.in[1] = reals(3, 0, 1, DIMS(5, 40));
    back.in[2] = c.in[1];
    back.out[0] = tensor(SL_FLOAT, DIMS(5, 40));
    run_case(&back);
    for (int i = 120; i < 200; i++) /* the rows whose label is no class */
        assert_true(floats(back.out[0])[i] == floats(back.in[0])[i / 40] * floats(back.in[1])[i]);
    end_case();
}

static void logistic(void **state)
{
    (void)state;
    const int64_t sizes[] = {1, 7, 20001};
    for (int s = 0; s < 3; s++)
        for (int labels = 0; labels < 2; labels++)
            for (int wide = 0; wide < 2; wide++) {
                const int64_t n = sizes[s];
                sl_tensor z = reals(40, wide ? -300 : -4, wide ? 300 : 4, DIMS(n, 1)),
                          dy = reals(41, 0, 1, DIMS(n, 1));
                sl_tensor t = labels ? integers(SL_INT, 42, 0, 2, DIMS(n)) : reals(42, 0, 1, DIMS(n, 1));
                float *want = room(n), *dz = room(n);
                for (int64_t i = 0; i < n; i++) {
                    const float x = floats(z)[i];
                    const float target = labels ? (float)((int32_t *)t.data)[i] : floats(t)[i];
                    want[i] = ((x > 0 ? x : 0) - x * target) + r_log1p(r_exp(-fabsf(x)));
                    dz[i] = floats(dy)[i] * (r_sigmoid(x) - target);
                }
                kernel_case c = {.op = SL_OP_LOGISTIC_CROSS_ENTROPY, .in = {z, t}, .n_in = 2, .n_out = 1};
                c.tolerance = wide ? 3e-5 : 1e-6; /* z - z·t cancels */
                c.out[0] = tensor(SL_FLOAT, DIMS(n, 1));
                run_case(&c);
                check_output(&c, 0, want);
                kernel_case back = {
                    .op = SL_OP_LOGISTIC_CROSS_ENTROPY_VJP, .in = {dy, z, t}, .n_in = 3, .n_out = 1};
                back.out[0] = tensor(SL_FLOAT, DIMS(n, 1));
                run_case(&back);
                check_output(&back, 0, dz);
                end_case();
            }
}

/* --- random numbers
 * ----------------------------------------------------------------------------------------------- */

static void random_tensors(void **state)
{
    (void)state;
    const int64_t sizes[] = {0, 1, 3, 4, 255, 257, 20003};
    for (int s = 0; s < 7; s++)
        for (int kind = SL_RANDOM_UNIFORM; kind <= SL_RANDOM_NORMAL; kind++) {
            sl_random_attr attr = {.low = 0.25, .high = 1.5, .seed = 0x123456789abcu, .stream = 77};
            attr.kind = kind;
            attr.shape = sl_shape_of(1, &sizes[s]);
            kernel_case c = {.op = SL_OP_RANDOM, .n_out = 1, .attr = &attr};
            c.out[0] = tensor(SL_FLOAT, 1, &sizes[s]);
            float *want = room(sizes[s]);
            for (int64_t i = 0; i < sizes[s]; i++) {
                float z[2];
                const uint32_t even = sl_random_word(attr.seed, 77, 0, (uint64_t)(i & ~(int64_t)1));
                const uint32_t odd = sl_random_word(attr.seed, 77, 0, (uint64_t)(i | 1));
                sl_normals(even, odd, &z[0], &z[1]);
                want[i] = kind == SL_RANDOM_NORMAL ? 0.25f + 1.5f * z[i & 1]
                                                   : 0.25f + 1.25f * sl_uniform(i & 1 ? odd : even);
            }
            c.tolerance = 3e-6;
            run_case(&c);
            check_output(&c, 0, want);
            end_case();
        }
}

static void dropout(void **state)
{
    (void)state;
    const float rates[] = {0, 1e-7f, 0.25f, 0.5f, 0.9f, 0.99999994f};
    const int64_t sizes[] = {1, 6, 255, 1027, 40001};
    for (int q = 0; q < 6; q++)
        for (int s = 0; s < 5; s++)
            for (int in_place = 0; in_place < 2; in_place++) {
                const sl_dropout_attr attr = {rates[q], 99, 5};
                const int32_t step = 123456;
                kernel_case c = {
                    .op = SL_OP_DROPOUT, .n_in = 2, .n_out = 1, .attr = &attr, .in_place = in_place};
                c.in[0] = reals(50, -1, 1, 1, &sizes[s]);
                c.in[1] = one_int(step);
                c.out[0] = tensor(SL_FLOAT, 1, &sizes[s]);
                float *x = floats(c.in[0]), *want = room(sizes[s]), gain = 1 / (1 - attr.rate);
                for (int64_t i = 0; i < sizes[s]; i++) {
                    const bool keep =
                        sl_uniform(sl_random_word(99, 5, (uint32_t)step, (uint64_t)i)) > attr.rate;
                    if (i % 5 == 4) x[i] = INFINITY; /* a dropped infinity is 0, not NaN */
                    want[i] = keep ? x[i] * gain : 0;
                }
                c.tolerance = 1e-5;
                run_case(&c);
                check_output(&c, 0, want);
                end_case();
            }
}

/* A rate that is just the value of a word drops it; a rate just below keeps it. Taken are words that are the
 * smallest with their value: the threshold then is the word itself. */
static void dropout_threshold(void **state)
{
    (void)state;
    int found = 0;
    for (uint64_t at = 0; at < 4000; at++) {
        const uint32_t word = sl_random_word(7, 1, 2, at);
        if (word == 0 || sl_uniform(word - 1) == sl_uniform(word)) continue;
        found++;
        for (int keep = 0; keep < 2; keep++) {
            const sl_dropout_attr attr = {sl_uniform(word - (uint32_t)keep), 7, 1};
            kernel_case c = {.op = SL_OP_DROPOUT, .n_in = 2, .n_out = 1, .attr = &attr, .tolerance = 1e-5};
            c.in[0] = reals(1, 1, 2, DIMS(4000));
            c.in[1] = one_int(2);
            c.out[0] = tensor(SL_FLOAT, DIMS(4000));
            run_case(&c);
            assert_true((floats(c.out[0])[at] != 0) == keep);
            end_case();
        }
    }
    assert_true(found > 0);
}

/* --- the training step
 * -------------------------------------------------------------------------------------------- */

static void check_draw(int64_t samples, int64_t batch, bool shuffle, bool bytes, bool targets)
{
    const sl_draw_attr attr = {samples, batch, shuffle, 1 / 255.0f, -0.5f, 31, 4};
    const int64_t batches = (samples + batch - 1) / batch, size = 15;
    for (int32_t step = 0; step < 2 * batches + 1; step++) {
        kernel_case c = {.op = SL_OP_DRAW_BATCH, .n_in = 3, .n_out = 3, .attr = &attr};
        c.in[0] = bytes ? integers(SL_BYTE, 60, 0, 256, DIMS(samples, 5, 3))
                        : reals(60, 0, 255, DIMS(samples, 5, 3));
        c.in[1] = targets ? reals(61, -1, 1, DIMS(samples, 3)) : integers(SL_INT, 61, 0, 10, DIMS(samples));
        c.in[2] = one_int(step);
        c.out[0] = tensor(SL_FLOAT, DIMS(batch, 5, 3));
        c.out[1] = targets ? tensor(SL_FLOAT, DIMS(batch, 3)) : tensor(SL_INT, DIMS(batch));
        c.out[2] = tensor(SL_INT, DIMS(1));
        const int64_t first = step % batches * batch, left = samples - first,
                      valid = left < batch ? left : batch;
        const int64_t width = targets ? 3 : 1;
        float *x = room(batch * size), *t = room(batch * width);
        int32_t *label = case_memory((size_t)batch * sizeof *label), wanted_valid = (int32_t)valid;
        for (int64_t r = 0; r < batch; r++) {
            int64_t from = first + r;
            if (r < valid && shuffle)
                from =
                    (int64_t)sl_permute(31, 4, (uint32_t)(step / batches), (uint64_t)samples, (uint64_t)from);
            for (int64_t i = 0; i < size; i++) {
                const int64_t at = from * size + i;
                const float v = r >= valid ? 0 : bytes ? ((uint8_t *)c.in[0].data)[at] : floats(c.in[0])[at];
                x[r * size + i] = r < valid ? attr.scale * v + attr.shift : 0;
            }
            for (int64_t i = 0; i < width; i++)
                if (targets)
                    t[r * width + i] = r < valid ? floats(c.in[1])[from * width + i] : 0;
                else
                    label[r] = r < valid ? ((int32_t *)c.in[1].data)[from] : 0;
        }
        run_case(&c);
        check_output(&c, 0, x);
        if (targets)
            check_output(&c, 1, t);
        else
            check_same_ints("labels", c.out[1].data, label, batch);
        check_same_ints("valid", c.out[2].data, &wanted_valid, 1);
        end_case();
    }
}

static void draw_batch(void **state)
{
    (void)state;
    for (int kind = 0; kind < 8; kind++) {
        check_draw(37, 8, kind & 1, kind & 2, kind & 4);
        check_draw(16, 8, kind & 1, kind & 2, kind & 4);
        check_draw(3, 8, kind & 1, kind & 2, kind & 4);
        check_draw(1, 1, kind & 1, kind & 2, kind & 4);
    }
    check_draw(900, 400, true, true, false);
}

/* One epoch draws every sample once, and two epochs differ. */
static void epochs(void **state)
{
    (void)state;
    const sl_draw_attr attr = {100, 16, true, 1, 0, 8, 1};
    int32_t order[2][100];
    for (int32_t step = 0; step < 14; step++) {
        kernel_case c = {.op = SL_OP_DRAW_BATCH, .n_in = 3, .n_out = 3, .attr = &attr};
        c.in[0] = reals(1, 0, 1, DIMS(100, 1));
        c.in[1] = tensor(SL_INT, DIMS(100));
        for (int i = 0; i < 100; i++) ((int32_t *)c.in[1].data)[i] = i;
        c.in[2] = one_int(step);
        c.out[0] = tensor(SL_FLOAT, DIMS(16, 1));
        c.out[1] = tensor(SL_INT, DIMS(16));
        c.out[2] = tensor(SL_INT, DIMS(1));
        run_case(&c);
        memcpy(order[step / 7] + step % 7 * 16, c.out[1].data, sizeof(int32_t) * (step % 7 == 6 ? 4 : 16));
        end_case();
    }
    for (int e = 0; e < 2; e++) {
        bool seen[100] = {false};
        for (int i = 0; i < 100; i++) {
            assert_false(seen[order[e][i]]);
            seen[order[e][i]] = true;
        }
    }
    assert_memory_not_equal(order[0], order[1], sizeof order[0]);
}

static double rate_at(sl_schedule_attr attr, int32_t step, float plateau)
{
    const sl_advance_attr advance = {attr, 0.9f, 0.999f};
    kernel_case c = {.op = SL_OP_ADVANCE, .n_in = 3, .n_out = 1, .effect = true, .attr = &advance};
    c.in[0] = one_int(step);
    c.in[1] = one_real(plateau);
    c.in[2] = tensor(SL_FLOAT, DIMS(2));
    c.out[0] = tensor(SL_FLOAT, DIMS(1));
    run_case(&c);
    const double rate = *floats(c.out[0]);
    end_case();
    return rate;
}

static void near(double got, double want)
{
    if (fabs(got - want) > 1e-6 * fabs(want) + 1e-9) fail_msg("%.9g, not %.9g", got, want);
}

static void schedules(void **state)
{
    (void)state;
    const double pi = 3.14159265358979324;
    sl_schedule_attr attr = {.kind = SL_CONSTANT, .rate = 0.1f, .factor = 0.5f, .period = 10, .total = 100};
    near(rate_at(attr, 12345, 0.25f), 0.025);
    attr.kind = SL_PLATEAU;
    near(rate_at(attr, 0, 0.2f), 0.02);
    attr.kind = SL_STEP_DECAY;
    near(rate_at(attr, 9, 1), 0.1);
    near(rate_at(attr, 10, 1), 0.05);
    near(rate_at(attr, 39, 1), 0.0125);
    near(rate_at(attr, 1000000, 1), 0);
    attr.kind = SL_COSINE;
    for (int t = 0; t < 140; t += 7)
        near(rate_at(attr, t, 1), t >= 100 ? 0.05 : 0.05 + 0.05 * (1 + cos(pi * t / 100)) / 2);
    attr.warmup = 5;
    near(rate_at(attr, 0, 1), 0.1 / 5);
    near(rate_at(attr, 3, 1), (0.05 + 0.05 * (1 + cos(pi * 3 / 100)) / 2) * 4 / 5);
    near(rate_at(attr, 5, 1), 0.05 + 0.05 * (1 + cos(pi * 5 / 100)) / 2);
    attr.warmup = 0;
    /* torch.optim.lr_scheduler.OneCycleLR(max_lr=0.1, total_steps=100) */
    attr.kind = SL_ONE_CYCLE;
    near(rate_at(attr, 0, 1), 0.004);
    near(rate_at(attr, 29, 1), 0.1);
    near(rate_at(attr, 10, 1), 0.1 + (0.004 - 0.1) / 2 * (1 + cos(pi * 10 / 29)));
    near(rate_at(attr, 64, 1), 4e-7 + (0.1 - 4e-7) / 2 * (1 + cos(pi * 35 / 70)));
    near(rate_at(attr, 99, 1), 4e-7);
    near(rate_at(attr, 500, 1), 4e-7);
    attr.total = 1;
    near(rate_at(attr, 0, 1), 4e-7);
}

static void small_step_kernels(void **state)
{
    (void)state;
    const sl_clip_scale_attr clip = {2};
    const float norms[] = {0, 1, 2, 8, INFINITY, NAN}, scales[] = {1, 1, 1, 0.25f, 0, 1};
    for (int i = 0; i < 6; i++) {
        kernel_case c = {
            .op = SL_OP_CLIP_SCALE, .in = {one_real(norms[i])}, .n_in = 1, .n_out = 1, .attr = &clip};
        c.out[0] = tensor(SL_FLOAT, DIMS(1));
        run_case(&c);
        check_output(&c, 0, &scales[i]);
        end_case();
    }
    kernel_case record = {.op = SL_OP_RECORD, .n_in = 5, .effect = true};
    record.in[0] = reals(1, 0, 1, DIMS(4, 3));
    record.in[1] = one_int(4 * 7 + 2);
    record.in[2] = one_real(1.5f);
    record.in[3] = one_real(30);
    record.in[4] = one_int(96);
    run_case(&record);
    float *history = floats(record.in[0]);
    history[6] = 1.5f;
    history[7] = 30;
    history[8] = 96;
    check_same("history", record.after[0], history, 12);
    end_case();

    const sl_advance_attr attr = {.schedule = {.rate = 0.5f}, .beta1 = 0.9f, .beta2 = 0.999f};
    kernel_case advance = {.op = SL_OP_ADVANCE, .n_in = 3, .n_out = 1, .effect = true, .attr = &attr};
    advance.in[0] = one_int(41);
    advance.in[1] = one_real(0.25f);
    advance.in[2] = tensor(SL_FLOAT, DIMS(2));
    floats(advance.in[2])[0] = 0.5f;
    floats(advance.in[2])[1] = 0.25f;
    advance.out[0] = tensor(SL_FLOAT, DIMS(1));
    run_case(&advance);
    assert_int_equal(*(int32_t *)advance.after[0], 42);
    const float products[] = {0.5f * 0.9f, 0.25f * 0.999f}, rate = 0.125f;
    check_same("products", advance.after[2], products, 2);
    check_output(&advance, 0, &rate);
    advance.n_in = 1;
    run_case(&advance);
    assert_int_equal(*(int32_t *)advance.after[0], 42);
    end_case();
}

/* --- optimisers
 * --------------------------------------------------------------------------------------------------- */

/* PyTorch's update of one weight in double precision. s: the two states; t: the number of the step, from 1.
 */
static void torch_step(int row, const sl_update_attr *a, double lr, double wd, int t, double *w, double g,
                       double *s)
{
    const double mu = a->momentum, b1 = a->beta1, b2 = a->beta2, eps = a->epsilon;
    if (row != SL_OPTIMIZER_ADAMW)
        g += wd * *w;
    else
        *w *= 1 - lr * wd;
    if (row == SL_OPTIMIZER_SGD) *w -= lr * g;
    if (row == SL_OPTIMIZER_MOMENTUM || row == SL_OPTIMIZER_NESTEROV) {
        s[0] = t == 1 ? g : mu * s[0] + g;
        *w -= lr * (row == SL_OPTIMIZER_NESTEROV ? g + mu * s[0] : s[0]);
    }
    if (row == SL_OPTIMIZER_ADAGRAD) {
        s[0] += g * g;
        *w -= lr * g / (sqrt(s[0]) + eps);
    }
    if (row == SL_OPTIMIZER_RMSPROP) {
        s[0] = b2 * s[0] + (1 - b2) * g * g;
        *w -= lr * g / (sqrt(s[0]) + eps);
    }
    if (row == SL_OPTIMIZER_ADADELTA) {
        s[0] = b2 * s[0] + (1 - b2) * g * g;
        const double delta = sqrt(s[1] + eps) / sqrt(s[0] + eps) * g;
        s[1] = b2 * s[1] + (1 - b2) * delta * delta;
        *w -= lr * delta;
    }
    if (row == SL_OPTIMIZER_ADAM || row == SL_OPTIMIZER_ADAMW) {
        s[0] = b1 * s[0] + (1 - b1) * g;
        s[1] = b2 * s[1] + (1 - b2) * g * g;
        *w -= lr / (1 - pow(b1, t)) * s[0] / (sqrt(s[1]) / sqrt(1 - pow(b2, t)) + eps);
    }
}

static int states_of(int row)
{
    const int states[] = {
#define OPTIMIZER(id, name, n, ...) n,
#include "slope/optimizers.def"
#undef OPTIMIZER
    };
    return states[row];
}

/* Twenty steps against PyTorch's formulas, with segments, clipping and a gradient scale. */
static void check_optimizer(int row, int64_t n, float clip_value)
{
    const sl_segment segments[] = {
        {2, n / 3, 0.02f, 0}, {2 + n / 3, n / 4, 0, 0.03f}, {n - 3, 3, 0.01f, 0.04f}};
    const sl_update_attr attr = {.optimizer = row,
                                 .momentum = 0.9f,
                                 .beta1 = 0.9f,
                                 .beta2 = 0.98f,
                                 .epsilon = 1e-3f,
                                 .clip_value = clip_value,
                                 .n_segments = n > 20 ? 3 : 0,
                                 .segments = segments};
    const float lr = 0.02f, scale = 0.8f;
    const int states = states_of(row);
    kernel_case c = {
        .op = SL_OP_UPDATE, .n_in = 5 + states, .attr = &attr, .effect = true, .tolerance = 1e-5};
    c.in[0] = reals(70, -1, 1, DIMS(n));
    c.in[2] = one_real(lr);
    c.in[3] = one_real(scale);
    for (int s = 0; s < states; s++) {
        c.in[4 + s] = tensor(SL_FLOAT, DIMS(n));
        memset(c.in[4 + s].data, 0, (size_t)n * sizeof(float));
    }
    c.in[4 + states] = tensor(SL_FLOAT, DIMS(2));
    float *products = floats(c.in[4 + states]);
    products[0] = attr.beta1, products[1] = attr.beta2;
    double *w = case_memory((size_t)n * sizeof *w), (*s)[2] = case_memory((size_t)n * sizeof *s);
    for (int64_t i = 0; i < n; i++) {
        w[i] = floats(c.in[0])[i];
        s[i][0] = s[i][1] = 0;
    }
    for (int t = 1; t <= 20; t++) {
        c.in[1] = reals(100 + (uint32_t)t, -1, 1, DIMS(n));
        run_case(&c);
        for (int64_t i = 0; i < n; i++) {
            double g = (double)floats(c.in[1])[i] * scale, l2 = 0, wd = 0;
            if (clip_value > 0) g = fmax(-clip_value, fmin(clip_value, g));
            for (int q = 0; q < attr.n_segments; q++)
                if (i >= segments[q].first && i < segments[q].first + segments[q].count)
                    l2 = segments[q].l2, wd = segments[q].weight_decay;
            torch_step(row, &attr, lr, wd, t, &w[i], g + l2 * w[i], s[i]);
            if (fabs(floats((sl_tensor){.data = c.after[0]})[i] - w[i]) > 4e-6)
                fail_msg("optimizer %d, step %d, weight %lld: %.9g, not %.9g", row, t, (long long)i,
                         (double)((float *)c.after[0])[i], w[i]);
        }
        for (int i = 0; i < c.n_in; i++) c.in[i].data = c.after[i];
        products = floats(c.in[4 + states]);
        products[0] *= attr.beta1;
        products[1] *= attr.beta2;
    }
    end_case();
}

static void optimizers(void **state)
{
    (void)state;
    for (int row = 0; row < SL_OPTIMIZER_COUNT; row++) {
        check_optimizer(row, 37, 0);
        check_optimizer(row, 37, 0.3f);
        check_optimizer(row, 1, 0);
    }
    check_optimizer(SL_OPTIMIZER_ADAM, 40003, 0); /* several threads, segments cut anywhere */
}

/* Optimisers that do not read the running products work without them. */
static void without_products(void **state)
{
    (void)state;
    const sl_update_attr attr = {.optimizer = SL_OPTIMIZER_SGD};
    kernel_case c = {.op = SL_OP_UPDATE, .n_in = 4, .attr = &attr, .effect = true};
    c.in[0] = reals(1, -1, 1, DIMS(9));
    c.in[1] = reals(2, -1, 1, DIMS(9));
    c.in[2] = one_real(0.5f);
    c.in[3] = one_real(1);
    float *want = room(9);
    for (int i = 0; i < 9; i++) want[i] = floats(c.in[0])[i] - 0.5f * floats(c.in[1])[i];
    run_case(&c);
    check_same("sgd", c.after[0], want, 9);
    end_case();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_rows), cmocka_unit_test(softmax_odd_values),
        cmocka_unit_test(logistic),     cmocka_unit_test(random_tensors),
        cmocka_unit_test(dropout),      cmocka_unit_test(dropout_threshold),
        cmocka_unit_test(draw_batch),   cmocka_unit_test(epochs),
        cmocka_unit_test(schedules),    cmocka_unit_test(small_step_kernels),
        cmocka_unit_test(optimizers),   cmocka_unit_test(without_products),
    };
    return cmocka_run_group_tests(tests, open_contexts, close_contexts);
}
