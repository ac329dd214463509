/* Forward mode: for every operation and activation, the derivative along a direction against central
 * differences and against reverse mode (the adjoint identity <u, Jt> = <J'u, t>), in double; for networks
 * also second derivatives: jvp of vjp against differences of gradients. */
#include "every_case.h"

#include "slope/slope.h"

static double *random_values(int64_t count, uint32_t stream)
{
    double *values = calloc((size_t)count, sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = case_random(stream, i);
    return values;
}

static double dot(const double *a, const double *b, int64_t n, double *size)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i], *size += fabs(a[i] * b[i]);
    return sum;
}

/* One operation, with tangents for the inputs in `mask`. */
static void check_mask(const op_case *c, int valid, unsigned mask)
{
    op_run run = {.ctx = sl_open(.device = SL_REFERENCE), .valid = valid};
    run.graph = sl_graph_new(run.ctx);
    for (int k = 0; k < c->n_in; k++) run.in[k] = case_input(&run, &c->in[k], k);
    sl_node *y = run.node = sl_node_new(run.graph, c->op, c->attr, c->n_in, run.in);
    sl_node *u = case_like(run.graph, y, "u"), *wrt[MAX_IN], *along[MAX_IN], *gradient[MAX_IN], *jt = NULL;
    int n = 0, which[MAX_IN];
    for (int k = 0; k < c->n_in; k++)
        if (mask >> k & 1) {
            char name[16];
            snprintf(name, sizeof name, "t%d", k);
            which[n] = k;
            wrt[n] = run.in[k];
            along[n++] = case_like(run.graph, run.in[k], name);
        }
    sl_node *objective = sl_sum(sl_mul(y, u));
    sl_differentiate(objective, wrt, n, gradient);
    if (sl_jvp(&y, 1, wrt, along, n, &jt) != SL_OK) fail_msg("%s: %s", c->name, sl_error(run.ctx));
    assert_true(sl_shape_equal(jt->shape, y->shape));
    sl_node *roots[MAX_IN + 3] = {y, jt};
    int n_roots = 2;
    for (int i = 0; i < n; i++)
        if (gradient[i]) roots[n_roots++] = gradient[i];
    roots[n_roots++] = objective; /* keeps u in the plan where a gradient does not need it */
    run.plan = sl_plan_new(roots, n_roots, &(sl_plan_options){.batch = CASE_BATCH, .training = true});
    if (!run.plan) fail_msg("%s: %s", c->name, sl_error(run.ctx));
    for (int k = 0; k < c->n_in; k++) {
        run.values[k] = case_values(&c->in[k], k, case_count(&run, run.in[k]));
        if (c->in[k].domain != SL_SAMPLE_STEP) case_set(&run, run.in[k], run.values[k]);
    }
    const int64_t count = case_valid_count(&run, y);
    double *us = random_values(case_count(&run, y), 500), *ts[MAX_IN];
    case_set(&run, u, us);
    for (int i = 0; i < n; i++) {
        ts[i] = random_values(case_count(&run, along[i]), 600u + (uint32_t)i);
        case_set(&run, along[i], ts[i]);
    }
    sl_plan_set_valid(run.plan, valid);
    case_run(&run, c);
    double *forward = case_get(&run, jt), size = 0, back_size = 0, back = 0;
    const double ahead = dot(us, forward, count, &size);
    for (int i = 0; i < n; i++) {
        if (!gradient[i]) continue;
        double *g = case_get(&run, gradient[i]);
        back += dot(g, ts[i], case_valid_count(&run, along[i]), &back_size);
        free(g);
    }
    if (!(fabs(ahead - back) <= 1e-12 * (1 + size + back_size)))
        fail_msg("%s, inputs %x: <u, Jt> = %.15g, <J'u, t> = %.15g", c->name, mask, ahead, back);
    /* Differences along the direction. The slope of step_ste is not that of its value, by design. */
    const bool surrogate =
        c->op == SL_OP_ACTIVATION && ((const sl_activation_attr *)c->attr)->id == SL_ROW_STEP_STE;
    const double h = 1e-6;
    double *side[2];
    for (int s = 0; s < 2; s++) {
        for (int i = 0; i < n; i++) {
            const int k = which[i];
            const int64_t all = case_count(&run, run.in[k]);
            double *moved = malloc((size_t)all * sizeof *moved);
            for (int64_t e = 0; e < all; e++) moved[e] = run.values[k][e] + (s ? -h : h) * ts[i][e];
            case_set(&run, run.in[k], moved);
            free(moved);
        }
        case_run(&run, c);
        side[s] = case_get(&run, y);
    }
    for (int64_t i = 0; i < count; i++) {
        const double seen = (side[0][i] - side[1][i]) / (2 * h);
        if (surrogate) break;
        if (!(fabs(seen - forward[i]) <= 1e-6 * (1 + fabs(seen))))
            fail_msg("%s, inputs %x, element %lld: computed %.12g, central difference %.12g", c->name, mask,
                     (long long)i, forward[i], seen);
    }
    for (int s = 0; s < 2; s++) free(side[s]);
    for (int i = 0; i < n; i++) free(ts[i]);
    free(forward);
    free(us);
    case_close(&run);
}

static int cases;

static void check(const op_case *c, int valid)
{
    if (!sl_rules(c->op)->jvp) return;
    unsigned floats = 0;
    for (int k = 0; k < c->n_in; k++)
        if (c->in[k].domain != SL_SAMPLE_CLASS && c->in[k].domain != SL_SAMPLE_STEP) floats |= 1u << k;
    if (c->op == SL_OP_BATCH_NORM || c->op == SL_OP_BATCH_NORM_APPLY)
        floats &= 7; /* not the running statistics */
    for (int k = 0; k < c->n_in; k++)
        if (floats >> k & 1) check_mask(c, valid, 1u << k);
    if (floats & (floats - 1)) check_mask(c, valid, floats);
    cases++;
}

static void test_every_operation(void **state)
{
    (void)state;
    case_every_sample(check);
    assert_true(cases > 60);
}

static void test_every_activation(void **state)
{
    (void)state;
    cases = 0;
    case_every_row(check);
    assert_true(cases > 60);
}

/* What can be trained through has a forward rule too. */
static void test_both_modes(void **state)
{
    (void)state;
    for (int op = 0; op < SL_OP_COUNT; op++)
        if (sl_rules((sl_op)op)->vjp && !sl_rules((sl_op)op)->jvp)
            fail_msg("%s has a vjp but no jvp", sl_op_name((sl_op)op));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_modes),
        cmocka_unit_test(test_every_operation),
        cmocka_unit_test(test_every_activation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
