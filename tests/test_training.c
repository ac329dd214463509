/* Training as a whole: it learns, it repeats itself to the byte, and it can be stopped and continued. */
#define _GNU_SOURCE
#include "check.h"

#include <unistd.h>

#include "graph/plan.h"
#include "nn/model.h"

/* --- counting allocations: these take the place of the C library's --- */

static volatile int counting, allocations;
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);
#if !defined(__SANITIZE_ADDRESS__)
void *malloc(size_t size)
{
    allocations += counting;
    return __libc_malloc(size);
}
void *calloc(size_t n, size_t size)
{
    allocations += counting;
    return __libc_calloc(n, size);
}
void *realloc(void *old, size_t size)
{
    allocations += counting;
    return __libc_realloc(old, size);
}
#endif

typedef struct setup {
    const char *line, *isa;
    sl_activation activation;
    sl_optimizer optimizer;
    float clip_norm;
    int batch, threads, count;
    sl_device_kind device;
} setup;

static sl_model *make(const setup *s, sl_context **ctx, sl_dataset **data)
{
    if (s->isa) setenv("SLOPE_ISA", s->isa, 1);
    *ctx = sl_open(.device = s->device ? s->device : SL_CPU, .seed = 11, .threads = s->threads);
    unsetenv("SLOPE_ISA");
    sl_graph *g = sl_graph_new(*ctx);
    sl_node *y = sl_model_line(sl_input(g, "image", 28, 28, 1), s->line, s->activation, (sl_init){0});
    sl_node *loss = sl_softmax_cross_entropy(y, sl_labels(g, "label"));
    sl_model *m = sl_compile(loss, .batch = s->batch, .optimizer = s->optimizer, .clip_norm = s->clip_norm);
    *data = sl_digits(*ctx, 5, SL_TRAIN, s->count);
    sl_graph_free(g);
    assert_ok(*ctx);
    return m;
}

static uint64_t train(const setup *s, int epochs)
{
    sl_context *ctx;
    sl_dataset *data;
    sl_model *m = make(s, &ctx, &data);
    sl_fit(m, data, .epochs = epochs);
    assert_ok(ctx);
    const uint64_t print = sl_model_fingerprint(m);
    sl_close(ctx);
    return print;
}

static const char *everything =
    "conv3-4 bn act conv3-5s2p1 swish(learn) pool2 drop.25 dense17 bn prelu(channel) dense10";

static void test_learns(void **state)
{
    (void)state;
    const setup s = {.line = "mlp",
                     .activation = SL_RELU,
                     .optimizer = sl_adam(.rate = 1e-3f),
                     .batch = 64,
                     .count = 3000};
    sl_context *ctx;
    sl_dataset *data;
    sl_model *m = make(&s, &ctx, &data);
    sl_dataset *fresh = sl_digits(ctx, 5, SL_TEST, 500);
    const sl_report before = sl_evaluate(m, fresh);
    const sl_epoch after = sl_fit(m, data, .epochs = 4, .validation = fresh);
    assert_ok(ctx);
    assert_true(before.accuracy < 0.3 && before.loss > 2);
    assert_true(after.train.accuracy > 0.9 && after.validation.accuracy > 0.85);
    assert_int_equal(after.validation.count, 500);
    assert_int_equal(after.train.count, 3000);
    assert_int_equal(sl_model_step(m), 4 * 47);
    /* predictions agree with the evaluation */
    int hits = 0;
    for (int i = 0; i < 500; i++) {
        float image[784], p[10], sum = 0;
        const int label = sl_dataset_sample(fresh, i, image);
        assert_int_equal(sl_predict(m, image, 1, p), SL_OK);
        int best = 0;
        for (int k = 0; k < 10; k++) sum += p[k], best = p[k] > p[best] ? k : best;
        assert_near(sum, 1, 1e-5);
        hits += best == label;
    }
    assert_near(hits / 500.0, after.validation.accuracy, 1e-9);
    sl_close(ctx);
}

static void test_same_bytes(void **state)
{
    (void)state;
    setup s = {.line = everything,
               .activation = SL_TANH,
               .optimizer = sl_adam(.rate = 1e-2f, .weight_decay = 1e-3f),
               .clip_norm = 1,
               .batch = 9,
               .count = 60,
               .threads = 1};
    const uint64_t base = train(&s, 2);
    assert_true(base == train(&s, 2));
    s.threads = 2;
    assert_true(base == train(&s, 2));
    s.threads = 3;
    assert_true(base == train(&s, 2));
    s.isa = "plain";
    assert_true(base == train(&s, 2));
    s.isa = NULL;
    setenv("SLOPE_REFERENCE_KERNELS", "1", 1);
    assert_true(base == train(&s, 2));
    unsetenv("SLOPE_REFERENCE_KERNELS");
    setenv("SLOPE_GUARD", "1", 1);
    assert_true(base == train(&s, 2));
    unsetenv("SLOPE_GUARD");
    s.batch = 10;
    assert_false(base == train(&s, 2));
}

/* A padded batch of r samples gives the bytes of an unpadded batch of r. */
static void test_padding(void **state)
{
    (void)state;
    const int counts[] = {1, 2, 96};
    for (int i = 0; i < 3; i++) {
        setup s = {.line = everything,
                   .activation = SL_SWISH,
                   .optimizer = sl_momentum(.rate = 0.01f),
                   .clip_norm = 1,
                   .count = counts[i],
                   .threads = 2};
        /* dropout's mask depends on the element, not on the batch; the order on the data set alone */
        s.batch = counts[i];
        const uint64_t exact = train(&s, 3);
        s.batch = 128;
        assert_true(exact == train(&s, 3));
    }
}

static void test_no_allocation(void **state)
{
    (void)state;
    const setup s = {.line = everything,
                     .activation = SL_RELU,
                     .optimizer = sl_adam(.rate = 1e-3f),
                     .clip_norm = 1,
                     .batch = 16,
                     .count = 64,
                     .threads = 2};
    sl_context *ctx;
    sl_dataset *data;
    sl_model *m = make(&s, &ctx, &data);
    sl_fit(m, data, .epochs = 1);
    const sl_pass *pass = &m->training;
    counting = 1;
    for (int i = 0; i < 10; i++) sl_plan_run(pass->plan);
    counting = 0;
    assert_ok(ctx);
    assert_int_equal(allocations, 0);
    counting = 1;
    free(malloc(1)); /* the counter counts */
    counting = 0;
#if !defined(__SANITIZE_ADDRESS__)
    assert_int_equal(allocations, 1);
#endif
    sl_close(ctx);
}

/* --- stopping and continuing --- */

static char *bytes_of(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*size);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

/* A run stopped after any step, saved, loaded into a new context and continued: the same file. */
static void test_resume(void **state)
{
    (void)state;
    const char *whole_file = "test_training_whole.safetensors", *part_file = "test_training_part.safetensors";
    const setup s = {.line = everything,
                     .activation = SL_ELU,
                     .clip_norm = 1,
                     .batch = 8,
                     .count = 44,
                     .threads = 2,
                     .optimizer = sl_adam(.rate = 1e-2f, .schedule = {.kind = SL_ONE_CYCLE})};
    enum { EPOCHS = 4, STEPS = 6 };
    sl_context *ctx;
    sl_dataset *data;
    sl_model *m = make(&s, &ctx, &data);
    sl_fit(m, data, .epochs = EPOCHS, .validation = data);
    sl_save(m, whole_file);
    assert_ok(ctx);
    sl_close(ctx);
    size_t size, n;
    char *whole = bytes_of(whole_file, &size);
    for (int stop = 1; stop < EPOCHS * STEPS; stop += 5) {
        m = make(&s, &ctx, &data);
        m->epoch_steps = STEPS; /* as sl_fit sets out */
        m->goal = EPOCHS;
        const sl_pass *pass = sl_training_pass(m, data, EPOCHS);
        assert_non_null(pass);
        for (int i = 0; i < stop; i++) sl_plan_run(pass->plan);
        sl_save(m, part_file);
        assert_ok(ctx);
        sl_close(ctx);
        m = make(&s, &ctx, &data);
        sl_restore(m, part_file, true);
        sl_save(m, part_file); /* saving what was just restored loses nothing */
        sl_fit(m, data, .epochs = EPOCHS, .validation = data);
        sl_save(m, part_file);
        assert_ok(ctx);
        char *part = bytes_of(part_file, &n);
        assert_int_equal(n, size);
        assert_memory_equal(part, whole, size);
        free(part);
        sl_close(ctx);
    }
    free(whole);
    unlink(whole_file);
    unlink(part_file);
}

static void interrupt_after(void *data, const sl_epoch *epoch)
{
    if (epoch->epoch == 2) sl_interrupt(data);
}

/* sl_interrupt stops sl_fit between steps and leaves a checkpoint that goes on, plateau schedule included. */
static void test_interrupt(void **state)
{
    (void)state;
    const setup s = {.line = "dense12 tanh dense10",
                     .optimizer = sl_momentum(.rate = 0.5f, .schedule = {.kind = SL_PLATEAU, .patience = 1}),
                     .batch = 8,
                     .count = 44};
    sl_context *ctx;
    sl_dataset *data;
    sl_model *m = make(&s, &ctx, &data);
    sl_fit(m, data, .epochs = 8, .validation = data);
    const uint64_t whole = sl_model_fingerprint(m);
    assert_false(sl_model_interrupted(m));
    sl_close(ctx);
    m = make(&s, &ctx, &data);
    sl_fit(m, data, .epochs = 8, .validation = data, .on_epoch = interrupt_after, .data = ctx,
           .checkpoint = "test_training_stop.safetensors");
    assert_ok(ctx);
    assert_true(sl_model_interrupted(m));
    assert_int_equal(sl_model_step(m), 12);
    sl_close(ctx);
    m = make(&s, &ctx, &data);
    sl_restore(m, "test_training_stop.safetensors", true);
    sl_fit(m, data, .epochs = 8, .validation = data);
    assert_ok(ctx);
    assert_int_equal(sl_model_step(m), 48);
    assert_true(whole == sl_model_fingerprint(m));
    sl_close(ctx);
    unlink("test_training_stop.safetensors");
}

static void test_divergence(void **state)
{
    (void)state;
    const setup s = {
        .line = "dense32 relu dense10", .optimizer = sl_sgd(.rate = 1e30f), .batch = 16, .count = 64};
    sl_context *ctx;
    sl_dataset *data;
    sl_model *m = make(&s, &ctx, &data);
    sl_fit(m, data, .epochs = 3);
    assert_non_null(strstr(sl_error(ctx), "node 'dense"));
    expect_error(ctx, SL_NOT_FINITE, "the loss is no longer finite");
    sl_close(ctx);
}

/* Running statistics move towards those of the batch; the variance is the unbiased one; padded samples do not
 * count. */
static void test_running_statistics(void **state)
{
    (void)state;
    enum { N = 5, C = 3 };
    float x[N * C], mean[C], var[C], y[N * 2];
    const int32_t labels[N] = {0, 1, 1, 0, 1};
    for (int i = 0; i < N * C; i++) x[i] = (float)(i * i % 11) - 3;
    sl_context *ctx = sl_open(.device = SL_CPU);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *h = sl_batch_norm(sl_input(g, "x", C), .momentum = 0.25f);
    sl_model *m =
        sl_compile(sl_softmax_cross_entropy(sl_dense(h, .units = 2), sl_labels(g, "y")), .batch = 8);
    sl_fit(m, sl_dataset_from_labels(ctx, x, labels, N, 1, 1, C, 2), .epochs = 1);
    sl_model_get(m, "norm1.running_mean", mean, C);
    sl_model_get(m, "norm1.running_var", var, C);
    assert_ok(ctx);
    for (int c = 0; c < C; c++) {
        double sum = 0, square = 0;
        for (int i = 0; i < N; i++) sum += (double)x[i * C + c];
        for (int i = 0; i < N; i++)
            square += ((double)x[i * C + c] - sum / N) * ((double)x[i * C + c] - sum / N);
        assert_near(mean[c], 0.25 * sum / N, 1e-6);
        assert_near(var[c], 0.75 + 0.25 * square / (N - 1), 1e-5);
    }
    /* evaluation uses them: a sample's answer does not depend on the others */
    float one[2];
    sl_predict(m, x, N, y);
    sl_predict(m, x + 2 * C, 1, one);
    assert_ok(ctx);
    assert_memory_equal(one, y + 4, sizeof one);
    sl_close(ctx);
}

/* Zero weights: all hidden units stay alike, whatever is learned. */
static void test_zero_initialisation(void **state)
{
    (void)state;
    sl_context *ctx = sl_open(.device = SL_CPU);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *y = sl_model_line(sl_input(g, "image", 28, 28, 1), "dense6 tanh dense10", SL_TANH,
                               sl_init_parse(ctx, "zeros"));
    sl_model *m = sl_compile(sl_softmax_cross_entropy(y, sl_labels(g, "label")), .batch = 20,
                             .optimizer = sl_adam(.rate = 0.01f));
    sl_fit(m, sl_digits(ctx, 1, SL_TRAIN, 200), .epochs = 3);
    assert_ok(ctx);
    static float w[784 * 6], v[60];
    sl_model_get(m, "dense1.weight", w, 784 * 6);
    sl_model_get(m, "dense2.weight", v, 60);
    for (int i = 0; i < 784; i++)
        for (int u = 1; u < 6; u++) assert_true(w[i * 6 + u] == w[i * 6]);
    for (int u = 1; u < 6; u++) assert_memory_equal(v, v + 10 * u, 10 * sizeof *v);
    sl_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learns),
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_no_allocation),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_running_statistics),
        cmocka_unit_test(test_divergence),
        cmocka_unit_test(test_zero_initialisation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
