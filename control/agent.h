/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_AGENT_H
#define LB_CONTROL_AGENT_H

#include <stdbool.h>
#include <stdint.h>

/*
 * What a backend says of itself: by the header X-LB-Weight of a health check's answer, or by the text of an
 * agent, in the words of HAProxy's agent-check.
 */

enum lb_agent_admin { LB_AGENT_ADMIN_UNSAID, LB_AGENT_READY, LB_AGENT_DRAIN, LB_AGENT_MAINT };
enum lb_agent_oper { LB_AGENT_OPER_UNSAID, LB_AGENT_UP, LB_AGENT_DOWN };

struct lb_agent_words {
	bool has_weight, is_percent;
	uint32_t weight; /* 0..256, or percent of the configured weight, 0..LB_AGENT_MAX_PERCENT */
	enum lb_agent_admin admin;
	enum lb_agent_oper oper;
};

#define LB_AGENT_MAX_PERCENT 25600u

/** A weight: "0".."256", or "NN%" of the configured one. @return 0; -EINVAL. */
int lb_agent_parse_weight(const char *text, struct lb_agent_words *words);

/**
 * An agent's line: words between blanks and commas: `NN%`, `ready`, `drain`, `maint`, `up`, `down`, `fail`,
 * `stopped`, in any case; `maxconn:N` is passed over, and so is what follows `#`.
 * @return 0; -EINVAL nothing or something else is in it: then none of it counts.
 */
int lb_agent_parse(const char *text, struct lb_agent_words *words);

/**
 * The part of its configured weight that a backend asks for, in per cent: at most 100, as nobody may draw more than
 * the operator gave, and not 0 unless it asks for 0.
 */
uint32_t lb_agent_percent(const struct lb_agent_words *words, uint32_t configured);

#endif
