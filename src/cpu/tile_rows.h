/* Included by tile.h once for each height, with ROWS set: makes the tiles of that height that are needed. */
#if ROWS <= TILE_ROWS(1)
#    define VECTORS 1
#    include "cpu/tile_body.h"
#endif
#if ROWS <= TILE_ROWS(2)
#    define VECTORS 2
#    include "cpu/tile_body.h"
#endif
#if TILE_VECTORS == 4 && ROWS <= TILE_ROWS(4)
#    define VECTORS 4
#    include "cpu/tile_body.h"
#endif
#undef ROWS
