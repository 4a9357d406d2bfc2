/* panel_amx.h - panels of weights (pack.h) as the bf16 tiles that AMX multiplies by. */
#ifndef CDL_PANEL_AMX_H
#define CDL_PANEL_AMX_H

#include "cpu/pack.h"

/* Columns [32 * step, 32 * (step + n)) of a panel of `cols` columns into n tiles: row p of a tile holds
 * columns 2p and 2p + 1 of the 16 weight rows, side by side. Columns past the last are zero. */
typedef void (*cdl_panel_tiles_fn)(const uint8_t *panel, uint32_t cols, uint32_t step, uint32_t n, uint8_t *tiles);

cdl_panel_tiles_fn cdl_panel_tiles(cdl_dtype t);

#endif
