/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_LB_DECAP_H
#define LB_DATAPLANE_LB_DECAP_H

/* What lb_decap.bpf.c and lb_decap.c share. Plain C without includes, since one of them is compiled for BPF. */

#define LB_DECAP_MAX_ADDRESSES 1024
#define LB_DECAP_GUE_PORT 6080 /* IANA: gue */

/*
 * What became of a packet: X(identifier, name, meaning). All but the first two and the last two are left to the kernel as
 * they came.
 */
#define LB_DECAP_FATES(X)                                                                           \
	X(IPIP, "ipip", "unwrapped from IPv4 or IPv6")                                              \
	X(GUE, "gue", "unwrapped from GUE")                                                         \
	X(PASS, "pass", "no tunnel packet")                                                         \
	X(NOT_OURS, "not_ours", "a tunnel packet to an address that is none of ours")               \
	X(FRAGMENT, "fragment", "a fragment of a tunnel packet")                                    \
	X(MALFORMED, "malformed", "a tunnel packet whose lengths or versions are wrong")            \
	X(GUE_UNKNOWN, "gue_unknown", "GUE of another version, a control message, or with options") \
	X(ECN_DROPPED, "ecn_dropped", "congestion marked on a packet that knows no ECN: dropped (RFC 6040)") \
	X(ERROR, "error", "the kernel refused to take the header off: dropped")

enum lb_decap_fate {
#define X(id, name, meaning) LB_DECAP_##id,
	LB_DECAP_FATES(X)
#undef X
	LB_DECAP_FATE_N
};

#endif
