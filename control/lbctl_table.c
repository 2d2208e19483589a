/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/lbctl_table.h"

#include <stdarg.h>
#include <stdlib.h>

#include "control/lbctl_text.h"

struct cell {
	char *text; /* escaped */
	size_t width;
	enum lbctl_colour colour;
};

struct lbctl_table {
	const struct lbctl_column *columns;
	size_t n_columns;
	struct cell *cells; /* row after row */
	size_t n_cells, n_allocated;
};

struct lbctl_table *lbctl_table_create(const struct lbctl_column *columns, size_t n_columns)
{
	struct lbctl_table *table = lbctl_text_realloc(NULL, sizeof(*table));

	*table = (struct lbctl_table){.columns = columns, .n_columns = n_columns};
	return table;
}

void lbctl_table_destroy(struct lbctl_table *table)
{
	if (table == NULL)
		return;
	for (size_t i = 0; i < table->n_cells; i++)
		free(table->cells[i].text);
	free(table->cells);
	free(table);
}

void lbctl_table_add(struct lbctl_table *table, enum lbctl_colour colour, const char *text)
{
	struct cell *cell;

	if (table->n_cells == table->n_allocated) {
		table->n_allocated = 2 * table->n_allocated + 64;
		table->cells = lbctl_text_realloc(
			table->cells, table->n_allocated * sizeof(table->cells[0]));
	}
	cell = &table->cells[table->n_cells++];
	cell->text = lbctl_text_escape(text == NULL || *text == '\0' ? "-" : text);
	cell->width = lbctl_text_width(cell->text);
	cell->colour = colour;
}

void lbctl_table_addf(struct lbctl_table *table, enum lbctl_colour colour, const char *format, ...)
{
	char *text = NULL;
	va_list args;
	int n;

	va_start(args, format);
	n = vasprintf(&text, format, args);
	va_end(args);
	if (n < 0)
		text = NULL;
	lbctl_table_add(table, colour, text);
	free(text);
}

size_t lbctl_table_n_rows(const struct lbctl_table *table)
{
	return (table->n_cells + table->n_columns - 1) / table->n_columns;
}

const char *lbctl_table_sequence(enum lbctl_colour colour)
{
	static const char *const sequences[LBCTL_COLOUR_N] = {
		[LBCTL_PLAIN] = "\033[0m",
		[LBCTL_BOLD] = "\033[1m",
		[LBCTL_DIM] = "\033[2m",
		[LBCTL_GREEN] = "\033[32m",
		[LBCTL_YELLOW] = "\033[33m",
		[LBCTL_RED] = "\033[31m",
	};

	return sequences[colour];
}

static void print_padding(FILE *out, size_t n)
{
	while (n-- > 0)
		fputc(' ', out);
}

// A line whose last cells are missing ends with the last cell there is: no trailing spaces.
static void print_line(const struct lbctl_table *table, const struct cell *cells, size_t n_cells,
	const size_t *widths, FILE *out, int indent, bool colour)
{
	print_padding(out, (size_t)indent);
	for (size_t i = 0; i < n_cells; i++) {
		const struct cell *cell = &cells[i];
		bool coloured = colour && cell->colour != LBCTL_PLAIN;
		size_t padding = widths[i] - cell->width;

		if (table->columns[i].right)
			print_padding(out, padding);
		if (coloured)
			fputs(lbctl_table_sequence(cell->colour), out);
		fputs(cell->text, out);
		if (coloured)
			fputs(lbctl_table_sequence(LBCTL_PLAIN), out);
		if (i + 1 == n_cells)
			break;
		print_padding(out, (table->columns[i].right ? 0 : padding) + 2);
	}
	fputc('\n', out);
}

void lbctl_table_print(const struct lbctl_table *table, FILE *out, int indent, bool colour)
{
	size_t *widths = lbctl_text_realloc(NULL, table->n_columns * sizeof(widths[0]));
	struct cell *titles = lbctl_text_realloc(NULL, table->n_columns * sizeof(titles[0]));

	for (size_t i = 0; i < table->n_columns; i++) {
		titles[i].text = lbctl_text_escape(table->columns[i].title);
		titles[i].width = widths[i] = lbctl_text_width(titles[i].text);
		titles[i].colour = LBCTL_BOLD;
	}
	for (size_t i = 0; i < table->n_cells; i++) {
		size_t *width = &widths[i % table->n_columns];

		if (table->cells[i].width > *width)
			*width = table->cells[i].width;
	}
	print_line(table, titles, table->n_columns, widths, out, indent, colour);
	for (size_t i = 0; i < table->n_cells; i += table->n_columns) {
		size_t n_left = table->n_cells - i;

		print_line(table, &table->cells[i],
			n_left < table->n_columns ? n_left : table->n_columns, widths, out, indent,
			colour);
	}
	for (size_t i = 0; i < table->n_columns; i++)
		free(titles[i].text);
	free(titles);
	free(widths);
}
