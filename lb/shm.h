/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_SHM_H
#define LB_SHM_H

#include "lb/maglev.h"
#include "lb/msg.h"
#include "lb/pick.h"
#include "lb/ring.h"
#include "lb/verdict.h"

/*
 * The shared-memory region of an instance, `lb.<instance>`: made by the data plane (hugetlbfs where
 * it is mounted and has room, else /dev/shm; mode 0660), attached by the control plane. Fixed
 * offsets, no pointers. Counters of workers follow at the end, one block per worker.
 * $FULCRUM_SHM_DIR replaces the list of directories: one, or several with ":" between, the best
 * first (for tests).
 *
 * Who may write the file can also truncate it, and a process that then touches the region gets
 * SIGBUS. So the control plane is trusted that far: the file is open to the owner and the group
 * "fulcrum" only, and a file of anybody else's is refused.
 */
#define LB_SHM_MAGIC UINT64_C(0x6d7572636c7546) /* "Fulcrum" */
#define LB_SHM_ABI 9u
#define LB_SHM_N_TABLES 8u
#define LB_SHM_MAX_WORKERS 64u
#define LB_SHM_MAX_PORTS 32u
#define LB_SHM_HEARTBEAT_NS UINT64_C(100000000) /* both sides stamp this often */
#define LB_SHM_DEAD_NS UINT64_C(1000000000)     /* a heartbeat older than this: taken for dead */
#define LB_SWEEP_ROUND_S 16u /* a worker's sweep goes round its flows once in so many seconds, or slower if it is busy */
#define LB_INSTANCE_MAX 32                      /* characters of an instance name: [a-z0-9_-] */

enum lb_side { LB_SIDE_DATA, LB_SIDE_CONTROL, LB_SIDE_N };

/* dataplane: wo (main lcore), control: ro. Refreshed every second. */
struct lb_shm_port {
	char name[32];
	char driver[32];
	uint32_t ifindex; /* kernel interface behind it, 0: none */
	uint32_t speed_mbps;
	uint16_t mtu;
	uint16_t n_queues;
	uint8_t link_up;
	uint8_t in_use;
	uint8_t mac[6];
	uint64_t rx_pkts, rx_bytes, tx_pkts, tx_bytes;
	uint64_t rx_missed, rx_errors, rx_nombuf, tx_errors;
} __attribute__((aligned(64)));

struct lb_shm_header {
	uint64_t magic;
	uint32_t abi;
	uint32_t n_workers;
	uint64_t size_bytes;
	uint64_t boot_id;    /* random, new at each data-plane start */
	uint64_t started_ns; /* CLOCK_REALTIME */
	uint64_t flows_max;  /* entries of all flow tables */
	uint32_t n_ports;
	uint32_t adopted_flows; /* entries taken over from the data plane before */
	char version[32];
	char hash_impl[16];
	/* each side writes its own line */
	struct {
		uint64_t heartbeat_ns; /* CLOCK_MONOTONIC */
		uint32_t pid;
		uint32_t zero;
	} side[LB_SIDE_N] __attribute__((aligned(64)));
	/* dataplane: wo. Status of the control side's last sync. */
	uint64_t n_commands __attribute__((aligned(64)));
	uint64_t n_commands_refused;
	uint64_t n_ring_corrupt;
	uint32_t synced; /* 1 once it forwards: after a SYNC_OBJECTS or SYNC_END since boot */
	uint32_t n_services;
	uint32_t n_backends;
	/* futex words: the producer of the commands wakes the main lcore. */
	uint32_t command_futex __attribute__((aligned(64)));
	struct lb_shm_port ports[LB_SHM_MAX_PORTS];
	/* dataplane: wo. Local addresses by their place in lb_worker_counters.locals; all zeroes: none. */
	struct lb_addr locals[LB_MAX_LOCALS];
	/* Ports of each that a worker may have in use, over all endpoints with a backend; 0: not for new sessions. */
	uint64_t local_ports[LB_MAX_LOCALS];
};

/* One backend as it last was; control: rw, dataplane: carries it over a restart, never reads it. */
struct lb_shm_mirror {
	uint64_t key;     /* lb_hash_bytes of service name, NUL, backend name; 0: unused */
	uint64_t since_s; /* CLOCK_REALTIME of the last change */
	uint8_t health;   /* enum of the control plane */
	uint8_t ramp;     /* slow start: per cent of its weight; 0: none under way */
	uint8_t less;     /* per cent of its weight that it asked to be without */
	uint8_t weight_by, agent_admin, agent_oper; /* enums of the control plane; 0: nothing was said */
	uint8_t zero[2];
	uint64_t checksum; /* of the above */
};
static_assert(sizeof(struct lb_shm_mirror) == 32, "crosses processes");

/* Counters of one backend at one worker: that worker: wo, all others: ro. Count since the data
 * plane's start, over reuse of the id. */
struct lb_backend_counters {
	uint64_t in_pkts;  /* client to backend */
	uint64_t in_bytes; /* L2 bytes without FCS, as received */
	uint64_t out_pkts; /* backend to client, where replies pass */
	uint64_t out_bytes;
	uint64_t new_flows;
	int64_t active_flows; /* entries of open flows in this worker's flow table */
	uint64_t resets;      /* RSTs sent by the backend, where replies pass */
	int64_t closing_flows; /* entries of flows whose client has sent FIN or RST, or (nat) backend RST */
};
static_assert(sizeof(struct lb_backend_counters) == 64, "one cache line");

struct lb_service_counters {
	uint64_t no_backend; /* packets dropped: NO_BACKEND or NO_TABLE */
	uint64_t zero[7];
};
static_assert(sizeof(struct lb_service_counters) == 64, "one cache line");

struct lb_flow_counters {
	uint64_t hit, miss;
	uint64_t insert;
	uint64_t expire; /* reclaimed because idle or closed */
	uint64_t evict;  /* live entries replaced because their buckets were full */
	uint64_t insert_failed;
	uint64_t origin; /* packets sent to a slot's origin */
	uint64_t moved;  /* entries whose backend was down: sent elsewhere */
	uint64_t used;   /* entries in use now */
	uint64_t lost;   /* pinned entries evicted, or not recorded for want of room: flows that may
			    break */
	uint64_t overloads;        /* times that so many were lost that slots' origins are no longer
				      trusted */
	uint64_t tracking_changes; /* turns of `all` into `changed` or back: odd while it is `changed` */
	uint64_t reset;      /* flows that their backend ended by RST, where replies pass */
	uint64_t reset_lost; /* not noted, as the worker that has the flow was behind */
};

/* Of mode fullnat: this worker's sessions (lb/session.h) and what happened to their packets. */
struct lb_session_counters {
	uint64_t capacity; /* sessions that the table has room for; 0: no fullnat service yet */
	uint64_t used;     /* now */
	uint64_t insert;
	uint64_t expire;   /* ended because closed or idle */
	uint64_t full;     /* not made: the table was full */
	uint64_t ports_exhausted; /* not made: no local port was free towards the backend */
	uint64_t handed_over;     /* replies that another worker's queue brought: passed on */
	uint64_t taken_over;      /* and received */
	uint64_t toa_added, toa_no_room, toa_removed; /* segments with a TOA option */
	uint64_t proxy_headers;   /* PROXY headers sent, again or not */
	uint64_t evicted;         /* of which only a SYN was seen: made way for another one */
	uint64_t zero[3];
};

/* One local address at one worker: ports in use, over all backends, and how often none was free. */
struct lb_local_counters {
	uint64_t ports_used;
	uint64_t ports_exhausted;
};

/* What the balancer sends itself, in answer to a packet that it does not forward. */
enum lb_answer {
	LB_ANSWER_ECHO,        /* ICMP echo reply */
	LB_ANSWER_TOO_BIG,     /* ICMP fragmentation needed, ICMPv6 packet too big */
	LB_ANSWER_TTL_EXPIRED, /* ICMP time exceeded */
	LB_ANSWER_UNREACHABLE, /* ICMP port unreachable: UDP, and no backend */
	LB_ANSWER_RESET,       /* TCP RST: no backend, or the connection's is down */
	LB_ANSWER_N
};

/** "echo", "too_big", ...; "?" out of range. */
const char *lb_answer_name(unsigned answer);

struct lb_answer_counters {
	uint64_t sent[LB_ANSWER_N]; /* by enum lb_answer; on their way, if the NIC takes them */
	uint64_t limited; /* not sent, as there were too many in this second */
	uint64_t zero[2];
};
static_assert(sizeof(struct lb_answer_counters) == 64, "one cache line");

struct lb_worker_counters {
	uint64_t rx_pkts, rx_bytes, tx_pkts, tx_bytes;
	uint64_t polls, polls_idle;
	uint64_t events_lost; /* event ring full */
	uint32_t lcore;
	uint32_t sweeps; /* times that its sweep has gone round all of its flows; wraps */
	struct lb_flow_counters flow __attribute__((aligned(64)));
	struct lb_session_counters sessions __attribute__((aligned(64)));
	struct lb_local_counters locals[LB_MAX_LOCALS];
	uint64_t verdicts[64] __attribute__((aligned(64))); /* by enum lb_verdict */
	struct lb_answer_counters answers __attribute__((aligned(64)));
	struct lb_service_counters services[LB_MAX_SERVICES] __attribute__((aligned(64)));
	struct lb_backend_counters backends[LB_MAX_BACKENDS + 1u];
};
static_assert(LB_VERDICT_N <= LB_VERDICT_TAKEN, "verdicts fit");

/* Of a published table: slots, then members and sequence of its pick table (lb/pick.h). */
#define LB_SHM_TABLE_WORDS \
	((LB_MAGLEV_MAX_SLOTS + 2u * LB_MAX_BACKENDS + LB_PICK_MAX_SEQUENCE + 31u) & ~31u)

struct lb_shm_table {
	uint16_t slots[LB_SHM_TABLE_WORDS]; /* control: wo, dataplane: ro */
};

struct lb_shm {
	struct lb_shm_header header;
	struct lb_ring_shm command;                    /* control -> main lcore */
	struct lb_ring_shm reply;                      /* main lcore -> control */
	struct lb_ring_shm events[LB_SHM_MAX_WORKERS]; /* worker i -> control: one producer each */
	struct lb_shm_table tables[LB_SHM_N_TABLES] __attribute__((aligned(64)));
	struct lb_shm_mirror mirror[LB_MAX_BACKENDS + 1u] __attribute__((aligned(64)));
	struct lb_worker_counters workers[] __attribute__((aligned(64)));
};

/** Bytes of a region for @p n_workers (before rounding to pages). */
static inline uint64_t lb_shm_bytes(unsigned n_workers)
{
	return sizeof(struct lb_shm) + n_workers * sizeof(struct lb_worker_counters);
}

/** A mapped region. */
struct lb_shm_map {
	struct lb_shm *shm;
	uint64_t size_bytes; /* of the mapping: what may be accessed, whatever the header says */
	unsigned n_workers;  /* checked against size_bytes; the header's own is not read again */
	uint64_t dev, ino;   /* of the file, to notice a new region */
	char path[128];
};

/** Whether @p name is a valid instance name: 1..LB_INSTANCE_MAX of [a-z0-9_-]. */
bool lb_instance_valid(const char *name);

/**
 * Data plane: make the region of @p instance, zeroed, with its header filled in; a region left by a
 * data plane before is unlinked once its mirror has been copied into the new one. `magic` is
 * written last (release). The region has the name only when it is complete. Where a directory has
 * no room, the next is tried, and the log says so.
 * @return 0; -EINVAL bad instance name or worker count; -ENOSPC, -ENOMEM or another -errno of the
 * last directory tried.
 */
int lb_shm_create(struct lb_shm_map *map, const char *instance, unsigned n_workers);

/**
 * Control plane: attach the region of @p instance, the newest if several directories have one.
 * @return 0; else the reason is also in @p why, of why_bytes, which may be NULL: -EINVAL bad
 * instance name; -ENOENT none there; -EPROTO magic, ABI or sizes do not fit; -EPERM not a plain
 * file, or not of somebody to be trusted (root, this user, group "fulcrum"); -ELOOP a symlink;
 * another -errno of open(2) or mmap(2).
 */
int lb_shm_attach(struct lb_shm_map *map, const char *instance, char *why, size_t why_bytes);

/**
 * Whether to attach anew: another region than the mapped one has the instance's name (the data
 * plane restarted), or none is mapped. False if the name is gone altogether: then the data plane
 * has stopped, and what is mapped is its last state.
 */
bool lb_shm_replaced(const struct lb_shm_map *map);

/** Unmap; the data plane also unlinks the file if @p unlink_file. */
void lb_shm_detach(struct lb_shm_map *map, bool unlink_file);

/** Stamp our side's heartbeat and pid; read the other's age in ns (UINT64_MAX: never stamped). */
void lb_shm_heartbeat(struct lb_shm *shm, enum lb_side side);
uint64_t lb_shm_heartbeat_age_ns(const struct lb_shm *shm, enum lb_side side);

/**
 * Whether a data plane works on @p shm: its heartbeat is fresh and its process has not ended; one
 * that nobody has waited for (a zombie) has. @return its pid; 0: no.
 */
uint32_t lb_shm_owner(const struct lb_shm *shm);

/** CLOCK_MONOTONIC and CLOCK_REALTIME, ns. */
uint64_t lb_now_ns(void);
uint64_t lb_realtime_ns(void);

/** What lb_shm_mirror.checksum must be. An entry whose checksum is another is not carried over a
 * restart. */
uint64_t lb_shm_mirror_checksum(const struct lb_shm_mirror *mirror);

/** Wake the main lcore after pushing commands (control plane). */
void lb_shm_wake(struct lb_shm *shm);

/**
 * Sleep until a wake, a signal or @p timeout_ms (data plane). No wake is lost if the order is: take
 * @p seen with lb_shm_wait_seen(), pop until the ring is empty, then wait.
 */
uint32_t lb_shm_wait_seen(const struct lb_shm *shm);
void lb_shm_wait(struct lb_shm *shm, uint32_t seen, unsigned timeout_ms);

#endif
