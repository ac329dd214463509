/* The plan as text. */
#include "graph/plan.h"

static const char *inputs_text(const sl_node *node, char *buffer, size_t size)
{
    size_t used = 0;
    buffer[0] = 0;
    for (int k = 0; k < node->n_in && used < size; k++)
        used += (size_t)snprintf(buffer + used, size - used, "%s%s", k ? ", " : "", node->in[k]->name);
    return buffer;
}

static void print_place(const sl_plan *plan, const sl_node *node, FILE *to)
{
    const int b = plan->buffer_of[node->id];
    if (b < 0)
        fprintf(to, "  %10s %9s", "fixed", "always");
    else if (plan->buffers[b].offset < 0)
        fprintf(to, "  %10s %4d–%-4d", "guarded", plan->buffers[b].first, plan->buffers[b].last);
    else
        fprintf(to, "  %10lld %4d–%-4d", (long long)plan->buffers[b].offset, plan->buffers[b].first,
                plan->buffers[b].last);
}

/* Of n calls from number `first` on. */
static int count_launches(const sl_plan *plan, int first, int n)
{
    const sl_backend *backend = plan->ctx->backend;
    if (!backend->launches || !sl_ok(plan->ctx)) return 0;
    const int launches = backend->launches(plan->ctx->device, plan->ctx, plan->calls + first, n);
    return launches < 0 ? 0 : launches;
}

/* The front of a line: of a call's first output, or of a further one. */
static void print_front(const sl_plan *plan, int call, bool first, FILE *to)
{
    const bool launches = plan->ctx->backend->launches != NULL;
    if (first)
        fprintf(to, "%4d  ", plan->position[plan->call_nodes[call]->id]);
    else
        fprintf(to, "%6s", "");
    if (launches && first)
        fprintf(to, "%8d  ", count_launches(plan, call, 1));
    else if (launches)
        fprintf(to, "%10s", "");
}

void sl_plan_print(const sl_plan *plan, FILE *to)
{
    if (!plan || !to) return;
    fprintf(to, "plan on %s (%s), batch %lld\n", plan->ctx->backend->name,
            plan->ctx->backend->describe(plan->ctx->device), (long long)plan->batch);
    fprintf(to, "%4s  %s%-32s %-22s %-16s %10s  %10s %-9s  %s\n", "at",
            plan->ctx->backend->launches ? "launches  " : "", "operation/kernel", "node", "shape", "bytes",
            "offset", "alive", "reads");
    for (int c = 0; c < plan->n_calls; c++) {
        const sl_node *node = plan->call_nodes[c];
        char kernel[64], reads[256];
        snprintf(kernel, sizeof kernel, "%s/%s", sl_op_name(node->op), plan->calls[c].kernel->name);
        for (int k = 0; k < node->n_out || k == 0; k++) {
            if (k > 0 && !plan->calls[c].out[k].data) continue;
            print_front(plan, c, k == 0, to);
            fprintf(to, "%-32s ", k == 0 ? kernel : "");
            if (node->n_out == 0) {
                fprintf(to, "%-22s %-16s %10s  %10s %-9s  %s\n", node->name, "(in place)", "", "", "",
                        inputs_text(node, reads, sizeof reads));
                break;
            }
            const sl_node *output = node->outputs[k];
            fprintf(to, "%-22s %-16s %10lld", output->name,
                    sl_shape_print(sl_concrete(plan, output->shape)).text,
                    plan->calls[c].out[k].data ? (long long)sl_node_bytes(plan, output) : 0LL);
            print_place(plan, output, to);
            fprintf(to, "  %s\n", k == 0 ? inputs_text(node, reads, sizeof reads) : "");
        }
    }
    for (int i = 0; i < plan->n_fusions; i++)
        fprintf(to, "fused: %s at '%s'\n", plan->fusions[i].name, plan->fusions[i].node);
    fprintf(to, "%d kernel calls a step, ", plan->n_calls);
    if (plan->ctx->backend->launches) fprintf(to, "%d launches, ", count_launches(plan, 0, plan->n_calls));
    fprintf(to, "%d fusions; arena %.2f MiB, most alive at once %.2f MiB\n", plan->n_fusions,
            (double)plan->arena_bytes / (1 << 20), (double)plan->live_bytes / (1 << 20));
}

sl_plan_info sl_plan_describe(const sl_plan *plan)
{
    if (!plan) return (sl_plan_info){0};
    return (sl_plan_info){plan->n_calls, plan->n_fusions, plan->arena_bytes, plan->live_bytes,
                          count_launches(plan, 0, plan->n_calls)};
}
