/* profile_out.c - a profile as text and as JSON. */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "profile.h"

static const char *op_name(cdl_op op)
{
    return cdl_op_get(op)->name;
}

static const char *type_of(const profile_row *r)
{
    return profile_case_weighs(r->c.op) ? cdl_dtype_get(r->c.type)->name : "-";
}

/* "12.3 us", "4.56 ms" */
static const char *time_text(char *buf, size_t n, double seconds)
{
    if (seconds <= 0)
        snprintf(buf, n, "-");
    else if (seconds < 1e-6)
        snprintf(buf, n, "%.1f ns", seconds * 1e9);
    else if (seconds < 1e-3)
        snprintf(buf, n, seconds < 1e-4 ? "%.2f us" : "%.1f us", seconds * 1e6);
    else
        snprintf(buf, n, seconds < 0.1 ? "%.2f ms" : "%.1f ms", seconds * 1e3);
    return buf;
}

static const char *bytes_text(char *buf, size_t n, double bytes)
{
    if (bytes < 1e4)
        snprintf(buf, n, "%.0f B", bytes);
    else
        snprintf(buf, n, bytes < 1e6 ? "%.1f kB" : bytes < 1e9 ? "%.2f MB" : "%.2f GB",
                bytes / (bytes < 1e6 ? 1e3 : bytes < 1e9 ? 1e6 : 1e9));
    return buf;
}

double profile_phase_seconds(const profile_phase *p)
{
    double sum = 0;
    for (uint32_t i = 0; i < p->n; i++)
        sum += p->nodes[i].seconds;
    return sum;
}

/* ---- The machine ---- */

static void print_machine(const profile_machine *m)
{
    printf("%s: %s", m->device, m->name);
    if (!m->is_gpu)
        printf(", %s, %u threads", m->kernels, m->threads);
    if (m->is_virtual)
        printf(": counts are exact; nothing here is a time of a real GPU");
    if (m->driver[0])
        printf(", driver %s", m->driver);
    if (m->clocks[0])
        printf(", %s", m->clocks);
    putchar('\n');
    if (m->stream > 0)
        printf("measured limits: %.1f GB/s read", m->stream * 1e-9);
    if (m->f32 > 0)
        printf(", %.0f GFLOP/s f32", m->f32 * 1e-9);
    if (m->int8 > 0)
        printf(", %.2f TOP/s int8", m->int8 * 1e-12);
    if (m->half > 0)
        printf(", %.2f TFLOP/s 16-bit", m->half * 1e-12);
    if (m->stream > 0)
        putchar('\n');
}

/* ---- Ops, timed ---- */

static double percent(double part, double of)
{
    return of > 0 ? 100 * part / of : 0;
}

static void print_timed_head(void)
{
    printf("\n%-11s %-6s %-37s | %-17s %7s %5s %9s %5s %-14s | %-17s %9s\n", "op", "type", "shape",
            "cold", "GB/s", "%", "GFLOP/s", "%", "of its roof", "hot", "GFLOP/s");
}

static void print_timed(const profile_machine *m, const profile_row *r)
{
    char cold[24], hot[24];
    const char *limit, *peak;
    double bound = profile_bound(m, r, &limit), bytes = cdl_cost_bytes(&r->cost), t = r->cold.median;
    printf("%-11s %-6s %-37s | ", op_name(r->c.op), type_of(r), r->shape);
    if (r->cold.samples)
        printf("%10s +-%2.0f %% %7.2f %5.0f %9.2f %5.1f %5.0f %% %-6s", time_text(cold, sizeof cold, t),
                r->cold.spread * 100, bytes / t * 1e-9, percent(bytes / t, m->stream), r->cost.flops / t * 1e-9,
                percent(r->cost.flops / t, profile_peak(m, r, &peak)), percent(bound, t), limit);
    else
        printf("%-61s", "        - (its copies fit in a cache)");
    printf(" | %10s +-%2.0f %% %9.2f\n", time_text(hot, sizeof hot, r->hot.median), r->hot.spread * 100,
            r->cost.flops / r->hot.median * 1e-9);
}

/* ---- Ops, counted ---- */

static void print_kernel(const profile_kernel *k)
{
    char needed[24], asked[24], unique[24];
    printf("  %s\n    grid %u x %u x %u, %u threads; %u registers, %u bytes spilled or local, %u B shared, "
           "%u blocks an SM (occupancy %.0f %%) on sm_80\n", k->name, k->grid[0], k->grid[1], k->grid[2], k->threads,
            k->registers, k->local_bytes, k->shared_bytes, k->blocks, k->occupancy * 100);
    printf("    %.0f warp instructions, divergent branches %.0f of %.0f", k->warp_instructions, k->divergent,
            k->branches);
    if (k->wavefronts_ideal > 0)
        printf(", bank wavefronts / ideal %.3f", k->wavefronts / k->wavefronts_ideal);
    if (k->mma > 0)
        printf(", mma %.0f", k->mma);
    putchar('\n');
    for (uint32_t i = 0; i < k->n_operands; i++) {
        const profile_traffic *t = &k->operand[i];
        printf("    %-12s requested %10s  unique %10s", t->name, bytes_text(asked, sizeof asked, t->requested),
                bytes_text(unique, sizeof unique, t->unique));
        if (t->needed > 0)
            printf("  needed %10s  requested / needed %.2f", bytes_text(needed, sizeof needed, t->needed),
                    t->requested / t->needed);
        putchar('\n');
    }
}

static double mma_of(const profile_row *r)
{
    double mma = 0;
    for (uint32_t i = 0; i < r->n_kernels; i++)
        mma += r->kernels[i].mma;
    return mma;
}

static void print_counted(const profile_row *r)
{
    char text[24];
    printf("\n%s %s %s: %s needed", op_name(r->c.op), type_of(r), r->shape,
            bytes_text(text, sizeof text, cdl_cost_bytes(&r->cost)));
    printf(", %.3f GFLOP", r->cost.flops * 1e-9);
    if (r->cost.tiles > 0)
        printf(", mma / minimum %.2f", mma_of(r) / r->cost.tiles);
    putchar('\n');
    for (uint32_t i = 0; i < r->n_kernels; i++)
        print_kernel(&r->kernels[i]);
    printf("  estimate, not measured: no faster than");
    for (uint32_t i = 0; i < profile_n_gpus; i++)
        printf("%s %s on %s", i ? "," : "", time_text(text, sizeof text, profile_gpu_bound(&profile_gpus[i], &r->cost)),
                profile_gpus[i].name);
    printf(" by public figures\n");
}

/* ---- Models ---- */

/* Nodes of one op together, in order of first appearance. */
static uint32_t by_op(const profile_phase *p, profile_node out[CDL_OP_COUNT], uint32_t count[CDL_OP_COUNT])
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        const profile_node *node = &p->nodes[i];
        uint32_t k = 0;
        while (k < n && out[k].op != node->op)
            k++;
        if (k == n) {
            out[n] = (profile_node){ .op = node->op };
            count[n++] = 0;
        }
        out[k].seconds += node->seconds;
        out[k].cost.flops += node->cost.flops;
        out[k].cost.out += cdl_cost_bytes(&node->cost);
        count[k]++;
    }
    return n;
}

static void print_share(const profile_machine *m, const char *name, const profile_node *n, uint32_t count, double all)
{
    char text[24];
    double bytes = cdl_cost_bytes(&n->cost);
    printf("%-44.44s %5u %10s %6.1f %% %8.2f %5.0f %9.2f\n", name, count, time_text(text, sizeof text, n->seconds),
            percent(n->seconds, all), bytes / n->seconds * 1e-9, percent(bytes / n->seconds, m->stream),
            n->cost.flops / n->seconds * 1e-9);
}

static void print_phase(const profile_machine *m, const profile_phase *p)
{
    enum { NODES_SHOWN = 12 };
    char whole[24], apart[24];
    profile_node ops[CDL_OP_COUNT];
    uint32_t count[CDL_OP_COUNT], n = by_op(p, ops, count);
    double all = profile_phase_seconds(p);
    printf("\n%s: %s a step (%.1f tokens/s), node by node %s; median of %u\n", p->title,
            time_text(whole, sizeof whole, p->whole), p->tokens / p->whole, time_text(apart, sizeof apart, all),
            p->steps);
    printf("%-44s %5s %10s %8s %8s %5s %9s\n", "op", "nodes", "time", "share", "GB/s", "%", "GFLOP/s");
    for (uint32_t i = 0; i < n; i++)
        print_share(m, op_name(ops[i].op), &ops[i], count[i], all);
    printf("the nodes that take longest\n");
    double last = INFINITY;
    for (uint32_t shown = 0, at = 0; shown < NODES_SHOWN && shown < p->n; shown++, last = p->nodes[at].seconds) {
        double most = -1;
        for (uint32_t i = 0; i < p->n; i++)
            if (p->nodes[i].seconds > most && p->nodes[i].seconds < last) {
                most = p->nodes[i].seconds;
                at = i;
            }
        if (most < 0)
            break;
        print_share(m, p->nodes[at].name, &p->nodes[at], 1, all);
    }
}

/* ---- Models, counted ---- */

static void print_ratio(double part, double of)
{
    if (part > 0 && of > 0)
        printf(" %9.2f", part / of);
    else
        printf(" %9s", "-");
}

static void print_family(const profile_family *f, double instructions)
{
    char asked[24], needed[24];
    printf("%-12s %5u %8u %12.0f %6.1f %% %11s %11s", f->name, f->nodes, f->launches, f->sum.warp_instructions,
            percent(f->sum.warp_instructions, instructions), bytes_text(asked, sizeof asked, f->requested),
            bytes_text(needed, sizeof needed, f->bytes));
    print_ratio(f->requested, f->bytes);
    print_ratio(f->sum.wavefronts, f->sum.wavefronts_ideal);
    print_ratio(f->sum.mma, f->tiles);
    printf(" %7.1f %%\n", percent(f->sum.divergent, f->sum.branches));
}

static void print_traffic(const char *family, const profile_traffic *t)
{
    char asked[24], needed[24];
    if (t->requested > 0 && t->needed > 0)
        printf("  %s of %s: requested %s, needed %s, requested / needed %.3f\n", t->name, family,
                bytes_text(asked, sizeof asked, t->requested), bytes_text(needed, sizeof needed, t->needed),
                t->requested / t->needed);
}

static void print_kernels(const profile_phase *p)
{
    printf("%-52s %8s %12s %9s %7s %6s\n", "kernel", "launches", "instructions", "registers", "spilled", "occup.");
    for (uint32_t i = 0; i < p->n_kernels; i++) {
        const profile_kernel *k = &p->kernels[i];
        printf("%-52s %8u %12.0f %9u %7u %4.0f %%\n", k->name, k->launches, k->warp_instructions, k->registers,
                k->local_bytes, k->occupancy * 100);
    }
}

static void print_counted_phase(const profile_phase *p)
{
    char text[24];
    profile_family f[PROFILE_FAMILIES_MAX];
    uint32_t n = profile_families(p, f), launches = 0;
    double instructions = 0;
    for (uint32_t i = 0; i < n; i++) {
        launches += f[i].launches;
        instructions += f[i].sum.warp_instructions;
    }
    printf("\n%s: %u launches, %.0f warp instructions\n", p->title, launches, instructions);
    printf("%-12s %5s %8s %12s %8s %11s %11s %9s %9s %9s %9s\n", "op", "nodes", "launches", "instructions", "share",
            "requested", "needed", "req/need", "banks", "mma/min", "divergent");
    for (uint32_t i = 0; i < n; i++)
        print_family(&f[i], instructions);
    for (uint32_t i = 0; i < n; i++) {
        print_traffic(f[i].name, &f[i].weights);
        print_traffic(f[i].name, &f[i].state);
    }
    print_kernels(p);
    printf("  estimate, not measured: no faster than");
    for (uint32_t i = 0; i < profile_n_gpus; i++)
        printf("%s %s on %s", i ? "," : "", time_text(text, sizeof text, profile_phase_bound(&profile_gpus[i], p)),
                profile_gpus[i].name);
    printf(" by public figures, node after node\n");
}

void profile_print_table(const profile_report *r)
{
    print_machine(r->machine);
    if (r->n_rows && !r->machine->is_virtual)
        print_timed_head();
    for (uint32_t i = 0; i < r->n_rows; i++) {
        if (r->machine->is_virtual)
            print_counted(&r->rows[i]);
        else
            print_timed(r->machine, &r->rows[i]);
    }
    for (uint32_t i = 0; r->model && i < r->model->n_phases; i++) {
        if (r->machine->is_virtual)
            print_counted_phase(&r->model->phase[i]);
        else
            print_phase(r->machine, &r->model->phase[i]);
    }
}

/* ---- JSON ---- */

static cuddle_status put_text(cdl_buf *b, const char *key, const char *text)
{
    CDL_TRY(cdl_buf_printf(b, "\"%s\":", key));
    return cdl_json_put_string(b, text, strlen(text));
}

static cuddle_status put_numbers(cdl_buf *b, const char *const keys[], const double values[], uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        CDL_TRY(cdl_buf_printf(b, "%s\"%s\":", i ? "," : "", keys[i]));
        CDL_TRY(cdl_json_put_double(b, values[i]));
    }
    return CUDDLE_OK;
}

static cuddle_status put_machine(cdl_buf *b, const profile_machine *m)
{
    static const char *const keys[] = { "threads", "cache_bytes", "stream_bytes_s", "f32_flop_s", "int8_op_s",
                                        "half_flop_s" };
    const double values[] = { m->threads, (double)m->cache_bytes, m->stream, m->f32, m->int8, m->half };
    CDL_TRY(cdl_buf_puts(b, "{"));
    CDL_TRY(put_text(b, "device", m->device));
    CDL_TRY(cdl_buf_puts(b, ","));
    CDL_TRY(put_text(b, "name", m->name));
    CDL_TRY(cdl_buf_puts(b, ","));
    CDL_TRY(put_text(b, "kernels", m->kernels));
    CDL_TRY(cdl_buf_puts(b, ","));
    CDL_TRY(put_text(b, "driver", m->driver));
    CDL_TRY(cdl_buf_puts(b, ","));
    CDL_TRY(put_text(b, "clocks", m->clocks));
    CDL_TRY(cdl_buf_printf(b, ",\"virtual\":%s,", m->is_virtual ? "true" : "false"));
    CDL_TRY(put_numbers(b, keys, values, sizeof values / sizeof *values));
    return cdl_buf_puts(b, "}");
}

static cuddle_status put_time(cdl_buf *b, const char *key, const profile_time *t)
{
    static const char *const keys[] = { "median_s", "spread", "best_s", "samples" };
    const double values[] = { t->median, t->spread, t->best, t->samples };
    if (!t->samples)
        return CUDDLE_OK;
    CDL_TRY(cdl_buf_printf(b, ",\"%s\":{", key));
    CDL_TRY(put_numbers(b, keys, values, 4));
    return cdl_buf_puts(b, "}");
}

static cuddle_status put_kernel(cdl_buf *b, const profile_kernel *k)
{
    static const char *const keys[] = { "launches", "threads", "registers", "local_bytes", "shared_bytes", "blocks",
        "occupancy", "warp_instructions", "branches", "divergent_branches", "wavefronts", "wavefronts_ideal", "mma" };
    const double values[] = { k->launches, k->threads, k->registers, k->local_bytes, k->shared_bytes, k->blocks,
        k->occupancy, k->warp_instructions, k->branches, k->divergent, k->wavefronts, k->wavefronts_ideal, k->mma };
    static const char *const traffic[] = { "requested_bytes", "unique_bytes", "needed_bytes" };
    CDL_TRY(cdl_buf_puts(b, "{"));
    CDL_TRY(put_text(b, "kernel", k->name));
    if (k->grid[0])
        CDL_TRY(cdl_buf_printf(b, ",\"grid\":[%u,%u,%u]", k->grid[0], k->grid[1], k->grid[2]));
    CDL_TRY(cdl_buf_puts(b, ","));
    CDL_TRY(put_numbers(b, keys, values, sizeof values / sizeof *values));
    CDL_TRY(cdl_buf_puts(b, ",\"operands\":["));
    for (uint32_t i = 0; i < k->n_operands; i++) {
        const profile_traffic *t = &k->operand[i];
        const double bytes[] = { t->requested, t->unique, t->needed };
        CDL_TRY(cdl_buf_puts(b, i ? ",{" : "{"));
        CDL_TRY(put_text(b, "name", t->name));
        CDL_TRY(cdl_buf_puts(b, ","));
        CDL_TRY(put_numbers(b, traffic, bytes, t->needed > 0 ? 3 : 2));
        CDL_TRY(cdl_buf_puts(b, "}"));
    }
    return cdl_buf_puts(b, "]}");
}

/* Of a call, or of a phase. */
static cuddle_status put_estimates(cdl_buf *b, const cdl_cost *c, const profile_phase *p)
{
    CDL_TRY(cdl_buf_puts(b, ",\"estimate\":["));
    for (uint32_t i = 0; i < profile_n_gpus; i++) {
        const profile_gpu *g = &profile_gpus[i];
        static const char *const keys[] = { "bound_s", "bytes_s", "flop_s" };
        const double values[] = { p ? profile_phase_bound(g, p) : profile_gpu_bound(g, c), g->bytes_s, g->flops_s };
        CDL_TRY(cdl_buf_puts(b, i ? ",{" : "{"));
        CDL_TRY(put_text(b, "gpu", g->name));
        CDL_TRY(cdl_buf_puts(b, ","));
        CDL_TRY(put_numbers(b, keys, values, 3));
        CDL_TRY(cdl_buf_puts(b, ","));
        CDL_TRY(put_text(b, "source", g->source));
        CDL_TRY(cdl_buf_puts(b, "}"));
    }
    return cdl_buf_puts(b, "]");
}

static cuddle_status put_row(cdl_buf *b, const profile_machine *m, const profile_row *r)
{
    const char *limit;
    static const char *const keys[] = { "bytes", "flops", "mma_minimum", "bound_s" };
    const double values[] = { cdl_cost_bytes(&r->cost), r->cost.flops, r->cost.tiles, profile_bound(m, r, &limit) };
    CDL_TRY(cdl_buf_puts(b, "{"));
    CDL_TRY(put_text(b, "op", op_name(r->c.op)));
    CDL_TRY(cdl_buf_puts(b, ","));
    CDL_TRY(put_text(b, "type", type_of(r)));
    CDL_TRY(cdl_buf_puts(b, ","));
    CDL_TRY(put_text(b, "shape", r->shape));
    CDL_TRY(cdl_buf_puts(b, ","));
    CDL_TRY(put_numbers(b, keys, values, 4));
    CDL_TRY(cdl_buf_printf(b, ",\"limit\":\"%s\",\"prompt\":%s", limit, r->c.prompt ? "true" : "false"));
    CDL_TRY(put_time(b, "cold", &r->cold));
    CDL_TRY(put_time(b, "hot", &r->hot));
    if (m->is_virtual) {
        CDL_TRY(cdl_buf_puts(b, ",\"launches\":["));
        for (uint32_t i = 0; i < r->n_kernels; i++) {
            CDL_TRY(cdl_buf_puts(b, i ? "," : ""));
            CDL_TRY(put_kernel(b, &r->kernels[i]));
        }
        CDL_TRY(cdl_buf_puts(b, "]"));
        CDL_TRY(put_estimates(b, &r->cost, NULL));
    }
    return cdl_buf_puts(b, "}");
}

static cuddle_status put_phase(cdl_buf *b, const profile_phase *p)
{
    static const char *const keys[] = { "tokens", "steps", "step_s", "nodes_s" };
    const double values[] = { p->tokens, p->steps, p->whole, profile_phase_seconds(p) };
    static const char *const of_node[] = { "rows", "cols", "begin_s", "seconds", "bytes", "flops" };
    CDL_TRY(cdl_buf_puts(b, "{"));
    CDL_TRY(put_text(b, "title", p->title));
    CDL_TRY(cdl_buf_puts(b, ","));
    CDL_TRY(put_numbers(b, keys, values, 4));
    CDL_TRY(cdl_buf_puts(b, ",\"nodes\":["));
    for (uint32_t i = 0; i < p->n; i++) {
        const profile_node *n = &p->nodes[i];
        const double v[] = { n->rows, n->cols, n->begin, n->seconds, cdl_cost_bytes(&n->cost), n->cost.flops };
        CDL_TRY(cdl_buf_puts(b, i ? ",\n{" : "\n{"));
        CDL_TRY(put_text(b, "name", n->name));
        CDL_TRY(cdl_buf_printf(b, ",\"op\":\"%s\",", op_name(n->op)));
        CDL_TRY(put_numbers(b, of_node, v, 6));
        CDL_TRY(cdl_buf_puts(b, "}"));
    }
    return cdl_buf_puts(b, "]}");
}

static cuddle_status put_ratio(cdl_buf *b, const char *key, const profile_traffic *t)
{
    static const char *const keys[] = { "requested_bytes", "needed_bytes" };
    const double values[] = { t->requested, t->needed };
    if (t->requested <= 0 || t->needed <= 0)
        return CUDDLE_OK;
    CDL_TRY(cdl_buf_printf(b, ",\"%s\":{", key));
    CDL_TRY(put_numbers(b, keys, values, 2));
    return cdl_buf_puts(b, "}");
}

static cuddle_status put_family(cdl_buf *b, const profile_family *f)
{
    static const char *const keys[] = { "nodes", "launches", "bytes", "flops", "mma_minimum", "warp_instructions",
        "branches", "divergent_branches", "wavefronts", "wavefronts_ideal", "mma", "requested_bytes", "unique_bytes" };
    const double values[] = { f->nodes, f->launches, f->bytes, f->flops, f->tiles, f->sum.warp_instructions,
        f->sum.branches, f->sum.divergent, f->sum.wavefronts, f->sum.wavefronts_ideal, f->sum.mma, f->requested,
        f->unique };
    CDL_TRY(cdl_buf_puts(b, "{"));
    CDL_TRY(put_text(b, "op", f->name));
    CDL_TRY(cdl_buf_puts(b, ","));
    CDL_TRY(put_numbers(b, keys, values, sizeof values / sizeof *values));
    CDL_TRY(put_ratio(b, "weights", &f->weights));
    CDL_TRY(put_ratio(b, "state", &f->state));
    return cdl_buf_puts(b, "}");
}

static cuddle_status put_counted_phase(cdl_buf *b, const profile_phase *p)
{
    static const char *const of_node[] = { "rows", "cols", "bytes", "flops" };
    profile_family f[PROFILE_FAMILIES_MAX];
    uint32_t n = profile_families(p, f);
    CDL_TRY(cdl_buf_puts(b, "{"));
    CDL_TRY(put_text(b, "title", p->title));
    CDL_TRY(cdl_buf_printf(b, ",\"tokens\":%u,\"ops\":[", p->tokens));
    for (uint32_t i = 0; i < n; i++) {
        CDL_TRY(cdl_buf_puts(b, i ? ",\n" : "\n"));
        CDL_TRY(put_family(b, &f[i]));
    }
    CDL_TRY(cdl_buf_puts(b, "],\"kernels\":["));
    for (uint32_t i = 0; i < p->n_kernels; i++) {
        CDL_TRY(cdl_buf_puts(b, i ? ",\n" : "\n"));
        CDL_TRY(put_kernel(b, &p->kernels[i]));
    }
    CDL_TRY(cdl_buf_puts(b, "],\"nodes\":["));
    for (uint32_t i = 0; i < p->n; i++) {
        const profile_node *node = &p->nodes[i];
        const double v[] = { node->rows, node->cols, cdl_cost_bytes(&node->cost), node->cost.flops };
        CDL_TRY(cdl_buf_puts(b, i ? ",\n{" : "\n{"));
        CDL_TRY(put_text(b, "name", node->name));
        CDL_TRY(cdl_buf_printf(b, ",\"op\":\"%s\",", op_name(node->op)));
        CDL_TRY(put_numbers(b, of_node, v, 4));
        CDL_TRY(cdl_buf_puts(b, "}"));
    }
    CDL_TRY(cdl_buf_puts(b, "]"));
    CDL_TRY(put_estimates(b, NULL, p));
    return cdl_buf_puts(b, "}");
}

cuddle_status profile_put_json(cdl_buf *b, const profile_report *r)
{
    CDL_TRY(cdl_buf_puts(b, "{"));
    CDL_TRY(put_text(b, "cuddle", cuddle_version()));
    CDL_TRY(cdl_buf_puts(b, ",\n\"machine\":"));
    CDL_TRY(put_machine(b, r->machine));
    CDL_TRY(cdl_buf_puts(b, ",\n\"ops\":["));
    for (uint32_t i = 0; i < r->n_rows; i++) {
        CDL_TRY(cdl_buf_puts(b, i ? ",\n" : "\n"));
        CDL_TRY(put_row(b, r->machine, &r->rows[i]));
    }
    CDL_TRY(cdl_buf_puts(b, "]"));
    if (r->model) {
        CDL_TRY(cdl_buf_puts(b, ",\n\"model\":{"));
        CDL_TRY(put_text(b, "name", r->model->model));
        CDL_TRY(cdl_buf_puts(b, ",\"phases\":["));
        for (uint32_t i = 0; i < r->model->n_phases; i++) {
            CDL_TRY(cdl_buf_puts(b, i ? "," : ""));
            CDL_TRY(r->machine->is_virtual ? put_counted_phase(b, &r->model->phase[i])
                                           : put_phase(b, &r->model->phase[i]));
        }
        CDL_TRY(cdl_buf_puts(b, "]}"));
    }
    return cdl_buf_puts(b, "}\n");
}
