/* The ten digits as strokes, in several hands. */
#ifndef SL_DATA_GLYPHS_H
#define SL_DATA_GLYPHS_H

#include <stdint.h>

/* A smooth curve through its points (Catmull-Rom). A point given twice is a corner. Coordinates: x to the
 * right, y down, 0 … 100 from edge to edge of the digit's box. */
typedef struct sl_stroke {
    const uint8_t *points; /* x, y, x, y, … */
    int count;             /* points; 0 ends the list of strokes */
    int closed;            /* the last point joins the first */
} sl_stroke;

#define SL_GLYPH_STROKES 3
#define SL_STROKE_POINTS 18 /* at most */

typedef struct sl_glyph {
    int weight; /* how often it is drawn, relative to the digit's other forms */
    sl_stroke strokes[SL_GLYPH_STROKES];
} sl_glyph;

#define SL_GLYPH_FORMS 4
extern const sl_glyph sl_glyphs[10][SL_GLYPH_FORMS]; /* forms of weight 0 do not exist */
#endif
