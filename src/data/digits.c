/* A hand that writes digits: choose a form, move its points, bend and slant the whole, draw it with a soft
 * pen. Only +, -, *, / and square roots of floats, in a fixed order: the bytes are the same on every machine.
 */
#include "data/digits.h"

#include <math.h>
#include <string.h>

#include "core/philox.h"
#include "data/glyphs.h"

#define SIDE   SL_DIGIT_SIDE
#define PIECES 5 /* straight pieces between two points of a stroke */
#define PATH   (SL_STROKE_POINTS * PIECES + 1)

/* An image's random numbers: blocks 256·index … of its split's stream, the last 196 of them for the paper. */
#define BLOCKS_PER_IMAGE 256
#define FIRST_GRAIN      56
#define STREAM           0x64696730u /* "dig0"; far from the streams of tensors */
#define ORDER_STEP       1           /* the order of the digits in a group of ten */

typedef struct dice {
    uint64_t seed, block;
    uint32_t stream;
    int left;
    sl_words words;
} dice;

typedef struct point {
    float x, y;
} point;

typedef struct path {
    int count;
    point at[PATH];
} path;

static float uniform(dice *d, float low, float high)
{
    if (d->left == 0) {
        d->words = sl_random_words4(d->seed, d->stream, 0, d->block++);
        d->left = 4;
    }
    const float u = (float)(d->words.w[4 - d->left--] >> 8) * 0x1p-24f;
    return low + (high - low) * u;
}

/* A bell on (-width, width): mostly near 0, standard deviation 0.41 of the width. */
static float bell(dice *d, float width)
{
    const float a = uniform(d, -0.5f, 0.5f), b = uniform(d, -0.5f, 0.5f);
    return (a + b) * width;
}

/* --- shape ------------------------------------------------------------------------------------------- */

static const sl_glyph *choose(dice *d, int digit)
{
    const sl_glyph *forms = sl_glyphs[digit];
    int total = 0, i = 0;
    for (int f = 0; f < SL_GLYPH_FORMS; f++) total += forms[f].weight;
    float at = uniform(d, 0, (float)total);
    while (i < SL_GLYPH_FORMS - 1 && at >= (float)forms[i].weight && forms[i + 1].weight > 0)
        at -= (float)forms[i++].weight;
    return &forms[i];
}

static point curve(point a, point b, point c, point d, float t)
{
    const float t2 = t * t, t3 = t2 * t;
    const float wa = -0.5f * t + t2 - 0.5f * t3, wb = 1 - 2.5f * t2 + 1.5f * t3;
    const float wc = 0.5f * t + 2 * t2 - 1.5f * t3, wd = -0.5f * t2 + 0.5f * t3;
    return (point){wa * a.x + wb * b.x + wc * c.x + wd * d.x, wa * a.y + wb * b.y + wc * c.y + wd * d.y};
}

/* A stroke with unsteady points, as a chain of short straight pieces. Box coordinates from -1 to 1. */
static void trace(dice *d, const sl_stroke *stroke, path *out)
{
    point p[SL_STROKE_POINTS];
    const int n = stroke->count;
    for (int i = 0; i < n; i++) {
        const uint8_t *at = stroke->points + 2 * i;
        if (i > 0 && at[0] == at[-2] && at[1] == at[-1]) {
            p[i] = p[i - 1];
            continue;
        }
        p[i].x = (float)at[0] * 0.02f - 1 + bell(d, 0.16f);
        p[i].y = (float)at[1] * 0.02f - 1 + bell(d, 0.13f);
    }
    const int spans = stroke->closed ? n : n - 1;
    out->count = 0;
    for (int i = 0; i < spans; i++) {
        const bool first = i == 0 && !stroke->closed, last = i == n - 2 && !stroke->closed;
        const point b = p[i], c = p[(i + 1) % n];
        const point a = first ? b : p[(i + n - 1) % n], e = last ? c : p[(i + 2) % n];
        if (b.x == c.x && b.y == c.y) continue;
        for (int k = 0; k < PIECES; k++) out->at[out->count++] = curve(a, b, c, e, (float)k / PIECES);
    }
    out->at[out->count++] = p[spans % n];
}

/* A smooth field of shifts over the box: one patch of a cubic B-spline with random corners. */
typedef struct bend {
    point corner[4][4];
} bend;

static void spline(float t, float w[4])
{
    const float t2 = t * t, t3 = t2 * t, s = 1 - t;
    w[0] = s * s * s / 6;
    w[1] = (4 - 6 * t2 + 3 * t3) / 6;
    w[2] = (1 + 3 * t + 3 * t2 - 3 * t3) / 6;
    w[3] = t3 / 6;
}

static point bent(const bend *field, point p)
{
    float wx[4], wy[4];
    spline(0.5f * p.x + 0.5f, wx);
    spline(0.5f * p.y + 0.5f, wy);
    point sum = p;
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            const float w = wy[i] * wx[j];
            sum.x += w * field->corner[i][j].x;
            sum.y += w * field->corner[i][j].y;
        }
    return sum;
}

/* Bends, scales, slants and turns all strokes, and puts them on the page. */
static void place(dice *d, path *strokes, int n)
{
    bend field;
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            field.corner[i][j].x = uniform(d, -0.65f, 0.65f);
            field.corner[i][j].y = uniform(d, -0.5f, 0.5f);
        }
    const float height = 9.3f + bell(d, 2.2f), width = height * (0.82f + bell(d, 0.32f));
    const float slant = 0.10f + bell(d, 0.45f);
    const float t = bell(d, 0.15f); /* tangent of half the angle: up to 17 degrees */
    const float cosine = (1 - t * t) / (1 + t * t), sine = 2 * t / (1 + t * t);

    point low = {1e9f, 1e9f}, high = {-1e9f, -1e9f};
    for (int s = 0; s < n; s++)
        for (int i = 0; i < strokes[s].count; i++) {
            const point b = bent(&field, strokes[s].at[i]);
            const float x = width * b.x - slant * height * b.y, y = height * b.y;
            const point q = {cosine * x - sine * y, sine * x + cosine * y};
            low.x = q.x < low.x ? q.x : low.x, high.x = q.x > high.x ? q.x : high.x;
            low.y = q.y < low.y ? q.y : low.y, high.y = q.y > high.y ? q.y : high.y;
            strokes[s].at[i] = q;
        }
    /* the line's middle stays within 3 pixels of the edge, so that the pen's width stays on the page */
    const float room = SIDE - 6, w = high.x - low.x, h = high.y - low.y, larger = w > h ? w : h;
    const float fit = larger > room ? room / larger : 1;
    const float spare_x = 0.5f * (room - fit * w), spare_y = 0.5f * (room - fit * h);
    const float shift_x = spare_x < 2 ? spare_x : 2, shift_y = spare_y < 2 ? spare_y : 2;
    const float dx = uniform(d, -shift_x, shift_x), dy = uniform(d, -shift_y, shift_y);
    const float middle = 0.5f * SIDE;
    for (int s = 0; s < n; s++)
        for (int i = 0; i < strokes[s].count; i++) {
            point *q = &strokes[s].at[i];
            q->x = middle + dx + fit * (q->x - 0.5f * (low.x + high.x));
            q->y = middle + dy + fit * (q->y - 0.5f * (low.y + high.y));
        }
}

/* --- ink --------------------------------------------------------------------------------------------- */

/* Raises each pixel to the darkness that a round pen leaves on its way from a to b. */
static void ink(float page[SIDE][SIDE], point a, point b, float radius, float softness)
{
    const float reach = radius + 0.5f * softness, sharpness = 1 / softness;
    const float dx = b.x - a.x, dy = b.y - a.y, length2 = dx * dx + dy * dy;
    const float per_length2 = length2 > 0 ? 1 / length2 : 0;
    int x0 = (int)((a.x < b.x ? a.x : b.x) - reach - 0.5f),
        x1 = (int)((a.x > b.x ? a.x : b.x) + reach + 0.5f);
    int y0 = (int)((a.y < b.y ? a.y : b.y) - reach - 0.5f),
        y1 = (int)((a.y > b.y ? a.y : b.y) + reach + 0.5f);
    x0 = x0 < 0 ? 0 : x0, x1 = x1 >= SIDE ? SIDE - 1 : x1;
    y0 = y0 < 0 ? 0 : y0, y1 = y1 >= SIDE ? SIDE - 1 : y1;
    for (int y = y0; y <= y1; y++)
        for (int x = x0; x <= x1; x++) {
            const float px = (float)x + 0.5f - a.x, py = (float)y + 0.5f - a.y;
            float along = (px * dx + py * dy) * per_length2;
            along = along < 0 ? 0 : along > 1 ? 1 : along;
            const float ex = px - along * dx, ey = py - along * dy;
            const float dark = (reach - sqrtf(ex * ex + ey * ey)) * sharpness;
            page[y][x] = dark > page[y][x] ? dark : page[y][x];
        }
}

static void write_strokes(dice *d, const path *strokes, int n, float page[SIDE][SIDE])
{
    const float pen = 1.35f + bell(d, 0.6f), softness = uniform(d, 0.9f, 1.7f);
    for (int s = 0; s < n; s++) {
        const float press0 = pen + bell(d, 0.4f), press1 = pen + bell(d, 0.4f);
        const int pieces = strokes[s].count - 1;
        for (int i = 0; i < pieces; i++) {
            const float t = ((float)i + 0.5f) / (float)pieces;
            ink(page, strokes[s].at[i], strokes[s].at[i + 1], press0 + (press1 - press0) * t, softness);
        }
    }
}

/* Darkness to bytes, with the grain of the paper: the ink is up to an eighth lighter from pixel to pixel. */
static void develop(const dice *d, uint64_t first_block, float strength, float page[SIDE][SIDE],
                    uint8_t *image)
{
    const float *dark = &page[0][0];
    for (int i = 0; i < SL_DIGIT_PIXELS; i += 4) {
        if (dark[i] <= 0 && dark[i + 1] <= 0 && dark[i + 2] <= 0 && dark[i + 3] <= 0) continue;
        const sl_words grain = sl_random_words4(d->seed, d->stream, 0, first_block + (uint64_t)i / 4);
        for (int k = 0; k < 4; k++) {
            float v = dark[i + k] > 1 ? 1 : dark[i + k];
            v = v * v * (3 - 2 * v) * strength * (1 - (float)(grain.w[k] >> 8) * 0x1p-27f);
            image[i + k] = (uint8_t)(v + 0.5f);
        }
    }
}

/* The digits of a group of ten in shuffled order. */
static int digit_of(uint64_t seed, uint32_t stream, int64_t index)
{
    const sl_permutation order =
        sl_permutation_of(seed, stream, ORDER_STEP + (uint32_t)(index / 10 % 0xffffffff), 10);
    return (int)sl_permuted(&order, (uint64_t)(index % 10));
}

int sl_digit_draw(uint64_t seed, sl_split split, int64_t index, uint8_t image[SL_DIGIT_PIXELS])
{
    const uint32_t stream = STREAM + (split == SL_TEST);
    const uint64_t block = (uint64_t)index * BLOCKS_PER_IMAGE;
    dice d = {seed, block, stream, 0, {{0}}};
    const int digit = digit_of(seed, stream, index);
    const sl_glyph *glyph = choose(&d, digit);
    path strokes[SL_GLYPH_STROKES];
    int n = 0;
    for (; n < SL_GLYPH_STROKES && glyph->strokes[n].count > 0; n++)
        trace(&d, &glyph->strokes[n], &strokes[n]);
    place(&d, strokes, n);

    float page[SIDE][SIDE] = {{0}};
    write_strokes(&d, strokes, n, page);
    const float strength = uniform(&d, 205, 255);
    memset(image, 0, SL_DIGIT_PIXELS);
    develop(&d, block + FIRST_GRAIN, strength, page, image);
    return digit;
}
