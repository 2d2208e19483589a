/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_LBCTL_TABLE_H
#define LB_CONTROL_LBCTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/*
 * Tables with aligned columns: filled cell by cell, row after row, then printed. Columns are as
 * wide as their widest cell, two spaces apart; no line ends in a space. Cells are escaped when they
 * are added.
 */
struct lbctl_table;

struct lbctl_column {
	const char *title;
	bool right; /* numbers are aligned to the right */
};

enum lbctl_colour {
	LBCTL_PLAIN,
	LBCTL_BOLD,
	LBCTL_DIM,
	LBCTL_GREEN,
	LBCTL_YELLOW,
	LBCTL_RED,
	LBCTL_COLOUR_N
};

/**
 * @param columns n_columns of them (at least 1), which must outlive the table. @return never
 * NULL.
 */
struct lbctl_table *lbctl_table_create(const struct lbctl_column *columns, size_t n_columns);
void lbctl_table_destroy(struct lbctl_table *table);

/**
 * Add the next cell of the current row; after the last column a new row begins. An empty text
 * shows as "-".
 */
void lbctl_table_add(struct lbctl_table *table, enum lbctl_colour colour, const char *text);
void lbctl_table_addf(struct lbctl_table *table, enum lbctl_colour colour, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

size_t lbctl_table_n_rows(const struct lbctl_table *table);

/**
 * Print the titles and all rows; each line begins with @p indent spaces. Cells missing in the last
 * row are empty.
 * @param colour whether to use the terminal's colours.
 */
void lbctl_table_print(const struct lbctl_table *table, FILE *out, int indent, bool colour);

/** The escape sequence that begins @p colour, or ends every colour (LBCTL_PLAIN). */
const char *lbctl_table_sequence(enum lbctl_colour colour);

#endif
