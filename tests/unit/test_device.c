/* test_device.c - the driver's table, devices, memory and faults, against a stub that this test builds. */
#include "torture.h"

#include <stdlib.h>
#include <unistd.h>
#include <zstd.h>

#include "device/device_parts.h"

#define STUB "build/tests/cuda_stub.so"

static void use(const char *library)
{
    setenv("CUDDLE_CUDA_LIBRARY", library, 1);
}

static void assert_line(cuddle_status got, cuddle_status wanted, const char *part)
{
    if (got != wanted || !strstr(cuddle_errmsg(), part))
        fail_msg("status \"%s\", line \"%s\"; wanted \"%s\" and \"%s\"", cuddle_status_name(got), cuddle_errmsg(),
                cuddle_status_name(wanted), part);
}

/* A driver stays once it was opened, so these come first. */
static void test_open_no_library(void **state)
{
    (void)state;
    const cdl_cu *cu;
    uint32_t n;
    use("/nowhere/libcuda.so.1");
    assert_line(cdl_cu_open(&cu), CUDDLE_ERR_NOTFOUND, "tried /nowhere/libcuda.so.1");
    assert_null(cu);
    assert_line(cdl_device_count(&n), CUDDLE_ERR_NOTFOUND, "r580");
    assert_int_equal(n, 0);
}

static void test_open_wrong_library(void **state)
{
    (void)state;
    const cdl_cu *cu;
    use("libm.so.6");
    assert_line(cdl_cu_open(&cu), CUDDLE_ERR_UNSUPPORTED, "libm.so.6 has no cuInit");
}

static void test_open_old_driver(void **state)
{
    (void)state;
    const cdl_cu *cu;
    use(STUB);
    setenv("STUB_VERSION", "12040", 1);
    assert_line(cdl_cu_open(&cu), CUDDLE_ERR_UNSUPPORTED, "speaks CUDA 12.4; cuddle needs 13.0");
    unsetenv("STUB_VERSION");
    setenv("STUB_GPUS", "0", 1);
    assert_line(cdl_cu_open(&cu), CUDDLE_ERR_NOTFOUND, "finds no NVIDIA GPU");
    unsetenv("STUB_GPUS");
}

static void test_describe(void **state)
{
    (void)state;
    uint32_t n;
    cdl_device_facts f;
    assert_int_equal(cdl_device_count(&n), CUDDLE_OK);
    assert_int_equal(n, 1);
    assert_int_equal(cdl_device_describe(&f, 0), CUDDLE_OK);
    assert_string_equal(f.name, "Stub");
    assert_int_equal(f.major * 10 + f.minor, 86);
    assert_line(cdl_device_describe(&f, 1), CUDDLE_ERR_ARG, "there is no cuda:1: the driver shows 1 GPU ");
}

/* ---- Images ---- */

static void test_image_pick(void **state)
{
    (void)state;
    static const cdl_image images[] = {
        { "a", NULL, NULL, 80, 1, 0 }, { "a", NULL, NULL, 80, 0, 0 }, { "a", NULL, NULL, 90, 1, 0 },
        { "a", NULL, NULL, 86, 0, 0 }, { "b", NULL, NULL, 90, 0, 0 }, { "d", NULL, NULL, 90, 1, 1 },
        { "d", NULL, NULL, 90, 0, 1 }, { NULL, NULL, NULL, 0, 0, 0 } };
    static const struct { const char *name; uint32_t capability; int wanted, known; } cases[] = {
        { "a", 80, 1, 1 }, { "a", 86, 3, 1 }, { "a", 89, 3, 1 }, { "a", 90, 2, 1 }, { "a", 120, 2, 1 },
        { "a", 75, -1, 1 }, { "b", 80, -1, 1 }, { "b", 90, 4, 1 }, { "b", 100, -1, 1 }, { "c", 80, -1, 0 },
        { "d", 80, -1, 1 }, { "d", 90, 6, 1 }, { "d", 100, -1, 1 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool known;
        assert_int_equal(cdl_image_pick(images, cases[i].name, cases[i].capability, false, &known), cases[i].wanted);
        assert_int_equal(known, cases[i].known);
    }
    bool known;
    assert_int_equal(cdl_image_pick(images, "a", 86, true, &known), 0);
    assert_int_equal(cdl_image_pick(images, "b", 90, true, &known), -1);
    assert_int_equal(cdl_image_pick(images, "d", 90, true, &known), 5);
}

/* What the build embeds unpacks to what nvcc made. */
static void test_image_unpack_embedded(void **state)
{
    (void)state;
    uint8_t *code;
    size_t n;
    for (const cdl_image *i = cdl_images; i->name; i++) {
        assert_int_equal(cdl_image_unpack(&code, &n, i), CUDDLE_OK);
        assert_true(i->is_ptx ? strlen((char *)code) == n && strstr((char *)code, ".target sm_") != NULL
                              : n > 64 && !memcmp(code, "\177ELF", 4) && code[n] == '\0');
        cdl_mem_free(code);
    }
}

/* Of a frame cut anywhere, with any byte changed, of another size than it says: the content or an error. */
static void test_image_unpack_damaged(void **state)
{
    (void)state;
    enum { BYTES = 5000, ROOM = 6000 };
    uint8_t text[BYTES], packed[ROOM], *code;
    size_t n;
    for (int i = 0; i < BYTES; i++)
        text[i] = (uint8_t)("mma.sync"[i % 8] + i / 700);
    ZSTD_CCtx *c = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
    const size_t bytes = ZSTD_compress2(c, packed, ROOM, text, BYTES);
    ZSTD_freeCCtx(c);
    cdl_image image = { "linear_4bit", packed, packed + bytes, 80, 1, 0 };
    assert_int_equal(cdl_image_unpack(&code, &n, &image), CUDDLE_OK);
    assert_int_equal(n, BYTES);
    assert_memory_equal(code, text, BYTES);
    cdl_mem_free(code);
    for (size_t cut = 0; cut < bytes; cut++) {
        image.end = packed + cut;
        assert_line(cdl_image_unpack(&code, &n, &image), CUDDLE_ERR_FORMAT, "kernels linear_4bit in this build are");
        assert_null(code);
    }
    image.end = packed + bytes;
    for (size_t at = 0; at < bytes; at++) {
        packed[at] ^= 0x11;
        cuddle_status st = cdl_image_unpack(&code, &n, &image);
        assert_true(st == CUDDLE_ERR_FORMAT || (st == CUDDLE_OK && n == BYTES && !memcmp(code, text, n)));
        cdl_mem_free(code);
        packed[at] ^= 0x11;
    }
    /* 3 GiB, it says: refused before anything is allocated */
    static const uint8_t huge[] = { 0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0xc0, 0, 0, 0 };
    const size_t before = cdl_mem_count();
    image = (cdl_image){ "linear_4bit", huge, huge + sizeof huge, 80, 1, 0 };
    assert_line(cdl_image_unpack(&code, &n, &image), CUDDLE_ERR_FORMAT, "no size");
    assert_int_equal(cdl_mem_count(), before);
}

/* ---- A device ---- */

/* False in a build without kernels, whose devices cannot be opened; that is checked instead. */
static bool open_stub(cdl_device **d)
{
    if (cdl_images[0].name) {
        assert_int_equal(cdl_device_open(d, 0), CUDDLE_OK);
        return true;
    }
    assert_line(cdl_device_open(d, 0), CUDDLE_ERR_UNSUPPORTED, "this build has no CUDA kernels");
    assert_null(*d);
    return false;
}

static void test_open_unfit_gpu(void **state)
{
    (void)state;
    cdl_device *d;
    if (!open_stub(&d))
        return;
    cdl_device_close(d);
    setenv("STUB_MAJOR", "7", 1);
    assert_line(cdl_device_open(&d, 0), CUDDLE_ERR_UNSUPPORTED, "compute capability 7.6");
    unsetenv("STUB_MAJOR");
    assert_line(cdl_device_open(&d, 3), CUDDLE_ERR_ARG, "there is no cuda:3");
}

static void test_memory_runs_out(void **state)
{
    (void)state;
    cdl_device *d;
    cdl_cu_ptr a, b;
    if (!open_stub(&d))
        return;
    assert_int_equal(cdl_device_alloc(&a, d, 700000, "the weights", "use a smaller model"), CUDDLE_OK);
    assert_line(cdl_device_alloc(&b, d, 700000, "the state", "use a smaller context (--context)"), CUDDLE_ERR_NOMEM,
            "the state needs 700000 bytes, 348576 of 2097152 are free; use a smaller context (--context)");
    assert_int_equal(b, 0);
    cdl_device_free(d, a);
    assert_int_equal(cdl_device_alloc(&b, d, 700000, "the state", ""), CUDDLE_OK);
    cdl_device_free(d, b);
    cdl_device_close(d);
}

static void test_upload_more_than_the_ring(void **state)
{
    (void)state;
    cdl_device *d;
    cdl_upload u;
    cdl_cu_ptr p;
    if (!open_stub(&d))
        return;
    const size_t n = (size_t)CDL_UPLOAD_BYTES * 4 + 12345;
    uint8_t *bytes = malloc(n), *back = malloc(n);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 24);
    setenv("STUB_FREE", "100000000", 1);
    assert_int_equal(cdl_device_alloc(&p, d, n, "the weights", ""), CUDDLE_OK);
    assert_int_equal(cdl_upload_open(&u, d), CUDDLE_OK);
    assert_int_equal(cdl_upload_copy(&u, p, bytes, n), CUDDLE_OK);
    assert_int_equal(cdl_stream_copy_down(&u.stream, back, p, n), CUDDLE_OK);
    assert_int_equal(cdl_upload_finish(&u), CUDDLE_OK);
    assert_memory_equal(bytes, back, n);
    cdl_upload_close(&u);
    cdl_device_free(d, p);
    cdl_device_close(d);
    unsetenv("STUB_FREE");
    free(bytes);
    free(back);
}

static void launch_and_fault(bool sync, const char *line)
{
    cdl_device *d;
    cdl_stream s;
    cdl_launch l = { .kernel = "linear_fwd_decode_kernel_q4_k_bf16", .node = "model.layers.3.mlp.down_proj", .rows = 2,
                     .cols = 576, .grid = { 1, 1, 1 }, .threads = 32 };
    if (!open_stub(&d))
        return;
    setenv("CUDDLE_SYNC", sync ? "1" : "0", 1);
    assert_int_equal(cdl_device_function(&l.function, d, cdl_images[0].name, "any"), CUDDLE_OK);
    assert_int_equal(cdl_stream_open(&s, d), CUDDLE_OK);
    setenv("STUB_FAULT", "700", 1);
    cuddle_status st = cdl_stream_launch(&s, &l);
    if (!sync) {
        assert_int_equal(st, CUDDLE_OK);
        st = cdl_stream_wait(&s);
    }
    assert_line(st, CUDDLE_ERR_DEVICE, line);
    unsetenv("STUB_FAULT");
    assert_line(cdl_stream_wait(&s), CUDDLE_ERR_DEVICE, line); /* dead, and says why */
    assert_line(cdl_stream_launch(&s, &l), CUDDLE_ERR_DEVICE, "CUDA_ERROR_ILLEGAL_ADDRESS");
    cdl_stream_close(&s);
    cdl_device_close(d);
    assert_true(open_stub(&d)); /* the process is not */
    assert_int_equal(cdl_stream_open(&s, d), CUDDLE_OK);
    assert_int_equal(cdl_stream_wait(&s), CUDDLE_OK);
    cdl_stream_close(&s);
    cdl_device_close(d);
}

static void test_fault_names_kernel_node_shape(void **state)
{
    (void)state;
    launch_and_fault(true,
            "kernel linear_fwd_decode_kernel_q4_k_bf16 of node model.layers.3.mlp.down_proj, output [2, 576]");
    launch_and_fault(false, "a kernel up to linear_fwd_decode_kernel_q4_k_bf16 of node model.layers.3.mlp.down_proj");
}

static void test_image_refused(void **state)
{
    (void)state;
    cdl_device *d;
    cdl_function f;
    if (!open_stub(&d))
        return;
    setenv("STUB_IMAGE", "218", 1);
    assert_line(cdl_device_function(&f, d, cdl_images[0].name, "any"), CUDDLE_ERR_UNSUPPORTED,
            "does not take the kernels");
    unsetenv("STUB_IMAGE");
    assert_line(cdl_device_function(&f, d, "no such", "any"), CUDDLE_ERR_UNSUPPORTED,
            "this build has no kernels no such");
    cdl_device_close(d);
}

static cuddle_status open_everything(void *user)
{
    (void)user;
    cdl_device *d;
    cdl_upload u = { 0 };
    CDL_TRY(cdl_device_open(&d, 0));
    cuddle_status st = cdl_upload_open(&u, d);
    cdl_upload_close(&u);
    cdl_device_close(d);
    return st;
}

static void test_torture(void **state)
{
    (void)state;
    if (cdl_images[0].name)
        assert_true(torture(open_everything, NULL, false, 1) >= 2);
}

int main(void)
{
    const char *build = "mkdir -p build/tests && ${CC:-cc} -std=gnu11 -shared -fPIC -Iinclude -Iruntime -o " STUB
            " tests/tools/cuda_stub.c";
    if (system(build) != 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_no_library), cmocka_unit_test(test_open_wrong_library),
        cmocka_unit_test(test_open_old_driver), cmocka_unit_test(test_describe), cmocka_unit_test(test_image_pick),
        cmocka_unit_test(test_image_unpack_embedded), cmocka_unit_test(test_image_unpack_damaged),
        cmocka_unit_test(test_open_unfit_gpu), cmocka_unit_test(test_memory_runs_out),
        cmocka_unit_test(test_upload_more_than_the_ring), cmocka_unit_test(test_fault_names_kernel_node_shape),
        cmocka_unit_test(test_image_refused), cmocka_unit_test(test_torture) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
