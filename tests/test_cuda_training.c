/* The CUDA kernels of normalisation, losses, random numbers and the training step against the CPU's bytes,
 * one by one, among them the operations for which src/ops has no samples. */
#include "cuda_case.h"

#include "core/activation.h"
#include "nn/optim.h"
#include "slope/optim.h"

/* --- normalisation --- */

static void check_norm(int64_t rows, int64_t channels, int64_t batch, int32_t valid)
{
    const sl_batch_norm_attr attr = {1e-5f, 0.1f};
    const sl_tensor x = reals(1, -2, 3, DIMS(rows, channels)), dy = reals(2, -1, 1, DIMS(rows, channels));
    const sl_tensor gamma = reals(3, 0.5f, 1.5f, DIMS(channels)), beta = reals(4, -1, 1, DIMS(channels));
    const sl_tensor mean = reals(5, -1, 1, DIMS(channels)), variance = reals(6, 0.1f, 2, DIMS(channels));
    const sl_tensor y = space(SL_FLOAT, DIMS(rows, channels));
    cuda_case c = {.op = SL_OP_BATCH_NORM,
                   .attr = &attr,
                   .in = {x, gamma, beta, mean, variance},
                   .n_in = 5,
                   .out = {y, mean, variance},
                   .n_out = 3,
                   .batch = batch,
                   .valid = valid};
    case_check(&c);
    c.absent[0] = true;
    case_check(&c);
    c.absent[0] = false;
    c.absent[1] = c.absent[2] = true;
    case_check(&c);
    c.op = SL_OP_BATCH_NORM_APPLY;
    c.n_out = 1;
    case_check(&c);
    c.in_place = true;
    case_check(&c);
    const sl_op ops[] = {SL_OP_BATCH_NORM_VJP, SL_OP_BATCH_NORM_APPLY_VJP};
    for (int o = 0; o < 2; o++)
        for (int absent = 0; absent < 8; absent++) {
            cuda_case back = {.op = ops[o],
                              .attr = &attr,
                              .in = {dy, x, gamma, mean, variance},
                              .n_in = 5,
                              .out = {y, gamma, beta},
                              .n_out = 3,
                              .batch = batch,
                              .valid = valid};
            for (int i = 0; i < 3; i++) back.absent[i] = absent >> i & 1;
            if (absent < 7) case_check(&back);
        }
    const cuda_case track = {.op = SL_OP_BATCH_NORM_TRACK,
                             .attr = &attr,
                             .in = {mean, variance, beta, gamma, x},
                             .n_in = 5,
                             .batch = batch,
                             .valid = valid};
    case_check(&track);
    case_end();
}

/* With the activation behind it, and the running statistics moved in the same call. */
static void check_activated_norm(int row, int64_t rows, int64_t channels, int64_t batch, int32_t valid)
{
    const sl_activation_info *info = sl_activation_row_info(row);
    sl_batch_norm_attr attr = {.epsilon = 1e-5f,
                               .momentum = 0.1f,
                               .activated = true,
                               .activation = {row, info->parameter[0].value, info->parameter[1].value},
                               .tracks = true};
    const sl_tensor x = reals(1, -2, 3, DIMS(rows, channels)), dy = reals(2, -1, 1, DIMS(rows, channels)),
                    gamma = reals(3, 0.5f, 1.5f, DIMS(channels)), beta = reals(4, -1, 1, DIMS(channels)),
                    mean = reals(5, -1, 1, DIMS(channels)), variance = reals(6, 0.1f, 2, DIMS(channels)),
                    y = space(SL_FLOAT, DIMS(rows, channels));
    cuda_case c = {.op = SL_OP_BATCH_NORM,
                   .attr = &attr,
                   .in = {x, gamma, beta, mean, variance},
                   .n_in = 5,
                   .out = {y, mean, variance},
                   .n_out = 3,
                   .batch = batch,
                   .valid = valid};
    case_check(&c);
    attr.activated = false;
    case_check(&c);
    attr.activated = true;
    attr.tracks = false;
    case_check(&c);
    c = (cuda_case){.op = SL_OP_BATCH_NORM_VJP,
                    .attr = &attr,
                    .in = {dy, x, gamma, mean, variance, beta},
                    .n_in = 6,
                    .out = {y, gamma, beta},
                    .n_out = 3,
                    .batch = batch,
                    .valid = valid};
    for (int absent = 0; absent < 4; absent++) {
        c.absent[1] = absent & 1;
        c.absent[2] = absent & 2;
        case_check(&c);
    }
    case_end();
}

static void test_activated_norms(void **state)
{
    (void)state;
    for (int row = 0; row < SL_ROW_COUNT; row++) check_activated_norm(row, 40, 5, 4, 3);
    check_activated_norm(SL_ROW_RELU, 7, 12, 7, 7);
    check_activated_norm(SL_ROW_GELU, 1, 4, 1, 1);
    check_activated_norm(SL_ROW_RELU, 8, 3, 4, 0);
    check_activated_norm(SL_ROW_GELU, 2100, 6, 21, 20);
    check_activated_norm(SL_ROW_RELU, 9 * 1024 + 1, 8, 0, 0);
}

static void test_norms(void **state)
{
    (void)state;
    check_norm(40, 5, 4, 3);
    check_norm(7, 12, 7, 7);
    check_norm(1, 4, 1, 1);
    check_norm(8, 3, 4, 0);
    check_norm(2100, 6, 21, 20);
    check_norm(9 * 1024 + 1, 8, 0, 0);
}

/* --- losses --- */

static void check_softmax(int64_t rows, int64_t k, int32_t valid)
{
    sl_tensor z = reals(1, -9, 9, DIMS(rows, k)), label = integers(SL_INT, 2, 0, (int)k, DIMS(rows));
    const sl_tensor dy = reals(3, -1, 1, DIMS(rows, k)), dloss = reals(4, 0, 1, DIMS(rows)),
                    loss = space(SL_FLOAT, DIMS(rows));
    const sl_tensor p = space(SL_FLOAT, DIMS(rows, k));
    if (rows > 4) {
        ((float *)z.data)[0] = NAN;
        ((float *)z.data)[k + k / 2] = INFINITY;
        ((float *)z.data)[2 * k] = -INFINITY;
        ((int32_t *)label.data)[3] = -1;
        ((int32_t *)label.data)[4] = (int32_t)k;
    }
    cuda_case c = {
        .op = SL_OP_SOFTMAX, .in = {z}, .n_in = 1, .out = {p}, .n_out = 1, .batch = rows, .valid = valid};
    case_check(&c);
    c.in_place = true;
    case_check(&c);
    c.op = SL_OP_LOG_SOFTMAX;
    case_check(&c);
    c = (cuda_case){.op = SL_OP_SOFTMAX_VJP,
                    .in = {dy, z},
                    .n_in = 2,
                    .out = {p},
                    .n_out = 1,
                    .batch = rows,
                    .valid = valid};
    case_check(&c);
    c.op = SL_OP_LOG_SOFTMAX_VJP;
    case_check(&c);
    c = (cuda_case){.op = SL_OP_SOFTMAX_CROSS_ENTROPY,
                    .in = {z, label},
                    .n_in = 2,
                    .out = {loss, p},
                    .n_out = 2,
                    .batch = rows,
                    .valid = valid};
    case_check(&c);
    c.absent[0] = true;
    case_check(&c);
    c.absent[0] = false;
    c.absent[1] = true;
    case_check(&c);
    c = (cuda_case){.op = SL_OP_SOFTMAX_CROSS_ENTROPY_VJP,
                    .in = {dloss, dy, label},
                    .n_in = 3,
                    .out = {p},
                    .n_out = 1,
                    .batch = rows,
                    .valid = valid};
    case_check(&c);
    const sl_tensor mean = space(SL_FLOAT, DIMS(1)), count = space(SL_FLOAT, DIMS(1));
    for (int per_sample = 0; per_sample < 2; per_sample++) {
        const sl_mean_attr attr = {per_sample, {0}};
        c = (cuda_case){.op = SL_OP_SOFTMAX_CROSS_ENTROPY_MEAN,
                        .attr = &attr,
                        .in = {z, label},
                        .n_in = 2,
                        .out = {mean, p, count},
                        .n_out = 3,
                        .batch = rows,
                        .valid = valid};
        case_check(&c);
        c.absent[2] = true;
        case_check(&c);
        c.absent[1] = true;
        case_check(&c);
        c = (cuda_case){.op = SL_OP_SOFTMAX_CROSS_ENTROPY_MEAN_VJP,
                        .attr = &attr,
                        .in = {one_real(0.7f), dy, label},
                        .n_in = 3,
                        .out = {p, space(SL_FLOAT, DIMS(k))},
                        .n_out = 2,
                        .batch = rows,
                        .valid = valid};
        case_check(&c);
        c.absent[1] = true;
        case_check(&c);
    }
    case_end();
}

static void test_losses(void **state)
{
    (void)state;
    const int64_t widths[] = {1, 2, 10, 16, 17, 32, 100, 1024, 1025, 5 * 1024 + 3};
    for (int w = 0; w < 10; w++) check_softmax(7, widths[w], 6);
    check_softmax(1, 10, 1);
    check_softmax(1501, 10, 1500);
    for (int kind = 0; kind < 2; kind++) {
        cuda_case c = {.op = SL_OP_LOGISTIC_CROSS_ENTROPY, .n_in = 2, .n_out = 1};
        c.in[0] = reals(1, -9, 9, DIMS(50, 3));
        c.in[1] = kind ? reals(2, 0, 1, DIMS(50, 3)) : integers(SL_INT, 2, 0, 2, DIMS(50, 3));
        c.out[0] = space(SL_FLOAT, DIMS(50, 3));
        case_check(&c);
        c.op = SL_OP_LOGISTIC_CROSS_ENTROPY_VJP;
        c.n_in = 3;
        c.in[2] = c.in[1];
        c.in[1] = c.in[0];
        c.in[0] = reals(3, -1, 1, DIMS(50, 3));
        case_check(&c);
        case_end();
    }
}

/* --- random numbers --- */

static void test_random(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++)
        for (int64_t n = 1; n < 60000; n = n * 7 + 2) {
            const sl_random_attr attr = {.kind = kind ? SL_RANDOM_NORMAL : SL_RANDOM_UNIFORM,
                                         .low = -0.3,
                                         .high = 0.9,
                                         .seed = 0x123456789abcdef,
                                         .stream = 77};
            cuda_case c = {.op = SL_OP_RANDOM, .n_out = 1, .attr = &attr};
            c.out[0] = space(SL_FLOAT, DIMS(n));
            case_check(&c);
            case_end();
        }
    const float rates[] = {0, 0.3f, 0.5f, 0.999f, 1};
    for (int r = 0; r < 5; r++) {
        cuda_case c = {.op = SL_OP_DROPOUT,
                       .n_in = 2,
                       .n_out = 1,
                       .in_place = r % 2,
                       .attr = &(sl_dropout_attr){rates[r], 42, 5}};
        c.in[0] = reals(1, -1, 1, DIMS(99, 101));
        c.in[1] = one_int(1000 + r);
        c.out[0] = space(SL_FLOAT, DIMS(99, 101));
        case_check(&c);
        case_end();
    }
}

/* --- the step --- */

static void check_draw(bool bytes, int64_t size, int64_t targets, int32_t step, bool shuffle)
{
    const int64_t samples = size > 1000 ? 5 : 37, batch = size > 1000 ? 2 : 8;
    const sl_draw_attr attr = {.samples = samples,
                               .batch = batch,
                               .shuffle = shuffle,
                               .scale = 1 / 255.0f,
                               .shift = -0.1f,
                               .seed = 9,
                               .stream = 3};
    cuda_case c = {.op = SL_OP_DRAW_BATCH, .attr = &attr, .n_in = 3, .n_out = 3};
    c.in[0] =
        bytes ? integers(SL_BYTE, 1, 0, 256, DIMS(samples, size)) : reals(1, -1, 1, DIMS(samples, size));
    c.in[1] = targets ? reals(2, -1, 1, DIMS(samples, targets)) : integers(SL_INT, 2, 0, 10, DIMS(samples));
    c.in[2] = one_int(step);
    c.out[0] = space(SL_FLOAT, DIMS(batch, size));
    c.out[1] = targets ? space(SL_FLOAT, DIMS(batch, targets)) : space(SL_INT, DIMS(batch));
    c.out[2] = space(SL_INT, DIMS(1));
    case_check(&c);
    c.absent[1] = c.absent[2] = true;
    case_check(&c);
    case_end();
}

static void test_draw(void **state)
{
    (void)state;
    const int64_t sizes[] = {784, 36, 7, 1, 20000};
    for (int s = 0; s < 5; s++)
        for (int32_t step = 0; step < 12; step += s == 0 ? 1 : 4) {
            check_draw(true, sizes[s], 0, step, step % 2 == 0);
            check_draw(false, sizes[s], 3, step, step % 2 == 1);
        }
}

static void test_single_values(void **state)
{
    (void)state;
    for (int kind = SL_CONSTANT; kind <= SL_PLATEAU; kind++)
        for (int32_t step = 0; step < 130; step += 9) {
            const sl_advance_attr attr = {{.kind = kind,
                                           .rate = 0.1f,
                                           .factor = 0.3f,
                                           .warmup = kind % 2 ? 20 : 0,
                                           .period = 25,
                                           .total = 100},
                                          0.9f,
                                          0.999f};
            cuda_case c = {.op = SL_OP_ADVANCE, .attr = &attr, .n_in = 3, .n_out = 1};
            c.in[0] = one_int(step);
            c.in[1] = one_real(0.5f);
            c.in[2] = reals(1, 0, 1, DIMS(2));
            c.out[0] = space(SL_FLOAT, DIMS(1));
            case_check(&c);
            c.n_in = 1;
            case_check(&c);
            case_end();
        }
    const float norms[] = {0, 0.5f, 1, 3, INFINITY, NAN};
    for (int i = 0; i < 6; i++) {
        cuda_case c = {.op = SL_OP_CLIP_SCALE, .attr = &(sl_clip_scale_attr){1}, .n_in = 1, .n_out = 1};
        c.in[0] = one_real(norms[i]);
        c.out[0] = space(SL_FLOAT, DIMS(1));
        case_check(&c);
        case_end();
    }
    for (int32_t step = 0; step < 12; step += 5) {
        cuda_case c = {.op = SL_OP_RECORD, .n_in = 5};
        c.in[0] = reals(1, 0, 1, DIMS(7, 3));
        c.in[1] = one_int(step);
        c.in[2] = one_real(3.5f);
        c.in[3] = one_real(2);
        c.in[4] = one_int(123);
        case_check(&c);
        c.n_in = 75;
        c.in[0] = reals(1, 0, 1, DIMS(7, 73 + 40 * 3));
        for (int i = 2; i < 75; i++) c.in[i] = i < 42 ? reals((uint32_t)i, -1, 1, DIMS(4)) : one_int(i);
        case_check(&c);
        case_end();
    }
}

static void check_update(int row, int64_t count, int n_segments, float clip_value)
{
    sl_segment segments[200];
    int64_t first = 0;
    for (int s = 0; s < n_segments; s++) { /* of all lengths, with gaps, and some that do not decay */
        const int64_t gap = s % 5 == 0 ? 3 : s % 3, length = s % 7 == 0 ? 1 : count / n_segments - 3;
        segments[s] =
            (sl_segment){first + gap, length, s % 2 ? 0.01f : 0, s % 4 == 3 ? 0 : 0.02f * (float)(s + 1)};
        first += gap + length;
    }
    assert_true(first <= count);
    const sl_update_attr attr = {.optimizer = row,
                                 .momentum = 0.9f,
                                 .beta1 = 0.9f,
                                 .beta2 = 0.99f,
                                 .epsilon = 1e-6f,
                                 .clip_value = clip_value,
                                 .n_segments = n_segments,
                                 .segments = segments};
    cuda_case c = {.op = SL_OP_UPDATE, .attr = &attr};
    c.in[c.n_in++] = reals(1, -1, 1, DIMS(count));
    c.in[c.n_in++] = reals(2, -2, 2, DIMS(count));
    c.in[c.n_in++] = one_real(0.05f);
    c.in[c.n_in++] = one_real(0.8f);
    for (int k = 0; k < sl_optimizer_states(row); k++)
        c.in[c.n_in++] = reals(3 + (uint32_t)k, 0, 1, DIMS(count));
    case_check(&c);
    c.in[c.n_in++] = reals(5, 0.1f, 0.9f, DIMS(2));
    case_check(&c);
    case_end();
}

static void test_updates(void **state)
{
    (void)state;
    for (int row = 0; row < SL_OPTIMIZER_COUNT; row++) {
        check_update(row, 1, 0, 0);
        check_update(row, 1003, 0, 0.5f);
        check_update(row, 3200, 7, 0);
        check_update(row, 3200, 160, 1);
    }
    check_update(0, 50000, 3, 0);
}

/* parameter: 0 none, 1 one learned value, else one per unit. */
static void check_state(int id, int64_t parameter, int64_t rows, int64_t units, int32_t valid)
{
    const sl_activation_info *row = sl_activation_row_info(id);
    const sl_activation_attr attr = {.id = id, .a = row->parameter[0].value, .b = row->parameter[1].value};
    cuda_case c = {
        .op = SL_OP_ACTIVATION_STATISTICS, .attr = &attr, .n_out = 1, .batch = rows, .valid = valid};
    c.in[c.n_in++] = reals(1, -1, 3, DIMS(rows, units));
    if (row->reads != SL_READS_NOTHING) {
        c.in[c.n_in] = reals(2, -8, 8, DIMS(rows, units));
        for (int64_t i = 0; i < rows * units; i++) /* of relu a dead unit, and every third slope 0 */
            if (i % units == 3 || i % 3 == 0) ((float *)c.in[c.n_in].data)[i] = -1;
        c.n_in++;
    }
    if (parameter) c.in[c.n_in++] = reals(3, 0.1f, 1, DIMS(parameter));
    c.out[0] = space(SL_FLOAT, DIMS(4));
    case_check(&c);
    case_end();
}

static void test_states(void **state)
{
    (void)state;
    const struct {
        int64_t rows, units;
        int32_t valid;
    } shapes[] = {{1, 1, 1}, {30, 7, 29}, {30, 8, 0}, {2500, 12, 1800}, {9000, 9, 9000}, {5, 1500, 4}};
    for (int s = 0; s < 6; s++) {
        const int64_t rows = shapes[s].rows, units = shapes[s].units;
        check_state(SL_ROW_RELU, 0, rows, units, shapes[s].valid);
        check_state(SL_ROW_SWISH, units, rows, units, shapes[s].valid);
        check_state(SL_ROW_PRELU, 1, rows, units, shapes[s].valid);
    }
    check_state(SL_ROW_LINEAR, 0, 40, 7, 40);
    check_state(SL_ROW_TANH, 0, 40, 7, 40);
}

/* More stretches than a launch takes, of one element and of many, one of them all zero. */
static void test_weights(void **state)
{
    (void)state;
    enum { STRETCHES = 70 };
    sl_segment stretch[STRETCHES];
    int64_t first = 0;
    for (int s = 0; s < STRETCHES; s++) {
        stretch[s] = (sl_segment){.first = first,
                                  .count = s % 7 == 3 ? 1
                                           : s == 66  ? 5003
                                                      : 1 + 331 * s % 2500};
        first += (stretch[s].count + 15) / 16 * 16;
    }
    const sl_stretches_attr attr = {STRETCHES, stretch};
    cuda_case c = {.op = SL_OP_WEIGHT_STATISTICS, .attr = &attr, .n_in = 3, .n_out = 1};
    for (int i = 0; i < 3; i++) c.in[i] = reals((uint32_t)i, -1, 1, DIMS(first));
    for (int i = 0; i < stretch[5].count; i++) ((float *)c.in[0].data)[stretch[5].first + i] = 0;
    c.out[0] = space(SL_FLOAT, DIMS(STRETCHES, 2));
    case_check(&c);
    case_end();
}

int main(void)
{
    const int closed = case_open();
    if (closed) return closed;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_activated_norms),
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_draw),
        cmocka_unit_test(test_single_values),
        cmocka_unit_test(test_updates),
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_weights),
    };
    return case_close(cmocka_run_group_tests(tests, NULL, NULL));
}
