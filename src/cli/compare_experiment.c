/* What a comparison compares: from the command line, and from the folder that it goes on with. */
#include <stdlib.h>

#include "compare.h"

/* The experiment that is made where neither --model nor --depth says which; batch norm's numbers and the
 * first weights are those that Keras has by default. */
#define PUBLISHED                                                                                            \
    "conv3-32~1e-5 bn(0.01,0.001) act conv3-64~1e-5 bn(0.01,0.001) act pool2 drop.25 "                       \
    "dense128~1e-5 bn(0.01,0.001) act drop.5 dense10"
static const struct {
    int option;
    const char *value;
} published[] = {{CLI_MODEL, PUBLISHED},
                 {CLI_INIT, "xavier"},
                 {CLI_EPOCHS, "20"},
                 {CLI_SCHEDULE, "plateau(factor=0.2,patience=5,lowest=1e-5)"}};

static const cJSON *item(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

/* --- the options --- */

/* Whether the option belongs to this comparison's description. */
static bool has_part(const cli_experiment *e, int option)
{
    const bool deep = cJSON_GetArraySize(item(e->json, "depths")) > 0;
    return cli_option_fixes(option) && (deep ? option != CLI_MODEL : option != CLI_WIDTH);
}

static void store_options(cli_experiment *e)
{
    cJSON *options = cJSON_AddObjectToObject(e->json, "options");
    for (int i = 0; i < CLI_OPTIONS; i++) {
        char buffer[32];
        const char *text = has_part(e, i) ? cli_option_text(e->o, i, buffer, sizeof buffer) : NULL;
        if (!text) continue;
        if (cli_option_is_flag(i))
            cJSON_AddTrueToObject(options, cli_option_name(i));
        else if (text == buffer)
            cJSON_AddNumberToObject(options, cli_option_name(i), strtod(text, NULL));
        else
            cJSON_AddStringToObject(options, cli_option_name(i), text);
    }
}

/* What the folder has for an option, as text. */
static const char *stored_text(const cJSON *value, char *buffer, size_t size)
{
    if (cJSON_IsString(value)) return value->valuestring;
    if (cJSON_IsTrue(value)) return "yes";
    if (!cJSON_IsNumber(value)) return NULL;
    snprintf(buffer, size, "%.16g", value->valuedouble);
    return buffer;
}

static void add_difference(char *list, size_t size, const char *name, const char *here, const char *there)
{
    const size_t used = strlen(list);
    snprintf(list + used, size - used, "%s--%s is %s, there it is %s", used ? "; " : "", name,
             here ? here : "left out", there ? there : "left out");
}

static int refuse(const cli_experiment *e, const char *differences)
{
    return cli_fail(
        e->o, CLI_FAILURE,
        "%s holds another comparison: %s. Leave out what differs to go on with it, or choose another --out",
        e->folder, differences);
}

/* Options left out are the folder's, and others than the folder's are refused. */
static int take_options(cli_experiment *e)
{
    char differences[1024] = "";
    for (int i = 0; i < CLI_OPTIONS; i++) {
        char here[32], there[32];
        const cJSON *value = item(item(e->json, "options"), cli_option_name(i));
        const char *stored = stored_text(value, there, sizeof there);
        if (!cli_option_fixes(i)) continue;
        if (!cli_given(e->o, i)) {
            if (stored && !cli_assign(e->o, "in comparison.json: ", i, stored)) return CLI_FAILURE;
            continue;
        }
        cli_options folder = *e->o;
        const char *text = cli_option_text(e->o, i, here, sizeof here);
        if (stored && !cli_assign(&folder, "in comparison.json: ", i, stored)) return CLI_FAILURE;
        if (stored) stored = cli_option_text(&folder, i, there, sizeof there);
        if (!stored || strcmp(text, stored) != 0)
            add_difference(differences, sizeof differences, cli_option_name(i), text, stored);
    }
    return *differences ? refuse(e, differences) : CLI_SUCCESS;
}

static int set_published(cli_experiment *e)
{
    cli_options *o = e->o;
    if (cli_given(o, CLI_MODEL) || o->depth) return CLI_SUCCESS;
    e->published = true;
    for (size_t i = 0; i < sizeof published / sizeof *published; i++)
        if (!cli_given(o, published[i].option) && !cli_assign(o, "", published[i].option, published[i].value))
            return CLI_FAILURE;
    return CLI_SUCCESS;
}

/* --- the lists --- */

static const char *const default_activations = "sigmoid,tanh,relu,leaky_relu,swish";

/* What an activation is, however it is spelled; "" after a message. */
static const char *meaning(const cli_options *o, sl_context *ctx, const char *text, char *buffer)
{
    sl_activation activation;
    if (cli_activation(ctx, o, text, &activation) != CLI_SUCCESS) return "";
    return sl_activation_print(activation, buffer, SL_ACTIVATION_TEXT);
}

/* Number of the first that means the same, among the first n; -1: none; -2 after a message. */
static int find_activation(const cli_options *o, sl_context *ctx, const cJSON *list, int n, const char *text)
{
    char a[SL_ACTIVATION_TEXT], b[SL_ACTIVATION_TEXT];
    if (!*meaning(o, ctx, text, a)) return -2;
    for (int i = 0; i < n; i++) {
        if (!*meaning(o, ctx, cJSON_GetArrayItem(list, i)->valuestring, b)) return -2;
        if (strcmp(a, b) == 0) return i;
    }
    return -1;
}

/* The activations of the command line that the folder lacks come behind those that it has. */
static int take_activations(cli_experiment *e, sl_context *ctx)
{
    const cli_options *o = e->o;
    const char *text = o->activations;
    if (!text && e->continues) return CLI_SUCCESS;
    cJSON *given = cli_split(o, "activations", text ? text : default_activations);
    cJSON *all = e->continues ? cJSON_GetObjectItem(e->json, "activations")
                              : cJSON_AddArrayToObject(e->json, "activations");
    int status = given ? CLI_SUCCESS : CLI_USAGE;
    for (int i = 0; i < cJSON_GetArraySize(given) && status == CLI_SUCCESS; i++) {
        const char *one = cJSON_GetArrayItem(given, i)->valuestring;
        const int twin = find_activation(o, ctx, given, i, one);
        if (twin >= 0)
            status = cli_fail(o, CLI_USAGE, "--activations: '%s' and '%s' are the same function",
                              cJSON_GetArrayItem(given, twin)->valuestring, one);
        const int there = twin == -1 ? find_activation(o, ctx, all, cJSON_GetArraySize(all), one) : twin;
        if (there == -2) status = CLI_USAGE;
        if (there == -1) cJSON_AddItemToArray(all, cJSON_CreateString(one));
    }
    cJSON_Delete(given);
    return status;
}

/* Appends the values of `given` (which it deletes) that the folder's list lacks. */
static int take_values(cli_experiment *e, const char *key, cJSON *given)
{
    cJSON *all = cJSON_GetObjectItem(e->json, key);
    int status = CLI_SUCCESS;
    if (!all) all = cJSON_AddArrayToObject(e->json, key);
    for (int i = 0; i < cJSON_GetArraySize(given); i++) {
        const cJSON *one = cJSON_GetArrayItem(given, i);
        bool found = false;
        for (int j = 0; j < i; j++)
            if (cJSON_Compare(one, cJSON_GetArrayItem(given, j), true))
                status = cli_fail(e->o, CLI_USAGE, "--%s: a value stands there twice",
                                  strcmp(key, "depths") == 0 ? "depth" : "vary");
        for (int j = 0; j < cJSON_GetArraySize(all); j++)
            found |= cJSON_Compare(one, cJSON_GetArrayItem(all, j), true);
        if (!found) cJSON_AddItemToArray(all, cJSON_Duplicate(one, true));
        if (status != CLI_SUCCESS) break;
    }
    cJSON_Delete(given);
    return status;
}

static int take_vary(cli_experiment *e)
{
    cli_options *o = e->o;
    char *name = NULL;
    cJSON *values = NULL;
    int status = CLI_SUCCESS;
    const char *there = cJSON_GetStringValue(item(e->json, "vary"));
    if (!cli_split_vary(o, o->vary, &name, &values))
        status = CLI_USAGE;
    else if (e->continues && (!there || strcmp(there, name) != 0)) {
        char difference[128] = "";
        add_difference(difference, sizeof difference, "vary", name, there);
        status = refuse(e, difference);
    } else {
        if (!there) cJSON_AddStringToObject(e->json, "vary", name);
        status = take_values(e, "values", values);
        values = NULL;
    }
    free(name);
    cJSON_Delete(values);
    return status;
}

static int take_depth(cli_experiment *e)
{
    const cli_options *o = e->o;
    if (cli_given(o, CLI_MODEL))
        return cli_fail(o, CLI_USAGE,
                        "--depth and --model exclude each other: --depth makes its own networks");
    if (e->continues && !item(e->json, "depths")) return refuse(e, "--depth is given, there it is left out");
    cJSON *depths = cli_split_depths(o, o->depth);
    return depths ? take_values(e, "depths", depths) : CLI_USAGE;
}

static int take_seeds(cli_experiment *e)
{
    cJSON *there = cJSON_GetObjectItem(e->json, "seeds");
    const int64_t seeds = cli_given(e->o, CLI_SEEDS) ? e->o->seeds : 3;
    if (!there)
        cJSON_AddNumberToObject(e->json, "seeds", (double)seeds);
    else if (cli_given(e->o, CLI_SEEDS) && (double)seeds > there->valuedouble)
        cJSON_SetNumberValue(there, (double)seeds);
    return CLI_SUCCESS;
}

/* From the command line and the folder to the whole experiment. */
int cli_experiment_complete(cli_experiment *e)
{
    cli_options *o = e->o;
    int status = CLI_SUCCESS;
    if (!e->continues) e->json = cJSON_CreateObject();
    if (!e->json) return cli_fail(o, CLI_FAILURE, "out of memory");
    if (!e->continues) cJSON_AddStringToObject(e->json, "slope", SLOPE_VERSION);
    sl_context *ctx = cli_open_plain(o, 0, &status);
    if (!ctx) return status;
    if (cli_given(o, CLI_ACTIVATION))
        cli_say(o, "note: the recipe's activation %s is left out; --activations says what is compared",
                o->activation);
    if (o->vary) status = take_vary(e);
    if (status == CLI_SUCCESS && o->depth) status = take_depth(e);
    if (status == CLI_SUCCESS) status = e->continues ? take_options(e) : set_published(e);
    if (status == CLI_SUCCESS && !e->continues) store_options(e);
    if (status == CLI_SUCCESS) status = take_activations(e, ctx);
    if (status == CLI_SUCCESS) status = take_seeds(e);
    sl_close(ctx);
    return status;
}
