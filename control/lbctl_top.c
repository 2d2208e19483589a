/* SPDX-License-Identifier: BSD-3-Clause */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "control/lbctl_api.h"
#include "control/lbctl_args.h"
#include "control/lbctl_rates.h"

/*
 * lbctl top: a live screen over two samples of /v1/stats. The terminal is put back as it was at the
 * end, also at a signal; stopping (^Z) is not special-cased: the next frame draws all anew.
 */

#define HEADER_LINES 4u /* above the table's first row, with its titles */

enum key {
	KEY_NONE = 256,
	KEY_UP,
	KEY_DOWN,
	KEY_PAGE_UP,
	KEY_PAGE_DOWN,
	KEY_HOME,
	KEY_END,
	KEY_END_OF_INPUT
};

static const char *const sort_names[] = {
	"name", "in_pps", "in_bps", "out_pps", "out_bps", "cps", "active_flows", "effective"};
/* As the columns are called. */
static const char *const sort_titles[] = {
	"name", "in pkt/s", "in bit/s", "out pkt/s", "out bit/s", "new/s", "flows", "state"};
#define N_SORTS (sizeof(sort_names) / sizeof(sort_names[0]))
static_assert(N_SORTS == sizeof(sort_titles) / sizeof(sort_titles[0]), "a title each");

/* One line of the table. Objects are borrowed from the sample. */
struct row {
	const char *service;
	const json_t *object; /* with rates */
	bool is_backend;
};

struct top {
	const struct lbctl *ctl;
	const char *only; /* service; NULL: all */
	json_t *sample;   /* with rates; NULL before the second answer */
	json_t *before;
	char *problem; /* why there is no newer one; NULL: fine */
	struct row *rows;
	size_t n_rows, n_allocated;
	size_t selected, first;                    /* rows */
	char *selected_service, *selected_backend; /* the selection outlives sorting; NULL: none */
	json_t *folded; /* set of services whose backends are hidden, or shown if fold_all */
	unsigned sort;
	bool reverse, fold_all, trouble_only, paused;
	unsigned height, width;
};

static struct termios saved_termios;
static volatile sig_atomic_t n_signals; /* SIGINT, SIGTERM, SIGHUP */

static void on_signal(int signal)
{
	(void)signal;
	n_signals = 1;
}

static void on_resize(int signal)
{
	(void)signal; // only ends poll()
}

static void write_all(const char *text)
{
	size_t n = strlen(text);

	while (n > 0) {
		ssize_t n_written = write(STDOUT_FILENO, text, n);

		if (n_written < 0 && errno != EINTR)
			return;
		if (n_written > 0) {
			text += n_written;
			n -= (size_t)n_written;
		}
	}
}

static void leave_screen(void)
{
	write_all("\033[?25h\033[?1049l");
	tcsetattr(STDIN_FILENO, TCSADRAIN, &saved_termios);
}

// Keys come one by one and unseen; ^C and ^Z work as ever.
static int enter_screen(void)
{
	struct sigaction quit = {.sa_handler = on_signal}, resize = {.sa_handler = on_resize};
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, &saved_termios) < 0)
		return -errno;
	raw = saved_termios;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_cc[VMIN] = 0;
	raw.c_cc[VTIME] = 0;
	sigaction(SIGINT, &quit, NULL);
	sigaction(SIGTERM, &quit, NULL);
	sigaction(SIGHUP, &quit, NULL);
	sigaction(SIGWINCH, &resize, NULL);
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) < 0)
		return -errno;
	write_all("\033[?1049h\033[?25l");
	return 0;
}

static void measure(struct top *top)
{
	struct winsize size;

	top->height = 24;
	top->width = 80;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0) {
		top->height = size.ws_row;
		top->width = size.ws_col;
	}
}

static bool is_trouble(const json_t *object)
{
	const char *state = lbctl_json_text(object, "effective");

	return *state != '\0' && strcmp(state, "up") != 0;
}

static bool shows_backends(const struct top *top, const char *service)
{
	bool named = json_object_get(top->folded, service) != NULL;

	return top->fold_all ? named : !named;
}

static double sort_value(const struct top *top, const json_t *object)
{
	double value = lbctl_json_number(object, sort_names[top->sort]);

	return isnan(value) ? -1 : value;
}

// By the column; a greater number first, names and states by the alphabet.
static int compare(const struct top *top, const json_t *a, const json_t *b)
{
	const char *key = sort_names[top->sort];
	int order;

	if (top->sort == 0 || top->sort == N_SORTS - 1)
		order = strcmp(lbctl_json_text(a, key), lbctl_json_text(b, key));
	else
		order = (sort_value(top, a) < sort_value(top, b)) -
			(sort_value(top, a) > sort_value(top, b));
	return top->reverse ? -order : order;
}

// Stable insertion sort: the order of equals is the daemon's. Lists are short, or nearly in order.
static const json_t **sorted(const struct top *top, const json_t *array, size_t *n)
{
	const json_t **list;

	*n = json_array_size(array);
	list = lbctl_text_realloc(NULL, (*n + 1) * sizeof(list[0]));
	for (size_t i = 0; i < *n; i++) {
		const json_t *object = json_array_get(array, i);
		size_t k = i;

		for (; k > 0 && compare(top, list[k - 1], object) > 0; k--)
			list[k] = list[k - 1];
		list[k] = object;
	}
	return list;
}

static void add_row(struct top *top, const char *service, const json_t *object, bool is_backend)
{
	if (top->n_rows == top->n_allocated) {
		top->n_allocated = 2 * top->n_allocated + 64;
		top->rows = lbctl_text_realloc(top->rows, top->n_allocated * sizeof(top->rows[0]));
	}
	top->rows[top->n_rows++] = (struct row){service, object, is_backend};
}

static void add_service_rows(struct top *top, const json_t *service)
{
	const char *name = lbctl_json_text(service, "name");
	size_t n, n_before = top->n_rows;
	const json_t **backends;

	if (top->only != NULL && strcmp(top->only, name) != 0)
		return;
	add_row(top, name, service, false);
	if (!shows_backends(top, name) && !top->trouble_only)
		return;
	backends = sorted(top, json_object_get(service, "backends"), &n);
	for (size_t i = 0; i < n; i++)
		if (!top->trouble_only || is_trouble(backends[i]))
			add_row(top, name, backends[i], true);
	free(backends);
	if (top->trouble_only && top->n_rows == n_before + 1 && !is_trouble(service))
		top->n_rows = n_before;
}

static bool is_selected(const struct top *top, const struct row *row)
{
	const char *backend = row->is_backend ? lbctl_json_text(row->object, "name") : NULL;

	return top->selected_service != NULL && strcmp(top->selected_service, row->service) == 0 &&
	       (backend == NULL ? top->selected_backend == NULL
				: top->selected_backend != NULL &&
					  strcmp(top->selected_backend, backend) == 0);
}

static void select_row(struct top *top, size_t i)
{
	free(top->selected_service);
	free(top->selected_backend);
	top->selected_service = top->selected_backend = NULL;
	top->selected = i < top->n_rows ? i : top->n_rows > 0 ? top->n_rows - 1 : 0;
	if (top->n_rows == 0)
		return;
	top->selected_service = lbctl_text_copy(top->rows[top->selected].service);
	if (top->rows[top->selected].is_backend)
		top->selected_backend =
			lbctl_text_copy(lbctl_json_text(top->rows[top->selected].object, "name"));
}

static void make_rows(struct top *top)
{
	const json_t *rates = json_object_get(top->sample, "rates");
	const json_t **services;
	size_t n, i = 0;

	top->n_rows = 0;
	services = sorted(top, json_object_get(rates, "services"), &n);
	for (size_t k = 0; k < n; k++)
		add_service_rows(top, services[k]);
	free(services);
	while (i < top->n_rows && !is_selected(top, &top->rows[i]))
		i++;
	select_row(top, i < top->n_rows ? i : top->selected);
}

// The table's lines in new memory: titles, then a line for each row from @p first on.
static char *format_table(const struct top *top, size_t first, size_t n)
{
	static const struct lbctl_column columns[] = {{"SERVICE", false}, {"BACKEND", false},
		{"STATE", false}, {"IN PKT/S", true}, {"IN BIT/S", true}, {"OUT PKT/S", true},
		{"OUT BIT/S", true}, {"NEW/S", true}, {"FLOWS", true}};
	struct lbctl_table *table =
		lbctl_table_create(columns, sizeof(columns) / sizeof(columns[0]));
	char *text = NULL;
	size_t n_bytes;
	FILE *out;

	for (size_t i = first; i < first + n && i < top->n_rows; i++) {
		const struct row *row = &top->rows[i];

		lbctl_table_add(table, LBCTL_PLAIN, row->is_backend ? " " : row->service);
		lbctl_table_add(table, LBCTL_PLAIN,
			row->is_backend                     ? lbctl_json_text(row->object, "name")
			: shows_backends(top, row->service) ? "all"
							    : "all (hidden)");
		lbctl_cell_state(table, row->object);
		for (const char *const *name = lbctl_rate_names; *name != NULL; name++)
			lbctl_cell_si(table, LBCTL_PLAIN, lbctl_json_number(row->object, *name));
		lbctl_cell_value(table, LBCTL_PLAIN, row->object, "active_flows");
	}
	out = open_memstream(&text, &n_bytes);
	if (out == NULL)
		abort();
	lbctl_table_print(table, out, 0, false);
	fclose(out);
	lbctl_table_destroy(table);
	return text;
}

// At most the screen's width of @p line, cut between characters.
static void put_line(FILE *out, const struct top *top, const char *line)
{
	unsigned n = 0;

	for (; *line != '\0' && *line != '\n'; line++) {
		n += ((unsigned char)*line & 0xc0) != 0x80;
		if (n > top->width)
			break;
		fputc(*line, out);
	}
	fputs("\033[K", out);
}

static char *format_totals(const struct top *top)
{
	const json_t *rates = json_object_get(json_object_get(top->sample, "rates"), "totals");
	const json_t *totals = json_object_get(top->sample, "totals");
	char text[4][LBCTL_TEXT_NUMBER_BYTES];
	double n_used = lbctl_json_number(totals, "flows_used"),
	       n_max = lbctl_json_number(totals, "flows_max");

	return lbctl_text_printf(
		"in %s pkt/s %sbit/s   dropped %s pkt/s   flows %s (%.1f %% of the table)",
		lbctl_text_format_si(lbctl_json_number(rates, "rx_pps"), text[0]),
		lbctl_text_format_si(lbctl_json_number(rates, "rx_bps"), text[1]),
		lbctl_text_format_si(lbctl_json_number(rates, "drop_pps"), text[2]),
		lbctl_text_format_si(n_used, text[3]), n_max > 0 ? 100 * n_used / n_max : 0);
}

static void draw_header(FILE *out, const struct top *top)
{
	char time_text[LBCTL_TEXT_NUMBER_BYTES], *line, *escaped;
	const char *dataplane = lbctl_json_text(top->sample, "dataplane");

	line = lbctl_text_printf("fulcrum %s   %s   data plane %s%s%s%s", top->ctl->instance,
		lbctl_text_format_time(
			lbctl_json_number(top->sample, "timestamp_ns") / 1e9, time_text),
		*dataplane != '\0' ? dataplane : "-", top->paused ? "   PAUSED" : "",
		top->problem != NULL ? "   " : "", top->problem != NULL ? top->problem : "");
	escaped = lbctl_text_escape(line);
	fputs(top->problem != NULL || strcmp(dataplane, "up") != 0
			? lbctl_table_sequence(LBCTL_RED)
			: lbctl_table_sequence(LBCTL_BOLD),
		out);
	put_line(out, top, escaped);
	fprintf(out, "%s\n", lbctl_table_sequence(LBCTL_PLAIN));
	free(escaped);
	free(line);
	line = format_totals(top);
	put_line(out, top, line);
	free(line);
	line = lbctl_text_printf("sorted by %s%s%s   s sort  r reverse  enter/a backends  t "
				 "trouble  p pause  q quit",
		sort_titles[top->sort], top->reverse ? ", reversed" : "",
		top->trouble_only ? ", only trouble" : "");
	fprintf(out, "\n%s", lbctl_table_sequence(LBCTL_DIM));
	put_line(out, top, line);
	fprintf(out, "%s\n", lbctl_table_sequence(LBCTL_PLAIN));
	free(line);
}

static void draw(struct top *top)
{
	unsigned n_lines = top->height > HEADER_LINES + 1 ? top->height - HEADER_LINES : 1;
	char *text = NULL, *table, *rest, *line;
	size_t n_bytes, i = 0;
	FILE *out = open_memstream(&text, &n_bytes);

	if (out == NULL)
		abort();
	if (top->selected < top->first)
		top->first = top->selected;
	if (top->selected >= top->first + n_lines)
		top->first = top->selected - n_lines + 1;
	fputs("\033[H", out);
	draw_header(out, top);
	table = rest = format_table(top, top->first, n_lines);
	while ((line = strsep(&rest, "\n")) != NULL && (*line != '\0' || rest != NULL) &&
		i <= n_lines) {
		const struct row *row = i > 0 ? &top->rows[top->first + i - 1] : NULL;

		if (i > 0)
			fputs("\n", out);
		if (row == NULL)
			fputs(lbctl_table_sequence(LBCTL_BOLD), out);
		else if (top->first + i - 1 == top->selected)
			fputs("\033[7m", out);
		else if (top->ctl->colour && is_trouble(row->object))
			fputs(lbctl_table_sequence(lbctl_state_colour(
				      lbctl_json_text(row->object, "effective"))),
				out);
		put_line(out, top, line);
		fputs(lbctl_table_sequence(LBCTL_PLAIN), out);
		i++;
	}
	fputs("\033[J", out);
	fclose(out);
	write_all(text);
	free(table);
	free(text);
}

// A newer sample. @return as lbctl_api_get(); only the first failure is told by a message.
static enum lbctl_exit take_sample(struct top *top, bool first)
{
	json_t *answer;
	enum lbctl_exit status;

	lbctl_api_set_quiet(!first);
	status = lbctl_api_get(top->ctl, "/v1/stats", &answer);
	lbctl_api_set_quiet(false);
	free(top->problem);
	top->problem = status == LBCTL_OK ? NULL : lbctl_text_copy("lb-control does not answer");
	if (status != LBCTL_OK)
		return status;
	if (top->before != NULL)
		lbctl_rates_add(answer, top->before);
	json_decref(top->sample);
	json_decref(top->before);
	top->before = answer;
	top->sample = json_incref(answer);
	return LBCTL_OK;
}

// One key out of what was typed, taken off its front.
static int next_key(const char *typed, size_t *at, size_t n)
{
	static const struct {
		const char *sequence;
		enum key key;
	} keys[] = {{"\033[A", KEY_UP}, {"\033[B", KEY_DOWN}, {"\033OA", KEY_UP},
		{"\033OB", KEY_DOWN}, {"\033[5~", KEY_PAGE_UP}, {"\033[6~", KEY_PAGE_DOWN},
		{"\033[H", KEY_HOME}, {"\033[F", KEY_END}, {"\033[1~", KEY_HOME},
		{"\033[4~", KEY_END}};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		size_t n_sequence = strlen(keys[i].sequence);

		if (n - *at >= n_sequence &&
			memcmp(typed + *at, keys[i].sequence, n_sequence) == 0) {
			*at += n_sequence;
			return keys[i].key;
		}
	}
	if (typed[*at] == '\033') { // unknown: to its final character
		for (++*at; *at < n && (typed[*at] == '[' || typed[*at] == 'O' ||
					       (typed[*at] >= '0' && typed[*at] <= ';'));
			++*at)
			;
		*at += *at < n;
		return KEY_NONE;
	}
	return (unsigned char)typed[(*at)++];
}

static void move_selection(struct top *top, long by)
{
	long to = (long)top->selected + by;

	select_row(top, to < 0 ? 0 : (size_t)to);
}

static void toggle_backends(struct top *top)
{
	const char *service = top->selected_service;

	if (service == NULL)
		return;
	if (json_object_get(top->folded, service) != NULL)
		json_object_del(top->folded, service);
	else
		json_object_set_new(top->folded, service, json_true());
}

// @return false: quit.
static bool act(struct top *top, int key)
{
	long page = top->height > HEADER_LINES + 1 ? (long)(top->height - HEADER_LINES - 1) : 1;

	switch (key) {
	case 'q':
	case 'Q':
	case 3:
	case 4:
		return false;
	case KEY_UP:
	case 'k':
		move_selection(top, -1);
		break;
	case KEY_DOWN:
	case 'j':
		move_selection(top, 1);
		break;
	case KEY_PAGE_UP:
		move_selection(top, -page);
		break;
	case KEY_PAGE_DOWN:
	case ' ':
		move_selection(top, page);
		break;
	case KEY_HOME:
	case 'g':
		select_row(top, 0);
		break;
	case KEY_END:
	case 'G':
		select_row(top, SIZE_MAX);
		break;
	case 's':
		top->sort = (unsigned)((top->sort + 1) % N_SORTS);
		break;
	case 'S':
		top->sort = (unsigned)((top->sort + N_SORTS - 1) % N_SORTS);
		break;
	case 'r':
		top->reverse = !top->reverse;
		break;
	case 't':
		top->trouble_only = !top->trouble_only;
		break;
	case 'p':
		top->paused = !top->paused;
		break;
	case 'a':
		top->fold_all = !top->fold_all;
		json_object_clear(top->folded);
		break;
	case '\n':
	case '\r':
		toggle_backends(top);
		break;
	default:
		break;
	}
	return true;
}

// Wait for keys until @p deadline_ns (CLOCK_MONOTONIC). @return false: quit.
static bool wait_for_keys(struct top *top, uint64_t deadline_ns, bool *changed)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	struct timespec now;
	char typed[64];
	int64_t left_ns;
	ssize_t n;
	size_t at = 0;

	*changed = false;
	clock_gettime(CLOCK_MONOTONIC, &now);
	left_ns = (int64_t)(deadline_ns -
			    ((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec));
	if (left_ns <= 0)
		return n_signals == 0;
	if (poll(&input, 1, (int)((left_ns + 999999) / 1000000)) < 0)
		*changed = true; // resized, or to be ended
	if (n_signals != 0 || (input.revents & (POLLHUP | POLLERR | POLLNVAL)))
		return false;
	if (!(input.revents & POLLIN))
		return true;
	n = read(STDIN_FILENO, typed, sizeof(typed));
	if (n <= 0)
		return false;
	*changed = true;
	while (at < (size_t)n)
		if (!act(top, next_key(typed, &at, (size_t)n)))
			return false;
	return true;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void run(struct top *top, uint64_t interval_ms)
{
	uint64_t next_ns = now_ns() + (interval_ms < 300 ? interval_ms : 300) * 1000000u;
	bool go_on = true, changed;

	while (go_on) {
		measure(top);
		make_rows(top);
		draw(top);
		do {
			go_on = wait_for_keys(top, next_ns, &changed);
		} while (go_on && !changed && now_ns() < next_ns);
		if (go_on && now_ns() >= next_ns) {
			if (!top->paused)
				take_sample(top, false);
			next_ns = now_ns() + interval_ms * 1000000u;
		}
	}
}

enum lbctl_exit lbctl_top_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	struct top top = {.ctl = ctl, .only = lbctl_args_operand(args, 0)};
	uint64_t interval_ms = 1000;
	enum lbctl_exit status = lbctl_args_duration(ctl, args, "--interval", 100, &interval_ms);
	int rc;

	if (status != LBCTL_OK)
		return status;
	if (ctl->json || !ctl->screen || isatty(STDIN_FILENO) != 1)
		return lbctl_error(ctl, LBCTL_USAGE, NULL,
			"lbctl stats --watch prints the same, --json too", "needs a terminal");
	status = take_sample(&top, true);
	if (status != LBCTL_OK) {
		free(top.problem);
		return status;
	}
	lbctl_rates_add(top.sample, NULL);
	top.folded = json_object();
	rc = enter_screen();
	if (rc < 0) {
		status = lbctl_error(ctl, LBCTL_FAILED, "terminal", NULL, "%s", strerror(-rc));
	} else {
		run(&top, interval_ms);
		leave_screen();
	}
	json_decref(top.sample);
	json_decref(top.before);
	json_decref(top.folded);
	free(top.selected_service);
	free(top.selected_backend);
	free(top.problem);
	free(top.rows);
	return status;
}
