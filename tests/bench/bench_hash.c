/* SPDX-License-Identifier: BSD-3-Clause */
/* How long the hashes take: of flows per key in a burst of 32, of bytes for a table's checksum. */
#include <stdlib.h>

#include "bench.h"
#include "lb/hash.h"
#include "lb/shm.h"

#define BURST 32u
#define MAX_RUNS 31u

typedef void hash_fn(const struct lb_hash_key *key, const struct lb_flow_key *keys,
	uint64_t *hashes, unsigned n);

static void bench_flows(const char *name, hash_fn *hash, bool ipv4)
{
	unsigned n_runs = bench.quick ? 5 : MAX_RUNS, n_bursts = bench.quick ? 10000 : 100000;
	struct lb_flow_key flows[BURST];
	double samples[MAX_RUNS];
	uint64_t hashes[BURST] = {0};
	struct lb_hash_key key;

	if (!bench_wanted(name))
		return;
	lb_hash_key_init(&key, (const uint8_t[16]){1, 2, 3});
	memset(flows, 0, sizeof(flows));
	for (unsigned i = 0; ipv4 && i < BURST; i++)
		flows[i].src = flows[i].dst = lb_addr_from_ipv4(i);
	for (unsigned run = 0; run < n_runs; run++) {
		uint64_t start_ns = lb_now_ns();

		for (unsigned i = 0; i < n_bursts; i++) {
			flows[0].src.u32[3] = (uint32_t)hashes[BURST - 1]; // no burst is known beforehand
			hash(&key, flows, hashes, BURST);
		}
		samples[run] = (double)(lb_now_ns() - start_ns) / n_bursts / BURST;
	}
	bench_result_add(name, "ns/key", samples, n_runs);
}

static void bench_bytes(const char *name, size_t len_bytes)
{
	uint8_t *bytes = calloc(1, len_bytes);
	double samples[MAX_RUNS];
	uint64_t seed = 0;

	if (bytes != NULL && bench_wanted(name)) {
		for (unsigned run = 0; run < MAX_RUNS; run++) {
			uint64_t start_ns = lb_now_ns();

			seed = lb_hash_bytes(bytes, len_bytes, seed);
			samples[run] = (double)(lb_now_ns() - start_ns) / 1e3;
		}
		bytes[0] = (uint8_t)seed;
		bench_result_add(name, "us", samples, MAX_RUNS);
	}
	free(bytes);
}

int main(int argc, char **argv)
{
	bench_parse_args(argc, argv);
	bench_flows("hash/flows?impl=best", lb_hash_flows, false);
	bench_flows("hash/flows?impl=best&family=4", lb_hash_flows, true);
	bench_flows("hash/flows?impl=portable", lb_hash_flows_portable, false);
	bench_flows("hash/flows?impl=portable&family=4", lb_hash_flows_portable, true);
	bench_bytes("hash/bytes?bytes=131074", 131074);
	bench_bytes("hash/bytes?bytes=1310746", 1310746);
	return bench_finish();
}
