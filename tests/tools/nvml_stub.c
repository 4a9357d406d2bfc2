/* nvml_stub.c - a management library with one GPU, at 0000:3b:00; tests/unit/test_nvml.c builds it.
 * STUB_NVML=fail: it does not start. STUB_NVML=mute: it knows the GPU and nothing of it. */
#include <stdlib.h>
#include <string.h>

static int is(const char *what)
{
    const char *v = getenv("STUB_NVML");
    return v && !strcmp(v, what);
}

int nvmlInit_v2(void) { return is("fail") ? 9 : 0; }
int nvmlShutdown(void) { return 0; }

int nvmlSystemGetDriverVersion(char *out, unsigned n)
{
    strncpy(out, "580.65.06", n);
    return is("mute") ? 3 : 0;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **out)
{
    *out = &out;
    return strcmp(id, "00000000:3b:00.0") ? 6 : 0;
}

static int give(unsigned *out, unsigned v)
{
    *out = v;
    return is("mute") ? 3 : 0;
}

int nvmlDeviceGetClockInfo(void *g, int which, unsigned *mhz) { (void)g; return give(mhz, which == 1 ? 1410 : 1512); }
int nvmlDeviceGetMaxClockInfo(void *g, int which, unsigned *mhz)
{
    (void)g;
    return give(mhz, which == 1 ? 1980 : 2619);
}

int nvmlDeviceGetEnforcedPowerLimit(void *g, unsigned *mw) { (void)g; return give(mw, 700000); }

int nvmlDeviceGetEccMode(void *g, unsigned *now, unsigned *later)
{
    (void)g;
    *later = 0;
    return give(now, 1);
}
