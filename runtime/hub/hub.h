/* hub.h - from a model's name to its files on this machine.
 * Tests: tests/unit/test_hub.c */
#ifndef CDL_HUB_H
#define CDL_HUB_H

#include "base/status.h"

/* name: a path that exists, or org/name[@revision] in the Hugging Face cache (HF_HUB_CACHE, HF_HOME).
 * *out: the path of the file or snapshot folder; free with cdl_mem_free. NOTFOUND says how to get it. */
CUDDLE_CHECK cuddle_status cdl_hub_resolve(char **out, const char *name);

#endif
