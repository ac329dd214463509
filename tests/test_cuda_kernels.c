/* The CUDA kernels of elements, activations, sums and images against the CPU's bytes, one by one: sizes that
 * take several leaf blocks and several rounds of a grid, tails, odd columns, batches that are not full. */
#include "cuda_case.h"

#include "core/activation.h"

/* --- elementwise --- */

static void test_one_input(void **state)
{
    (void)state;
    const sl_op ops[] = {SL_OP_AFFINE, SL_OP_EXP,  SL_OP_LOG, SL_OP_RECIPROCAL,
                         SL_OP_SQUARE, SL_OP_SQRT, SL_OP_CLIP};
    const int64_t sizes[] = {0, 1, 3, 4, 1027, 50003};
    for (int o = 0; o < 7; o++)
        for (int s = 0; s < 6; s++) {
            cuda_case c = {
                .op = ops[o], .n_in = 1, .n_out = 1, .attr = &(sl_affine_attr){-0.7, 0.3}, .in_place = s % 2};
            if (ops[o] != SL_OP_AFFINE && ops[o] != SL_OP_CLIP) c.attr = NULL;
            c.in[0] = reals(1, -3, 3, DIMS(sizes[s]));
            c.out[0] = space(SL_FLOAT, DIMS(sizes[s]));
            if (sizes[s] > 4) ((float *)c.in[0].data)[2] = NAN, ((float *)c.in[0].data)[3] = INFINITY;
            case_check(&c);
            case_end();
        }
}

static void check_two(sl_tensor a, sl_tensor b, sl_tensor y)
{
    const sl_op ops[] = {SL_OP_ADD, SL_OP_SUB, SL_OP_MUL, SL_OP_DIV};
    for (int o = 0; o < 4; o++) {
        const cuda_case c = {.op = ops[o], .n_in = 2, .n_out = 1, .in = {a, b}, .out = {y}};
        case_check(&c);
    }
    case_end();
}

static void test_two_inputs(void **state)
{
    (void)state;
    check_two(reals(1, -1, 1, DIMS(40001)), reals(2, -1, 1, DIMS(40001)), space(SL_FLOAT, DIMS(40001)));
    check_two(reals(1, -1, 1, DIMS(1)), reals(2, -1, 1, DIMS(37)), space(SL_FLOAT, DIMS(37)));
    check_two(reals(1, -1, 1, DIMS(37)), reals(2, -1, 1, DIMS(1)), space(SL_FLOAT, DIMS(37)));
    check_two(reals(1, -1, 1, DIMS(1)), reals(2, -1, 1, DIMS(1)), space(SL_FLOAT, DIMS(1)));
    check_two(reals(1, -1, 1, DIMS(501, 32)), reals(2, -1, 1, DIMS(32)), space(SL_FLOAT, DIMS(501, 32)));
    check_two(reals(1, -1, 1, DIMS(33, 7)), reals(2, -1, 1, DIMS(33, 1)), space(SL_FLOAT, DIMS(33, 7)));
    check_two(reals(1, -1, 1, DIMS(33, 1)), reals(2, -1, 1, DIMS(33, 8)), space(SL_FLOAT, DIMS(33, 8)));
    check_two(reals(1, -1, 1, DIMS(3, 1, 5, 4)), reals(2, -1, 1, DIMS(2, 1, 4)),
              space(SL_FLOAT, DIMS(3, 2, 5, 4)));
    check_two(reals(1, -1, 1, DIMS(3, 1, 5, 1)), reals(2, -1, 1, DIMS(1, 2, 1, 3)),
              space(SL_FLOAT, DIMS(3, 2, 5, 3)));
    check_two(reals(1, -1, 1, DIMS(0, 5)), reals(2, -1, 1, DIMS(5)), space(SL_FLOAT, DIMS(0, 5)));
    cuda_case c = {.op = SL_OP_BROADCAST, .n_in = 1, .n_out = 1};
    c.in[0] = reals(1, -1, 1, DIMS(5, 1, 4));
    c.out[0] = space(SL_FLOAT, DIMS(3, 5, 7, 4));
    case_check(&c);
    c.in[0] = reals(1, -1, 1, DIMS(1));
    case_check(&c);
    case_end();
}

static void test_fills_and_copies(void **state)
{
    (void)state;
    cuda_case c = {.op = SL_OP_FILL, .n_out = 1, .attr = &(sl_shape_attr){.value = 0.1}};
    c.out[0] = space(SL_FLOAT, DIMS(3, 700));
    case_check(&c);
    c.out[0] = space(SL_INT, DIMS(77));
    c.attr = &(sl_shape_attr){.value = -7};
    case_check(&c);
    cuda_case p = {.op = SL_OP_PACK, .n_in = 70, .n_out = 1};
    int64_t all = 0;
    for (int i = 0; i < p.n_in; i++) {
        p.in[i] = reals((uint32_t)i, -1, 1, DIMS(i == 3 ? 0 : 1 + 37 * i % 101));
        all += sl_packed_count(&p.in[i].shape, 1);
    }
    /* The gaps are not touched: both devices find the same ones. */
    p.out[0] = space(SL_FLOAT, DIMS(all));
    case_check(&p);
    case_end();
}

/* --- activations --- */

/* Every kernel of a row. parameter: 0 none, 1 one learned value, else one per column. */
static void check_row(int id, int64_t rows, int64_t columns, int64_t parameter, int64_t bias, int32_t valid)
{
    const sl_activation_info *row = sl_activation_row_info(id);
    sl_activation_attr attr = {id, row->parameter[0].value, row->parameter[1].value};
    const sl_tensor x = reals(1, -4, 4, DIMS(rows, columns)), dy = reals(2, -1, 1, DIMS(rows, columns));
    const sl_tensor y = space(SL_FLOAT, DIMS(rows, columns)),
                    a = reals(3, 0.1f, 1, DIMS(parameter ? parameter : 1));
    const sl_tensor b = reals(4, -1, 1, DIMS(bias));
    const cuda_case base = {.attr = &attr, .n_out = 1, .out = {y}, .batch = rows, .valid = valid};
    cuda_case c = base;
    c.op = SL_OP_ACTIVATION;
    c.n_in = 1 + (parameter > 0);
    c.in[0] = x, c.in[1] = a;
    case_check(&c);
    c.op = SL_OP_BIAS_ACTIVATION;
    c.n_in = 2 + (parameter > 0);
    c.in[1] = b, c.in[2] = a;
    c.n_out = 2;
    c.out[1] = y;
    case_check(&c);
    c.absent[1] = c.in_place = true;
    case_check(&c);

    c = base;
    c.op = SL_OP_ACTIVATION_VJP;
    c.in[c.n_in++] = dy;
    if (row->reads != SL_READS_NOTHING) c.in[c.n_in++] = x;
    if (parameter) c.in[c.n_in++] = a;
    case_check(&c);
    c.op = SL_OP_ACTIVATION_VJP_BIAS;
    c.n_out = 2;
    c.out[1] = space(SL_FLOAT, DIMS(bias));
    case_check(&c);
    c.in_place = true;
    case_check(&c);
    c.absent[1] = true;
    case_check(&c);
    if (parameter) {
        c = (cuda_case){.op = SL_OP_ACTIVATION_VJP_PARAMETER,
                        .attr = &attr,
                        .n_in = c.n_in,
                        .n_out = 1,
                        .batch = rows,
                        .valid = valid};
        c.in[0] = dy, c.in[1] = x, c.in[2] = a;
        c.out[0] = space(SL_FLOAT, DIMS(parameter));
        case_check(&c);
    }
    case_end();
}

static void test_activation_rows(void **state)
{
    (void)state;
    for (int id = 0; id < sl_activation_count(); id++) {
        const bool learnable = sl_activation_row_info(id)->parameter[0].learnable;
        check_row(id, 37, 12, learnable ? 12 : 0, 12, 37);
        check_row(id, 41, 7, learnable ? 1 : 0, 7, 29);
        check_row(id, 5, 3, 0, 1, 0);
    }
}

/* Several leaf blocks, panels, and rounds of the grid; columns of every kind. */
static void test_activation_sizes(void **state)
{
    (void)state;
    const int relu = sl_activation_find_row("relu")->id, prelu = sl_activation_find_row("prelu")->id;
    const struct {
        int64_t rows, columns;
        int32_t valid;
    } shapes[] = {{1, 1, 1},        {1024, 3, 1024},   {1025, 3, 1025}, {9 * 1024 + 5, 3, 8 * 1024},
                  {3000, 36, 1024}, {70000, 2, 69999}, {3, 1009, 2},    {40, 1000, 40},
                  {0, 8, 0}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        check_row(relu, shapes[s].rows, shapes[s].columns, 0, shapes[s].columns, shapes[s].valid);
        check_row(prelu, shapes[s].rows, shapes[s].columns, shapes[s].columns, 1, shapes[s].valid);
        cuda_case c = {.op = SL_OP_BIAS, .n_in = 2, .n_out = 1};
        c.in[0] = reals(1, -1, 1, DIMS(shapes[s].rows, shapes[s].columns));
        c.in[1] = reals(2, -1, 1, DIMS(shapes[s].columns));
        c.out[0] = space(SL_FLOAT, DIMS(shapes[s].rows, shapes[s].columns));
        case_check(&c);
        c = (cuda_case){.op = SL_OP_BIAS_VJP,
                        .n_in = 1,
                        .n_out = 1,
                        .in = {c.in[0]},
                        .batch = shapes[s].rows,
                        .valid = shapes[s].valid};
        c.out[0] = space(SL_FLOAT, DIMS(shapes[s].columns));
        case_check(&c);
        case_end();
    }
}

/* More elements than the grid takes in one round of two fours a thread: the columns must come along. */
static void test_many_rounds(void **state)
{
    (void)state;
    const int64_t columns[] = {4, 6, 1009};
    for (int k = 0; k < 3; k++) {
        const int64_t rows = 1300003 / columns[k];
        cuda_case c = {.op = SL_OP_BIAS, .n_in = 2, .n_out = 1, .in_place = k == 0};
        c.in[0] = reals(1, -1, 1, DIMS(rows, columns[k]));
        c.in[1] = reals(2, -1, 1, DIMS(columns[k]));
        c.out[0] = space(SL_FLOAT, DIMS(rows, columns[k]));
        case_check(&c);
        case_end();
    }
}

/* --- reductions --- */

static void test_sums_of_all(void **state)
{
    (void)state;
    const int64_t sizes[] = {1, 31, 1024, 1025, 64 * 1024, 64 * 1024 + 1, 200003};
    for (int s = 0; s < 7; s++)
        for (int valid = 0; valid < 3; valid++) {
            const int64_t n = sizes[s];
            cuda_case c = {
                .op = SL_OP_MEAN, .n_in = 1, .n_out = 1, .attr = &(sl_mean_attr){.per_sample = s % 2}};
            c.in[0] = reals(1, -1, 3, DIMS(n));
            c.out[0] = space(SL_FLOAT, DIMS(1));
            c.batch = valid ? n : 0;
            c.valid = (int32_t)(valid == 1 ? n / 2 : n);
            case_check(&c);
            c.op = SL_OP_NORM;
            case_check(&c);
            c.op = SL_OP_MEAN_VJP;
            c.in[0] = one_real(0.7f);
            c.out[0] = space(SL_FLOAT, DIMS(n));
            case_check(&c);
            case_end();
        }
}

static void check_sum_to(sl_tensor x, sl_tensor y, int64_t batch, int32_t valid)
{
    const cuda_case c = {
        .op = SL_OP_SUM_TO, .n_in = 1, .n_out = 1, .in = {x}, .out = {y}, .batch = batch, .valid = valid};
    case_check(&c);
    case_end();
}

static void test_sums_over_dimensions(void **state)
{
    (void)state;
    check_sum_to(reals(1, -1, 1, DIMS(3000, 5)), space(SL_FLOAT, DIMS(5)), 3000, 2999);
    check_sum_to(reals(1, -1, 1, DIMS(3000, 8)), space(SL_FLOAT, DIMS(8)), 3000, 1);
    check_sum_to(reals(1, -1, 1, DIMS(17, 3000)), space(SL_FLOAT, DIMS(17, 1)), 17, 11);
    check_sum_to(reals(1, -1, 1, DIMS(17, 10)), space(SL_FLOAT, DIMS(17, 1)), 17, 17);
    check_sum_to(reals(1, -1, 1, DIMS(70, 20, 3, 50)), space(SL_FLOAT, DIMS(3, 1)), 70, 63);
    check_sum_to(reals(1, -1, 1, DIMS(5, 700, 4, 3)), space(SL_FLOAT, DIMS(700, 1, 3)), 5, 4);
    check_sum_to(reals(1, -1, 1, DIMS(40, 2, 40, 8)), space(SL_FLOAT, DIMS(2, 1, 8)), 40, 33);
    check_sum_to(reals(1, -1, 1, DIMS(3, 1100, 2, 8)), space(SL_FLOAT, DIMS(3, 1, 2, 8)), 3, 3);
    check_sum_to(reals(1, -1, 1, DIMS(300, 300)), space(SL_FLOAT, DIMS(1)), 300, 299);
    check_sum_to(reals(1, -1, 1, DIMS(6, 5)), space(SL_FLOAT, DIMS(6, 5)), 6, 3);
    /* more sums of several leaf blocks than there are counters for */
    check_sum_to(reals(1, -1, 1, DIMS(1030, 1050)), space(SL_FLOAT, DIMS(1030, 1)), 0, 0);
    check_sum_to(reals(1, -1, 1, DIMS(1030, 1050, 2)), space(SL_FLOAT, DIMS(1030, 1, 2)), 0, 0);
    check_sum_to(reals(1, -1, 1, DIMS(0, 5)), space(SL_FLOAT, DIMS(5)), 0, 0);
    check_sum_to(reals(1, -1, 1, DIMS(4, 0)), space(SL_FLOAT, DIMS(4, 1)), 0, 0);
}

static void test_count_correct(void **state)
{
    (void)state;
    const int64_t classes[] = {1, 2, 10, 33, 100};
    for (int k = 0; k < 5; k++) {
        cuda_case c = {.op = SL_OP_COUNT_CORRECT, .n_in = 2, .n_out = 1, .batch = 200, .valid = 183};
        c.in[0] = integers(SL_INT, 5, -2, 3, DIMS(200, classes[k]));
        c.in[0].dtype = SL_FLOAT; /* a few values, so that there are ties */
        for (int64_t i = 0; i < 200 * classes[k]; i++)
            ((float *)c.in[0].data)[i] = (float)((int32_t *)c.in[0].data)[i] / 2;
        for (int i = 0; i < 40; i++) ((float *)c.in[0].data)[i * 5] = NAN;
        c.in[1] = integers(SL_INT, 6, 0, classes[k] > 2 ? 3 : 2, DIMS(200));
        c.out[0] = space(SL_FLOAT, DIMS(1));
        case_check(&c);
        c.valid = 0;
        case_check(&c);
        case_end();
    }
}

/* --- images --- */

static void check_pool(sl_pool_attr attr, int64_t n, int64_t h, int64_t w, int64_t channels)
{
    const int64_t oh = (h + 2 * attr.pad[0] - attr.kernel[0]) / attr.stride[0] + 1;
    const int64_t ow = (w + 2 * attr.pad[1] - attr.kernel[1]) / attr.stride[1] + 1;
    attr.size[0] = (int)h, attr.size[1] = (int)w;
    sl_tensor x = integers(SL_INT, 1, -3, 4, DIMS(n, h, w, channels));
    for (int64_t i = 0; i < sl_shape_count(x.shape); i++)
        ((float *)x.data)[i] = (float)((int32_t *)x.data)[i];
    x.dtype = SL_FLOAT;
    ((float *)x.data)[5] = NAN;
    ((float *)x.data)[7] = -INFINITY;
    cuda_case c = {.op = SL_OP_MAX_POOL2D, .attr = &attr, .n_in = 1, .n_out = 2, .in = {x}};
    c.out[0] = space(SL_FLOAT, DIMS(n, oh, ow, channels));
    c.out[1] = space(SL_INT, DIMS(n, oh, ow, channels));
    case_check(&c);
    const case_outcome forward = case_run_on(case_cpu, &c);
    c.absent[1] = true;
    case_check(&c);
    c = (cuda_case){.op = SL_OP_MAX_POOL2D_VJP, .attr = &attr, .n_in = 2, .n_out = 1};
    c.in[0] = reals(2, -1, 1, DIMS(n, oh, ow, channels));
    ((float *)c.in[0].data)[0] = -0.0f;
    c.in[1] = space(SL_INT, DIMS(n, oh, ow, channels));
    c.in[1].data = forward.out[1];
    c.out[0] = space(SL_FLOAT, DIMS(n, h, w, channels));
    case_check(&c);
    c.op = SL_OP_AVG_POOL2D_VJP;
    c.n_in = 1;
    case_check(&c);
    c.op = SL_OP_AVG_POOL2D;
    c.in[0] = x;
    c.out[0] = space(SL_FLOAT, DIMS(n, oh, ow, channels));
    case_check(&c);
    case_end();
}

static void test_pools(void **state)
{
    (void)state;
    const sl_pool_attr two = {.kernel = {2, 2}, .stride = {2, 2}},
                       three = {.kernel = {3, 3}, .stride = {2, 2}, .pad = {1, 1}};
    const sl_pool_attr odd = {.kernel = {1, 4}, .stride = {3, 1}, .pad = {0, 2}},
                       all = {.kernel = {5, 6}, .stride = {1, 1}};
    check_pool(two, 3, 28, 28, 8);
    check_pool(two, 2, 7, 5, 3);
    check_pool(three, 3, 9, 8, 4);
    check_pool(three, 2, 8, 9, 5);
    check_pool(odd, 2, 8, 9, 12);
    check_pool(all, 4, 5, 6, 1);
}

int main(void)
{
    const int closed = case_open();
    if (closed) return closed;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_input),        cmocka_unit_test(test_two_inputs),
        cmocka_unit_test(test_fills_and_copies), cmocka_unit_test(test_activation_rows),
        cmocka_unit_test(test_activation_sizes), cmocka_unit_test(test_many_rounds),
        cmocka_unit_test(test_sums_of_all),      cmocka_unit_test(test_sums_over_dimensions),
        cmocka_unit_test(test_count_correct),    cmocka_unit_test(test_pools),
    };
    return case_close(cmocka_run_group_tests(tests, NULL, NULL));
}
