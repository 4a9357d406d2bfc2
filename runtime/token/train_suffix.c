/* train_suffix.c - suffix array by induced sorting (Nong, Zhang, Chan 2009), common prefixes (Kasai et al. 2001),
 * and from both the inner nodes of the suffix tree. */
#include "token/train_suffix.h"

#include <string.h>

#include "base/mem.h"

typedef struct {
    const int32_t *s;
    int32_t n, upper;
    int32_t *sa;               /* [n] */
    uint8_t *small;            /* [n]: the suffix is smaller than the one behind it */
    int32_t *large_first, *small_first, *at; /* [upper + 2]: where suffixes begin that begin with a value */
    int32_t *left;             /* [m]: suffixes that are small behind a large one */
    int32_t *index;            /* [n + 1]: of a suffix in left, or -1 */
    int32_t m;
} sorting;

static void find_types(sorting *t)
{
    for (int32_t i = t->n - 2; i >= 0; i--)
        t->small[i] = t->s[i] == t->s[i + 1] ? t->small[i + 1] : t->s[i] < t->s[i + 1];
    for (int32_t i = 0; i < t->n; i++) {
        if (t->small[i])
            t->large_first[t->s[i] + 1]++;
        else
            t->small_first[t->s[i]]++;
    }
    for (int32_t v = 0; v <= t->upper; v++) {
        t->small_first[v] += t->large_first[v];
        t->large_first[v + 1] += t->small_first[v];
    }
    memset(t->index, 0xff, ((size_t)t->n + 1) * sizeof *t->index);
    for (int32_t i = 1; i < t->n; i++)
        if (t->small[i] && !t->small[i - 1]) {
            t->index[i] = t->m;
            t->left[t->m++] = i;
        }
}

/* From the order of left's suffixes to that of all. */
static void induce(sorting *t, const int32_t *order)
{
    const int32_t *s = t->s;
    size_t bytes = ((size_t)t->upper + 1) * sizeof *t->at;
    memset(t->sa, 0xff, (size_t)t->n * sizeof *t->sa);
    memcpy(t->at, t->small_first, bytes);
    for (int32_t i = 0; i < t->m; i++)
        t->sa[t->at[s[order[i]]]++] = order[i];
    memcpy(t->at, t->large_first, bytes);
    t->sa[t->at[s[t->n - 1]]++] = t->n - 1;
    for (int32_t i = 0; i < t->n; i++) {
        int32_t v = t->sa[i];
        if (v >= 1 && !t->small[v - 1])
            t->sa[t->at[s[v - 1]]++] = v - 1;
    }
    memcpy(t->at, t->large_first, bytes + sizeof *t->at);
    for (int32_t i = t->n - 1; i >= 0; i--) {
        int32_t v = t->sa[i];
        if (v >= 1 && t->small[v - 1])
            t->sa[--t->at[s[v - 1] + 1]] = v - 1;
    }
}

/* Whether two pieces between suffixes of left are the same. */
static bool same_piece(const sorting *t, int32_t a, int32_t b)
{
    int32_t end_a = t->index[a] + 1 < t->m ? t->left[t->index[a] + 1] : t->n;
    int32_t end_b = t->index[b] + 1 < t->m ? t->left[t->index[b] + 1] : t->n;
    if (end_a - a != end_b - b)
        return false;
    while (a < end_a && t->s[a] == t->s[b]) {
        a++;
        b++;
    }
    return a == end_a && a < t->n && b < t->n && t->s[a] == t->s[b];
}

static cuddle_status suffix_array(const int32_t *s, int32_t n, int32_t upper, int32_t *sa);

/* The order of left's suffixes: their pieces have names in order, and the text of names is sorted. */
static cuddle_status sort_left(sorting *t, int32_t *order, int32_t *names, int32_t *names_sa)
{
    int32_t m = 0, name = 0;
    for (int32_t i = 0; i < t->n; i++)
        if (t->sa[i] >= 0 && t->index[t->sa[i]] >= 0)
            order[m++] = t->sa[i];
    names[t->index[order[0]]] = 0;
    for (int32_t i = 1; i < m; i++) {
        name += !same_piece(t, order[i - 1], order[i]);
        names[t->index[order[i]]] = name;
    }
    CDL_TRY(suffix_array(names, m, name, names_sa));
    for (int32_t i = 0; i < m; i++)
        order[i] = t->left[names_sa[i]];
    return CUDDLE_OK;
}

static cuddle_status sort_suffixes(sorting *t)
{
    find_types(t);
    induce(t, t->left);
    if (!t->m)
        return CUDDLE_OK;
    int32_t *room = cdl_mem_array(3 * (size_t)t->m, sizeof *room);
    cuddle_status st = room ? sort_left(t, room, room + t->m, room + 2 * (size_t)t->m)
                            : cdl_status_nomem("the suffixes of the texts");
    if (st == CUDDLE_OK)
        induce(t, room);
    cdl_mem_free(room);
    return st;
}

static cuddle_status suffix_array(const int32_t *s, int32_t n, int32_t upper, int32_t *sa)
{
    if (n == 1)
        sa[0] = 0;
    if (n <= 1)
        return CUDDLE_OK;
    size_t values = (size_t)upper + 2;
    sorting t = { .s = s, .n = n, .upper = upper, .sa = sa };
    int32_t *counts = cdl_mem_zalloc(3 * values, sizeof *counts);
    t.small = cdl_mem_zalloc((size_t)n, 1);
    t.left = cdl_mem_array((size_t)n / 2 + 1, sizeof *t.left);
    t.index = cdl_mem_array((size_t)n + 1, sizeof *t.index);
    cuddle_status st = cdl_status_nomem("the suffixes of the texts");
    if (counts && t.small && t.left && t.index) {
        t.large_first = counts;
        t.small_first = counts + values;
        t.at = counts + 2 * values;
        st = sort_suffixes(&t);
    }
    cdl_mem_free(counts);
    cdl_mem_free(t.small);
    cdl_mem_free(t.left);
    cdl_mem_free(t.index);
    return st;
}

/* common[i]: how far suffixes sa[i] and sa[i + 1] agree. */
static void common_prefixes(const int32_t *s, int32_t n, const int32_t *sa, int32_t *rank, int32_t *common)
{
    int32_t h = 0;
    for (int32_t i = 0; i < n; i++)
        rank[sa[i]] = i;
    for (int32_t i = 0; i < n; i++) {
        h -= h > 0;
        if (rank[i] == 0) {
            h = 0;
            continue;
        }
        int32_t j = sa[rank[i] - 1];
        while (i + h < n && j + h < n && s[i + h] == s[j + h])
            h++;
        common[rank[i] - 1] = h;
    }
}

typedef struct {
    int32_t first, depth;
} node;

/* Intervals of suffixes that agree further than their neighbours; stack [n]. */
static void walk(const int32_t *common, int32_t n, node *stack, cdl_substring_fn *f, void *user)
{
    int32_t top = 0;
    for (int32_t i = 0; i < n; i++) {
        int32_t depth = i + 1 < n ? common[i] : 0, first = i;
        while (top && stack[top - 1].depth > depth) {
            node x = stack[--top];
            f(user, x.first, x.depth, i - x.first + 1);
            first = x.first;
        }
        if (depth && (!top || stack[top - 1].depth < depth))
            stack[top++] = (node){ first, depth };
    }
}

cuddle_status cdl_substrings(const int32_t *s, int32_t n, int32_t upper, int32_t *sa, cdl_substring_fn *f, void *user)
{
    CDL_TRY(suffix_array(s, n, upper, sa));
    int32_t *rank = cdl_mem_array((size_t)n + 1, sizeof *rank);
    int32_t *common = cdl_mem_array((size_t)n + 1, sizeof *common);
    bool ranked = rank && common;
    if (ranked)
        common_prefixes(s, n, sa, rank, common);
    cdl_mem_free(rank);
    node *stack = ranked ? cdl_mem_array((size_t)n + 1, sizeof *stack) : NULL;
    if (stack)
        walk(common, n, stack, f, user);
    bool done = stack;
    cdl_mem_free(stack);
    cdl_mem_free(common);
    return done ? CUDDLE_OK : cdl_status_nomem("the suffixes of the texts");
}
