/* SPDX-License-Identifier: BSD-3-Clause */
#include "bench.h"

#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "bench_commit.h"

struct bench bench;
static json_t *results;
static json_t *old_results; /* --compare; NULL: not asked for */

static void read_old_results(const char *path)
{
	json_error_t error;
	json_t *document = json_load_file(path, 0, &error);

	old_results = json_incref(json_object_get(document, "results"));
	json_decref(document);
	if (json_is_array(old_results))
		return;
	fprintf(stderr, "%s: %s\n", path, document == NULL ? error.text : "not a document of results");
	exit(1);
}

void bench_parse_args(int argc, char **argv)
{
	static const struct option options[] = {
		{"json", required_argument, NULL, 'j'},
		{"compare", required_argument, NULL, 'c'},
		{"quick", no_argument, NULL, 'q'},
		{"only", required_argument, NULL, 'o'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	bool ok = true, help = false;
	int option;

	while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (option == 'j')
			bench.json = optarg;
		else if (option == 'c')
			bench.compare = optarg;
		else if (option == 'q')
			bench.quick = true;
		else if (option == 'o')
			bench.only = optarg;
		else
			ok = help = option == 'h';
		if (!ok || help)
			break;
	}
	if (!ok || help || (optind < argc && strcmp(argv[optind - 1], "--") != 0)) {
		fprintf(help ? stdout : stderr,
			"usage: %s [--json FILE] [--compare OLD.json] [--quick] [--only TEXT] "
			"[-- ARGUMENT...]\n",
			argv[0]);
		exit(help ? 0 : 2);
	}
	bench.n_args = argc - optind;
	bench.args = argv + optind;
	results = json_array();
	if (bench.compare != NULL)
		read_old_results(bench.compare);
	printf("%-64s %16s %12s %12s %12s %5s\n", "name", "unit", "min", "median", "max", "runs");
}

bool bench_wanted(const char *name)
{
	size_t len = bench.only != NULL ? strlen(bench.only) : 0, name_len = strlen(name);

	if (len == 0)
		return true;
	if (bench.only[len - 1] != '$')
		return strstr(name, bench.only) != NULL;
	return name_len >= len - 1 && memcmp(name + name_len - (len - 1), bench.only, len - 1) == 0;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

// Whether something else had a part in most of the runs: the best one tells more then, and a ratio of medians little.
static bool is_noisy(double min, double median)
{
	return min > 0 && median > 1.2 * min;
}

void bench_result_add(const char *name, const char *unit, double *samples, unsigned n)
{
	double median;

	for (unsigned i = 0; i < n; i++) {
		if (isfinite(samples[i]))
			continue;
		fprintf(stderr, "%s: a result that is no number\n", name);
		exit(1);
	}
	qsort(samples, n, sizeof(*samples), compare);
	median = n % 2 == 1 ? samples[n / 2] : (samples[n / 2 - 1] + samples[n / 2]) / 2;
	printf("%-64s %16s %12.4g %12.4g %12.4g %5u %s%s\n", name, unit, samples[0], median,
		samples[n - 1], n, bench.note, is_noisy(samples[0], median) ? "  noisy" : "");
	fflush(stdout);
	json_array_append_new(results,
		json_pack("{s:s, s:s, s:f, s:f, s:f, s:i}", "name", name, "unit", unit, "min",
			samples[0], "median", median, "max", samples[n - 1], "runs", (int)n));
}

/* The value of the first line of /proc/cpuinfo or /proc/meminfo that begins with @p key. */
static json_t *proc_value(const char *path, const char *key)
{
	char line[4096];
	json_t *value = NULL;
	FILE *file = fopen(path, "re");

	if (file == NULL)
		return json_null();
	while (value == NULL && fgets(line, sizeof(line), file) != NULL) {
		char *text = strchr(line, ':');

		if (text == NULL || strncmp(line, key, strlen(key)) != 0)
			continue;
		text += 1 + strspn(text + 1, " \t");
		text[strcspn(text, "\n")] = '\0';
		value = json_string(text);
	}
	fclose(file);
	return value != NULL ? value : json_null();
}

static json_t *machine(void)
{
	struct utsname os;

	uname(&os);
	return json_pack("{s:o, s:i, s:I, s:I, s:o, s:o, s:s, s:s, s:s}", "cpu",
		proc_value("/proc/cpuinfo", "model name"), "n_cpus", (int)sysconf(_SC_NPROCESSORS_ONLN),
		"l2_bytes", (json_int_t)sysconf(_SC_LEVEL2_CACHE_SIZE), "l3_bytes",
		(json_int_t)sysconf(_SC_LEVEL3_CACHE_SIZE), "memory",
		proc_value("/proc/meminfo", "MemTotal"), "hugepages",
		proc_value("/proc/meminfo", "HugePages_Total"), "arch", os.machine, "kernel",
		os.release, "compiler", __VERSION__);
}

static const json_t *find_result(const json_t *list, const char *name, const char *unit)
{
	const json_t *result;
	size_t i;

	json_array_foreach(list, i, result)
	{
		const char *its_name = json_string_value(json_object_get(result, "name"));
		const char *its_unit = json_string_value(json_object_get(result, "unit"));

		if (its_name != NULL && its_unit != NULL && strcmp(its_name, name) == 0 &&
			strcmp(its_unit, unit) == 0)
			return result;
	}
	return NULL;
}

static void print_ratio(const json_t *result, const json_t *old, const char *key)
{
	double divisor = json_number_value(json_object_get(old, key));

	if (divisor != 0)
		printf(" %12.3f", json_number_value(json_object_get(result, key)) / divisor);
	else
		printf(" %12s", "-");
}

static bool result_is_noisy(const json_t *result)
{
	return is_noisy(json_number_value(json_object_get(result, "min")), json_number_value(json_object_get(result, "median")));
}

// new/old of what both have.
static void compare_results(void)
{
	unsigned n_common = 0;
	const json_t *result;
	size_t i;

	printf("\n%-64s %16s %12s %12s\n", "new/old", "unit", "min", "median");
	json_array_foreach(results, i, result)
	{
		const char *name = json_string_value(json_object_get(result, "name"));
		const char *unit = json_string_value(json_object_get(result, "unit"));
		const json_t *old = find_result(old_results, name, unit);

		if (old == NULL)
			continue;
		printf("%-64s %16s", name, unit);
		print_ratio(result, old, "min");
		print_ratio(result, old, "median");
		printf("%s\n", result_is_noisy(result) || result_is_noisy(old) ? "  noisy" : "");
		n_common++;
	}
	if (n_common == 0)
		printf("no result has the same name in both\n");
	json_decref(old_results);
}

int bench_finish(void)
{
	json_t *document;
	time_t now = time(NULL);
	char date[32];
	struct tm utc;
	int rc = 0;

	if (json_array_size(results) == 0) {
		fprintf(stderr, "nothing was measured%s\n",
			bench.only ? ": --only fits no result" : "");
		json_decref(results);
		return 1;
	}
	if (bench.compare != NULL)
		compare_results();
	gmtime_r(&now, &utc);
	strftime(date, sizeof(date), "%FT%TZ", &utc);
	document = json_pack("{s:o, s:s, s:s, s:o}", "machine", machine(), "commit", BENCH_COMMIT,
		"date", date, "results", results);
	if (bench.json != NULL && json_dump_file(document, bench.json, JSON_INDENT(2)) < 0) {
		fprintf(stderr, "%s: cannot write the results\n", bench.json);
		rc = 1;
	}
	json_decref(document);
	return rc;
}
