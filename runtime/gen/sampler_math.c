#include "gen/sampler_math.h"

#include <math.h>
#include <string.h>

typedef float v4 __attribute__((vector_size(16)));
typedef int32_t v4i __attribute__((vector_size(16)));
typedef int64_t v2l __attribute__((vector_size(16)));

static inline v4 load(const float *p)
{
    v4 v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline v4 larger(v4 a, v4 b)
{
    v4i m = a > b;
    return (v4)(((v4i)a & m) | ((v4i)b & ~m));
}

static inline bool any(v4i m)
{
    v2l u = (v2l)m;
    return (u[0] | u[1]) != 0;
}

size_t cdl_argmax(const float *x, size_t n, float *max)
{
    const float low = -INFINITY;
    v4 a = { low, low, low, low }, b = a, c = a, d = a;
    size_t i = 0;
    for (; i + CDL_LANES <= n; i += CDL_LANES) {
        a = larger(load(x + i), a);
        b = larger(load(x + i + 4), b);
        c = larger(load(x + i + 8), c);
        d = larger(load(x + i + 12), d);
    }
    a = larger(larger(a, b), larger(c, d));
    float m = low;
    for (int j = 0; j < 4; j++)
        m = a[j] > m ? a[j] : m;
    for (; i < n; i++)
        m = x[i] > m ? x[i] : m;
    *max = m;
    if (m == low)
        return n;
    i = 0;
    while (i + CDL_LANES <= n && !cdl_any_from(x + i, m))
        i += CDL_LANES;
    while (x[i] != m)
        i++;
    return i;
}

bool cdl_any_from(const float *x, float least)
{
    v4 t = { least, least, least, least };
    return any((load(x) >= t) | (load(x + 4) >= t) | (load(x + 8) >= t) | (load(x + 12) >= t));
}

/* Replaces the smallest of the heap (its root) by v. */
static void heap_replace(float *heap, size_t k, float v)
{
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= k)
            break;
        if (child + 1 < k && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= v)
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = v;
}

float cdl_kth_largest(const float *x, size_t n, size_t k, float *heap)
{
    for (size_t i = 0; i < k; i++)
        heap[i] = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        if (i % CDL_LANES == 0 && heap[0] > -INFINITY && i + CDL_LANES <= n && !cdl_any_from(x + i, heap[0])) {
            i += CDL_LANES - 1;
            continue;
        }
        if (x[i] > heap[0])
            heap_replace(heap, k, x[i]);
    }
    return heap[0];
}

/* e^y for y <= 0; 0 below -87 and for NaN. Cephes' polynomial on [-ln 2 / 2, ln 2 / 2]. */
static inline v4 exp4(v4 y)
{
    const v4 least = { -87, -87, -87, -87 };
    v4i ok = y >= least;
    y = (v4)((v4i)y & ok);
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    v4 k = y * 1.44269504088896341f + magic - magic;
    v4 r = y - k * 0.693359375f + k * 2.12194440e-4f;
    v4 p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    v4i bits = (v4i)p + (__builtin_convertvector(k, v4i) << 23);
    return (v4)(bits & ok);
}

static double weigh_infinite(float *w, const float *x, size_t n)
{
    double total = 0;
    for (size_t i = 0; i < n; i++) {
        float one = x[i] == INFINITY;
        total += one;
        if (w)
            w[i] = one;
    }
    return total;
}

double cdl_weigh(float *w, const float *x, size_t n, float max, float scale)
{
    if (isinf(max))
        return weigh_infinite(w, x, n);
    double total = 0;
    size_t i = 0;
    while (i + 4 <= n) {
        v4 sum = { 0, 0, 0, 0 };
        size_t end = n - i > CDL_BLOCK ? i + CDL_BLOCK : n;
        for (; i + 4 <= end; i += 4) {
            v4 e = exp4((load(x + i) - max) * scale);
            sum += e;
            if (w)
                memcpy(w + i, &e, sizeof e);
        }
        total += (double)sum[0] + sum[1] + sum[2] + sum[3];
    }
    if (i < n) {
        v4 last = { -INFINITY, -INFINITY, -INFINITY, -INFINITY };
        memcpy(&last, x + i, (n - i) * sizeof *x);
        last = exp4((last - max) * scale);
        total += (double)last[0] + last[1] + last[2] + last[3];
        if (w)
            memcpy(w + i, &last, (n - i) * sizeof *w);
    }
    return total;
}

double cdl_sum_block(const float *w)
{
    v4 a = { 0, 0, 0, 0 }, b = a;
    for (size_t i = 0; i < CDL_BLOCK; i += 8) {
        a += load(w + i);
        b += load(w + i + 4);
    }
    a += b;
    return (double)a[0] + a[1] + a[2] + a[3];
}

void cdl_philox(uint32_t out[4], uint64_t key, uint64_t counter)
{
    uint32_t c[4] = { (uint32_t)counter, (uint32_t)(counter >> 32), 0, 0 };
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)c[0] * 0xd2511f53u, b = (uint64_t)c[2] * 0xcd9e8d57u;
        uint32_t next0 = (uint32_t)(b >> 32) ^ c[1] ^ k0, next2 = (uint32_t)(a >> 32) ^ c[3] ^ k1;
        c[0] = next0;
        c[1] = (uint32_t)b;
        c[2] = next2;
        c[3] = (uint32_t)a;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    memcpy(out, c, sizeof c);
}

double cdl_random(uint64_t seed, uint64_t position)
{
    uint32_t r[4];
    cdl_philox(r, seed, position);
    uint64_t bits = ((uint64_t)r[1] << 32 | r[0]) >> 11;
    return (double)bits * 0x1p-53;
}
