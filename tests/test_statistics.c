/* What slope compare makes of its runs: spreads, the paired test and Holm's correction, on numbers made by
 * hand. */
#include "check.h"
#include "compare.h"

enum { ACTIVATIONS = 4, SEEDS = 40 };

/* Two epochs a run; the second has the number that is asked for. */
typedef struct made {
    cli_comparison c;
    cli_series runs[ACTIVATIONS * SEEDS];
    cli_point epochs[ACTIVATIONS * SEEDS][2];
    int64_t seeds[SEEDS];
} made;

const cli_series *cli_comparison_run(const cli_comparison *c, int group, int activation, int seed)
{
    for (int i = 0; i < c->n_runs; i++)
        if (c->runs[i].group == group && c->runs[i].activation == activation &&
            c->runs[i].seed == c->seeds[seed])
            return &c->runs[i];
    return NULL;
}

static void begin(made *m, int activations, int seeds)
{
    memset(m, 0, sizeof *m);
    m->c.runs = m->runs;
    m->c.seeds = m->seeds;
    m->c.n_seeds = seeds;
    m->c.n_activations = activations;
    m->c.n_groups = 1;
    for (int s = 0; s < seeds; s++) m->seeds[s] = 7 + s;
}

static cli_series *add(made *m, int activation, int seed, double accuracy)
{
    const int i = m->c.n_runs++;
    m->epochs[i][0] = (cli_point){.epoch = 1, .validation_accuracy = 0.5, .seconds = 1};
    m->epochs[i][1] = (cli_point){.epoch = 2, .validation_accuracy = accuracy, .seconds = 3};
    m->runs[i] =
        (cli_series){.activation = activation, .seed = m->seeds[seed], .epochs = m->epochs[i], .n_epochs = 2};
    return &m->runs[i];
}

static cli_paired paired(made *m, int a, int b)
{
    return cli_paired_test(&m->c, 0, a, b, CLI_MEASURE_VALIDATION_ACCURACY);
}

/* Differences with mean d and a deviation that makes t what is wanted. */
static double p_of(double t, int freedom)
{
    static made m;
    const int n = freedom + 1;
    begin(&m, 2, n);
    double deviation = 0;
    for (int s = 0; s < n; s++) {
        const double u = s - (n - 1) / 2.0;
        deviation += u * u;
    }
    deviation = sqrt(deviation / (n - 1));
    for (int s = 0; s < n; s++) {
        add(&m, 0, s, 0);
        add(&m, 1, s, t / sqrt(n) + (s - (n - 1) / 2.0) / deviation);
    }
    const cli_paired test = paired(&m, 0, 1);
    assert_int_equal(test.count, n);
    assert_near(test.t, t, 1e-12 * (1 + fabs(t)));
    return test.p;
}

/* Both tails of Student's density by Simpson's rule, in the angle that makes the range finite. */
static double integral(double t, int freedom)
{
    const double from = atan(t / sqrt(freedom)), to = acos(-1.0) / 2;
    const int n = 20000;
    double sum = 0;
    for (int i = 0; i <= n; i++) {
        const double angle = from + (to - from) * i / n;
        sum += (i == 0 || i == n ? 1 : i % 2 ? 4 : 2) * pow(cos(angle), freedom - 1);
    }
    const double scale = exp(lgamma((freedom + 1) / 2.0) - lgamma(freedom / 2.0)) / sqrt(acos(-1.0));
    return 2 * scale * sum * (to - from) / n / 3;
}

static void the_tail_of_students_distribution(void **state)
{
    (void)state;
    /* critical values, two-sided */
    static const struct {
        int freedom;
        double t, p;
    } known[] = {{1, 12.706204736432095, 0.05}, {2, 4.302652729911275, 0.05},  {3, 3.182446305284263, 0.05},
                 {4, 2.7764451051977987, 0.05}, {5, 2.5705818366147395, 0.05}, {9, 2.2621571628540993, 0.05},
                 {2, 9.924843200918070, 0.01},  {29, 2.045229642132703, 0.05}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        assert_near(p_of(known[i].t, known[i].freedom), known[i].p, 1e-10);
    for (int freedom = 1; freedom < SEEDS; freedom++)
        for (double t = 0.125; t < 40; t *= 2) assert_near(p_of(t, freedom), integral(t, freedom), 1e-11);
    assert_near(p_of(-3, 4), p_of(3, 4), 1e-15);
}

static void pairs_are_of_one_seed(void **state)
{
    (void)state;
    static made m;
    begin(&m, 2, 5);
    /* Differences 0.01, 0.03, 0.02 over the seeds that both have; the others do not count. */
    add(&m, 0, 0, 0.90), add(&m, 0, 1, 0.20), add(&m, 0, 3, 0.50), add(&m, 0, 4, 0.99);
    add(&m, 1, 3, 0.52), add(&m, 1, 0, 0.91), add(&m, 1, 1, 0.23), add(&m, 1, 2, 0.10);
    const cli_paired test = paired(&m, 0, 1);
    assert_int_equal(test.count, 3);
    assert_near(test.difference, 0.02, 1e-15);
    assert_near(test.deviation, 0.01, 1e-15);
    assert_near(test.t, 2 * sqrt(3), 1e-12);
    assert_near(test.p, 0.07417990022744853, 1e-12);
    assert_near(paired(&m, 1, 0).difference, -0.02, 1e-15);
}

static void what_cannot_be_tested_is_nan(void **state)
{
    (void)state;
    static made m;
    begin(&m, 3, 3);
    for (int s = 0; s < 3; s++) add(&m, 0, s, 0.9), add(&m, 1, s, 0.9);
    add(&m, 2, 0, 0.8), add(&m, 2, 1, 0.7)->diverged = true;
    assert_near(paired(&m, 0, 1).p, 1, 0);       /* equal to the last bit */
    assert_true(isnan(paired(&m, 0, 2).p));      /* one pair is none */
    assert_int_equal(paired(&m, 0, 2).count, 1); /* a run that diverged has no accuracy */
    assert_int_equal(cli_diverged(&m.c, 0, 2), 1);
    assert_int_equal(cli_finished(&m.c, 0, 2), 2);
    int n;
    cli_pair *pairs = cli_pairs(&m.c, 0, &n);
    assert_int_equal(n, 1);
    assert_near(pairs[0].corrected, 1, 0);
    free(pairs);
}

static void holms_correction(void **state)
{
    (void)state;
    /* 5 · 0.005, 4 · 0.011, 3 · 0.03; 2 · 0.04 would be less than the one before */
    cli_pair pairs[] = {{.a = 0, .test.p = 0.03},
                        {.a = 1, .test.p = 0.005},
                        {.a = 2, .test.p = 0.04},
                        {.a = 3, .test.p = 0.011},
                        {.a = 4, .test.p = 0.9}};
    static const double corrected[] = {0.025, 0.044, 0.09, 0.09, 0.9};
    static const int order[] = {1, 3, 0, 2, 4};
    cli_holm(pairs, 5);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(pairs[i].a, order[i]);
        assert_near(pairs[i].corrected, corrected[i], 1e-15);
    }
    cli_pair many[] = {{.test.p = 0.5}, {.test.p = 0.7}};
    cli_holm(many, 2);
    assert_near(many[0].corrected, 1, 0); /* never above 1 */
    assert_near(many[1].corrected, 1, 0);
}

static void measures_of_runs(void **state)
{
    (void)state;
    static made m;
    begin(&m, 1, 3);
    add(&m, 0, 0, 0.995), add(&m, 0, 1, 0.985), add(&m, 0, 2, 0.99);
    m.epochs[1][0].validation_accuracy = 0.9875;
    cli_spread s = cli_summary(&m.c, 0, 0, CLI_MEASURE_VALIDATION_ACCURACY);
    assert_int_equal(s.count, 3);
    assert_near(s.mean, 0.99, 1e-15);
    assert_near(s.deviation, 0.005, 1e-15); /* n - 1 */
    assert_near(cli_summary(&m.c, 0, 0, CLI_MEASURE_BEST_ACCURACY).mean, (0.995 + 0.9875 + 0.99) / 3, 1e-15);
    s = cli_summary(&m.c, 0, 0, CLI_MEASURE_EPOCHS_TO_99);
    assert_int_equal(s.count, 2); /* 99 % counts, what never got there does not */
    assert_near(s.mean, 2, 0);
    assert_near(cli_summary(&m.c, 0, 0, CLI_MEASURE_SECONDS).mean, 2, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tail_of_students_distribution),
        cmocka_unit_test(pairs_are_of_one_seed),
        cmocka_unit_test(what_cannot_be_tested_is_nan),
        cmocka_unit_test(holms_correction),
        cmocka_unit_test(measures_of_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
