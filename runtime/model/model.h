/* model.h - what the engine and the tools see of an open model. Public side: include/cuddle_model.h. */
#ifndef CDL_MODEL_H
#define CDL_MODEL_H

#include "cuddle_model.h"
#include "format/checkpoint.h"

const cdl_checkpoint *cdl_model_checkpoint(const cuddle_model *m);

#endif
