/* Training on CUDA against training on the CPU, on a real device or the simulated one: the same bytes in
 * exact mode, and how many launches a step takes in default mode. */
#include "check.h"
#include "cuda_device.h"

#include <inttypes.h>
#include <unistd.h>

#include "slope/layers.h"

static bool simulated;

typedef struct run {
    const char *line, *schedule, *activation;
    int optimizer, batch, count, epochs;
    float clip_norm, weight_decay;
    const char *order; /* of the simulated device */
} run;

typedef struct machine {
    sl_context *ctx;
    sl_model *model;
    sl_dataset *data;
} machine;

static machine make(const run *r, const sl_open_options *options)
{
    machine m = {.ctx = sl_open_with(options)};
    assert_ok(m.ctx);
    sl_graph *g = sl_graph_new(m.ctx);
    const sl_activation act = sl_activation_parse(m.ctx, r->activation ? r->activation : "relu");
    sl_node *y = sl_model_line(sl_input(g, "image", 28, 28, 1), r->line, act, (sl_init){0});
    sl_node *loss = sl_softmax_cross_entropy(y, sl_labels(g, "label"));
    sl_optimizer optimizer = {.row = r->optimizer, .weight_decay = r->weight_decay};
    if (r->schedule) optimizer.schedule = sl_schedule_parse(m.ctx, r->schedule);
    m.model = sl_compile(loss, .batch = r->batch, .optimizer = optimizer, .clip_norm = r->clip_norm);
    m.data = sl_digits(m.ctx, 5, SL_TRAIN, r->count);
    assert_ok(m.ctx);
    return m;
}

static char *file_bytes(const char *path, size_t *size)
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

/* What a whole run leaves: the saved file (weights, optimiser, statistics, step) and the last epoch. */
static char *trained(const run *r, const sl_open_options *options, size_t *size, sl_epoch *epoch)
{
    char path[64];
    snprintf(path, sizeof path, "parity-%d.safetensors", (int)getpid());
    machine m = make(r, options);
    *epoch = sl_fit(m.model, m.data, .epochs = r->epochs, .validation = m.data);
    sl_save(m.model, path);
    assert_ok(m.ctx);
    sl_close(m.ctx);
    char *bytes = file_bytes(path, size);
    remove(path);
    return bytes;
}

static const sl_open_options cpu = {.device = SL_CPU, .seed = 11},
                             exact = {.device = SL_CUDA, .seed = 11, .exact = true},
                             plain = {.device = SL_CUDA, .seed = 11};

static void expect_same(const run *r)
{
    size_t size, cuda_size;
    sl_epoch epoch, cuda_epoch;
    if (r->order) setenv("SLOPE_SIMT_ORDER", r->order, 1);
    char *bytes = trained(r, &cpu, &size, &epoch), *cuda_bytes = trained(r, &exact, &cuda_size, &cuda_epoch);
    unsetenv("SLOPE_SIMT_ORDER");
    if (size != cuda_size || memcmp(bytes, cuda_bytes, size) != 0)
        fail_msg("%s, optimiser %d: other bytes than the CPU", r->line, r->optimizer);
    assert_true(memcmp(&epoch.train.loss, &cuda_epoch.train.loss, sizeof epoch.train.loss) == 0);
    assert_true(epoch.train.accuracy == cuda_epoch.train.accuracy && epoch.train.loss == epoch.train.loss);
    free(bytes);
    free(cuda_bytes);
}

/* A step of cnn takes half a second where it is sanitized. */
#if defined(__SANITIZE_ADDRESS__)
enum { long_run = 13 };
#else
enum { long_run = 205 };
#endif

/* 50 steps or more, the last batch of an epoch smaller. */
static void test_presets(void **state)
{
    (void)state;
    const run runs[] = {
        {"softmax", .optimizer = SL_OPTIMIZER_ADAM, .batch = 32, .count = 810, .epochs = 2},
        {"mlp", .optimizer = SL_OPTIMIZER_ADAM, .batch = 32, .count = 810, .epochs = 2},
        {"mlp", .optimizer = SL_OPTIMIZER_ADAM, .batch = 32, .count = 205, .epochs = 2, .order = "reverse"},
        {"mlp", .optimizer = SL_OPTIMIZER_ADAM, .batch = 32, .count = 205, .epochs = 2, .order = "shuffled"},
        {"lenet", .optimizer = SL_OPTIMIZER_ADAM, .batch = 8, .count = 205, .epochs = 2},
        {"cnn", .optimizer = SL_OPTIMIZER_ADAM, .batch = 8, .count = long_run, .epochs = 2},
    };
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) expect_same(&runs[i]);
}

/* Convolutions, pooling, batch norm, dropout and a shortcut, with other optimisers and schedules. */
static void test_layers(void **state)
{
    (void)state;
    const run runs[] = {
        {"conv3-6p1 bn act pool2 res( conv3-6p1 act ) drop.25 avgpool2 dense16 act drop.5 dense10",
         .optimizer = SL_OPTIMIZER_ADAMW, .batch = 6, .count = 34, .epochs = 2, .clip_norm = 1,
         .weight_decay = 0.01f, .schedule = "one-cycle", .activation = "swish(learn)"},
        {"conv5-5s2 act bn gap dense10", .optimizer = SL_OPTIMIZER_RMSPROP, .batch = 5, .count = 33,
         .epochs = 2, .schedule = "cosine(warmup=1)", .activation = "gelu"},
    };
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) expect_same(&runs[i]);
}

static void test_optimizers(void **state)
{
    (void)state;
    const char *schedules[] = {"constant", "step(period=1)", "cosine", "one-cycle", "plateau(patience=1)"};
    for (int row = 0; row < SL_OPTIMIZER_COUNT; row++) {
        const run r = {"dense20 act dense10",
                       .optimizer = row,
                       .batch = 10,
                       .count = 43,
                       .epochs = 3,
                       .clip_norm = row % 2 ? 0.5f : 0,
                       .weight_decay = row == SL_OPTIMIZER_ADAMW ? 0.01f : 0,
                       .schedule = schedules[row % 5]};
        expect_same(&r);
    }
}

typedef struct prints {
    struct {
        char name[64];
        uint64_t value;
    } of[4096];
    int n;
} prints;

static void take(void *data, const char *node, const char *operation, uint64_t fingerprint)
{
    prints *p = data;
    (void)operation;
    if (p->n == 4096) return;
    snprintf(p->of[p->n].name, sizeof p->of[p->n].name, "%s", node);
    p->of[p->n++].value = fingerprint;
}

/* Outputs that both have, by name: each back end fuses what it can. */
static int compare(const prints *a, const prints *b, int step)
{
    int shared = 0;
    for (int i = 0; i < a->n; i++)
        for (int k = 0; k < b->n; k++) {
            if (strcmp(a->of[i].name, b->of[k].name) != 0) continue;
            shared++;
            if (a->of[i].value != b->of[k].value)
                fail_msg("step %d: '%s' differs from the CPU's", step, a->of[i].name);
        }
    return shared;
}

/* Node by node, and the same weights after a captured step as after a watched one. */
static void test_every_node(void **state)
{
    (void)state;
    const run r = {"conv3-4 act pool2 dense12 act drop.5 dense10",
                   .optimizer = SL_OPTIMIZER_ADAM,
                   .batch = 7,
                   .count = 40,
                   .epochs = 1,
                   .clip_norm = 1};
    static prints seen[2];
    machine host = make(&r, &cpu), device = make(&r, &exact), captured = make(&r, &exact);
    for (int step = 0; step < 4; step++) {
        seen[0].n = seen[1].n = 0;
        sl_train_step(host.model, host.data, 1, take, &seen[0]);
        sl_train_step(device.model, device.data, 1, take, &seen[1]);
        sl_train_step(captured.model, captured.data, 1, NULL, NULL);
        assert_ok(host.ctx);
        assert_ok(device.ctx);
        assert_ok(captured.ctx);
        assert_true(compare(&seen[0], &seen[1], step) > 10);
        assert_true(sl_model_fingerprint(host.model) == sl_model_fingerprint(device.model));
        assert_true(sl_model_fingerprint(host.model) == sl_model_fingerprint(captured.model));
    }
    sl_close(host.ctx);
    sl_close(device.ctx);
    sl_close(captured.ctx);
}

/* Of a step as it would be captured; nothing is run. */
static void test_launches(void **state)
{
    (void)state;
    const struct {
        const char *line;
        int most;
    } presets[] = {{"mlp", 1}, {"lenet", 14}, {"cnn", 31}};
    bool kept = true;
    for (int i = 0; i < 6; i++) {
        const run r = {presets[i / 2].line, .optimizer = SL_OPTIMIZER_ADAM, .batch = i % 2 ? 128 : 2,
                       .count = 8};
        machine m = make(&r, &plain);
        const int launches = sl_model_plan(m.model, m.data).launches;
        assert_ok(m.ctx);
        sl_close(m.ctx);
        print_message("%s, batch %d: %d launches a step, %d are promised\n", r.line, r.batch, launches,
                      presets[i / 2].most);
        kept = kept && launches > 0 && launches <= presets[i / 2].most;
    }
    assert_true(kept);
}

int main(void)
{
    const int none = find_cuda_device(&simulated);
    if (none) return none;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_presets),    cmocka_unit_test(test_layers),   cmocka_unit_test(test_optimizers),
        cmocka_unit_test(test_every_node), cmocka_unit_test(test_launches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
