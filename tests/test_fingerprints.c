/* The presets after 50 steps have the parameters that tests/fingerprints.def tells, bit by bit: with every
 * instruction set of the CPU, with the plain loops of the reference kernels, and on a CUDA device in exact
 * mode, real or simulated.
 *   test_fingerprints [MACHINE…]     such as: test_fingerprints avx2 cuda */
#include "check.h"
#include "cuda_device.h"

#include <inttypes.h>

#include "slope/layers.h"

static const struct {
    const char *line;
    uint64_t start, end;
} expected[] = {
#define FINGERPRINT(line, start, end) {line, start, end},
#include "fingerprints.def"
#undef FINGERPRINT
};
enum { LINES = sizeof expected / sizeof *expected };

static void set_environment(const char *name, const char *value)
{
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
}

/* Two epochs of 25 steps, the last of each with 5 samples instead of 8. */
static void train(sl_context *ctx, const char *line, uint64_t *start, uint64_t *end)
{
    sl_graph *g = sl_graph_new(ctx);
    sl_node *y = sl_model_line(sl_input(g, "image", 28, 28, 1), line, SL_RELU, (sl_init){0});
    sl_model *model = sl_compile(sl_softmax_cross_entropy(y, sl_labels(g, "label")), .batch = 8,
                                 .optimizer = {.row = SL_OPTIMIZER_ADAM});
    sl_dataset *digits = sl_digits(ctx, 5, SL_TRAIN, 197);
    assert_ok(ctx);
    *start = sl_model_fingerprint(model);
    const sl_epoch epoch = sl_fit(model, digits, .epochs = 2);
    *end = sl_model_fingerprint(model);
    assert_ok(ctx);
    assert_int_equal(sl_model_step(model), 50);
    assert_true(epoch.fingerprint == *end);
    assert_true(epoch.train.loss < 2.3); /* it learns: less than guessing costs */
}

/* All presets on one machine; a preset that differs does not hide the others. */
static void check(const sl_open_options *options)
{
    uint64_t start[LINES], end[LINES];
    bool same = true;
    for (int i = 0; i < LINES; i++) {
        sl_context *ctx = sl_open_with(options);
        assert_ok(ctx);
        if (i == 0) print_message("on %s, %s\n", sl_device_name(ctx), sl_device_description(ctx));
        train(ctx, expected[i].line, &start[i], &end[i]);
        sl_close(ctx);
        same = same && start[i] == expected[i].start && end[i] == expected[i].end;
    }
    if (same) return;
    for (int i = 0; i < LINES; i++)
        print_error("FINGERPRINT(\"%s\", 0x%016" PRIx64 ", 0x%016" PRIx64 ")%s\n", expected[i].line, start[i],
                    end[i],
                    start[i] != expected[i].start ? " /* differs */"
                    : end[i] != expected[i].end   ? " /* the end differs */"
                                                  : "");
    fail_msg("these are not the fingerprints of tests/fingerprints.def");
}

static int no_cuda; /* 0: there is a device */
static const sl_open_options cpu = {.device = SL_CPU, .seed = 11},
                             cuda = {.device = SL_CUDA, .seed = 11, .exact = true};

static void check_isa(const char *isa)
{
    set_environment("SLOPE_ISA", isa);
    sl_context *ctx = sl_open_with(&cpu);
    const bool missing = sl_error(ctx) != NULL;
    if (missing) print_message("%s\n", sl_error(ctx));
    if (!missing && strncmp(sl_device_description(ctx), isa, strlen(isa)) != 0)
        fail_msg("SLOPE_ISA=%s opened %s", isa, sl_device_description(ctx));
    sl_close(ctx);
    if (missing && strcmp(isa, "plain") != 0) skip();
    check(&cpu);
}

static void test_plain(void **state)
{
    (void)state;
    check_isa("plain");
}

static void test_avx2(void **state)
{
    (void)state;
    check_isa("avx2");
}

static void test_avx512(void **state)
{
    (void)state;
    check_isa("avx512");
}

static void test_reference_kernels(void **state)
{
    (void)state;
    set_environment("SLOPE_REFERENCE_KERNELS", "1");
    check(&cpu);
}

static void test_cuda(void **state)
{
    (void)state;
    if (no_cuda == 77) skip();
    assert_int_equal(no_cuda, 0);
    check(&cuda);
}

static char *kept[2];
static int keep_environment(void **state)
{
    (void)state;
    const char *const names[] = {"SLOPE_ISA", "SLOPE_REFERENCE_KERNELS"};
    for (int i = 0; i < 2; i++) {
        const char *value = getenv(names[i]);
        kept[i] = value ? strdup(value) : NULL;
        unsetenv(names[i]);
    }
    return 0;
}

static int restore_environment(void **state)
{
    (void)state;
    const char *const names[] = {"SLOPE_ISA", "SLOPE_REFERENCE_KERNELS"};
    for (int i = 0; i < 2; i++) {
        set_environment(names[i], kept[i]);
        free(kept[i]);
    }
    return 0;
}

int main(int argc, char **argv)
{
#define MACHINE(name)                                                                                        \
    {                                                                                                        \
        "test_" #name, test_##name, keep_environment, restore_environment, NULL                              \
    }
    const struct CMUnitTest all[] = {MACHINE(plain), MACHINE(avx2), MACHINE(avx512),
                                     MACHINE(reference_kernels), MACHINE(cuda)};
#undef MACHINE
    enum { MACHINES = sizeof all / sizeof *all };
    struct CMUnitTest tests[MACHINES];
    int chosen = 0;
    bool simulated;
    no_cuda = find_cuda_device(&simulated);
    for (int i = 0; i < MACHINES; i++) {
        bool wanted = argc < 2;
        for (int k = 1; k < argc; k++) wanted = wanted || strcmp(argv[k], all[i].name + 5) == 0;
        if (wanted) tests[chosen++] = all[i];
    }
    if (chosen < argc - 1) {
        fprintf(stderr, "the machines are plain, avx2, avx512, reference_kernels and cuda\n");
        return 2;
    }
    if (argc == 2 && no_cuda && strcmp(argv[1], "cuda") == 0) return no_cuda;
    return _cmocka_run_group_tests("fingerprints", tests, (size_t)chosen, NULL, NULL);
}
