// SPDX-License-Identifier: BSD-3-Clause
/*
 * XDP on a backend: takes the outer header off what a balancer wrapped for it (IPv4 or IPv6 in either, or in GUE), and
 * lets the kernel go on with the packet as the client sent it. Everything else passes as it is. Outer addresses are
 * compared with the map `addresses`; nothing is read beyond what was checked to be there, which the verifier proves.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lb_decap.h"

#define VLAN_BYTES 4
#define GUE_BYTES 4
#define IP4_OFFSET_AND_MF 0x3fff
#define ECN_MASK 3
#define ECN_CE 3

struct address {
	__u8 bytes[16]; /* IPv4 in the mapped form */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LB_DECAP_MAX_ADDRESSES);
	__type(key, struct address);
	__type(value, __u8);
} addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LB_DECAP_FATE_N);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

const volatile __u16 gue_port = LB_DECAP_GUE_PORT;

/* What is known of the outer headers; offsets from the start of the frame. */
struct outer {
	__u32 l2_bytes;
	__u32 ip_bytes;  /* of the IP header */
	__u32 all_bytes; /* of the IP packet */
	__u32 header_bytes; /* to be taken off */
	__u8 proto;
	__u8 ecn;
};

static __always_inline int done(enum lb_decap_fate fate, int action)
{
	__u32 key = fate;
	__u64 *counter = bpf_map_lookup_elem(&counters, &key);

	if (counter)
		(*counter)++;
	return action;
}

/* RFC 6040, figure 4: the ECN field of the packet that comes out; -1: to be dropped. */
static __always_inline int combine_ecn(__u8 outer, __u8 inner)
{
	if (outer == ECN_CE)
		return inner == 0 ? -1 : ECN_CE;
	if (outer == 1 && inner == 2)
		return 1;
	return inner;
}

/* RFC 1624, eqn. 3, for a change of the low byte of the first word. */
static __always_inline void set_ecn4(struct iphdr *ip, __u8 ecn)
{
	__u8 tos = (ip->tos & ~ECN_MASK) | ecn;
	__u32 sum = (__u16)~ip->check;

	sum += (__u16)~bpf_htons(ip->tos) + (__u32)bpf_htons(tos);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = ~((sum & 0xffff) + (sum >> 16));
	ip->tos = tos;
}

/* The inner IPv4 header at @p inner, in at most @p room bytes: lengths and ECN. @return a fate; IPIP if all is well. */
static __always_inline int check_inner4(struct iphdr *ip, void *end, __u32 room, __u8 outer_ecn)
{
	__u32 n_bytes;
	int ecn;

	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
		return LB_DECAP_MALFORMED;
	n_bytes = bpf_ntohs(ip->tot_len);
	if (n_bytes < ip->ihl * 4u || n_bytes > room)
		return LB_DECAP_MALFORMED;
	ecn = combine_ecn(outer_ecn, ip->tos & ECN_MASK);
	if (ecn < 0)
		return LB_DECAP_ECN_DROPPED;
	if (ecn != (ip->tos & ECN_MASK))
		set_ecn4(ip, ecn);
	return LB_DECAP_IPIP;
}

static __always_inline int check_inner6(struct ipv6hdr *ip, void *end, __u32 room, __u8 outer_ecn)
{
	int ecn;

	if ((void *)(ip + 1) > end || ip->version != 6 || sizeof(*ip) + bpf_ntohs(ip->payload_len) > room)
		return LB_DECAP_MALFORMED;
	ecn = combine_ecn(outer_ecn, ip->flow_lbl[0] >> 4 & ECN_MASK);
	if (ecn < 0)
		return LB_DECAP_ECN_DROPPED;
	ip->flow_lbl[0] = (ip->flow_lbl[0] & ~(ECN_MASK << 4)) | ecn << 4;
	return LB_DECAP_IPIP;
}

/* The outer header goes; MAC addresses and VLAN tag move up, and the EtherType is the inner packet's. */
static __always_inline int take_off(struct xdp_md *ctx, const struct outer *outer, __be16 ether_type)
{
	__u8 *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u8 l2[ETH_HLEN + VLAN_BYTES] = {};
	_Bool tagged = outer->l2_bytes != ETH_HLEN;

	if (data + ETH_HLEN + VLAN_BYTES > (__u8 *)end)
		return -1;
	__builtin_memcpy(l2, data, sizeof(l2));
	if (bpf_xdp_adjust_head(ctx, outer->header_bytes))
		return -1;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + ETH_HLEN + VLAN_BYTES > (__u8 *)end)
		return -1;
	__builtin_memcpy(data, l2, 12);
	if (tagged) {
		__builtin_memcpy(data + 12, l2 + 12, VLAN_BYTES);
		__builtin_memcpy(data + 12 + VLAN_BYTES, &ether_type, 2);
	} else {
		__builtin_memcpy(data + 12, &ether_type, 2);
	}
	return 0;
}

/* A UDP packet to the GUE port: which IP packet is in it? Changes outer->proto and its header length. */
static __always_inline int open_gue(void *data, void *end, struct outer *outer)
{
	struct udphdr *udp = data + outer->l2_bytes + (outer->ip_bytes & 63);
	__u8 *gue = (void *)(udp + 1);
	__u32 n_bytes;

	if ((void *)gue + GUE_BYTES > end)
		return LB_DECAP_MALFORMED;
	n_bytes = bpf_ntohs(udp->len);
	if (n_bytes < sizeof(*udp) + GUE_BYTES || n_bytes > outer->all_bytes - outer->ip_bytes)
		return LB_DECAP_MALFORMED;
	// Version 0, data message, no optional fields, no flags; protocols 4 and 41.
	if (gue[0] != 0 || gue[2] != 0 || gue[3] != 0 || (gue[1] != IPPROTO_IPIP && gue[1] != IPPROTO_IPV6))
		return LB_DECAP_GUE_UNKNOWN;
	outer->proto = gue[1];
	outer->header_bytes = outer->ip_bytes + sizeof(*udp) + GUE_BYTES;
	outer->all_bytes = outer->ip_bytes + n_bytes;
	return LB_DECAP_GUE;
}

static __always_inline int unwrap(struct xdp_md *ctx, struct outer *outer)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *inner;
	int opened = LB_DECAP_IPIP, fate;
	__u32 room;
	__be16 ether_type;

	if (outer->l2_bytes + outer->all_bytes > (__u32)(ctx->data_end - ctx->data) ||
		outer->all_bytes < outer->ip_bytes)
		return done(LB_DECAP_MALFORMED, XDP_PASS);
	outer->header_bytes = outer->ip_bytes;
	if (outer->proto == IPPROTO_UDP) {
		opened = open_gue(data, end, outer);
		if (opened != LB_DECAP_GUE)
			return done(opened, XDP_PASS);
	}
	room = outer->all_bytes - outer->header_bytes;
	inner = data + outer->l2_bytes + (outer->header_bytes & 127);
	if (outer->proto == IPPROTO_IPIP) {
		fate = check_inner4(inner, end, room, outer->ecn);
		ether_type = bpf_htons(ETH_P_IP);
	} else {
		fate = check_inner6(inner, end, room, outer->ecn);
		ether_type = bpf_htons(ETH_P_IPV6);
	}
	if (fate == LB_DECAP_ECN_DROPPED)
		return done(fate, XDP_DROP);
	if (fate != LB_DECAP_IPIP)
		return done(fate, XDP_PASS);
	if (take_off(ctx, outer, ether_type))
		return done(LB_DECAP_ERROR, XDP_DROP);
	return done(opened, XDP_PASS);
}

/* Whether the upper layer is one that we unwrap. */
static __always_inline _Bool is_tunnel(const struct outer *outer, void *data, void *end)
{
	struct udphdr *udp = data + outer->l2_bytes + (outer->ip_bytes & 63);

	if (outer->proto == IPPROTO_IPIP || outer->proto == IPPROTO_IPV6)
		return 1;
	return outer->proto == IPPROTO_UDP && (void *)(udp + 1) <= end && udp->dest == bpf_htons(gue_port);
}

static __always_inline int outer4(struct xdp_md *ctx, struct outer *outer)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + outer->l2_bytes;
	struct address address = {.bytes = {[10] = 0xff, [11] = 0xff}};
	_Bool fragment;

	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
		return done(LB_DECAP_PASS, XDP_PASS);
	outer->ip_bytes = ip->ihl * 4u;
	outer->all_bytes = bpf_ntohs(ip->tot_len);
	outer->proto = ip->protocol;
	outer->ecn = ip->tos & ECN_MASK;
	fragment = ip->frag_off & bpf_htons(IP4_OFFSET_AND_MF);
	if (!is_tunnel(outer, data, end))
		return done(LB_DECAP_PASS, XDP_PASS);
	__builtin_memcpy(address.bytes + 12, &ip->daddr, 4);
	if (!bpf_map_lookup_elem(&addresses, &address))
		return done(LB_DECAP_NOT_OURS, XDP_PASS);
	if (fragment)
		return done(LB_DECAP_FRAGMENT, XDP_PASS);
	return unwrap(ctx, outer);
}

/* No extension headers: balancers write none. */
static __always_inline int outer6(struct xdp_md *ctx, struct outer *outer)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ipv6hdr *ip = data + outer->l2_bytes;
	struct address address;

	if ((void *)(ip + 1) > end || ip->version != 6)
		return done(LB_DECAP_PASS, XDP_PASS);
	outer->ip_bytes = sizeof(*ip);
	outer->all_bytes = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	outer->proto = ip->nexthdr;
	outer->ecn = ip->flow_lbl[0] >> 4 & ECN_MASK;
	if (!is_tunnel(outer, data, end))
		return done(LB_DECAP_PASS, XDP_PASS);
	__builtin_memcpy(address.bytes, &ip->daddr, 16);
	if (!bpf_map_lookup_elem(&addresses, &address))
		return done(LB_DECAP_NOT_OURS, XDP_PASS);
	return unwrap(ctx, outer);
}

SEC("xdp")
int lb_decap(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct outer outer = {.l2_bytes = ETH_HLEN};
	__be16 ether_type;

	if (data + ETH_HLEN + VLAN_BYTES > (__u8 *)end)
		return done(LB_DECAP_PASS, XDP_PASS);
	__builtin_memcpy(&ether_type, data + 12, 2);
	if (ether_type == bpf_htons(ETH_P_8021Q)) {
		__builtin_memcpy(&ether_type, data + 12 + VLAN_BYTES, 2);
		outer.l2_bytes += VLAN_BYTES;
	}
	if (ether_type == bpf_htons(ETH_P_IP))
		return outer4(ctx, &outer);
	if (ether_type == bpf_htons(ETH_P_IPV6))
		return outer6(ctx, &outer);
	return done(LB_DECAP_PASS, XDP_PASS);
}

char _license[] SEC("license") = "Dual BSD/GPL";
