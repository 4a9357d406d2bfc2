#include <string.h>

#include "gen/engine.h"

enum { PAGE = CDL_PAGE_TOKENS };

static uint32_t pages_of(uint32_t tokens)
{
    return cdl_ceil_div(tokens, PAGE);
}

/* The first slot that a row at `slot` still sees. */
static uint32_t window_start(uint32_t slot, uint32_t window)
{
    return window && slot + 1 > window ? slot + 1 - window : 0;
}

/* Takes pages for slots [first, last) of a group; what it took is given back when one is missing. */
static bool take(cuddle_sequence *s, uint32_t which, uint32_t first, uint32_t last)
{
    cdl_page_group *g = &s->engine->group[which];
    int32_t *table = s->pages[which];
    uint32_t begin = first / PAGE, end = pages_of(last), p;
    uint64_t taken_from = UINT64_MAX;
    for (p = begin; p < end; p++) {
        if (table[p] >= 0)
            continue;
        if (!cdl_pages_take(g, &table[p]))
            break;
        if (taken_from == UINT64_MAX)
            taken_from = p;
    }
    if (p == end)
        return true;
    for (uint64_t q = taken_from; q < p; q++) {
        cdl_pages_release(g, table[q]);
        table[q] = -1;
    }
    return false;
}

cuddle_status cdl_sequence_reserve(cuddle_sequence *s, uint32_t n)
{
    cuddle_engine *e = s->engine;
    for (uint32_t i = 0; i < e->n_groups; i++)
        if (!e->group[i].window && !take(s, i, s->length, s->length + n))
            return cdl_status_fail(CUDDLE_ERR_FULL, "no room for %u more tokens: %u of %u state pages are free; "
                    "close a sequence or open the engine with more state_tokens", n, e->group[i].n_free,
                            e->group[i].n_pages);
    return CUDDLE_OK;
}

cuddle_status cdl_sequence_reserve_window(cuddle_sequence *s, uint32_t n)
{
    cuddle_engine *e = s->engine;
    for (uint32_t i = 0; i < e->n_groups; i++)
        if (e->group[i].window && !take(s, i, s->length, s->length + n))
            return cdl_status_fail(CUDDLE_ERR_FULL, "no room for %u more tokens in the window's pages", n);
    return CUDDLE_OK;
}

void cdl_sequence_drop_passed(cuddle_sequence *s)
{
    for (uint32_t i = 0; i < s->engine->n_groups; i++) {
        cdl_page_group *g = &s->engine->group[i];
        uint32_t end = window_start(s->length, g->window) / PAGE;
        for (uint32_t p = end; p-- > 0 && s->pages[i][p] >= 0;) {
            cdl_pages_release(g, s->pages[i][p]);
            s->pages[i][p] = -1;
        }
    }
}

void cdl_sequence_release_from(cuddle_sequence *s, uint32_t n)
{
    for (uint32_t i = 0; i < s->engine->n_groups; i++) {
        for (uint32_t p = pages_of(n); p < s->engine->table_pages; p++) {
            if (s->pages[i][p] >= 0)
                cdl_pages_release(&s->engine->group[i], s->pages[i][p]);
            s->pages[i][p] = -1;
        }
    }
}

/* ---- Sharing a prefix ---- */

/* Tokens (whole pages) that s may take over from d for feed f. */
static uint32_t shared_with(const cuddle_sequence *d, const cuddle_feed *f, bool wants_long)
{
    const cuddle_engine *e = d->engine;
    if (!d->open || !d->shareable || d->shareable_long != wants_long)
        return 0;
    uint32_t most = d->shareable < f->n - 1 ? d->shareable : (uint32_t)f->n - 1, n = 0;
    while (n < most && d->tokens[n] == f->tokens[n])
        n++;
    n -= n % PAGE;
    for (uint32_t i = 0; n && i < e->n_groups; i++) /* a window may have dropped what the next row sees */
        for (uint32_t p = window_start(n, e->group[i].window) / PAGE; p < n / PAGE; p++)
            if (d->pages[i][p] < 0)
                return 0;
    return n;
}

uint32_t cdl_sequence_reuse(cuddle_sequence *s, const cuddle_feed *f)
{
    cuddle_engine *e = s->engine;
    bool wants_long = e->graph.rope_long_from && f->n > e->graph.rope_long_from;
    const cuddle_sequence *best = NULL;
    uint32_t most = 0;
    for (uint32_t i = 0; i < e->sequences_max; i++) {
        const cuddle_sequence *d = &e->sequences[i];
        uint32_t n = d == s ? 0 : shared_with(d, f, wants_long);
        if (n > most) {
            most = n;
            best = d;
        }
    }
    if (!best)
        return 0;
    for (uint32_t i = 0; i < e->n_groups; i++) {
        for (uint32_t p = window_start(most, e->group[i].window) / PAGE; p < most / PAGE; p++) {
            s->pages[i][p] = best->pages[i][p];
            cdl_pages_share(&e->group[i], s->pages[i][p]);
        }
    }
    memcpy(s->tokens, f->tokens, most * sizeof *s->tokens);
    s->length = s->shareable = most;
    s->shareable_long = wants_long;
    return most;
}

/* ---- Public ---- */

cuddle_status cuddle_sequence_open(cuddle_sequence **out, cuddle_engine *e)
{
    *out = NULL;
    pthread_mutex_lock(&e->lock);
    for (uint32_t i = 0; i < e->sequences_max && !*out; i++) {
        cuddle_sequence *s = &e->sequences[i];
        if (s->open)
            continue;
        s->open = true;
        s->length = s->shareable = 0;
        *out = s;
    }
    pthread_mutex_unlock(&e->lock);
    return *out ? CUDDLE_OK : cdl_status_fail(CUDDLE_ERR_FULL,
            "all %u sequences of the engine are open; open it with a larger sequences_max", e->sequences_max);
}

void cuddle_sequence_close(cuddle_sequence *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->engine->lock);
    cdl_sequence_release_from(s, 0);
    s->length = s->shareable = 0;
    s->open = false;
    pthread_mutex_unlock(&s->engine->lock);
}

size_t cuddle_sequence_length(const cuddle_sequence *s)
{
    return s->length;
}

/* Whether everything that a row at slot n sees is still there. */
static bool window_reaches(const cuddle_sequence *s, uint32_t n)
{
    for (uint32_t i = 0; i < s->engine->n_groups; i++)
        for (uint32_t p = window_start(n, s->engine->group[i].window) / PAGE; p < pages_of(n); p++)
            if (s->pages[i][p] < 0)
                return false;
    return true;
}

/* The page of slot n is half kept and will be written again: it must be s's own. */
static bool own_last_page(cuddle_sequence *s, uint32_t n)
{
    cuddle_engine *e = s->engine;
    for (uint32_t i = 0; n % PAGE && i < e->n_groups; i++) {
        int32_t *page = &s->pages[i][n / PAGE], copy;
        if (*page < 0 || e->group[i].refs[*page] == 1)
            continue;
        if (!cdl_pages_take(&e->group[i], &copy))
            return false;
        cdl_pages_copy(e, i, copy, *page);
        cdl_pages_release(&e->group[i], *page);
        *page = copy;
    }
    return true;
}

cuddle_status cuddle_sequence_truncate(cuddle_sequence *s, size_t n)
{
    cuddle_status st = CUDDLE_OK;
    pthread_mutex_lock(&s->engine->lock);
    if (s->feed)
        st = cdl_status_fail(CUDDLE_ERR_ARG, "the sequence is being fed by another thread");
    else if (n > s->length)
        st = cdl_status_fail(CUDDLE_ERR_ARG, "cannot truncate %u tokens to %zu", s->length, n);
    else if (n < s->length && !window_reaches(s, (uint32_t)n))
        st = cdl_status_fail(CUDDLE_ERR_ARG, "cannot truncate to %zu: the sliding window has dropped tokens before %u; "
                "start a new sequence", n, s->length);
    else if (n < s->length && !own_last_page(s, (uint32_t)n))
        st = cdl_status_fail(CUDDLE_ERR_FULL, "no free state page to copy a shared one to; close a sequence");
    else {
        cdl_sequence_release_from(s, (uint32_t)n);
        s->length = (uint32_t)n;
        if (s->shareable > n)
            s->shareable = (uint32_t)n;
    }
    pthread_mutex_unlock(&s->engine->lock);
    return st;
}
