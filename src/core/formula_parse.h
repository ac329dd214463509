/* Text → nodes. */
#ifndef SL_CORE_FORMULA_PARSE_H
#define SL_CORE_FORMULA_PARSE_H

#include "core/formula_build.h"

/* The node of the expression's value, and the learned parameters in `formula`; -1 after sl_fail. */
int sl_formula_parse(sl_formula *formula, sl_formula_builder *f, const char *text);

/* True for a text that is meant as an expression: x is in it, or it does not begin with a name. */
bool sl_formula_is_expression(const char *text);
#endif
