/* test_wgmma.c - wgmma on the virtual GPU against the host, and each of its checks against a kernel broken on purpose.
 *
 * Kernels: kernels_wgmma.cu, as PTX in build/emulator/kernels_wgmma.ptx. Mutations edit that text. */
#define VGPU_KERNELS "build/emulator/kernels_wgmma.ptx"
#include "vgpu.h"

enum { ROWS = 64, COLUMNS = 32, DEPTH = 256 };

/* Small integers, which both types hold. */
static uint16_t number(int v, bool bf16)
{
    float f = (float)v;
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if (bf16)
        return (uint16_t)(u >> 16);
    return (uint16_t)(v ? (u >> 16 & 0x8000) | (((u >> 23 & 255) - 112) << 10) | (u >> 13 & 1023) : 0);
}

/* Whether the kernel of the text ends well and y = a b^T. */
static bool product(const char *text, const char *kernel, bool bf16)
{
    static uint16_t a[ROWS * DEPTH], b[COLUMNS * DEPTH];
    static float y[ROWS * COLUMNS];
    int k = DEPTH;
    bool same = true;
    for (int i = 0; i < ROWS * DEPTH; i++)
        a[i] = number(i * 7 % 23 - 11, bf16);
    for (int i = 0; i < COLUMNS * DEPTH; i++)
        b[i] = number(i * 5 % 17 - 8, bf16);
    CUdeviceptr da = upload(a, sizeof a), db = upload(b, sizeof b), dy = upload(y, sizeof y);
    if (run(text, kernel, 1, 128, (void *[]){&da, &db, &dy, &k}) || p_cuMemcpyDtoH(y, dy, sizeof y))
        return false;
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLUMNS; c++) {
            int sum = 0;
            for (int i = 0; i < k; i++)
                sum += ((r * k + i) * 7 % 23 - 11) * ((c * k + i) * 5 % 17 - 8);
            same &= y[r * COLUMNS + c] == (float)sum;
        }
    return same;
}

static void test_products(void **state)
{
    (void)state;
    assert_true(product(ptx, "product", true));
    assert_true(product(ptx, "product_shared", false));
}

static void test_checks_find(void **state)
{
    static const struct { const char *kernel, *from, *to; int n; } broken[] = {
        {"product", "wgmma.fence.sync.aligned;", ";", 0},
        {"product", "fence.proxy.async.shared::cta;", ";", 0},
        {"product", "bar.sync", "//", 0},                       /* read of what is not all there      */
        {"product", "wgmma.wait_group.sync.aligned 1;", ";", 0},/* the chunk is overwritten meanwhile */
        {"product", "bar.sync", "//", 1},                       /* .. by a warp that is ahead         */
        {"product", "wgmma.wait_group.sync.aligned 0;", ";", 0},/* sums that are not there            */
        {"product_shared", "fence.proxy.async;", ";", 0},
        {"product_shared", "wgmma.wait_group.sync.aligned 0;", ";", 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        char *text = mutated(broken[i].kernel, broken[i].from, broken[i].to, broken[i].n);
        if (product(text, broken[i].kernel, !strcmp(broken[i].kernel, "product")))
            fail_msg("%s without its %s number %d passes", broken[i].kernel, broken[i].from, broken[i].n);
        free(text);
        context_close(state);
        context_open(state);
    }
}

static void test_other_layouts_are_refused(void **state)
{
    (void)state;
    char *text = mutated("product", "4611686", "6917529", 0); /* another swizzle than by 128 bytes */
    assert_false(product(text, "product", true));
    free(text);
}

#define T(name) cmocka_unit_test_setup_teardown(name, context_open, context_close)
int main(void)
{
    const struct CMUnitTest tests[] = { T(test_products), T(test_checks_find), T(test_other_layouts_are_refused) };
    return cmocka_run_group_tests(tests, open_library, NULL);
}
