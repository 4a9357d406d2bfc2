/* nvml.h - what NVIDIA's management library knows of a GPU and the driver does not: clocks now, power, ECC.
 *
 * Opened by dlopen for one question and closed again. Owner: the caller. Tests: tests/unit/test_nvml.c */
#ifndef CDL_NVML_H
#define CDL_NVML_H

#include "device/device.h"

typedef struct {
    char driver[80];                                  /* "580.65.06"              */
    uint32_t clock_mhz, clock_max_mhz;                /* of the multiprocessors   */
    uint32_t memory_clock_mhz, memory_clock_max_mhz;
    uint32_t power_limit_mw;
    int ecc;                                          /* 1: on, 0: off, -1: has none, or unknown */
} cdl_nvml_facts;

/* Of the GPU at the PCI address in f. library: NULL for libnvidia-ml.so.1. What the library does not tell is 0.
 * Errors: NOTFOUND (no library, or it does not know the GPU), DEVICE. */
CUDDLE_CHECK cuddle_status cdl_nvml_read(cdl_nvml_facts *out, const cdl_device_facts *f, const char *library);

#endif
