/* slope eval */
#include <cjson/cJSON.h>
#include <math.h>

#include "cli.h"

static bool print_json(const char *path, sl_model *model, const sl_dataset *data, const sl_report *report)
{
    char fingerprint[24];
    snprintf(fingerprint, sizeof fingerprint, "%016llx", (unsigned long long)sl_model_fingerprint(model));
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "file", path);
    cJSON_AddStringToObject(object, "model", sl_model_describe(model));
    cJSON_AddStringToObject(object, "data", sl_dataset_describe(data).name);
    cJSON_AddNumberToObject(object, "count", (double)report->count);
    cJSON_AddNumberToObject(object, "accuracy", report->accuracy);
    cJSON_AddNumberToObject(object, "loss", report->loss);
    cJSON_AddNumberToObject(object, "seconds", report->seconds);
    cJSON_AddStringToObject(object, "fingerprint", fingerprint);
    char *text = cJSON_PrintUnformatted(object);
    if (text) puts(text);
    cJSON_free(text);
    cJSON_Delete(object);
    return text != NULL;
}

static void print_table(const char *path, sl_model *model, const sl_dataset *data, const sl_report *report)
{
    char text[320];
    const int64_t wrong = report->count - llround(report->accuracy * (double)report->count);
    printf("%-12s %s\n", "file", path);
    printf("%-12s ", "model");
    cli_wrap(stdout, sl_model_describe(model), 13, 13);
    printf("%-12s %s\n", "data", cli_data_text(data, "test images", text, sizeof text));
    printf("%-12s %.2f %% (%s wrong)\n", "accuracy", 100 * report->accuracy, cli_count(wrong).text);
    printf("%-12s %.6f\n", "loss", report->loss);
    printf("%-12s %.0f images/s\n", "speed",
           report->seconds > 0 ? (double)report->count / report->seconds : 0);
    printf("%-12s %016llx\n", "fingerprint", (unsigned long long)sl_model_fingerprint(model));
}

int cli_eval(cli_options *o)
{
    if (o->n_words != 1)
        return cli_fail(o, CLI_USAGE, "one model file is needed: slope eval MODEL [options]");
    int status = CLI_SUCCESS;
    sl_context *ctx = cli_open(o, &status);
    if (!ctx) return status;
    sl_model *model = sl_load(ctx, o->words[0]);
    sl_dataset *data = model ? cli_data(ctx, o, SL_TEST, &status) : NULL;
    if (!model) status = cli_fail_context(o, ctx, false);
    if (data) {
        const sl_report report = sl_evaluate(model, data);
        if (sl_error(ctx))
            status = cli_fail_context(o, ctx, false);
        else if (!o->json)
            print_table(o->words[0], model, data, &report);
        else if (!print_json(o->words[0], model, data, &report))
            status = cli_fail(o, CLI_FAILURE, "out of memory");
    }
    sl_close(ctx);
    return status;
}
