/* Jobs that share launches: which may share a phase, and that the resident kernel leaves the bytes that
 * separate launches leave. */
#include "simt_case.h"

#include "cuda/phases.cuh"
#include "cuda/resident.cuh"

/* --- phases --- */

static sl_job_uses job(sl_spread spread, std::vector<sl_access> uses)
{
    sl_job_uses j = {};
    j.spread = spread;
    for (const sl_access &a : uses) assert_true(sl_job_touches(&j, a.from, a.bytes, a.row, a.writes));
    return j;
}

/* The second job's phase behind the first. */
static int phase_of_second(const sl_job_uses &first, const sl_job_uses &second)
{
    sl_job_uses jobs[] = {first, second};
    const int phases = sl_set_phases(jobs, 2);
    assert_int_equal(jobs[0].phase, 0);
    assert_int_equal(phases, jobs[1].phase + 1);
    return jobs[1].phase;
}

static char place[4096];
static const sl_access reads_a = {place, 256, 0, false}, writes_a = {place, 256, 0, true},
                       reads_b = {place + 256, 256, 0, false}, writes_b = {place + 256, 256, 0, true},
                       writes_end = {place + 252, 4, 0, true}, rows_read = {place, 256, 16, false},
                       rows_written = {place, 256, 16, true}, wider_rows = {place, 256, 32, true},
                       later_rows = {place + 16, 256, 16, true};

static void test_hazards(void **state)
{
    (void)state;
    const sl_spread all = SL_SPREAD_BLOCKS, rows = SL_SPREAD_ROWS, one = SL_SPREAD_ONE;
    /* independent, or only read by both */
    assert_int_equal(phase_of_second(job(all, {reads_a, writes_b}), job(all, {reads_a})), 0);
    assert_int_equal(phase_of_second(job(all, {writes_a}), job(all, {writes_b})), 0);
    assert_int_equal(phase_of_second(job(all, {}), job(all, {writes_b})), 0);
    /* each hazard */
    assert_int_equal(phase_of_second(job(all, {writes_a}), job(all, {reads_a})), 1);
    assert_int_equal(phase_of_second(job(all, {reads_a}), job(all, {writes_a})), 1);
    assert_int_equal(phase_of_second(job(all, {writes_a}), job(all, {writes_a})), 1);
    /* memory that is used again, from another address on */
    assert_int_equal(phase_of_second(job(all, {reads_a}), job(all, {writes_end})), 1);
    assert_int_equal(phase_of_second(job(all, {reads_b}), job(all, {writes_end})), 0);
    /* the same rows in the same block */
    assert_int_equal(phase_of_second(job(rows, {rows_written}), job(rows, {rows_read})), 0);
    assert_int_equal(phase_of_second(job(rows, {rows_read}), job(rows, {rows_written})), 0);
    assert_int_equal(phase_of_second(job(rows, {rows_written}), job(rows, {wider_rows})), 1);
    assert_int_equal(phase_of_second(job(rows, {rows_written}), job(rows, {later_rows})), 1);
    assert_int_equal(phase_of_second(job(rows, {rows_written}), job(rows, {reads_a})), 1);
    assert_int_equal(phase_of_second(job(rows, {rows_written}), job(all, {rows_read})), 1);
    assert_int_equal(phase_of_second(job(one, {rows_written}), job(rows, {rows_read})), 1);
    assert_int_equal(phase_of_second(job(rows, {rows_written, writes_b}), job(rows, {rows_read, reads_b})),
                     1);
    /* one block */
    assert_int_equal(phase_of_second(job(one, {writes_a}), job(one, {reads_a, writes_b})), 0);
    assert_int_equal(phase_of_second(job(one, {writes_a}), job(all, {reads_a})), 1);
}

/* A job goes no earlier than what it needs within its block. */
static void test_chain(void **state)
{
    (void)state;
    sl_job_uses jobs[] = {job(SL_SPREAD_BLOCKS, {writes_b}), job(SL_SPREAD_ROWS, {reads_b, rows_written}),
                          job(SL_SPREAD_ROWS, {rows_read}),  job(SL_SPREAD_ONE, {{place + 512, 4, 0, true}}),
                          job(SL_SPREAD_BLOCKS, {reads_a}),  job(SL_SPREAD_BLOCKS, {reads_b})};
    const int phases[] = {0, 1, 1, 0, 2, 1};
    assert_int_equal(sl_set_phases(jobs, 6), 3);
    for (int i = 0; i < 6; i++) assert_int_equal(jobs[i].phase, phases[i]);
    sl_job_uses full = {};
    for (int i = 0; i < SL_JOB_ACCESSES; i++) assert_true(sl_job_touches(&full, place + i, 1, 0, true));
    assert_false(sl_job_touches(&full, place, 1, 0, true));
    assert_true(sl_job_touches(&full, nullptr, 1, 0, true));
}

/* --- whole plans --- */

typedef struct network {
    const char *line, *activation;
    int batch, count, phases; /* phases 0: not looked at */
    float clip_norm, weight_decay;
    int optimizer, launches;
} network;

/* The run of a step, with a look at how its first stretch is cut. */
static const sl_backend *true_backend;
static int first_phases;
static sl_status watched_run(sl_device *device, sl_context *ctx, const sl_call *calls, int n, void **handle)
{
    if (n > 1 && !*handle && first_phases == 0) {
        sl_resident found = sl_resident_make(device, calls, n, 0);
        first_phases = found.phases;
        sl_resident_free(&found);
    }
    return true_backend->run(device, ctx, calls, n, handle);
}

typedef struct trained {
    uint64_t fingerprint;
    float loss;
    int launches, phases;
} trained;

static trained train(const network &net, bool cuda, const char *order, bool exact = true)
{
    sl_open_options open = {};
    open.device = cuda ? SL_CUDA : SL_CPU;
    open.seed = 5;
    open.exact = cuda && exact;
    if (order) setenv("SLOPE_SIMT_ORDER", order, 1);
    sl_context *ctx = sl_open_with(&open);
    true_backend = ctx->backend;
    sl_backend watched = *true_backend;
    watched.run = watched_run;
    if (cuda) ctx->backend = &watched;
    first_phases = 0;
    sl_graph *g = sl_graph_new(ctx);
    const sl_activation act = sl_activation_parse(ctx, net.activation ? net.activation : "relu");
    sl_init init = {};
    sl_node *y = sl_model_line(sl_input(g, "image", 28, 28, 1), net.line, act, init);
    sl_compile_options compile = {};
    compile.batch = net.batch;
    compile.clip_norm = net.clip_norm;
    compile.optimizer.row = net.optimizer;
    compile.optimizer.weight_decay = net.weight_decay;
    sl_model *m = sl_compile_with(sl_softmax_cross_entropy(y, sl_labels(g, "label")), &compile);
    sl_dataset *data = sl_digits(ctx, 5, SL_TRAIN, net.count);
    sl_fit_options fit = {};
    fit.epochs = 2;
    fit.validation = data;
    const sl_epoch epoch = sl_fit_with(m, data, &fit);
    if (sl_error(ctx)) fail_msg("%s: %s", net.line, sl_error(ctx));
    const trained t = {sl_model_fingerprint(m), (float)epoch.train.loss,
                       cuda ? (int)sl_model_plan(m, data).launches : 0, first_phases};
    ctx->backend = true_backend;
    sl_close(ctx);
    unsetenv("SLOPE_SIMT_ORDER");
    return t;
}

/* Against the CPU in every order, and where there are no cooperative launches. */
static void expect_equal(const network &net, bool every_order)
{
    const trained host = train(net, false, nullptr);
    for (int o = 0; o < (every_order ? 3 : 1); o++) {
        const trained device = train(net, true, orders[o], o != 1);
        if (device.fingerprint != host.fingerprint || memcmp(&device.loss, &host.loss, sizeof host.loss) != 0)
            fail_msg("%s, %s, batch %d, order %s: other bytes than the CPU's", net.line,
                     net.activation ? net.activation : "relu", net.batch, orders[o]);
        if (net.launches && device.launches != net.launches)
            fail_msg("%s: %d launches instead of %d", net.line, device.launches, net.launches);
        if (net.phases && device.phases != net.phases)
            fail_msg("%s: %d phases instead of %d", net.line, device.phases, net.phases);
    }
    if (!every_order) return;
    setenv("SLOPE_SIMT_FAIL", "cooperative", 1);
    const trained apart = train(net, true, nullptr);
    unsetenv("SLOPE_SIMT_FAIL");
    assert_true(apart.fingerprint == host.fingerprint);
    assert_true(apart.launches > (net.launches ? 2 * net.launches : 1));
}

/* The last batch of an epoch is smaller; widths are odd; one sample; a dozen jobs of several layers. */
static void test_networks(void **state)
{
    (void)state;
    const network nets[] = {
        {"dense10", nullptr, 5, 13, 0, 0, 0, SL_OPTIMIZER_SGD, 1},
        {"mlp", nullptr, 6, 13, 5, 0, 0, SL_OPTIMIZER_ADAM, 1},
        {"dense33 act dense17 act dense10", nullptr, 7, 17, 5, 0, 0, SL_OPTIMIZER_ADAM, 1},
        {"dense33 act drop.5 dense17 act drop.25 dense10", "tanh", 6, 17, 5, 0, 0.01f, SL_OPTIMIZER_ADAMW, 1},
        {"dense40 act dense10", "swish(learn)", 33, 40, 0, 0.5f, 0, SL_OPTIMIZER_MOMENTUM, 0},
        {"dense5 act dense10", "gelu", 1, 3, 0, 0, 0, SL_OPTIMIZER_ADAM, 1},
        {"dense140 act dense120 act dense10", nullptr, 9, 20, 0, 0.5f, 0, SL_OPTIMIZER_ADAM, 3},
        {"conv3-4 act pool2 dense12 act drop.5 dense10", nullptr, 4, 10, 0, 0, 0, SL_OPTIMIZER_ADAM, 0},
    };
    for (const network &net : nets) expect_equal(net, true);
}

static void test_activations(void **state)
{
    (void)state;
    for (int row = 0; row < SL_ROW_COUNT; row++) {
        const network net = {"pool4 dense9 act dense10",
                             sl_activation_row_info(row)->name,
                             3,
                             8,
                             0,
                             0,
                             0,
                             SL_OPTIMIZER_SGD,
                             0};
        expect_equal(net, false);
    }
}

/* --- the simulated device's cooperative launches --- */

static __global__ void together(unsigned *counter, float *x, int skips, bool reads_early)
{
    SL_SHARED(float, shared);
    const int blocks = (int)gridDim.x, me = (int)blockIdx.x;
    shared[threadIdx.x] = (float)me;
    if (threadIdx.x == 0) x[me] = (float)(me + 1);
    if (reads_early && threadIdx.x == 0) x[blocks + me] = x[(me + 1) % blocks];
    __syncthreads();
    if (me == skips) return;
    if (threadIdx.x == 0) {
        atomicAdd(counter, 1u);
        while (*static_cast<volatile unsigned *>(counter) < (unsigned)blocks) SL_WAIT_FOR_BLOCKS();
    }
    __syncthreads();
    if (!reads_early && threadIdx.x == 0) x[blocks + me] = x[(me + 1) % blocks];
    if (shared[threadIdx.x] != (float)me) x[blocks + me] = -1; /* every block has shared memory of its own */
}

static cudaError_t launch_together(unsigned blocks, float *x, int skips, bool reads_early, bool cooperative)
{
    void *memory = nullptr;
    assert_cuda(cudaSuccess, cudaMalloc(&memory, sizeof(unsigned)));
    assert_cuda(cudaSuccess, cudaMemset(memory, 0, sizeof(unsigned)));
    unsigned *counter = static_cast<unsigned *>(memory);
    void *arguments[] = {&counter, &x, &skips, &reads_early};
    if (!cooperative) {
        LAUNCH(together, blocks, 64, 64 * sizeof(float), counter, x, skips, reads_early);
        return cudaDeviceSynchronize();
    }
    const cudaError_t error =
        cudaLaunchCooperativeKernel(together, dim3(blocks), dim3(64), arguments, 64 * sizeof(float), nullptr);
    return error == cudaSuccess ? cudaDeviceSynchronize() : error;
}

static void test_cooperative(void **state)
{
    (void)state;
    for (const char *order : orders) {
        setenv("SLOPE_SIMT_ORDER", order, 1);
        float *x = to_device(std::vector<float>(10));
        assert_cuda(cudaSuccess, launch_together(5, x, -1, false, true));
        const std::vector<float> seen = to_host(x, 10);
        for (int i = 0; i < 5; i++) assert_true(seen[(size_t)(5 + i)] == (float)((i + 1) % 5 + 1));
        cudaFree(x);
    }
}

/* What another block makes in the same phase is there in one order and not in another. */
static void test_early_read(void **state)
{
    (void)state;
    std::vector<float> seen[3];
    for (int o = 0; o < 3; o++) {
        setenv("SLOPE_SIMT_ORDER", orders[o], 1);
        float *x = to_device(std::vector<float>(10));
        assert_cuda(cudaSuccess, launch_together(5, x, -1, true, true));
        seen[o] = to_host(x, 10);
        cudaFree(x);
    }
    assert_true(seen[0] != seen[1]);
}

static void test_cooperative_faults(void **state)
{
    (void)state;
    float *x = to_device(std::vector<float>(4096));
    assert_cuda(cudaErrorLaunchFailure, launch_together(4, x, 2, false, true));
    assert_non_null(strstr(cudaGetErrorString(cudaPeekAtLastError()), "but block 2 has ended"));
    cudaDeviceReset();
    assert_cuda(cudaErrorCooperativeLaunchTooLarge, launch_together(4 * 32 + 1, x, -1, false, true));
    cudaDeviceReset();
    assert_cuda(cudaErrorLaunchFailure, launch_together(2, x, -1, false, false));
    assert_non_null(strstr(cudaGetErrorString(cudaPeekAtLastError()), "not cooperative"));
    cudaDeviceReset();
    cudaFree(x);
}

/* --- launches before the one in front has ended --- */

template <bool WAITS> static __global__ void begins(float *x)
{
    if (WAITS || threadIdx.x == 3) sl_cuda_begin();
    x[threadIdx.x] += 1;
}

static void test_early_launch(void **state)
{
    (void)state;
    float *x = to_device(std::vector<float>(32));
    simt_launch_early("waits", begins<true>, 2, 32, 0, nullptr, x);
    assert_cuda(cudaSuccess, cudaDeviceSynchronize());
    assert_true(to_host(x, 32)[31] == 2);
    simt_launch("plain", begins<false>, 2, 32, 0, nullptr, x);
    assert_cuda(cudaSuccess, cudaDeviceSynchronize());
    simt_launch_early("forgets", begins<false>, 2, 32, 0, nullptr, x);
    assert_cuda(cudaErrorLaunchFailure, cudaDeviceSynchronize());
    assert_non_null(strstr(cudaGetErrorString(cudaPeekAtLastError()), "forgets is launched early"));
    cudaDeviceReset();
    cudaFree(x);
}

int main(void)
{
    unsetenv("SLOPE_GUARD"); /* a guarded plan runs call by call */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hazards, reset, reset),
        cmocka_unit_test_setup_teardown(test_chain, reset, reset),
        cmocka_unit_test_setup_teardown(test_networks, reset, reset),
        cmocka_unit_test_setup_teardown(test_activations, reset, reset),
        cmocka_unit_test_setup_teardown(test_cooperative, reset, reset),
        cmocka_unit_test_setup_teardown(test_early_read, reset, reset),
        cmocka_unit_test_setup_teardown(test_cooperative_faults, reset, reset),
        cmocka_unit_test_setup_teardown(test_early_launch, reset, reset),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
