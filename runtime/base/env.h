/* env.h - every environment name that cuddle reads stands in this table; `cuddle env` prints it. */
#ifndef CDL_ENV_H
#define CDL_ENV_H

#include "cuddle.h"

#define CDL_ENV_TABLE(X)                                                                            \
    X(CUDDLE_LOG,          "log lines to stderr down to this level: error, warn, info, debug (default: warn)") \
    X(CUDDLE_CPU,          "CPU kernels: ref, ref-bf16, ref-f16, avx2, avx512, amx (default: the best here)") \
    X(CUDDLE_DEVICE,       "where models run unless told: auto (a GPU if it can), cpu, cuda, cuda:N (default: auto)") \
    X(CUDDLE_CUDA_LIBRARY, "the CUDA driver's library (default: libcuda.so.1)")                     \
    X(CUDDLE_CUBLASLT_LIBRARY, "cuBLASLt's library, for --fast (default: libcublasLt.so.13, then .12)") \
    X(CUDDLE_SYNC,         "1: wait after every kernel of a GPU, so that a fault names its node")   \
    X(CUDDLE_NO_FUSION,    "fusions to leave out, comma-separated, or all")                         \
    X(CUDDLE_TRACE,        "file to write a Chrome trace of every kernel to")                       \
    X(CUDDLE_DUMP,         "folder to write each node's output to, a safetensors file a step")     \
    X(CUDDLE_NAN,          "1: stop at the first node whose output holds a NaN or infinity")        \
    X(HF_HOME,             "Hugging Face's folder (default: $XDG_CACHE_HOME/huggingface or ~/.cache/huggingface)") \
    X(HF_HUB_CACHE,        "the model cache (default: $HF_HOME/hub)")                               \
    X(HUGGINGFACE_HUB_CACHE, "older name of HF_HUB_CACHE")                                          \
    X(XDG_CACHE_HOME,      "base of caches")                                                        \
    X(HOME,                "the user's folder")                                                     \
    X(NO_COLOR,            "set: no colours")

typedef enum {
#define X(name, help) CDL_ENV_##name,
    CDL_ENV_TABLE(X)
#undef X
    CDL_ENV_COUNT
} cdl_env;

/* The value, or NULL when unset or empty. */
const char *cdl_env_get(cdl_env e);
const char *cdl_env_name(cdl_env e);
const char *cdl_env_help(cdl_env e);

#endif
