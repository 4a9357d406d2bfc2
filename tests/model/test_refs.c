/* test_refs.c - the tiny models of every architecture against Hugging Face's own outputs, and those of GPTQ and AWQ
 * against their dequantised weights': logits within check.py's bounds, greedy continuations equal outside near
 * ties; with every set of kernels. */
#include "cases.h"

static const double tie = 1e-3;

static double noise_of(const cdl_json *c)
{
    double a = cdl_json_double(cdl_json_get(cdl_json_get(c, "noise_float64"), "logits"), 0);
    double b = cdl_json_double(cdl_json_get(cdl_json_get(c, "noise_nudge"), "logits"), 0);
    a = a < 1e-3 ? a : 0;
    b = b < 1e-3 ? b : 0;
    return a > b ? a : b;
}

/* Error / bound. */
static double check_case(const reference *r, const cdl_json *c)
{
    cases_result m = cases_measure(r, c, false);
    double bound = fmax(5e-5 + 5e-5 * m.largest, 20 * noise_of(c));
    if (!(m.error <= bound))
        fail_msg("%s %s (%s): error %g, bound %g", r->name, c->key, r->set ? r->set : "best", m.error, bound);
    return m.error / bound;
}

/* Greedy tokens of row b after its prompt; a first difference must be a near tie. */
static void check_greedy(reference *r, const cdl_json *g, uint32_t b)
{
    const cdl_json *ids = cdl_json_at(cdl_json_get(g, "new_ids"), b), *gap = cdl_json_at(cdl_json_get(g, "gap"), b);
    row x = cases_row(r, g->key, b);
    float *logits = malloc(sizeof *logits * r->vocab);
    cuddle_sequence *s;
    MUST(cuddle_sequence_open(&s, r->engine));
    MUST(cuddle_sequence_feed(s, x.tokens, x.n, logits));
    for (size_t i = 0; i < ids->n; i++) {
        int32_t token = (int32_t)refs_argmax(logits, r->vocab);
        if (token != cdl_json_int(cdl_json_at(ids, i), -1)) {
            if (cdl_json_double(cdl_json_at(gap, i), 1) >= tie)
                fail_msg("%s greedy %s (%s): token %zu is %d", r->name, g->key, r->set ? r->set : "best", i, token);
            break;
        }
        MUST(cuddle_sequence_decode(s, token, logits));
    }
    cuddle_sequence_close(s);
    free(logits);
}

static void check_model(const char *name, const char *set)
{
    reference r;
    cuddle_engine_opts o = cases_options();
    double worst = 0;
    o.f32_activations = true;
    o.cpu = set;
    if (cases_open(&r, name, set, &o) == CUDDLE_OK) { /* else this CPU lacks the set */
        const cdl_json *cases = cdl_json_get(r.meta, "cases"), *greedy = cdl_json_get(r.meta, "greedy");
        assert_true(cdl_json_len(cases) > 0);
        for (size_t i = 0; i < cdl_json_len(cases); i++)
            worst = fmax(worst, check_case(&r, cdl_json_at(cases, i)));
        for (size_t i = 0; i < cdl_json_len(greedy); i++)
            for (uint32_t b = 0; b < cdl_json_len(cdl_json_get(cdl_json_at(greedy, i), "new_ids")); b++)
                check_greedy(&r, cdl_json_at(greedy, i), b);
        printf("%-19s %-7s worst error %.0f %% of the bound\n", name, set ? set : "best", 100 * worst);
    }
    cases_close(&r);
}

static void test_model(void **state)
{
    static const char *const sets[] = { "ref", "avx2", "avx512", "amx" };
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        check_model(*state, sets[i]);
}

int main(void)
{
    struct CMUnitTest tests[CASES_MODELS + CASES_INT4];
    for (size_t i = 0; i < CASES_MODELS + CASES_INT4; i++) {
        const char *name = i < CASES_MODELS ? cases_models[i] : cases_int4[i - CASES_MODELS];
        tests[i] = (struct CMUnitTest){ .name = name, .test_func = test_model, .initial_state = (void *)name };
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
