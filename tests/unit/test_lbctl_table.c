/* SPDX-License-Identifier: BSD-3-Clause */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/lbctl_table.h"

static const struct lbctl_column columns[] = {{"NAME", false}, {"N", true}, {"NOTE", false}};

static int set_locale(void **state)
{
	(void)state;
	return setlocale(LC_CTYPE, "C.UTF-8") != NULL ? 0 : -1;
}

// What is printed, in new memory; the table is destroyed.
static char *printed(struct lbctl_table *table, int indent, bool colour)
{
	char *text = NULL;
	size_t n_bytes;
	FILE *out = open_memstream(&text, &n_bytes);

	assert_non_null(out);
	lbctl_table_print(table, out, indent, colour);
	fclose(out);
	lbctl_table_destroy(table);
	return text;
}

static void assert_printed(struct lbctl_table *table, int indent, bool colour, const char *expected)
{
	char *text = printed(table, indent, colour);

	assert_string_equal(text, expected);
	free(text);
}

static void columns_are_aligned_to_the_widest_cell(void **state)
{
	struct lbctl_table *table = lbctl_table_create(columns, 3);

	(void)state;
	lbctl_table_add(table, LBCTL_PLAIN, "api-1");
	lbctl_table_addf(table, LBCTL_PLAIN, "%d", 12345);
	lbctl_table_add(table, LBCTL_PLAIN, "x");
	lbctl_table_add(table, LBCTL_PLAIN, "b");
	lbctl_table_addf(table, LBCTL_PLAIN, "%d", 7);
	lbctl_table_add(table, LBCTL_PLAIN, "longer");
	assert_int_equal(lbctl_table_n_rows(table), 2);
	assert_printed(table, 0, false,
		"NAME       N  NOTE\n"
		"api-1  12345  x\n"
		"b          7  longer\n");
}

static void an_empty_table_is_its_titles(void **state)
{
	struct lbctl_table *table = lbctl_table_create(columns, 3);

	(void)state;
	assert_int_equal(lbctl_table_n_rows(table), 0);
	assert_printed(table, 2, false, "  NAME  N  NOTE\n");
}

static void empty_and_missing_cells_keep_the_columns(void **state)
{
	struct lbctl_table *table = lbctl_table_create(columns, 3);

	(void)state;
	lbctl_table_add(table, LBCTL_PLAIN, "");
	lbctl_table_add(table, LBCTL_PLAIN, NULL);
	lbctl_table_add(table, LBCTL_PLAIN, "x");
	lbctl_table_add(table, LBCTL_PLAIN, "short row");
	assert_int_equal(lbctl_table_n_rows(table), 2);
	assert_printed(table, 0, false,
		"NAME       N  NOTE\n"
		"-          -  x\n"
		"short row\n");
}

static void colour_does_not_move_columns(void **state)
{
	struct lbctl_table *plain = lbctl_table_create(columns, 3);
	struct lbctl_table *coloured = lbctl_table_create(columns, 3);
	char *plain_text, *coloured_text, *out;

	(void)state;
	for (int i = 0; i < 6; i++) {
		lbctl_table_addf(plain, LBCTL_RED, "%d", i * 1000);
		lbctl_table_addf(coloured, LBCTL_RED, "%d", i * 1000);
	}
	plain_text = printed(plain, 0, false);
	coloured_text = printed(coloured, 0, true);
	assert_null(strchr(plain_text, '\033'));
	assert_non_null(strstr(coloured_text, "\033[31m1000\033[0m"));
	// Without its sequences the coloured one is the plain one.
	out = coloured_text;
	for (const char *in = coloured_text; *in != '\0';) {
		if (*in == '\033')
			in = strchr(in, 'm') + 1;
		else
			*out++ = *in++;
	}
	*out = '\0';
	assert_string_equal(coloured_text, plain_text);
	free(coloured_text);
	free(plain_text);
}

static void cells_are_escaped_and_measured_so(void **state)
{
	struct lbctl_table *table = lbctl_table_create(columns, 3);

	(void)state;
	lbctl_table_add(table, LBCTL_PLAIN, "a\033[2J\nb");
	lbctl_table_add(table, LBCTL_PLAIN, "1");
	lbctl_table_add(table, LBCTL_PLAIN, "x");
	lbctl_table_add(table, LBCTL_PLAIN, "\xe6\x9d\xb1");
	lbctl_table_add(table, LBCTL_PLAIN, "2");
	lbctl_table_add(table, LBCTL_PLAIN, "y");
	assert_printed(table, 0, false,
		"NAME         N  NOTE\n"
		"a\\x1b[2J\\nb  1  x\n"
		"\xe6\x9d\xb1           2  y\n");
}

static void many_rows_are_kept(void **state)
{
	struct lbctl_table *table = lbctl_table_create(columns, 3);
	char *text;
	size_t n_lines = 0;

	(void)state;
	for (int i = 0; i < 30000; i++)
		lbctl_table_addf(table, LBCTL_PLAIN, "%d", i);
	assert_int_equal(lbctl_table_n_rows(table), 10000);
	text = printed(table, 0, false);
	for (const char *c = text; *c != '\0'; c++)
		n_lines += *c == '\n';
	assert_int_equal(n_lines, 10001);
	assert_non_null(strstr(text, "\n29997  29998  29999\n"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(columns_are_aligned_to_the_widest_cell),
		cmocka_unit_test(an_empty_table_is_its_titles),
		cmocka_unit_test(empty_and_missing_cells_keep_the_columns),
		cmocka_unit_test(colour_does_not_move_columns),
		cmocka_unit_test(cells_are_escaped_and_measured_so),
		cmocka_unit_test(many_rows_are_kept),
	};

	return cmocka_run_group_tests_name("lbctl_table", tests, set_locale, NULL);
}
