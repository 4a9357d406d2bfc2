/* device_parts.h - what the files of device/ share. */
#ifndef CDL_DEVICE_PARTS_H
#define CDL_DEVICE_PARTS_H

#include "device/device.h"
#include "device/images.h"

struct cdl_device {
    const cdl_cu *cu;
    cdl_cu_device ordinal;
    uint32_t index;
    cdl_cu_context context;
    cdl_device_facts facts;
    cdl_cu_module *modules;     /* [cdl_image_count()], loaded or NULL */
    bool dead;
    char why[512];              /* the first fault's line              */
};

/* Makes the device the calling thread's; DEVICE with the first fault when it is dead. */
CUDDLE_CHECK cuddle_status cdl_device_enter(cdl_device *d);
/* OK, or DEVICE: "<name>: <doing>: CUDA_ERROR_...". Faults that end the context kill the device. */
CUDDLE_CHECK cuddle_status cdl_device_check(cdl_device *d, int result, const char *doing);

#endif
