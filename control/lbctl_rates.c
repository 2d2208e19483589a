/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/lbctl_rates.h"

#include <math.h>
#include <string.h>

#include "control/lbctl_api.h"

#define BITS_PER_BYTE 8

struct rate {
	const char *name;
	const char *counter;
	unsigned factor;
};

static const struct rate total_rates[] = {
	{"rx_pps", "rx_pkts", 1},
	{"rx_bps", "rx_bytes", BITS_PER_BYTE},
	{"tx_pps", "tx_pkts", 1},
	{"tx_bps", "tx_bytes", BITS_PER_BYTE},
	{"forward_pps", "forward_pkts", 1},
	{"reply_pps", "reply_pkts", 1},
	{"host_pps", "host_pkts", 1},
	{"drop_pps", "drop_pkts", 1},
	{NULL, NULL, 0},
};

const char *const lbctl_rate_names[] = {"in_pps", "in_bps", "out_pps", "out_bps", "cps", NULL};

static const struct rate traffic_rates[] = {
	{"in_pps", "in_pkts", 1},
	{"in_bps", "in_bytes", BITS_PER_BYTE},
	{"out_pps", "out_pkts", 1},
	{"out_bps", "out_bytes", BITS_PER_BYTE},
	{"cps", "new_flows", 1},
	{NULL, NULL, 0},
};

// Per second, what each counter grew by; null where it is unknown or began anew.
static json_t *make_rates(
	const struct rate *rate, const json_t *before, const json_t *now, double interval_s)
{
	json_t *rates = json_object();

	for (; rate->name != NULL; rate++) {
		double growth = lbctl_json_number(now, rate->counter) -
				lbctl_json_number(before, rate->counter);
		double value = growth * rate->factor / interval_s;

		json_object_set_new(rates, rate->name,
			growth >= 0 && isfinite(value) ? json_real(value) : json_null());
	}
	return rates;
}

// The element named as @p element; most often it stands at the same place as it did.
static const json_t *find_same(const json_t *array, size_t i, const json_t *element)
{
	const char *name = lbctl_json_text(element, "name");
	const json_t *other = json_array_get(array, i);

	if (other != NULL && strcmp(lbctl_json_text(other, "name"), name) == 0)
		return other;
	json_array_foreach (array, i, other) {
		if (strcmp(lbctl_json_text(other, "name"), name) == 0)
			return other;
	}
	return NULL;
}

// Rates of named objects with counters: services, with their backends below them.
static json_t *make_object_rates(const json_t *before, const json_t *now, double interval_s)
{
	json_t *array = json_array();
	const json_t *object;
	size_t i;

	json_array_foreach (now, i, object) {
		const json_t *old = find_same(before, i, object);
		const json_t *counters = json_object_get(object, "counters");
		const json_t *backends = json_object_get(object, "backends");
		json_t *rates = make_rates(
			traffic_rates, json_object_get(old, "counters"), counters, interval_s);

		json_object_set_new(rates, "name", json_string(lbctl_json_text(object, "name")));
		json_object_set(rates, "effective", json_object_get(object, "effective"));
		json_object_set(rates, "active_flows", json_object_get(counters, "active_flows"));
		if (json_is_array(backends))
			json_object_set_new(rates, "backends",
				make_object_rates(
					json_object_get(old, "backends"), backends, interval_s));
		json_array_append_new(array, rates);
	}
	return array;
}

void lbctl_rates_add(json_t *now, const json_t *before)
{
	double interval_s = lbctl_json_span_s(before, "timestamp_ns", now, "timestamp_ns");
	bool same_boot =
		json_equal(json_object_get(before, "boot_id"), json_object_get(now, "boot_id"));
	json_t *rates = json_object();

	// The counters of another start of the data plane cannot be compared: every rate is null.
	if (!same_boot)
		before = NULL;
	json_object_set_new(rates, "totals",
		make_rates(total_rates, json_object_get(before, "totals"),
			json_object_get(now, "totals"), interval_s));
	json_object_set_new(rates, "services",
		make_object_rates(json_object_get(before, "services"),
			json_object_get(now, "services"), interval_s));
	json_object_set_new(
		now, "interval_s", isfinite(interval_s) ? json_real(interval_s) : json_null());
	json_object_set_new(now, "rates", rates);
}
