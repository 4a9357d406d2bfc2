/* test_cubin.c - registers and memory of the kernels embedded in this build; damaged cubins; occupancy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "device/cubin.h"
#include "device/images.h"

/* n bytes, to be freed; skips the test in a build without CUDA's kernels. */
static uint8_t *cubin_of(const char *name, size_t *n)
{
    uint8_t *code;
    for (const cdl_image *i = cdl_images; i->name; i++)
        if (!i->is_ptx && i->capability == 80 && !strcmp(i->name, name)) {
            assert_int_equal(cdl_image_unpack(&code, n, i), CUDDLE_OK);
            return code;
        }
    skip();
    return NULL;
}

static void test_embedded(void **state)
{
    (void)state;
    cdl_cubin_kernel k;
    size_t n;
    uint8_t *code = cubin_of("linear_4bit", &n);
    assert_int_equal(cdl_cubin_read(&k, code, n, "linear_fwd_decode_kernel_q4_0_bf16"), CUDDLE_OK);
    assert_in_range(k.registers, 24, 255);
    assert_int_equal(k.local_bytes, 0);
    assert_int_equal(k.shared_bytes, 0); /* all of it is asked for by the launch */
    assert_int_equal(cdl_cubin_read(&k, code, n, "linear_fwd_decode_kernel_q4_0"), CUDDLE_ERR_NOTFOUND);
    assert_non_null(strstr(cuddle_errmsg(), "linear_fwd_decode_kernel_q4_0"));
    cdl_mem_free(code);
    code = cubin_of("sample", &n);
    assert_int_equal(cdl_cubin_read(&k, code, n, "sample_fwd_kernel_f32"), CUDDLE_OK);
    assert_in_range(k.shared_bytes, 1024, 48 << 10);
    cdl_mem_free(code);
}

static bool is_answer(cuddle_status st)
{
    return st == CUDDLE_OK || st == CUDDLE_ERR_NOTFOUND || st == CUDDLE_ERR_FORMAT;
}

/* Cut anywhere, and with any byte changed: an answer or an error, no read outside (the sanitizers look). */
static void test_damaged(void **state)
{
    (void)state;
    cdl_cubin_kernel k;
    size_t n;
    uint8_t *code = cubin_of("scale", &n);
    const char *name = "scale_fwd_kernel_bf16";
    for (size_t cut = 0; cut < n; cut += cut < 4096 ? 7 : 257) {
        uint8_t *part = malloc(cut + 1);
        memcpy(part, code, cut);
        cuddle_status st = cdl_cubin_read(&k, part, cut, name);
        assert_true(is_answer(st) && (st != CUDDLE_OK || cut > n / 2)); /* sections' headers stand near the end */
        free(part);
    }
    for (size_t at = 0; at < n; at++) {
        code[at] ^= 0xff;
        assert_true(is_answer(cdl_cubin_read(&k, code, n, name)));
        code[at] ^= 0xff;
    }
    assert_int_equal(cdl_cubin_read(&k, code, n, name), CUDDLE_OK);
    cdl_mem_free(code);
    assert_int_equal(cdl_cubin_read(&k, (const uint8_t *)"#!/bin/sh", 9, name), CUDDLE_ERR_FORMAT);
}

/* Against the occupancy calculator's answers for 8.0. */
static void test_occupancy(void **state)
{
    (void)state;
    assert_int_equal(cdl_cubin_blocks_sm80(&(cdl_cubin_kernel){ .registers = 32 }, 256, 0), 8);
    assert_int_equal(cdl_cubin_blocks_sm80(&(cdl_cubin_kernel){ .registers = 16 }, 32, 0), 32);
    assert_int_equal(cdl_cubin_blocks_sm80(&(cdl_cubin_kernel){ .registers = 128 }, 256, 0), 2);
    assert_int_equal(cdl_cubin_blocks_sm80(&(cdl_cubin_kernel){ .registers = 255 }, 256, 0), 1);
    assert_int_equal(cdl_cubin_blocks_sm80(&(cdl_cubin_kernel){ .registers = 255 }, 512, 0), 0);
    assert_int_equal(cdl_cubin_blocks_sm80(&(cdl_cubin_kernel){ .registers = 32, .shared_bytes = 32768 }, 128, 0), 4);
    assert_int_equal(cdl_cubin_blocks_sm80(&(cdl_cubin_kernel){ .registers = 32 }, 128, 163 << 10), 1);
    assert_int_equal(cdl_cubin_blocks_sm80(&(cdl_cubin_kernel){ .registers = 0 }, 128, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_embedded), cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_occupancy) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
