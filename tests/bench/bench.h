/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>

/*
 * What every benchmark shares (scripts: benchlib.py): options, a table of results on standard output
 * as they come, and with `--json FILE` the same as a document: {"machine": {...}, "commit", "date", "results": [{"name",
 * "unit", "min", "median", "max", "runs"}]}. One thread.
 */
struct bench {
	bool quick;       /* --quick: the whole program ends within 45 s on two cores */
	const char *json; /* --json FILE, or NULL */
	const char *compare; /* --compare OLD.json, or NULL: bench_finish() prints ratios new/old */
	const char *only; /* --only TEXT, or NULL: run what has it in its name, or with a $ at its end ends in it */
	int n_args;       /* what followed "--", for instance EAL's options */
	char **args;
	char note[32]; /* set by the benchmark: printed behind the next result */
};

extern struct bench bench;

/** Read the options into `bench`; prints the usage and exits (status 2; 0 for --help) if they are
 * wrong. */
void bench_parse_args(int argc, char **argv);

/** Whether the result @p name is wanted. Ask before measuring it. */
bool bench_wanted(const char *name);

/**
 * Report a result.
 * @param name    a path with parameters, "tables/maglev/build?backends=1000&slots=65537"; copied.
 * @param unit    what the samples are in, "ms", "cycles/packet"; copied.
 * @param samples @p n values, one per run, n >= 1; sorted in place.
 */
void bench_result_add(const char *name, const char *unit, double *samples, unsigned n);

/**
 * Write the JSON document, if asked for. To be the end of main().
 * @return exit status: 0; 1 if nothing was measured or the file cannot be written (said on standard
 * error).
 */
int bench_finish(void);

#endif
