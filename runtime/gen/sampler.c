#include "cuddle_sampler.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "gen/sampler.h"
#include "gen/sampler_math.h"

struct cuddle_sampler {
    cuddle_sampling o;           /* defaults filled in                                    */
    cuddle_logit_bias *bias;     /* [o.n_bias]                                            */
    size_t vocab;
    bool random, edits;          /* draws; changes logits before that                     */
    float *x;                    /* [vocab] edited logits; NULL when nothing edits them   */
    /* Candidates of a draw: weights e^((x - max) / temperature) and their tokens. */
    float *w;                    /* [vocab]                                               */
    int32_t *id;                 /* [vocab]                                               */
    uint32_t *order;             /* [vocab] scratch of cut_by_mass                        */
    float *key;                  /* [vocab] typical-p's sort keys, or NULL                */
    size_t n;
    bool dense;                  /* candidate i is token i; id is not filled              */
    double total;                /* of w                                                  */
    /* History. */
    uint32_t *count;             /* [vocab] times generated; NULL without penalties       */
    uint8_t *seen;               /* [vocab] 1: in distinct                                */
    int32_t *distinct;           /* [n_distinct] tokens of prompt and generation          */
    size_t n_distinct;
    int32_t *history;            /* [n_history] all of them in order; NULL without n-grams */
    size_t n_history, history_max;
    int32_t *banned;             /* [history_max] tokens, some maybe twice                */
};

/* ---- Options ---- */

static cuddle_status check_field(bool ok, const char *name, double value, const char *range)
{
    if (ok)
        return CUDDLE_OK;
    return cdl_status_fail(CUDDLE_ERR_ARG, "sampling: %s is %g; it must be %s", name, value, range);
}

static void fill_defaults(cuddle_sampling *o)
{
    if (o->mode == CUDDLE_PICK_DEFAULT)
        o->mode = o->temperature != 0 ? CUDDLE_PICK_SAMPLE : CUDDLE_PICK_GREEDY;
    if (o->temperature == 0)
        o->temperature = 1;
    if (o->top_p == 0)
        o->top_p = 1;
    if (o->typical_p == 0)
        o->typical_p = 1;
    if (o->repetition_penalty == 0)
        o->repetition_penalty = 1;
}

static bool is_share(float v)
{
    return v > 0 && v <= 1;
}

static cuddle_status check_options(const cuddle_sampling *o, size_t vocab)
{
    CDL_TRY(check_field(o->mode <= CUDDLE_PICK_SAMPLE, "mode", o->mode, "a CUDDLE_PICK_ value"));
    CDL_TRY(check_field(o->temperature > 0 && isfinite(o->temperature), "temperature", o->temperature,
            "above 0 (for the likeliest token choose greedy)"));
    CDL_TRY(check_field(is_share(o->top_p), "top_p", o->top_p, "in (0, 1]"));
    CDL_TRY(check_field(o->min_p >= 0 && o->min_p <= 1, "min_p", o->min_p, "in [0, 1]"));
    CDL_TRY(check_field(is_share(o->typical_p), "typical_p", o->typical_p, "in (0, 1]"));
    CDL_TRY(check_field(o->epsilon_cutoff >= 0 && o->epsilon_cutoff < 1, "epsilon_cutoff",
            o->epsilon_cutoff, "in [0, 1)"));
    CDL_TRY(check_field(o->eta_cutoff >= 0 && o->eta_cutoff < 1, "eta_cutoff", o->eta_cutoff, "in [0, 1)"));
    CDL_TRY(check_field(o->repetition_penalty > 0 && isfinite(o->repetition_penalty),
            "repetition_penalty", o->repetition_penalty, "above 0"));
    CDL_TRY(check_field(isfinite(o->presence_penalty), "presence_penalty", o->presence_penalty, "finite"));
    CDL_TRY(check_field(isfinite(o->frequency_penalty), "frequency_penalty", o->frequency_penalty, "finite"));
    if (o->n_bias && !o->bias)
        return cdl_status_fail(CUDDLE_ERR_ARG, "sampling: n_bias is %zu but bias is NULL", o->n_bias);
    for (size_t i = 0; i < o->n_bias; i++) {
        if (o->bias[i].token < 0 || (size_t)o->bias[i].token >= vocab)
            return cdl_status_fail(CUDDLE_ERR_ARG,
                    "sampling: logit bias for token %d, which is not in the vocabulary of %zu",
                    o->bias[i].token, vocab);
        CDL_TRY(check_field(!isnan(o->bias[i].bias), "a logit bias", o->bias[i].bias, "a number"));
    }
    return CUDDLE_OK;
}

static bool has_penalties(const cuddle_sampling *o)
{
    return o->repetition_penalty != 1 || o->presence_penalty != 0 || o->frequency_penalty != 0;
}

/* A token's biases become one. */
static void take_biases(cuddle_sampler *s)
{
    const cuddle_logit_bias *from = s->o.bias;
    size_t n = 0;
    for (size_t i = 0; i < s->o.n_bias; i++) {
        size_t k = 0;
        while (k < n && s->bias[k].token != from[i].token)
            k++;
        if (k == n)
            s->bias[n++] = from[i];
        else
            s->bias[k].bias += from[i].bias;
    }
    s->o.bias = s->bias;
    s->o.n_bias = n;
}

/* False when memory is out. */
static bool allocate(cuddle_sampler *s)
{
    const cuddle_sampling *o = &s->o;
    size_t v = s->vocab;
    bool ok = true;
    if (o->n_bias) {
        ok &= (s->bias = cdl_mem_array(o->n_bias, sizeof *s->bias)) != NULL;
        if (s->bias)
            take_biases(s);
    }
    if (s->edits)
        ok &= (s->x = cdl_mem_array(v, sizeof *s->x)) != NULL;
    if (s->random) {
        ok &= (s->w = cdl_mem_array(v, sizeof *s->w)) != NULL;
        ok &= (s->id = cdl_mem_array(v, sizeof *s->id)) != NULL;
        ok &= (s->order = cdl_mem_array(v, sizeof *s->order)) != NULL;
        if (o->typical_p < 1)
            ok &= (s->key = cdl_mem_array(v, sizeof *s->key)) != NULL;
    }
    if (has_penalties(o)) {
        ok &= (s->count = cdl_mem_zalloc(v, sizeof *s->count)) != NULL;
        ok &= (s->seen = cdl_mem_zalloc(v, sizeof *s->seen)) != NULL;
        ok &= (s->distinct = cdl_mem_array(v, sizeof *s->distinct)) != NULL;
    }
    if (o->no_repeat_ngram)
        ok &= (s->history = cdl_mem_array(s->history_max, 2 * sizeof *s->history)) != NULL;
    s->banned = s->history ? s->history + s->history_max : NULL;
    return ok;
}

cuddle_status cuddle_sampler_new(cuddle_sampler **out, size_t vocab, size_t context_max,
        const cuddle_sampling *options)
{
    *out = NULL;
    if (vocab < 1 || vocab > INT32_MAX)
        return cdl_status_fail(CUDDLE_ERR_ARG, "sampler: a vocabulary of %zu tokens; it must have 1 to %d",
                vocab, INT32_MAX);
    cuddle_sampling o = { 0 };
    if (options) {
        if (!options->size)
            return cdl_status_fail(CUDDLE_ERR_ARG, "sampler: options.size is 0; set it to sizeof options");
        memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    }
    fill_defaults(&o);
    CDL_TRY(check_options(&o, vocab));
    cuddle_sampler *s = cdl_mem_zalloc(1, sizeof *s);
    if (!s)
        return cdl_status_nomem("the sampler");
    s->o = o;
    s->vocab = vocab;
    s->history_max = context_max;
    s->random = o.mode == CUDDLE_PICK_SAMPLE;
    s->edits = o.n_bias || has_penalties(&o) || o.no_repeat_ngram;
    if (!allocate(s)) {
        cuddle_sampler_free(s);
        return cdl_status_nomem("the sampler");
    }
    *out = s;
    return CUDDLE_OK;
}

void cuddle_sampler_free(cuddle_sampler *s)
{
    if (!s)
        return;
    cdl_mem_free(s->bias);
    cdl_mem_free(s->x);
    cdl_mem_free(s->w);
    cdl_mem_free(s->id);
    cdl_mem_free(s->order);
    cdl_mem_free(s->key);
    cdl_mem_free(s->count);
    cdl_mem_free(s->seen);
    cdl_mem_free(s->distinct);
    cdl_mem_free(s->history);
    cdl_mem_free(s);
}

bool cuddle_sampler_is_random(const cuddle_sampler *s)
{
    return s->random;
}

/* ---- History ---- */

static cuddle_status remember(cuddle_sampler *s, const int32_t *tokens, size_t n, bool generated)
{
    if (s->history) {
        if (n > s->history_max - s->n_history)
            return cdl_status_fail(CUDDLE_ERR_FULL,
                    "sampler: %zu tokens of history do not fit into its context of %zu",
                    s->n_history + n, s->history_max);
        memcpy(s->history + s->n_history, tokens, n * sizeof *tokens);
        s->n_history += n;
    }
    for (size_t i = 0; s->count && i < n; i++) {
        size_t t = (size_t)tokens[i];
        if (tokens[i] < 0 || t >= s->vocab)
            continue;
        s->count[t] += generated && s->count[t] < UINT32_MAX;
        if (!s->seen[t])
            s->distinct[s->n_distinct++] = tokens[i];
        s->seen[t] = 1;
    }
    return CUDDLE_OK;
}

cuddle_status cuddle_sampler_prompt(cuddle_sampler *s, const int32_t *tokens, size_t n)
{
    return n ? remember(s, tokens, n, false) : CUDDLE_OK;
}

cuddle_status cuddle_sampler_accept(cuddle_sampler *s, int32_t token)
{
    return remember(s, &token, 1, true);
}

void cuddle_sampler_reset(cuddle_sampler *s)
{
    for (size_t i = 0; i < s->n_distinct; i++) {
        s->count[s->distinct[i]] = 0;
        s->seen[s->distinct[i]] = 0;
    }
    s->n_distinct = s->n_history = 0;
}

/* ---- Stages that edit logits ---- */

static void apply_penalties(cuddle_sampler *s)
{
    const cuddle_sampling *o = &s->o;
    for (size_t i = 0; i < s->n_distinct; i++) {
        int32_t t = s->distinct[i];
        float v = s->x[t];
        v = v < 0 ? v * o->repetition_penalty : v / o->repetition_penalty;
        if (s->count[t])
            v -= o->presence_penalty + o->frequency_penalty * (float)s->count[t];
        s->x[t] = v;
    }
}

/* Every token that would complete an n-gram that is already there. */
static size_t list_banned(cuddle_sampler *s)
{
    size_t tail = s->o.no_repeat_ngram - 1, n = 0;
    if (!s->history || s->n_history < tail)
        return 0;
    const int32_t *h = s->history, *last = h + s->n_history - tail;
    for (size_t i = 0; i + tail < s->n_history; i++) {
        int32_t t = h[i + tail];
        if (t >= 0 && (size_t)t < s->vocab && memcmp(h + i, last, tail * sizeof *h) == 0)
            s->banned[n++] = t;
    }
    return n;
}

/* The logits after the stages that edit them. */
static const float *edit(cuddle_sampler *s, const float *logits)
{
    if (!s->edits)
        return logits;
    memcpy(s->x, logits, s->vocab * sizeof *s->x);
    for (size_t i = 0; i < s->o.n_bias; i++)
        s->x[s->bias[i].token] += s->bias[i].bias;
    if (s->count)
        apply_penalties(s);
    for (size_t n = list_banned(s); n > 0; n--)
        s->x[s->banned[n - 1]] = -INFINITY;
    return s->x;
}

/* ---- Stages that drop candidates ---- */

/* Keeps candidates of weight >= least (> 0), in order. */
static void keep_from(cuddle_sampler *s, float least)
{
    size_t n = 0;
    double total = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (s->dense && i % CDL_LANES == 0 && i + CDL_LANES <= s->n && !cdl_any_from(s->w + i, least)) {
            i += CDL_LANES - 1;
            continue;
        }
        if (!(s->w[i] >= least))
            continue;
        s->id[n] = s->dense ? (int32_t)i : s->id[i];
        s->w[n] = s->w[i];
        total += s->w[n++];
    }
    s->n = n;
    s->total = total;
    s->dense = false;
}

/* The k likeliest tokens of x, and ties of the k-th, become the candidates. */
static void keep_top_k(cuddle_sampler *s, const float *x, float max)
{
    float kth = cdl_kth_largest(x, s->vocab, s->o.top_k, s->w);
    size_t n = 0;
    for (size_t i = 0; i < s->vocab; i++) {
        if (i % CDL_LANES == 0 && i + CDL_LANES <= s->vocab && !cdl_any_from(x + i, kth)) {
            i += CDL_LANES - 1;
            continue;
        }
        if (x[i] >= kth && x[i] > -INFINITY) {
            s->id[n] = (int32_t)i;
            s->w[n++] = x[i];
        }
    }
    s->n = n;
    s->dense = false;
    s->total = cdl_weigh(s->w, s->w, n, max, 1 / s->o.temperature);
}

static bool is_before(const float *key, uint32_t a, uint32_t b)
{
    return key[a] > key[b] || (key[a] == key[b] && a < b);
}

/* Puts what is before order[pivot] in front of it; the pivot's new place. */
static size_t split(uint32_t *order, const float *key, size_t lo, size_t hi, size_t pivot)
{
    uint32_t p = order[pivot];
    order[pivot] = order[hi - 1];
    size_t m = lo;
    for (size_t i = lo; i + 1 < hi; i++) {
        uint32_t o = order[i];
        order[i] = order[m];
        order[m] = o;
        m += is_before(key, o, p);
    }
    order[hi - 1] = order[m];
    order[m] = p;
    return m;
}

/* The candidate, in order of key (larger first, then index), at which the sum of weights reaches
 * want. A quickselect by weight: O(n). */
static uint32_t cut_by_mass(cuddle_sampler *s, const float *key, double want)
{
    uint32_t *order = s->order, random = 12345;
    for (size_t i = 0; i < s->n; i++)
        order[i] = (uint32_t)i;
    size_t lo = 0, hi = s->n;
    double before = 0;
    while (hi - lo > 1) {
        random = random * 1664525u + 1013904223u;
        size_t m = split(order, key, lo, hi, lo + random % (hi - lo));
        double left = 0;
        for (size_t i = lo; i < m; i++)
            left += s->w[order[i]];
        double with = before + left + s->w[order[m]];
        if (m > lo && before + left >= want) {
            hi = m;
        } else if (with >= want || m + 1 == hi) {
            return order[m];
        } else {
            before = with;
            lo = m + 1;
        }
    }
    return order[lo];
}

/* Keeps candidates whose key is larger than that of `last`, or equal (up to it when !ties). */
static void keep_to(cuddle_sampler *s, const float *key, uint32_t last, bool ties)
{
    float k = key[last];
    size_t n = 0;
    double total = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (!(key[i] > k || (key[i] == k && (ties || i <= last))))
            continue;
        s->id[n] = s->id[i];
        s->w[n] = s->w[i];
        total += s->w[n++];
    }
    s->n = n;
    s->total = total;
}

static void keep_top_p(cuddle_sampler *s)
{
    /* Tokens below this weight cannot add up to 1 - top_p even together: they all go. */
    double sure = (1 - (double)s->o.top_p) * s->total / (double)s->n * 0.999;
    double want = s->o.top_p * s->total;
    keep_from(s, sure > FLT_MIN ? (float)sure : FLT_MIN);
    uint32_t last = cut_by_mass(s, s->w, want);
    /* The array moves under its own key: the key of what was moved is never read again. */
    keep_to(s, s->w, last, false);
}

static double entropy(const cuddle_sampler *s)
{
    double h = 0;
    for (size_t i = 0; i < s->n; i++)
        h += s->w[i] > 0 ? s->w[i] * (log(s->total) - (double)logf(s->w[i])) : 0;
    return h / s->total;
}

static void keep_typical(cuddle_sampler *s)
{
    keep_from(s, FLT_MIN);
    double h = entropy(s), log_total = log(s->total);
    for (size_t i = 0; i < s->n; i++)
        s->key[i] = -(float)fabs(log_total - (double)logf(s->w[i]) - h);
    keep_to(s, s->key, cut_by_mass(s, s->key, s->o.typical_p * s->total), true);
}

/* Drops probabilities below p, but never the likeliest. */
static void keep_probable(cuddle_sampler *s, double p)
{
    float least = (float)(p * s->total), max = 0;
    for (size_t i = 0; i < s->n; i++)
        max = s->w[i] > max ? s->w[i] : max;
    keep_from(s, least < max ? least : max);
}

static void filter(cuddle_sampler *s, const float *x, float max)
{
    const cuddle_sampling *o = &s->o;
    if (o->top_k && o->top_k < s->vocab) {
        keep_top_k(s, x, max);
    } else {
        s->n = s->vocab;
        s->dense = true;
        s->total = cdl_weigh(s->w, x, s->n, max, 1 / o->temperature);
    }
    if (o->top_p < 1)
        keep_top_p(s);
    if (o->min_p > 0) /* the likeliest still has the weight 1 */
        keep_from(s, o->min_p > FLT_MIN ? o->min_p : FLT_MIN);
    if (o->typical_p < 1)
        keep_typical(s);
    if (o->epsilon_cutoff > 0)
        keep_probable(s, o->epsilon_cutoff);
    if (o->eta_cutoff > 0) {
        double e = o->eta_cutoff, bound = sqrt(e) * exp(-entropy(s));
        keep_probable(s, e < bound ? e : bound);
    }
}

static int32_t draw(const cuddle_sampler *s, uint64_t position)
{
    double left = cdl_random(s->o.seed, position) * s->total;
    size_t i = 0, last = 0;
    for (; i + CDL_BLOCK <= s->n; i += CDL_BLOCK) {
        double sum = cdl_sum_block(s->w + i);
        if (left < sum)
            break;
        left -= sum;
    }
    for (; i < s->n; i++) {
        if (!(s->w[i] > 0))
            continue;
        last = i;
        if (left < s->w[i])
            break;
        left -= s->w[i];
    }
    return s->dense ? (int32_t)last : s->id[last];
}

cuddle_status cuddle_sampler_pick(cuddle_sampler *s, const float *logits, uint64_t position, int32_t *token)
{
    const float *x = edit(s, logits);
    float max;
    size_t best = cdl_argmax(x, s->vocab, &max);
    if (best == s->vocab) {
        /* Everything was banned: what the model itself prefers. */
        best = cdl_argmax(logits, s->vocab, &max);
        if (best == s->vocab)
            return cdl_status_fail(CUDDLE_ERR_ARG,
                    "sampler: no logit is above -inf (all are NaN or -inf): the model's weights or input are broken");
        *token = (int32_t)best;
        return CUDDLE_OK;
    }
    *token = (int32_t)best;
    if (!s->random)
        return CUDDLE_OK;
    filter(s, x, max);
    if (s->n && s->total > 0)
        *token = draw(s, position);
    return CUDDLE_OK;
}

bool cdl_sampler_describe(cuddle_sampler *s, uint64_t position, cdl_pick *out)
{
    *out = (cdl_pick){ .options = &s->o, .position = position, .seen = s->distinct, .count = s->count,
                       .n_seen = s->n_distinct, .banned = s->banned, .n_banned = list_banned(s) };
    return s->o.typical_p == 1 && s->o.epsilon_cutoff == 0 && s->o.eta_cutoff == 0;
}

/* ---- Log probabilities ---- */

/* Inserts into top[k], likeliest first; logprob holds the logit here. */
static void insert_top(cuddle_logprob *top, size_t k, size_t *n, int32_t token, float x)
{
    size_t i = *n < k ? (*n)++ : k - 1;
    for (; i > 0 && top[i - 1].logprob < x; i--)
        top[i] = top[i - 1];
    top[i] = (cuddle_logprob){ token, x };
}

cuddle_status cuddle_sampler_logprobs(const cuddle_sampler *s, const float *logits, int32_t token,
        float *picked, cuddle_logprob *top, size_t k)
{
    if ((picked && (token < 0 || (size_t)token >= s->vocab)) || k > s->vocab)
        return cdl_status_fail(CUDDLE_ERR_ARG,
                "sampler: log probabilities of token %d and %zu more, with a vocabulary of %zu", token, k,
                s->vocab);
    float max;
    if (cdl_argmax(logits, s->vocab, &max) == s->vocab)
        return cdl_status_fail(CUDDLE_ERR_ARG, "sampler: no logit is above -inf: no log probabilities");
    double total = cdl_weigh(NULL, logits, s->vocab, max, 1), shift = log(total) + (isinf(max) ? 0 : max);
    size_t n = 0;
    for (size_t i = 0; k && i < s->vocab; i++)
        if (logits[i] > -INFINITY && (n < k || logits[i] > top[k - 1].logprob))
            insert_top(top, k, &n, (int32_t)i, logits[i]);
    for (size_t i = 0; i < k; i++) {
        if (i >= n)
            top[i] = (cuddle_logprob){ -1, -INFINITY };
        else if (isinf(max))
            top[i].logprob = isinf(top[i].logprob) ? (float)-shift : -INFINITY;
        else
            top[i].logprob = (float)(top[i].logprob - shift);
    }
    if (picked && isinf(max))
        *picked = logits[token] == max ? (float)-shift : -INFINITY;
    else if (picked)
        *picked = logits[token] > -INFINITY ? (float)(logits[token] - shift) : -INFINITY;
    return CUDDLE_OK;
}
