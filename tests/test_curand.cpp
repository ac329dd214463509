/* Slope's random words are those of cuRAND's Philox generator, by NVIDIA's own header compiled for the host:
 * core/philox.h for seeds, streams, steps and elements of any size, and what the kernels of a CUDA device,
 * real or simulated, make of them. */
#include <curand_kernel.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
extern "C" {
#include <cmocka.h>
}
// clang-format on

#include <vector>

#include <slope/slope.h>

extern "C" {
#include "backend.h"
#include "core/context.h"
}
#include "core/philox.h"

/* The generator as the comment of core/philox.h has it, standing before element i. */
static curandStatePhilox4_32_10_t generator(uint64_t seed, uint32_t stream, uint32_t step, uint64_t i)
{
    curandStatePhilox4_32_10_t state;
    curand_init(seed, (uint64_t)step << 32 | stream, i, &state);
    return state;
}

static const uint64_t seeds[] = {0, 1, 42, 0xffffffffu, 0x100000000u, 0x123456789abcdef0u, ~(uint64_t)0};
static const uint32_t thirty_two[] = {0, 1, 7, 0x7fffffffu, 0x80000000u, 0xffffffffu};
static const uint64_t elements[] = {0,
                                    1,
                                    2,
                                    3,
                                    4,
                                    1021,
                                    ((uint64_t)1 << 32) - 1,
                                    ((uint64_t)1 << 32) + 2,
                                    ((uint64_t)1 << 34) - 3, /* element / 4 outgrows 32 bits */
                                    ((uint64_t)1 << 34) - 1,
                                    (uint64_t)1 << 34,
                                    ((uint64_t)1 << 45) + 6,
                                    ~(uint64_t)0 - 8};

/* One by one, by fours, and on across blocks. */
static void test_words(void **)
{
    for (uint64_t seed : seeds)
        for (uint32_t stream : thirty_two)
            for (uint32_t step : thirty_two)
                for (uint64_t first : elements) {
                    curandStatePhilox4_32_10_t one = generator(seed, stream, step, first);
                    curandStatePhilox4_32_10_t four = generator(seed, stream, step, first / 4 * 4);
                    for (uint64_t i = first; i < first + 6; i++)
                        assert_int_equal(curand(&one), sl_random_word(seed, stream, step, i));
                    const sl_words words = sl_random_words4(seed, stream, step, first / 4);
                    const uint4 want = curand4(&four);
                    assert_memory_equal(&want, words.w, sizeof want);
                }
}

static void test_uniform(void **)
{
    static const uint32_t words[] = {0,           1,           0x7f,        0x80,        0x1000001u,
                                     0x7fffffffu, 0x80000000u, 0xffffff7fu, 0xffffff80u, 0xffffffffu};
    for (uint32_t word : words) {
        const float want = _curand_uniform(word), got = sl_uniform(word);
        assert_memory_equal(&want, &got, sizeof want);
    }
    for (uint32_t i = 0; i < 100000; i++) {
        const float want = _curand_uniform(i * 42949u + 17), got = sl_uniform(i * 42949u + 17);
        assert_memory_equal(&want, &got, sizeof want);
    }
}

/* --- the device's kernels --- */

struct context {
    sl_context *ctx;
    context()
    {
        sl_open_options options = {};
        options.device = SL_CUDA;
        options.device_index = SL_NONE;
        ctx = sl_open_with(&options);
    }
    ~context()
    {
        sl_close(ctx);
    }
};

static std::vector<float> run_kernel(sl_context *ctx, sl_op op, const void *attr, size_t count, int32_t step)
{
    const sl_backend *backend = ctx->backend;
    const std::vector<float> ones(count, 1);
    const int64_t dims[1] = {(int64_t)count}, single[1] = {1};
    sl_tensor in[2] = {}, out = {};
    in[0].data = backend->alloc(ctx->device, count * sizeof(float));
    in[1].data = backend->alloc(ctx->device, sizeof step);
    out.data = backend->alloc(ctx->device, count * sizeof(float));
    in[0].shape = out.shape = sl_shape_of(1, dims);
    in[1].shape = sl_shape_of(1, single);
    in[1].dtype = SL_INT;
    backend->upload(ctx->device, in[0].data, ones.data(), count * sizeof(float));
    backend->upload(ctx->device, in[1].data, &step, sizeof step);
    sl_call call = {};
    call.op = op;
    call.in = in;
    call.out = &out;
    call.n_in = op == SL_OP_DROPOUT ? 2 : 0;
    call.n_out = 1;
    call.attr = attr;
    call.batch = 1;
    call.device = ctx->device;
    call.name = "random";
    for (const sl_kernel *const *family = backend->kernels(ctx->device); *family && !call.kernel; family++)
        for (const sl_kernel *k = *family; k->run && !call.kernel; k++)
            if (k->op == op && (!k->supports || k->supports(&call))) call.kernel = k;
    assert_non_null(call.kernel);
    void *handle = nullptr;
    std::vector<float> result(count);
    backend->run(ctx->device, ctx, &call, 1, &handle);
    backend->download(ctx->device, result.data(), out.data, count * sizeof(float));
    for (void *memory : {in[0].data, in[1].data, out.data}) backend->free(ctx->device, memory);
    if (sl_error(ctx)) fail_msg("%s", sl_error(ctx));
    return result;
}

static const uint64_t seed = 0x123456789abcdef0u;
static const size_t count = 4099;

static void test_random_kernel(void **)
{
    const context device;
    if (sl_error(device.ctx)) {
        fprintf(stderr, "no CUDA device to test: %s\n", sl_error(device.ctx));
        skip();
    }
    for (uint32_t stream : thirty_two) {
        sl_random_attr attr = {};
        attr.kind = SL_RANDOM_UNIFORM;
        attr.high = 1;
        attr.seed = seed;
        attr.stream = stream;
        const std::vector<float> got = run_kernel(device.ctx, SL_OP_RANDOM, &attr, count, 0);
        curandStatePhilox4_32_10_t state = generator(seed, stream, 0, 0);
        for (size_t i = 0; i < count; i++) {
            const float want = curand_uniform(&state);
            assert_memory_equal(&want, &got[i], sizeof want);
        }
    }
}

static void test_dropout_kernel(void **)
{
    const context device;
    if (sl_error(device.ctx)) skip();
    for (int32_t step : {0, 1, 123456, INT32_MAX}) {
        sl_dropout_attr attr = {};
        attr.rate = 0.25f;
        attr.seed = seed;
        attr.stream = 0x80000001u;
        const std::vector<float> got = run_kernel(device.ctx, SL_OP_DROPOUT, &attr, count, step);
        curandStatePhilox4_32_10_t state = generator(seed, attr.stream, (uint32_t)step, 0);
        for (size_t i = 0; i < count; i++)
            assert_true(got[i] == (curand_uniform(&state) > attr.rate ? 1 / (1 - attr.rate) : 0.0f));
    }
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_random_kernel),
        cmocka_unit_test(test_dropout_kernel),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
