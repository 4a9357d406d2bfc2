/* test_nvml.c - clocks, power and ECC from a management library that this test builds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device/nvml.h"

#define STUB "build/tests/nvml_stub.so"

static const cdl_device_facts here = { .pci_bus = 0x3b };

static void test_all_known(void **state)
{
    (void)state;
    cdl_nvml_facts f;
    assert_int_equal(cdl_nvml_read(&f, &here, STUB), CUDDLE_OK);
    assert_string_equal(f.driver, "580.65.06");
    assert_int_equal(f.clock_mhz, 1410);
    assert_int_equal(f.clock_max_mhz, 1980);
    assert_int_equal(f.memory_clock_mhz, 1512);
    assert_int_equal(f.memory_clock_max_mhz, 2619);
    assert_int_equal(f.power_limit_mw, 700000);
    assert_int_equal(f.ecc, 1);
}

static void test_nothing_known(void **state)
{
    (void)state;
    cdl_nvml_facts f;
    setenv("STUB_NVML", "mute", 1);
    assert_int_equal(cdl_nvml_read(&f, &here, STUB), CUDDLE_OK);
    assert_string_equal(f.driver, "");
    assert_int_equal(f.clock_mhz + f.memory_clock_max_mhz + f.power_limit_mw, 0);
    assert_int_equal(f.ecc, -1);
    unsetenv("STUB_NVML");
}

static void test_errors(void **state)
{
    (void)state;
    cdl_nvml_facts f;
    assert_int_equal(cdl_nvml_read(&f, &(cdl_device_facts){ .pci_bus = 1 }, STUB), CUDDLE_ERR_NOTFOUND);
    assert_non_null(strstr(cuddle_errmsg(), "00000000:01:00.0"));
    assert_int_equal(cdl_nvml_read(&f, &here, "/nowhere/libnvidia-ml.so.1"), CUDDLE_ERR_NOTFOUND);
    assert_non_null(strstr(cuddle_errmsg(), "/nowhere"));
    assert_int_equal(cdl_nvml_read(&f, &here, "libm.so.6"), CUDDLE_ERR_NOTFOUND);
    assert_non_null(strstr(cuddle_errmsg(), "nvmlInit_v2"));
    setenv("STUB_NVML", "fail", 1);
    assert_int_equal(cdl_nvml_read(&f, &here, STUB), CUDDLE_ERR_DEVICE);
    unsetenv("STUB_NVML");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_all_known), cmocka_unit_test(test_nothing_known),
        cmocka_unit_test(test_errors) };
    if (system("mkdir -p build/tests && cc -shared -fPIC -o " STUB " tests/tools/nvml_stub.c"))
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
